//! What reading a manifest promises: each mistake at its line, all at once; texts as written; the
//! whole format of the design understood.

use contract::DataKind;
use contract::manifest::{EXAMPLES, Object, Problem, check, example, not_yet, parse, read};
use contract::spec::{EnvValue, Workload};
use skerry_contract as contract;

const HEAD: &str = "apiVersion: skerry/v1\nkind: Workload\nmetadata: {name: a}\n";

fn one(text: &str) -> Workload {
    match parse(text, None) {
        Ok(objects) => {
            let [Object::Workload(workload, _)] = &objects[..] else { panic!("{objects:?}") };
            (**workload).clone()
        }
        Err(problems) => panic!("{text}\n{}", shown(&problems)),
    }
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{p}\n")).collect()
}

/// `line:column path` of each problem.
fn places(text: &str) -> Vec<String> {
    let problems = read(text, None).expect_err("has mistakes");
    problems.iter().map(|p| format!("{}:{} {}", p.line, p.column, p.path)).collect()
}

fn spec(lines: &str) -> String {
    format!("{HEAD}spec:\n  image: a:1\n  everyAgent: true\n{lines}")
}

/// The only problem of a spec with these lines.
fn refusal(lines: &str) -> Problem {
    let problems = read(&spec(lines), None).expect_err(lines);
    assert_eq!(problems.len(), 1, "{}", shown(&problems));
    problems.into_iter().next().unwrap()
}

#[test]
fn the_whole_format_is_read_and_what_is_not_built_is_named() {
    let text = include_str!("golden/manifests/whole.yaml");
    let workload = one(text);
    assert_eq!(check(&workload), []);
    let mut paths: Vec<String> = not_yet(&workload).into_iter().map(|finding| finding.path).collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "spec.autoscale",
            "spec.dependsOn",
            "spec.disconnect",
            "spec.ports[0].host",
            "spec.rollout.batches",
            "spec.rollout.onFailure",
            "spec.rollout.successThreshold",
            "spec.schedule",
        ]
    );
    let problems = read(text, Some("whole.yaml")).unwrap_err();
    let schedule = problems.iter().find(|p| p.path == "spec.schedule").unwrap();
    assert_eq!(
        schedule.to_string(),
        "whole.yaml:34:13: spec.schedule comes with a later version; leave it out for now"
    );
}

#[test]
fn examples_are_admissible() {
    for name in EXAMPLES {
        let text = example(name).expect(name);
        assert!(read(text, None).is_ok_and(|objects| objects.len() == 1), "{name}");
    }
    assert_eq!(example("deployment"), None);
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let text = include_str!("golden/manifests/mistakes.yaml");
    let problems = read(text, Some("mistakes.yaml")).unwrap_err();
    let golden = include_str!("golden/manifests/mistakes.txt");
    assert_eq!(shown(&problems), golden, "\n{}", shown(&problems));
    // What the file itself says of each line: `# wrong: path`.
    for (n, line) in text.lines().enumerate() {
        let Some((_, path)) = line.split_once("# wrong: ") else { continue };
        let told = problems.iter().any(|p| p.line == n + 1 && p.path == path);
        assert!(told, "line {}: {path}", n + 1);
    }
}

#[test]
fn more_mistakes_than_are_shown_are_counted() {
    let lines: String = (0..80).map(|n| format!("  zebra{n}: 1\n")).collect();
    let problems = read(&spec(&lines), None).unwrap_err();
    assert_eq!(problems.len(), 51);
    assert_eq!(problems[50].reason, "and 30 more");
}

