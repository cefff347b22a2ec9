//! Configs and Secrets in the whole system: as files and variables of modules and containers, rolled out when
//! they change, there after a power cut without any network, and in plain nowhere but where they run.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use e2e::{Fleet, Value, busybox, kill9, until};

const PLAIN: &str = "correct-horse-battery";

fn objects(mode: &str, token: &str) -> String {
    format!(
        "apiVersion: skerry/v1\nkind: Config\nmetadata: {{name: tuning}}\ndata: {{mode: {mode}, press.toml: 'limit = 80'}}\n---\n\
         apiVersion: skerry/v1\nkind: Secret\nmetadata: {{name: api}}\ndata: {{token: {token}}}\nbinaryData: {{raw: AAECAw==}}\n"
    )
}

/// Says nothing of what it is given, but that it is the same everywhere.
const TELLS: &str = r#"  env:
    TOKEN: {secret: api, key: token}
    MODE: {config: tuning, key: mode}
    NONE: {secret: api, key: absent, optional: true}
  mounts:
    - {secret: api, path: /secrets}
    - {secret: api, key: token, path: /run/token, mode: "0440", owner: "7:8"}
    - {config: tuning, path: /etc/tuning}
  security: {user: "101:102"}
  stop: {grace: 200ms}
  resources: {memory: 32Mi, storage: 8Mi}
  args:
    - |
      ls -ln /secrets /run/token /etc/tuning
      [ "$TOKEN" = "$(cat /secrets/token)" ] && echo same ${#TOKEN} mode $MODE=$(cat /etc/tuning/mode) none "[$NONE]"
      cat /run/token >/dev/null || echo not mine
      echo x > /secrets/token || echo read only
      exec env -i sleep 100000"#;

fn push_box(fleet: &Fleet) {
    let layout = busybox(&fleet.dir.path().join("image-box"), "");
    let (code, out, err) = fleet.hub.cli(&["push", layout.to_str().unwrap(), "--tag", "box:1"]);
    assert_eq!(code, 0, "{out}{err}");
}

fn refused(fleet: &Fleet, manifest: &str, words: &[&str]) {
    let (status, answer) = fleet.hub.post("/v1/apply", manifest.as_bytes());
    let text = answer.to_string();
    assert_eq!(status, 422, "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
}

#[test]
fn files_and_variables_arrive_and_roll_when_they_change() {
    let fleet = Fleet::start(1);
    push_box(&fleet);
    fleet.hub.push("hello");
    let work = e2e::manifest("work", "box", TELLS);
    refused(&fleet, &work, &["spec.env.TOKEN", "there is no secret default/api", "spec.mounts[2]"]);
    let first = objects("fast", PLAIN);
    fleet.hub.apply(&format!("{first}---\n{work}"));
    fleet.steady("work");
    let said = fleet.boards[0].said("work");
    let same = format!("same {} mode fast=fast none []", PLAIN.len());
    for line in [same.as_str(), "not mine", "read only", "-r--------", "-r--r--r--"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let owned = |text: &str, file: &str, owner: [&str; 2]| {
        let line = text.lines().find(|line| line.ends_with(file)).unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words.windows(2).any(|pair| pair == owner), "{file}: {text}");
    };
    owned(&said, "/run/token", ["7", "8"]);
    owned(&said, "raw", ["101", "102"]);
    // Also who comes later, whatever the first process made of its own environment.
    let later =
        ["exec", "work", "--", "sh", "-c", "[ \"$TOKEN\" = \"$(cat /secrets/token)\" ] && echo $MODE"];
    assert_eq!(fleet.hub.cli(&later), (0, "fast\n".to_string(), String::new()));

    // A module has the variable, and a directory of its own for a single key.
    let module = "  args: [--every, \"60000\"]\n  env: {GREETING: {config: tuning, key: mode}}\n  mounts: [{config: tuning, key: press.toml, path: /config/press}, {secret: api, path: /secrets}]";
    fleet.hub.apply(&e2e::manifest("module", "hello", module));
    fleet.steady("module");
    until("it greets", || fleet.boards[0].said("module").contains("fast"));
    let run =
        fleet.boards[0].runs().into_iter().find(|run| run.to_string_lossy().contains("module")).unwrap();
    assert_eq!(fs::read_to_string(run.join("mounts/data/0/press")).unwrap(), "limit = 80");
    let mode = |file: &str| run.join("mounts/data").join(file).metadata().unwrap().mode() & 0o777;
    assert_eq!((mode("0/press"), mode("1/raw")), (0o444, 0o400));
    assert!(!run.join("mounts/data/env").exists(), "the variables are left lying");

    // The same again changes nothing; another content is another revision, of all who use it.
    let pids = [fleet.boards[0].pid("work"), fleet.boards[0].pid("module")];
    let answer = fleet.hub.apply(&first);
    assert!(answer["changes"].as_array().unwrap().iter().all(|c| c["change"] == "unchanged"), "{answer:#}");
    let answer = fleet.hub.apply(&objects("slow", PLAIN));
    let changed = |name: &str| {
        let all = answer["changes"].as_array().unwrap();
        all.iter().any(|c| c["workload"] == name && c["change"] == "changed")
    };
    assert!(changed("default/tuning") && changed("default/work") && changed("default/module"), "{answer:#}");
    assert!(!changed("default/api"), "{answer:#}");
    until("the container has it", || fleet.boards[0].said("work").contains("mode slow=slow"));
    until("the module has it", || fleet.boards[0].said("module").contains("slow"));
    fleet.steady("work");
    fleet.steady("module");
    assert!(fleet.boards[0].pid("work") != pids[0] && fleet.boards[0].pid("module") != pids[1]);

    // What is used stays, and cannot lose what is used of it.
    let (code, _, err) = fleet.hub.cli(&["delete", "secret", "api"]);
    assert!(code != 0 && err.contains("is used by default/module, default/work"), "{err}");
    let less = "apiVersion: skerry/v1\nkind: Config\nmetadata: {name: tuning}\ndata: {mode: x}\n";
    refused(&fleet, less, &["has no key 'press.toml'; it has mode"]);
    for name in ["work", "module"] {
        fleet.hub.delete(&format!("/v1/workloads/default/{name}"));
    }
    let (code, out, err) = fleet.hub.cli(&["delete", "secret", "api"]);
    assert_eq!(code, 0, "{out}{err}");
    until("the board forgets it", || {
        fs::read_dir(fleet.boards[0].state.join("secrets")).unwrap().count() == 1 // the key
    });
    fleet.finish();
}

/// Files below `dir` on the same file system that hold the text, in any form that is not encrypted.
fn finds(dir: &Path, text: &str, found: &mut Vec<String>) {
    let device = dir.metadata().unwrap().dev();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = path.symlink_metadata() else { continue };
        if meta.is_dir() && meta.dev() == device {
            finds(&path, text, found);
        } else if meta.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            // As it is, and as base64 has it at each of the three places where it may begin.
            let forms = [
                text,
                "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5",
                "NvcnJlY3QtaG9yc2UtYmF0dGVy",
                "jb3JyZWN0LWhvcnNlLWJhdHRl",
            ];
            if forms.iter().any(|form| bytes.windows(form.len()).any(|w| w == form.as_bytes())) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn a_power_cut_leaves_secrets_sealed_and_the_work_starts_with_no_network() {
    let mut fleet = Fleet::start_with(2, &["--tls"]);
    push_box(&fleet);
    let only = "  placement: {selector: {matchLabels: {board: board-0}}}\n";
    let work = e2e::manifest("work", "box", &format!("{only}{TELLS}"));
    fleet.hub.apply(&format!("{}---\n{work}", objects("fast", PLAIN)));
    fleet.steady("work");
    let told = |fleet: &Fleet| fleet.boards[0].said("work").matches("same 21 mode fast=fast").count();
    assert_eq!(told(&fleet), 1);

    // Nobody sees it who does not ask for just that.
    let mut answers = String::new();
    for path in [
        "/v1/secrets",
        "/v1/secrets/default/api",
        "/v1/workloads",
        "/v1/workloads/default/work/describe",
        "/v1/events",
        "/v1/instances",
        "/v1/agents",
        "/v1/configs",
    ] {
        answers += &fleet.hub.get(path).to_string();
    }
    for args in [
        &["get", "secrets", "-o", "wide"][..],
        &["get", "secret", "api", "-o", "yaml"],
        &["get", "secret", "api", "-o", "json"],
        &["describe", "secret", "api"],
        &["describe", "workload", "work"],
    ] {
        let (code, out, err) = fleet.hub.cli(args);
        assert_eq!(code, 0, "{args:?}: {err}");
        answers += &(out + &err);
    }
    let (_, diff) = fleet.hub.post("/v1/diff", objects("fast", "another-value").as_bytes());
    assert!(diff.to_string().contains("another value"), "{diff:#}");
    answers += &diff.to_string();
    assert!(!answers.contains(PLAIN) && !answers.contains("another-value"), "{answers}");
    let (code, out, _) = fleet.hub.cli(&["get", "secret", "api", "--reveal", "-o", "yaml"]);
    assert!(code == 0 && out.contains(PLAIN) && out.contains("AAECAw=="), "{out}");

    // Nor does it lie on any disk: the hub's, the boards', their logs.
    let mut found = Vec::new();
    finds(fleet.dir.path(), PLAIN, &mut found);
    assert!(found.is_empty(), "{found:?}");
    assert!(fleet.hub.data.join("secrets.key").metadata().unwrap().mode() & 0o777 == 0o600);
    let sealed = |n: usize| {
        let dir = fs::read_dir(fleet.boards[n].state.join("secrets"));
        dir.map_or(0, |dir| dir.flatten().filter(|e| e.file_name() != "key").count())
    };
    assert_eq!((sealed(0), sealed(1)), (1, 0), "only the board that runs it has it");

    // The power goes, and with it all memory; there is no hub when the board is back.
    fleet.hub.kill();
    fleet.boards[0].kill();
    power_cut(&fleet);
    fleet.boards[0].revive();
    until("it runs with its secret", || told(&fleet) == 2);
    fleet.hub.revive();
    fleet.online(0);
    fleet.steady("work");
    assert_eq!(told(&fleet), 2, "the hub's return restarts nothing");
    let mut found = Vec::new();
    finds(fleet.dir.path(), PLAIN, &mut found);
    assert!(found.is_empty(), "{found:?}");

    // Sent away, a board keeps nothing that it could open.
    let (code, _, err) = fleet.hub.cli(&["agents", "revoke", "board-0"]);
    assert_eq!(code, 0, "{err}");
    until("its secrets are gone", || !fleet.boards[0].state.join("secrets").exists());
    fleet.boards[0].kill();
    until("nothing is left of it", || {
        power_cut(&fleet);
        e2e::cgroups(&fleet.boards[0].cgroup).is_empty()
    });
    fleet.boards.remove(0);
    fleet.finish();
}

/// Every process of the first board, its cgroups, and what was in memory.
fn power_cut(fleet: &Fleet) {
    let board = &fleet.boards[0];
    board.pids().values().for_each(|pid| kill9(*pid));
    e2e::clear(&board.run, &board.cgroup);
    let _ = fs::remove_dir_all(&board.run);
}

#[test]
fn a_secret_is_sealed_for_nobody_but_who_runs_with_it() {
    let fleet = Fleet::start_with(2, &[]);
    if fleet.hub.is_tls() {
        return fleet.finish(); // there the certificate says who asks
    }
    fleet.hub.push("hello");
    let spec = "  placement: {selector: {matchLabels: {board: board-0}}}\n  args: [--every, \"60000\"]\n  env: {TOKEN: {secret: api, key: token}}";
    fleet.hub.apply(&format!("{}---\n{}", objects("fast", PLAIN), e2e::manifest("work", "hello", spec)));
    fleet.steady("work");
    let content = fleet.hub.get("/v1/secrets/default/api")["content"].as_str().unwrap().to_string();
    let token = fs::read_to_string(fleet.hub.data.join("agent-token")).unwrap();
    let ask = |agent: &str, token: &str| -> (u16, Value) {
        let key = "07".repeat(32);
        fleet.hub.post_as(
            token.trim(),
            &format!("/v1/sealed/{content}?agent={agent}"),
            &format!("{{\"key\":\"{key}\"}}"),
        )
    };
    assert_eq!(ask("board-0", &token).0, 200);
    let (status, answer) = ask("board-1", &token);
    assert!(status == 404 && answer.to_string().contains("runs nothing with"), "{answer}");
    assert_eq!(ask("board-0", "guessed").0, 401);
    // What was sealed to another key is of no use to this board.
    let board = &fleet.boards[0].state.join("secrets");
    let file = fs::read_dir(board).unwrap().flatten().find(|e| e.file_name() != "key").unwrap().path();
    let other = ask("board-0", &token).1.to_string();
    fs::write(&file, &other).unwrap();
    kill9(fleet.boards[0].pid("work"));
    until("it is fetched anew", || fs::read_to_string(&file).is_ok_and(|text| text != other));
    fleet.steady("work");
    fleet.finish();
}
