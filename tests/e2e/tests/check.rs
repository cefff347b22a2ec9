//! `edge-agent check` on real boards: fine is 0, and what is wrong is named.

use std::fs;
use std::process::Command;

use e2e::{Board, Fleet, Value, binary};

/// Exit code, and state by name.
fn check(board: &Board, more: &[&str]) -> (i32, Value) {
    let output = Command::new(binary("edge-agent"))
        .args(["check", "-o", "json", "--id", &board.id, "--state-dir"])
        .arg(&board.state)
        .arg("--run-dir")
        .arg(&board.run)
        .args(more)
        .output()
        .expect("the command runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["schema"], 1);
    let checks = report["checks"].as_array().expect("a list").iter();
    let by_name = checks.map(|c| (c["name"].as_str().expect("a name").to_string(), c.clone()));
    (output.status.code().expect("a code"), by_name.collect())
}

#[track_caller]
fn is(checks: &Value, name: &str, state: &str) {
    assert_eq!(checks[name]["state"], state, "{name} in {checks:#}");
}

#[test]
fn f27_check_names_what_is_wrong_and_disturbs_nothing() {
    let mut fleet = Fleet::start(1);
    fleet.run("calm", "hello", "  args: [--every, \"60000\"]");
    let (pid, status) = (fleet.boards[0].pid("calm"), fleet.boards[0].status().expect("an agent"));

    // Of the running agent, with nothing but its directories; its key is on its own command line.
    let (code, checks) = check(&fleet.boards[0], &[]);
    assert_eq!(code, 0, "{checks:#}");
    for name in ["agent", "broker", "hub", "hub-key", "document", "lineage", "engine", "disk-space"] {
        is(&checks, name, "ok");
    }
    assert!(checks.as_object().expect("by name").len() >= 20);
    let after = fleet.boards[0].status().expect("an agent");
    assert_eq!(status["agent"]["session"], after["agent"]["session"], "the session is the same");

    // The same without an agent: files and the broker are asked.
    fleet.boards[0].process.terminate();
    let broker = format!("mqtt://127.0.0.1:{}", fleet.hub.mqtt);
    let text = |path: std::path::PathBuf| path.display().to_string();
    let (key, token) = (text(fleet.hub.data.join("hub.pub")), text(fleet.hub.data.join("agent-token")));
    let told = ["--broker", &broker, "--hub-key", &key, "--token-file", &token];
    let (code, checks) = check(&fleet.boards[0], &told);
    assert_eq!(code, 0, "{checks:#}");
    is(&checks, "agent", "skipped");
    for name in ["broker", "hub", "document", "lineage"] {
        is(&checks, name, "ok");
    }

    // Another hub's key, and a password that is not the hub's.
    let wrong = fleet.dir.path().join("wrong.pub");
    fs::write(
        &wrong,
        format!("ed25519:d75a9801{}\n", "82b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
    )
    .expect("a key");
    let wrong = text(wrong);
    let (code, checks) =
        check(&fleet.boards[0], &["--broker", &broker, "--hub-key", &wrong, "--token-file", &token]);
    assert_eq!(code, 1);
    is(&checks, "hub-key", "ok");
    is(&checks, "document", "fail");
    let other = text(fleet.hub.data.join("hub.pub"));
    let (code, checks) =
        check(&fleet.boards[0], &["--broker", &broker, "--hub-key", &key, "--token-file", &other]);
    assert_eq!(code, 1);
    is(&checks, "broker", "fail");

    // No hub at all.
    fleet.hub.kill();
    let (code, checks) = check(&fleet.boards[0], &told);
    assert_eq!(code, 1);
    is(&checks, "broker", "fail");
    is(&checks, "hub", "fail");
    is(&checks, "document", "ok");

    // None of it has touched what runs.
    fleet.hub.revive();
    fleet.boards[0].revive();
    fleet.online(0);
    assert_eq!(fleet.boards[0].pid("calm"), pid);
    fleet.finish();
}

#[test]
fn a_full_disk_is_named() {
    let fleet = Fleet::start(1);
    let small = fleet.dir.path().join("small");
    fs::create_dir(&small).expect("a directory");
    let options = ["-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "none"];
    assert!(Command::new("mount").args(options).arg(&small).status().expect("mount").success());
    let board = &fleet.boards[0];
    let place = small.display().to_string();
    let output = Command::new(binary("edge-agent"))
        .args(["check", "--id", &board.id, "--state-dir", &place, "--run-dir", &place])
        .args(["--broker", &format!("mqtt://127.0.0.1:{}", fleet.hub.mqtt)])
        .output();
    let unmounted = Command::new("umount").arg(&small).status();
    let output = output.expect("the command runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(unmounted.expect("umount").success());
    for line in ["fail     disk-space", "fail     disk-inodes", "warn     state-dir"] {
        assert!(text.lines().any(|l| l.starts_with(line)), "'{line}' is not in\n{text}");
    }
    fleet.finish();
}

#[test]
fn a_bundle_holds_what_is_needed_and_no_secret() {
    let fleet = Fleet::start(1);
    fleet.run("calm", "hello", "  args: [--every, \"60000\"]\n  env: {PASSWORD: hunter2}");
    let board = &fleet.boards[0];
    let file = fleet.dir.path().join("board.tar");
    let collect = || {
        let mut command = Command::new(binary("edge-agent"));
        command.arg("collect").arg("--file").arg(&file).arg("--state-dir").arg(&board.state);
        command.arg("--run-dir").arg(&board.run).output().expect("the command runs")
    };
    assert!(collect().status.success());
    assert!(!collect().status.success(), "a bundle that is there is not written over");
    let list = Command::new("tar").arg("-tf").arg(&file).output().expect("tar");
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    let list = String::from_utf8_lossy(&list.stdout);
    for part in ["CONTENTS", "check.json", "status.json", "proc/mounts", "/spec.json"] {
        assert!(list.lines().any(|name| name.ends_with(part)), "no {part} in\n{list}");
    }
    let bundle = fs::read(&file).expect("the bundle");
    let token = fs::read_to_string(fleet.hub.data.join("agent-token")).expect("a token");
    let text = String::from_utf8_lossy(&bundle);
    assert!(text.contains("PASSWORD") && !text.contains("hunter2") && !text.contains(token.trim()));
    fleet.finish();
}