#[test]
fn texts_keep_what_is_written() {
    let words =
        ["1.10", "yes", "0x1F", "1_000", "2024-01-01", "12:30:45", "true", "1e3", "010", ".5", "NO", "-x"];
    let env: String = words.iter().enumerate().map(|(n, word)| format!("    E{n}: {word}\n")).collect();
    let text = spec(&format!(
        "  env:\n{env}    Q: \"1.10\"\n    S: '~'\n  args: [{}]\n  command: [1.0, on]\n",
        words[..11].join(", ")
    ));
    let workload = one(&text.replace("name: a}", "name: a, labels: {v: 1.10}, annotations: {n: 0o7}}"));
    for (n, word) in words.iter().enumerate() {
        assert_eq!(workload.spec.env[&format!("E{n}")], EnvValue::Text(word.to_string()));
    }
    assert_eq!(workload.spec.env["Q"], EnvValue::Text("1.10".into()));
    assert_eq!(workload.spec.env["S"], EnvValue::Text("~".into()));
    assert_eq!(workload.spec.args, words[..11]);
    assert_eq!(workload.spec.command, ["1.0", "on"]);
    assert_eq!(workload.metadata.labels["v"], "1.10");
    assert_eq!(workload.metadata.annotations["n"], "0o7");
}

#[test]
fn nothing_is_not_a_text() {
    for null in ["~", "null", "Null", "NULL", ""] {
        let problem = refusal(&format!("  env:\n    A: {null}\n"));
        assert_eq!((problem.path.as_str(), problem.line), ("spec.env.A", 8), "{null}");
        assert!(problem.reason.starts_with("is empty (null)"), "{}", problem.reason);
    }
    assert_eq!(refusal("  args: [a, ~]\n").path, "spec.args[1]");
    // Lines that are all commented out leave nothing, and mean nothing.
    let workload = one(&spec("  env:\n  # A: b\n  args:\n  resources:\n  stop: ~\n"));
    assert_eq!(workload, one(&spec("")));
}

#[test]
fn numbers_and_booleans_have_one_spelling() {
    let reason = |lines: &str| refusal(lines).reason;
    let bad_count = |written: &str| {
        let text = spec("").replace("everyAgent: true", &format!("replicas: {written}"));
        read(&text, None).unwrap_err()[0].reason.clone()
    };
    assert!(bad_count("1_000").contains("not a whole number"));
    assert!(bad_count("0x10").contains("not a whole number"));
    assert!(bad_count("010").contains("begins with 0"));
    assert!(bad_count("-1").contains("write 0 to 4294967295"));
    assert!(bad_count("\"3\"").contains("without quotes"));
    assert!(bad_count("99999999999999999999").contains("out of range"));
    assert_eq!(bad_count("10001"), "is 10001; at most 10000");
    let problem = refusal("  exclusive: yes\n");
    assert_eq!(problem.suggestion.as_deref(), Some("true"));
    assert!(reason("  resources: {pids: lots}\n").contains("not a whole number"));
}

#[test]
fn amounts_report_their_own_error() {
    let problem = refusal("  resources:\n    cpu: 1\n    memory: 64 MB\n");
    assert_eq!((problem.line, problem.column, problem.path.as_str()), (9, 13, "spec.resources.memory"));
    assert!(problem.reason.starts_with("'64 MB' is not an amount of bytes: write"));
    assert!(refusal("  stop: {grace: 30}\n").reason.contains("'30' is not a duration"));
    assert!(refusal("  mounts: [{volume: A_B, path: /x}]\n").reason.contains("'A_B' is not a name"));
}

#[test]
fn json_is_read_as_well() {
    let json = r#"{
	"apiVersion": "skerry\/v1", "kind": "Workload",
	"metadata": {"name": "a"},
	"spec": {"image": "a:1", "everyAgent": true,
		"env": {"E": "\ud83d\ude00 \u00fc \t \\ud83d", "N": 1.10}, "args": ["a\/b"], "bad": 1}
}"#;
    let problems = parse(json, None).unwrap_err();
    assert_eq!((problems[0].line, problems[0].path.as_str()), (5, "spec.bad"));
    let workload = one(&json.replace(", \"bad\": 1", ""));
    assert_eq!(workload.spec.env["E"], EnvValue::Text("\u{1f600} ü \t \\ud83d".into()));
    assert_eq!(workload.spec.env["N"], EnvValue::Text("1.10".into()));
    assert_eq!(workload.spec.args, ["a/b"]);
    let same = serde_json::json!({"apiVersion": "skerry/v1", "kind": "Workload",
        "metadata": workload.metadata, "spec": workload.spec});
    assert_eq!(one(&same.to_string()), workload);
}

