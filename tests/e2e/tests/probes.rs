//! Probes on real boards: what is ill is restarted and says why, what is not ready is left alone and
//! shown, and neither an agent's crash nor a hub's absence restarts anything.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use e2e::{Fleet, Value, busybox, eventually, free_port, kill9, manifest, until};

/// What the sample `web` answers on this port.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_string())
}

fn set(port: u16, what: &str) {
    assert!(get(port, &format!("/set?{what}")).is_some(), "nobody listens on {port}");
}

fn web(port: u16, more: &str) -> String {
    format!("  args: [{port}]\n  network: {{listen: [{port}]}}\n{more}")
}

fn probe(which: &str, port: u16, path: &str) -> String {
    format!(
        "  {which}Probe: {{httpGet: {{port: {port}, path: {path}}}, period: 1s, timeout: 500ms, failureThreshold: 2}}\n"
    )
}

/// Waits until the hub shows the instance so, under a fresh report.
#[track_caller]
fn shown(fleet: &Fleet, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let so = eventually(Duration::from_secs(60), || {
        last = fleet.instance(name, 0);
        last["fresh"] == true && is(&last)
    });
    assert!(so, "{name} is not {what}: {last:#}");
    last
}

#[test]
fn what_is_not_ready_is_left_alone_and_what_hangs_is_restarted() {
    let fleet = Fleet::start(1);
    let port = free_port();
    let probes = probe("readiness", port, "/ready") + &probe("liveness", port, "/healthz");
    fleet.run("web", "web", &web(port, &probes));
    let pid = fleet.boards[0].pid("web");
    let view = shown(&fleet, "web", "ready", |i| i["ready"] == true && i["healthy"] == true);
    assert_eq!(view["restarts"], 0, "{view:#}");

    // Not ready: told with its reason, steady no more, and not touched.
    set(port, "ready=off");
    let view = shown(&fleet, "web", "unready", |i| i["ready"] == false);
    let why = view["unready"].as_str().expect("a reason");
    assert!(why.starts_with("readiness probe: GET http://127.0.0.1:") && why.contains("503"), "{why}");
    let work = fleet.hub.get("/v1/workloads/default/web");
    assert_eq!((&work["targets"]["ready"], &work["steady"]), (&0.into(), &false.into()), "{work:#}");
    assert!(work["message"].as_str().unwrap().contains("not ready: readiness probe"), "{work:#}");
    let (_, out, _) = fleet.hub.cli(&["get", "instances"]);
    assert!(out.contains("not ready: readiness probe: GET http"), "{out}");
    let (_, out, _) = fleet.hub.cli(&["describe", "workload", "web"]);
    assert!(out.contains("liveness probe: GET http://127.0.0.1") && out.contains("every 1s"), "{out}");
    fleet.told("probeFailed", "is not ready: readiness probe");
    assert_eq!(fleet.boards[0].pid("web"), pid);
    set(port, "ready=on");
    shown(&fleet, "web", "ready again", |i| i["ready"] == true);
    fleet.told("ready", "is ready");
    fleet.steady("web");
    assert_eq!(fleet.boards[0].pid("web"), pid, "readiness restarts nothing");

    // It hangs: started anew, and the exit says which probe it was.
    set(port, "hang=on");
    let view = shown(&fleet, "web", "restarted", |i| i["restarts"] == 1 && i["ready"] == true);
    assert_ne!(fleet.boards[0].pid("web"), pid);
    assert_eq!(
        (&view["lastExit"]["name"], &view["probeRestarts"]),
        (&"probeFailed".into(), &1.into()),
        "{view:#}"
    );
    assert_eq!(view["lastExit"]["probe"], "liveness");
    let message = view["lastExit"]["message"].as_str().unwrap();
    assert!(message.ends_with("no answer within 500ms"), "{message}");
    fleet.told("probeFailed", "liveness probe failed: GET http");
    let (_, out, _) = fleet.hub.cli(&["get", "instances"]);
    assert!(out.contains("1 (1 by a probe)"), "{out}");
    fleet.steady("web");
    fleet.finish();
}