#[test]
fn one_bad_document_hides_no_other() {
    let good = spec("");
    let text = format!(
        "\u{feff}# first\n---\n{good}---\na: [1\n--- # third\n{good}---\n{good}\timage: x\n...\n---\n"
    );
    let problems = read(&text, Some("f.yaml")).unwrap_err();
    let places: Vec<_> = problems.iter().map(|p| (p.document, p.line, p.path.as_str())).collect();
    assert_eq!(
        places,
        [(2, 10, "a[1]"), (3, 14, "metadata.name"), (4, 24, "spec.everyAgent")],
        "{}",
        shown(&problems)
    );
    assert!(problems[1].reason.contains("default/a is already described in line 3"));
    assert!(problems[2].reason.contains("tabs"));
}

#[test]
fn files_from_windows_are_read() {
    let text = spec("  env: {A: b}\n").replace('\n', "\r\n");
    assert_eq!(one(&format!("{text}---\r\n")), one(&spec("  env: {A: b}\n")));
    assert_eq!(places(&text.replace("a:1", "A:1")), ["5:10 spec.image"]);
}

#[test]
fn copies_within_a_document_are_bounded() {
    let workload = one(&spec("  env: {A: &x text, B: *x}\n  args: &l [a]\n  command: *l\n"));
    assert_eq!(
        (workload.spec.env["B"].clone(), &workload.spec.command[0][..]),
        (EnvValue::Text("text".into()), "a")
    );
    let mut bomb = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for n in 1..10 {
        bomb += &format!("l{n}: &l{n} [{}]\n", vec![format!("*l{}", n - 1); 10].join(", "));
    }
    assert!(read(&bomb, None).unwrap_err()[0].reason.contains("copies by '*' included"));
    let mut deep = "l0: &l0 x\n".to_string();
    for n in 1..60 {
        deep += &format!("l{n}: &l{n} [*l{}]\n", n - 1);
    }
    assert!(read(&deep, None).unwrap_err()[0].reason.contains("nested deeper"));
    assert!(places("a: &a [*a]\n")[0].starts_with("1:8"));
}

#[test]
fn what_yaml_could_mean_otherwise_is_refused() {
    for (text, word) in [
        ("a: 1\na: 2\n", "'a' is given twice; the first is in line 1"),
        ("<<: {a: 1}\n", "merge keys"),
        ("? [a]\n: b\n", "a key is a single word"),
        (": b\n", "a key is missing"),
        ("a: !!int \"3\"\n", "tag 'int'"),
        ("a: !secret x\n", "tag 'secret'"),
        ("a: 1\n...\nb: 2\n", "write a line '---' before it"),
    ] {
        let problems = read(text, None).unwrap_err();
        assert!(problems.iter().any(|p| p.reason.contains(word)), "{text}: {}", shown(&problems));
    }
    let workload = one(&spec("  env: {A: !!str 12}\n"));
    assert_eq!(workload.spec.env["A"], EnvValue::Text("12".into()));
}

#[test]
fn sizes_are_bounded() {
    let long = spec(&format!("  env: {{A: \"{}\"}}\n", "x".repeat(65 << 10)));
    assert!(read(&long, None).unwrap_err()[0].reason.contains("at most 65536"));
    let file = format!("{}---\n", spec("")).repeat(16 << 10);
    assert!(read(&file, None).unwrap_err()[0].reason.contains("at most 1048576"));
    assert!(read("", None).unwrap_err()[0].reason.contains("holds no document"));
    assert!(read("# only a comment\n---\n", None).is_err());
    let deep = format!("a: {}", "[".repeat(100));
    assert!(read(&deep, None).unwrap_err()[0].reason.contains("deeper than 32"));
}

#[test]
fn kinds_are_answered_by_name() {
    for kind in ["Device", "Namespace"] {
        let problems =
            read(&format!("apiVersion: skerry/v1\nkind: {kind}\nmetadata: {{name: a}}\n"), None).unwrap_err();
        let [problem] = &problems[..] else { panic!("{}", shown(&problems)) };
        assert_eq!(problem.to_string(), format!("2:7: kind {kind} comes with a later version"));
    }
    let of = |kind: &str| read(&format!("apiVersion: v1\nkind: {kind}\n"), None).unwrap_err()[0].clone();
    assert!(of("DaemonSet").reason.contains("everyAgent: true"));
    assert!(of("Service").reason.contains("remove this document"));
    assert_eq!(of("workload").suggestion.as_deref(), Some("Workload"));
    assert!(
        read("kind: Workload\nmetadata: {name: a}\n", None)
            .unwrap_err()
            .iter()
            .any(|p| p.path == "apiVersion")
    );
}

#[test]
fn a_source_finds_any_path() {
    let text =
        spec("  mounts:\n  - {volume: d, path: /d}\n  - path: /e\n    tmpfs: 1Mi\n  env: {'a.b': c}\n");
    let objects = read(&text, Some("f")).unwrap();
    let source = objects[0].source();
    assert_eq!(source.locate("spec.mounts[1].path"), (9, 11));
    assert_eq!(source.locate("spec.mounts[1]"), (9, 5));
    assert_eq!(source.locate("spec.env['a.b']"), (11, 16));
    assert_eq!(source.locate("spec.mounts"), (7, 3));
    assert_eq!(source.locate("spec.resources.memory"), (4, 1));
    let problem = source.problem("spec.image", "is unknown to the registry");
    assert_eq!(problem.to_string(), "f:5:10: spec.image is unknown to the registry");
}