#[test]
fn f13_an_agent_that_crashes_asks_on_and_restarts_nothing() {
    let mut fleet = Fleet::start(1);
    let port = free_port();
    let startup = format!("  startupProbe: {{tcp: {{port: {port}}}, period: 1s, failureThreshold: 30}}\n");
    let probes = startup + &probe("liveness", port, "/healthz") + &probe("readiness", port, "/ready");
    fleet.run("web", "web", &web(port, &probes));
    let pid = fleet.boards[0].pid("web");
    for _ in 0..3 {
        fleet.boards[0].kill();
        fleet.boards[0].revive();
        fleet.boards[0].answers();
        // What was ready is ready at once, before anybody was asked.
        let status = fleet.boards[0].status().expect("it answers");
        let instance = &status["agent"]["workloads"]["default/web"]["status"]["instances"]["0"];
        assert_eq!(instance["ready"], true, "{instance:#}");
        assert_eq!(fleet.boards[0].pid("web"), pid);
    }
    fleet.online(0);
    // It goes on asking: with no hub, too.
    let count = |page: &str| -> u64 {
        let pages = get(port, "/count").unwrap_or_default();
        let line = pages.lines().find_map(|l| l.strip_prefix(&format!("{page} ")).map(str::to_string));
        line.and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    fleet.hub.kill();
    let before = count("/healthz");
    until("it is asked on", || count("/healthz") > before + 1);
    set(port, "hang=on");
    until("it was restarted with no hub", || {
        get(port, "/count").is_some_and(|pages| !pages.contains("/set"))
    });
    assert_ne!(fleet.boards[0].pid("web"), pid);
    fleet.hub.revive();
    fleet.online(0);
    shown(&fleet, "web", "told", |i| i["restarts"] == 1 && i["probeRestarts"] == 1);
    fleet.finish();
}

#[test]
fn f21_a_candidate_that_never_becomes_ready_falls_back_by_itself() {
    let mut fleet = Fleet::start(1);
    let port = free_port();
    let rollout = "  rollout: {healthyAfter: 100ms, deadline: 4s}\n";
    let ready = |path: &str| web(port, &(probe("readiness", port, path) + rollout));
    fleet.run("web", "web", &ready("/ready"));
    let good = fleet.instance("web", 0)["revision"].clone();
    // There is no such page: the new revision runs, and is never ready.
    fleet.hub.apply(&manifest("web", "web", &ready("/no-such-page")));
    fleet.told("fellBack", "readiness probe: GET http://127.0.0.1:");
    shown(&fleet, "web", "back", |i| i["revision"] == good && i["ready"] == true && i["healthy"] == true);
    let work = fleet.hub.get("/v1/workloads/default/web");
    assert_eq!(work["targets"]["failing"], 1, "{work:#}");
    // A restart of the agent remembers both.
    kill9(fleet.boards[0].process.pid());
    fleet.boards[0].kill();
    fleet.boards[0].revive();
    fleet.boards[0].answers();
    shown(&fleet, "web", "still back", |i| i["revision"] == good && i["ready"] == true);
    fleet.finish();
}

#[test]
fn f31_a_slow_start_is_waited_for_and_says_what_it_waits_for() {
    let fleet = Fleet::start(1);
    let port = free_port();
    fleet.hub.push("web");
    let startup = format!("  startupProbe: {{tcp: {{port: {port}}}, period: 1s, failureThreshold: 20}}\n");
    // The liveness probe alone would have restarted it long before.
    let probes = startup + &probe("liveness", port, "/healthz");
    let spec = format!("  args: [{port}, --starts-in, 6000]\n  network: {{listen: [{port}]}}\n{probes}");
    fleet.hub.apply(&manifest("slow", "web", &spec));
    let view = shown(&fleet, "slow", "coming up", |i| i["unready"].is_string());
    assert!(view["unready"].as_str().unwrap().starts_with("startup probe"), "{view:#}");
    fleet.steady("slow");
    let view = shown(&fleet, "slow", "ready", |i| i["ready"] == true);
    assert_eq!(view["restarts"], 0, "{view:#}");

    // One whose start takes longer than it may is started anew, by name.
    let stuck = free_port();
    let spec =
        web(stuck, &format!("  startupProbe: {{tcp: {{port: {stuck}}}, period: 1s, failureThreshold: 2}}\n"));
    let spec = spec.replace(&format!("args: [{stuck}]"), &format!("args: [{stuck}, --starts-in, 60000]"));
    fleet.hub.apply(&manifest("stuck", "web", &spec));
    let view = shown(&fleet, "stuck", "restarted", |i| i["probeRestarts"].as_u64() > Some(0));
    assert_eq!(view["lastExit"]["probe"], "startup", "{view:#}");
    assert!(view["lastExit"]["message"].as_str().unwrap().ends_with("connection refused"), "{view:#}");
    fleet.finish();
}

#[test]
fn what_cannot_be_asked_is_refused_all_at_once() {
    let fleet = Fleet::start(1);
    fleet.hub.push("web");
    let refused = |spec: &str, wrong: &[&str]| {
        let (status, answer) = fleet.hub.post("/v1/apply", manifest("web", "web", spec).as_bytes());
        assert_eq!(status, 422, "{answer:#}");
        let details = answer["error"]["details"].as_array().unwrap();
        let mut paths: Vec<&str> = details.iter().filter_map(|d| d["path"].as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, wrong, "{answer:#}");
    };
    // What no workload could be asked, by the text alone.
    refused(
        "  livenessProbe: {exec: []}\n  readinessProbe: {tcp: {port: 81}, timeout: 20s}\n  startupProbe: {httpGet: {port: 0}, successThreshold: 2}",
        &[
            "spec.livenessProbe.exec",
            "spec.readinessProbe.tcp",
            "spec.readinessProbe.timeout",
            "spec.startupProbe.httpGet",
            "spec.startupProbe.httpGet.port",
            "spec.startupProbe.successThreshold",
        ],
    );
    // What this one cannot be asked, for it is WebAssembly.
    refused(
        "  network: {listen: [80]}\n  livenessProbe: {exec: [\"true\"]}\n  readinessProbe: {tcp: {port: 81}}",
        &["spec.livenessProbe.exec", "spec.readinessProbe.tcp.port"],
    );
    fleet.finish();
}

/// A command inside the container of a workload, as whoever sits at the board may run one.
fn inside(fleet: &Fleet, line: &str) {
    let run = fleet.boards[0].runs().pop().expect("it runs");
    let mut command = std::process::Command::new(e2e::binary("edge-agent"));
    let output =
        command.args(["shim", "exec"]).arg(run).args(["--", "/bin/sh", "-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}

#[test]
fn a_container_is_asked_over_http_tcp_and_from_within() {
    let mut fleet = Fleet::start(1);
    let layout = busybox(&fleet.dir.path().join("image"), "");
    let (code, out, err) = fleet.hub.cli(&["push", layout.to_str().unwrap(), "--tag", "box:1"]);
    assert_eq!(code, 0, "{out}{err}");
    let port = free_port();
    let serve = format!("mkdir /www; touch /alive /www/ready; exec httpd -f -p {port} -h /www");
    let spec = format!(
        "  args: [\"{serve}\"]\n  network: {{mode: host}}\n  resources: {{memory: 32Mi, storage: 8Mi}}\n\
         \x20 startupProbe: {{tcp: {{port: {port}}}, period: 1s, failureThreshold: 30}}\n\
         \x20 livenessProbe: {{exec: [\"/bin/sh\", -c, \"echo looked; ls /alive\"], period: 1s, failureThreshold: 2}}\n{}",
        probe("readiness", port, "/ready")
    );
    fleet.hub.apply(&manifest("box", "box", &spec));
    fleet.steady("box");
    let pid = fleet.boards[0].pid("box");
    inside(&fleet, "rm /www/ready");
    let view = shown(&fleet, "box", "unready", |i| i["ready"] == false);
    assert!(view["unready"].as_str().unwrap().contains("404"), "{view:#}");
    inside(&fleet, "touch /www/ready");
    shown(&fleet, "box", "ready", |i| i["ready"] == true);
    // The agent dies and is back: commands find their way in as before.
    fleet.boards[0].kill();
    fleet.boards[0].revive();
    fleet.online(0);
    shown(&fleet, "box", "ready", |i| i["ready"] == true && i["restarts"] == 0);
    assert_eq!(fleet.boards[0].pid("box"), pid);
    inside(&fleet, "rm /alive");
    let view = shown(&fleet, "box", "restarted", |i| i["restarts"] == 1 && i["ready"] == true);
    assert_eq!(
        (&view["lastExit"]["probe"], &view["probeRestarts"]),
        (&"liveness".into(), &1.into()),
        "{view:#}"
    );
    let message = view["lastExit"]["message"].as_str().unwrap();
    assert!(message.contains("exit code 1: looked ls: /alive: No such file"), "{message}");
    assert_ne!(fleet.boards[0].pid("box"), pid);
    fleet.finish();
}