#[test]
fn rules_that_need_no_fleet() {
    let refused = |lines: &str, path: &str, word: &str| {
        let problem = refusal(lines);
        assert_eq!(problem.path, path, "{problem}");
        assert!(problem.reason.contains(word), "{problem}");
    };
    refused("  replicas: 2\n", "spec.replicas", "exactly one of the two");
    refused("  env: {A: '${HOME}'}\n", "spec.env.A", "$${ for a literal");
    refused("  env: {'A=B': c}\n", "spec.env['A=B']", "cannot name a variable");
    refused("  env: {A: \"b\\0\"}\n", "spec.env.A", "NUL");
    refused("  args: [\"b\\0\"]\n", "spec.args[0]", "NUL");
    refused("  mounts: [{path: /a}]\n", "spec.mounts[0]", "says not what to mount");
    refused("  mounts: [{volume: a, path: a}]\n", "spec.mounts[0].path", "begin with '/'");
    refused("  mounts: [{volume: a, path: /}]\n", "spec.mounts[0].path", "the root itself");
    refused("  mounts: [{volume: a, path: /a/../b}]\n", "spec.mounts[0].path", "'..'");
    refused("  mounts: [{volume: a, path: /a//b/}]\n", "spec.mounts[0].path", "write '/a/b'");
    refused("  mounts: [{hostPath: etc, path: /e}]\n", "spec.mounts[0].hostPath", "not absolute");
    refused("  mounts: [{tmpfs: 1Mi, path: /e, size: 1Mi}]\n", "spec.mounts[0].size", "only a volume");
    refused("  resources: {cpu: 9m}\n", "spec.resources.cpu", "10m");
    refused("  resources: {memory: 4Mi}\n", "spec.resources.memory", "8Mi");
    refused("  resources: {pids: 1}\n", "spec.resources.pids", "2");
    refused("  stop: {signal: SIGINT}\n", "spec.stop.signal", "write INT");
    refused("  stop: {grace: 601s}\n", "spec.stop.grace", "at most 10m");
    refused("  stop: {grace: 0s}\n", "spec.stop.grace", "is 0");
    refused("  rollout: {healthyAfter: 0s}\n", "spec.rollout.healthyAfter", "is 0");
    refused("  rollout: {healthyAfter: 10m}\n", "spec.rollout.healthyAfter", "no instance could be healthy");
    refused("  rollout: {deadline: 2s}\n", "spec.rollout.deadline", "no instance could be healthy");
    refused("  network: {mode: none, listen: [80]}\n", "spec.network.mode", "write host");
    refused("  network: {connect: [tcp://a:1]}\n", "spec.network.connect[0]", "is a URL");
    refused("  network: {connect: ['fd00::5:80']}\n", "spec.network.connect[0]", "[fd00::5]:1883");
    refused("  network: {connect: ['1.2.3:80']}\n", "spec.network.connect[0]", "no legal host");
    refused("  network: {connect: ['a:065']}\n", "spec.network.connect[0]", "no legal port");
    refused("  network: {listen: [80, 80]}\n", "spec.network.listen[1]", "listed twice");
    let probe = |inner: &str| format!("  network: {{listen: [80]}}\n  livenessProbe: {{{inner}}}\n");
    refused(&probe("period: 5s"), "spec.livenessProbe", "asks nothing");
    refused(&probe("tcp: {port: 0}"), "spec.livenessProbe.tcp.port", "from 1 to 65535");
    refused(&probe("httpGet: {port: 80, path: x}"), "spec.livenessProbe.httpGet.path", "write /healthz");
    refused(&probe("httpGet: {port: 80, scheme: HTTPS}"), "spec.livenessProbe.httpGet.scheme", "HTTPS comes");
    refused(&probe("tcp: {port: 80}, timeout: 20s"), "spec.livenessProbe.timeout", "period 10s");
    refused(
        &probe("tcp: {port: 80}, successThreshold: 2"),
        "spec.livenessProbe.successThreshold",
        "must be 1",
    );
    refused(&probe("exec: []"), "spec.livenessProbe.exec", "names no program");
    refused("  livenessProbe: {tcp: {port: 80}}\n", "spec.livenessProbe.tcp", "has no network");
    let slow = "  network: {listen: [80]}\n  startupProbe: {tcp: {port: 80}, failureThreshold: 30}\n";
    let deadline = format!("{slow}  rollout: {{deadline: 5m}}\n");
    refused(&deadline, "spec.rollout.deadline", "its probes may take 5m1s until it is ready");
    let selector = |inner: &str| format!("  placement: {{selector: {{{inner}}}}}\n");
    let expressions = "spec.placement.selector.matchExpressions[0]";
    refused(
        &selector("matchLabels: {'a b': c}"),
        "spec.placement.selector.matchLabels['a b']",
        "a label's key",
    );
    refused(
        &selector("matchExpressions: [{key: a, operator: In}]"),
        &format!("{expressions}.values"),
        "is missing",
    );
    refused(
        &selector("matchExpressions: [{key: a, operator: Exists, values: [b]}]"),
        &format!("{expressions}.values"),
        "no meaning with Exists",
    );
    let affinity = |inner: &str| format!("  placement: {{affinity: {{{inner}}}}}\n");
    refused("  priority: 1001\n", "spec.priority", "-1000 to 1000");
    refused("  placement: {arch: sparc}\n", "spec.placement.arch", "amd64, arm, arm64");
    refused("  placement: {spread: 'a b'}\n", "spec.placement.spread", "a b");
    refused(
        &selector("matchLabels: {a: b}, matchExpressions: [{key: a, operator: NotIn, values: [b]}]"),
        "spec.placement.selector",
        "'a' what no agent could have",
    );
    refused(
        "  placement: {selector: {matchLabels: {a: b}}, affinity: {required: [{matchLabels: {a: c}}]}}\n",
        "spec.placement.affinity.required[0]",
        "together with spec.placement.selector",
    );
    refused(&affinity("required: [{}]"), "spec.placement.affinity.required[0]", "names no label");
    refused(
        &affinity("preferred: [{selector: {matchLabels: {a: b}}}]"),
        "spec.placement.affinity.preferred",
        "beside everyAgent",
    );
    let toleration = |inner: &str| format!("  placement: {{tolerations: [{{{inner}}}]}}\n");
    refused(&toleration("value: a"), "spec.placement.tolerations[0].key", "operator: Exists");
    refused(
        &toleration("key: a, operator: Exists, value: b"),
        "spec.placement.tolerations[0].value",
        "no meaning with Exists",
    );
    refused(
        "  rollout: {disruption: {maxUnavailable: 0}}\n",
        "spec.rollout.disruption.maxUnavailable",
        "give 1 or more",
    );
    let neither = spec("").replace("  everyAgent: true\n", "");
    assert!(
        read(&neither, None).unwrap_err()[0]
            .reason
            .contains("replicas (a number over the fleet) or everyAgent")
    );
    for fine in [
        slow, // Without a word about the deadline it gets longer by itself.
        "  network: {connect: ['[fd00::5]:80', '10.0.0.1:1', 'Broker.local:1883']}\n",
        "  mounts: [{volume: a, path: /a}, {hostPath: /, path: /a/b}]\n",
        "  env: {A: '$${HOME} ${agent.labels.a.b/c}'}\n  stop: {grace: 10m, signal: KILL}\n",
        "  placement: {selector: {matchExpressions: [{key: a, operator: NotIn, values: [b, '']}]}}\n",
        "  placement: {arch: x86_64, affinity: {required: [{matchLabels: {a: b}}, {matchLabels: {a: c}}]}}\n",
        "  placement: {tolerations: [{operator: Exists}, {key: a, value: b, effect: NoExecute}]}\n  priority: -5\n",
    ] {
        assert!(read(&spec(fine), None).is_ok(), "{fine}: {}", shown(&read(&spec(fine), None).unwrap_err()));
    }
}

#[test]
fn what_other_tools_write_is_answered_with_ours() {
    let answered = |lines: &str, path: &str, ours: Option<&str>| {
        let problems = parse(&spec(lines), None).unwrap_err();
        let problem =
            problems.iter().find(|p| p.path == path).unwrap_or_else(|| panic!("{}", shown(&problems)));
        assert_eq!(problem.suggestion.as_deref(), ours, "{problem}");
    };
    answered("  containers: []\n", "spec.containers", None);
    answered("  template: {}\n", "spec.template", None);
    answered("  nodeSelector: {a: b}\n", "spec.nodeSelector", Some("placement.selector.matchLabels"));
    answered("  imagePullPolicy: Always\n", "spec.imagePullPolicy", None);
    answered("  restart: always\n", "spec.restart", Some("restartPolicy"));
    answered("  ports: [{containerPort: 80}]\n", "spec.ports[0].containerPort", Some("port"));
    answered("  ports: [{port: 1, hostPort: 80}]\n", "spec.ports[0].hostPort", Some("host"));
    answered("  resources: {limits: {cpu: 1}}\n", "spec.resources.limits", Some("resources"));
    answered("  resources: {requests: {cpu: 1}}\n", "spec.resources.requests", Some("resources"));
    answered("  volumeMounts: []\n", "spec.volumeMounts", Some("mounts"));
    answered("  mounts: [{volume: a, mountPath: /a}]\n", "spec.mounts[0].mountPath", Some("path"));
    answered(
        "  livenessProbe: {initialDelaySeconds: 5}\n",
        "spec.livenessProbe.initialDelaySeconds",
        Some("initialDelay"),
    );
    let http = "  readinessProbe: {httpGet: {port: 80, httpHeaders: [{name: Host, value: a}]}}\n";
    answered(http, "spec.readinessProbe.httpGet.httpHeaders", Some("headers"));
    answered("  livenessProbe: {tcpSocket: {port: 80}}\n", "spec.livenessProbe.tcpSocket", Some("tcp"));
    answered("  livenessProbe: {grpc: {port: 80}}\n", "spec.livenessProbe.grpc", Some("tcp"));
    answered("  healthcheck: {test: [CMD, a]}\n", "spec.healthcheck", Some("livenessProbe"));
    answered(
        "  terminationGracePeriodSeconds: 30\n",
        "spec.terminationGracePeriodSeconds",
        Some("stop.grace"),
    );
    answered("  environment: {A: b}\n", "spec.environment", Some("env"));
    answered("  count: 3\n", "spec.count", Some("replicas"));
    answered("  grace: 3s\n", "spec.grace", Some("spec.stop.grace"));
    answered("  Env: {}\n", "spec.Env", Some("env"));
    let problems = parse(&spec("  env: [{name: A, value: b}]\n"), None).unwrap_err();
    assert_eq!(problems[0].reason, "is a list; write a map, NAME: value, not a list");
    let problems = parse(&spec("  livenessProbe: {exec: {command: [a, b]}}\n"), None).unwrap_err();
    assert_eq!(problems[0].reason, "is a map; write the command itself: exec: [program, argument]");
    let headers = "  startupProbe: {httpGet: {port: 80, headers: [{name: Host, value: a}]}}\n";
    let problems = parse(&spec(headers), None).unwrap_err();
    assert_eq!(problems[0].reason, "is a list; write a map, Name: value, not a list");
    let problems = parse(&spec("  startupProbe: {httpGet: {port: http}}\n"), None).unwrap_err();
    assert!(problems[0].reason.contains("whole number"), "{problems:?}");
}

#[test]
fn configs_and_secrets_are_read_and_every_mistake_is_told_without_a_value() {
    let objects = read(
        "apiVersion: skerry/v1\nkind: Config\nmetadata: {name: tuning, namespace: plant}\ndata: {a: 1.10, b: yes}\n---\n\
         {\"apiVersion\": \"skerry/v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"tuning\"}, \"binaryData\": {\"k\": \"AP8=\"}}",
        None,
    );
    let objects = objects.unwrap();
    let [Object::Data(DataKind::Config, config, _), Object::Data(DataKind::Secret, secret, _)] = &objects[..]
    else {
        panic!("{objects:?}")
    };
    assert_eq!((config.data["a"].as_str(), config.data["b"].as_str()), ("1.10", "yes"), "as written");
    assert_eq!(secret.id(DataKind::Secret).to_string(), "secret/default/tuning");
    assert!(!format!("{objects:?}").contains("AP8="), "a value is printed");

    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: A}\nstringData: {x: y}\ndata:\n  ../etc: hunter2\n  k: aHVudGVyMg==\nbinaryData:\n  k: hunter2\n";
    let problems = read(text, None).unwrap_err();
    let told = shown(&problems);
    for words in ["apiVersion", "metadata.name", "stringData is unknown", "data is base64 in Kubernetes"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let text =
        text.replace("v1", "skerry/v1").replace("{name: A}", "{name: a}").replace("stringData: {x: y}\n", "");
    let told = shown(&read(&text, None).unwrap_err());
    for words in ["../etc'] is not a key", "binaryData.k is not base64", "binaryData.k stands in data, too"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
    let large = "x".repeat(300 << 10);
    let text = format!("apiVersion: skerry/v1\nkind: Config\nmetadata: {{name: a}}\ndata: {{k: {large}}}\n");
    let told = shown(&read(&text, None).unwrap_err());
    assert!(told.contains("data has 307200 bytes; at most 262144"), "{}", &told[..told.len().min(300)]);
}

#[test]
fn a_use_of_a_config_or_secret_says_what_is_wrong_with_it() {
    let told = shown(
        &read(
            &spec(
                "  env: {A: {secret: api, key: a/b}}\n  mounts:\n    - {config: c, path: /a, mode: rw, owner: www}\n    - {tmpfs: 1Mi, path: /b, key: k, optional: true}\n",
            ),
            None,
        )
        .unwrap_err(),
    );
    for words in [
        "spec.env.A.key is not a key",
        "spec.mounts[0].mode 'rw' is not a file's mode",
        "spec.mounts[0].owner 'www' is not uid or uid:gid",
        "spec.mounts[1].key is for a mounted config or secret",
        "spec.mounts[1].optional is for a mounted config or secret",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}
