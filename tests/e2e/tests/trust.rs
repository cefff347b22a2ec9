//! Identity on real processes: joining at every arrow, renewal, revocation, wrong clocks, cloned keys. What
//! runs on a board is never touched by any of it, unless its hub says so.

use std::process::Command;
use std::time::Duration;

use e2e::{Cable, Fleet, Value, eventually, json, until};

const QUIET: &str = "  args: [--every, \"60000\"]";

fn identity(fleet: &Fleet, n: usize) -> Value {
    fleet.boards[n].status().map_or(Value::Null, |status| status["identity"].clone())
}

fn ends(fleet: &Fleet, n: usize) -> u64 {
    identity(fleet, n)["certificateEndsMs"].as_u64().unwrap_or(0)
}

/// Why it is away, as the agent tells on the board.
fn away(fleet: &Fleet, n: usize) -> String {
    let status = fleet.boards[n].status().unwrap_or_default();
    status["agent"]["session"]["reason"].as_str().unwrap_or_default().to_string()
}

#[test]
fn a_board_joins_works_and_needs_no_flags() {
    let mut fleet = Fleet::start_with(1, &["--tls"]);
    fleet.run("work", "hello", QUIET);
    let first = fleet.boards[0].pid("work");
    assert!(fleet.boards[0].joined);
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        fleet.boards[0].state.join("identity").join(name).metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("key.pem"), mode("identity.json")), (0o600, 0o600));
    let (_, out, _) = fleet.hub.cli(&["agents", "identities"]);
    assert!(out.contains("board-0") && out.contains(identity(&fleet, 0)["key"].as_str().unwrap()), "{out}");
    // Everything restarts, in any order; nothing is joined again, nothing restarted.
    fleet.boards[0].kill();
    fleet.hub.kill();
    fleet.boards[0].revive();
    fleet.hub.revive();
    fleet.online(0);
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pid("work"), first);
    // Logs too large for a message go by HTTP, with the certificate.
    let (code, _, err) = fleet.hub.cli(&["logs", "work", "--tail", "5"]);
    assert_eq!(code, 0, "{err}");
    fleet.finish();
}

#[test]
fn f07_certificates_renew_while_work_runs_and_restart_nothing() {
    let fleet = Fleet::start_with(2, &["--tls", "--certificate-life", "15s"]);
    fleet.run("work", "hello", "  args: [--every, \"20\"]");
    let before = [fleet.boards[0].pid("work"), fleet.boards[1].pid("work")];
    let connects = |n: usize| fleet.boards[n].status().map(|s| s["agent"]["session"]["epoch"].clone());
    let sessions = [connects(0), connects(1)];
    let first = ends(&fleet, 0);
    until("it was renewed twice", || ends(&fleet, 0) > first + 12_000);
    until("so was the other", || fleet.boards[1].process.text().contains("renewed"));
    assert_eq!([fleet.boards[0].pid("work"), fleet.boards[1].pid("work")], before);
    assert_eq!([connects(0), connects(1)], sessions, "the session went on");
    assert_eq!(fleet.instance("work", 0)["restarts"], 0);
    fleet.finish();
}

#[test]
fn f06_a_certificate_that_ends_without_a_hub_ends_nothing_else() {
    let mut fleet = Fleet::start_with(0, &["--tls", "--certificate-life", "10s"]);
    fleet.add_board_with("board-0", fleet.hub.mqtt, &["--reconnect-max", "1"]);
    fleet.online(0);
    fleet.run("work", "hello", QUIET);
    let first = fleet.boards[0].pid("work");
    let end = ends(&fleet, 0);
    fleet.hub.kill();
    let now =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    until("its certificate has ended", || now() > end + 1_000);
    assert_eq!(fleet.boards[0].pid("work"), first);
    // Even started anew, it runs its work and waits.
    fleet.boards[0].kill();
    fleet.boards[0].revive();
    fleet.boards[0].answers();
    assert_eq!(fleet.boards[0].pid("work"), first);
    fleet.hub.revive();
    fleet.online(0);
    assert!(ends(&fleet, 0) > end, "the right key renews what has ended");
    assert_eq!(fleet.boards[0].pid("work"), first);
    fleet.finish();
}

#[test]
fn a_revoked_board_is_told_and_works_on_and_a_decommissioned_one_wipes_itself() {
    let fleet = Fleet::start_with(2, &["--tls"]);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pid("work");
    let (code, _, err) = fleet.hub.cli(&["agents", "revoke", "board-0"]);
    assert_eq!(code, 0, "{err}");
    until("it says why", || away(&fleet, 0).contains("revoked by an operator"));
    assert!(identity(&fleet, 0)["trouble"].as_str().unwrap().contains("revoked"), "{}", identity(&fleet, 0));
    until("it is shown offline", || fleet.hub.get("/v1/agents/board-0")["state"] != "online");
    assert_eq!(fleet.boards[0].pid("work"), before, "revoked is not stopped");
    let (code, out, _) = check(&fleet, 0);
    assert!(code == Some(1) && out.contains("revoked"), "{out}");

    let (code, _, err) = fleet.hub.cli(&["agents", "decommission", "board-1"]);
    assert_eq!(code, 0, "{err}");
    let mut fleet = fleet;
    fleet.boards[1].process.wait_for_end();
    let said = fleet.boards[1].process.text();
    assert!(said.contains("wiped, as its hub said"), "{said}");
    assert!(fleet.boards[1].pids().is_empty());
    for gone in ["identity/key.pem", "identity/identity.json", "desired", "artifacts", "volumes", "store"] {
        assert!(!fleet.boards[1].state.join(gone).exists(), "{gone}");
    }
    fleet.boards[1].revive();
    assert_eq!(fleet.boards[1].process.wait_for_end(), Some(2));
    assert!(fleet.boards[1].process.text().contains("was decommissioned"));
    // Joined anew it is an ordinary board again.
    for n in 0..2 {
        let token = fleet.hub.join_token(json!({"approve": true}));
        let (code, said) = fleet.boards[n].join(&token, &["--new-key"], None);
        assert_eq!(code, Some(0), "{said}");
        fleet.boards[n].kill();
        fleet.boards[n].revive();
        fleet.online(n);
    }
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pid("work"), before);
    fleet.finish();
}

fn check(fleet: &Fleet, n: usize) -> (Option<i32>, String, String) {
    let board = &fleet.boards[n];
    let mut command = Command::new(e2e::binary("edge-agent"));
    command.arg("check").arg("--state-dir").arg(&board.state).arg("--run-dir").arg(&board.run);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_join_killed_at_any_arrow_is_finished_by_the_next() {
    let mut fleet = Fleet::start_with(0, &["--tls"]);
    let token = fleet.hub.join_token(json!({"approve": true, "uses": 1}));
    let n = fleet.add_idle_board("board-0", &[]);
    for arrow in ["agent-join-key", "agent-join-answered", "agent-join-stored"] {
        let (code, said) = fleet.boards[n].join(&token, &[], Some(arrow));
        assert_eq!(code, None, "it was not killed at {arrow}: {said}");
    }
    // Twice more by hand, and once by the agent alone.
    for _ in 0..2 {
        let (code, said) = fleet.boards[n].join(&token, &[], None);
        assert!(code == Some(0) && said.contains("as board-0"), "{said}");
    }
    fleet.boards[n].revive();
    fleet.online(n);
    assert_eq!(fleet.hub.get("/v1/identities")["items"].as_array().unwrap().len(), 1);
    // The one use is spent: another board is refused, by name.
    let m = fleet.add_idle_board("board-1", &[]);
    let (code, said) = fleet.boards[m].join(&token, &[], None);
    assert!(code == Some(1) && said.contains("used up"), "{said}");
    fleet.finish();
}

#[test]
fn a_board_with_a_file_on_its_card_joins_when_it_first_runs_and_is_approved() {
    let mut fleet = Fleet::start_with(0, &["--tls"]);
    let token = fleet.hub.join_token(json!({"labels": {"line": "a"}}));
    let n = fleet.add_idle_board("board-0", &[]);
    let file = fleet.dir.path().join("skerry-join.json");
    std::fs::write(&file, json!({"token": token}).to_string()).unwrap();
    fleet.boards[n].args = vec!["--join-file".into(), file.display().to_string()];
    fleet.boards[n].revive_with(Some("agent-join-taken"));
    assert_eq!(fleet.boards[n].process.wait_for_end(), None);
    fleet.boards[n].revive();
    until("it waits", || {
        fleet.boards[n].process.text().contains("waits to be approved: hub agents approve board-0")
    });
    assert!(fleet.boards[n].state.join("identity/join.json").exists());
    let (code, out, err) = fleet.hub.cli(&["agents", "approve", "-l", "line=a"]);
    assert!(code == 0 && out.contains("board-0 approved"), "{out}{err}");
    fleet.online(n);
    assert_eq!(fleet.hub.get("/v1/agents/board-0")["labels"]["line"], "a");
    fleet.finish();
}

#[test]
fn a_token_of_another_hub_and_a_place_that_is_not_the_hub_are_refused() {
    let mut fleet = Fleet::start_with(0, &["--tls"]);
    let other = Fleet::start_with(0, &["--tls"]);
    let token = fleet.hub.join_token(json!({"approve": true}));
    let n = fleet.add_idle_board("board-0", &[]);
    // The token pins the CA: whoever else answers there is not believed, and hears no secret.
    fleet.boards[n].set_broker(other.hub.mqtt);
    let (code, said) = fleet.boards[n].join(&token, &[], None);
    assert!(code == Some(1) && said.contains("UnknownIssuer"), "{said}");
    assert!(other.hub.get("/v1/identities")["items"].as_array().unwrap().is_empty());
    let (code, said) = fleet.boards[n].join("skerry-join.nonsense", &[], None);
    assert!(code == Some(1) && said.contains("not a join token"), "{said}");
    fleet.boards[n].set_broker(fleet.hub.mqtt);
    let (code, said) = fleet.boards[n].join(&token, &[], None);
    assert_eq!(code, Some(0), "{said}");
    // A board of one hub does not join another by the way.
    let token = other.hub.join_token(json!({"approve": true}));
    fleet.boards[n].set_broker(other.hub.mqtt);
    let (code, said) = fleet.boards[n].join(&token, &[], None);
    assert!(code == Some(1) && said.contains("of another hub"), "{said}");
    other.finish();
    fleet.boards.clear();
    fleet.finish();
}

/// A card that was copied: two boards with one key. Neither pushes the other out, both are shown.
#[test]
fn two_boards_with_one_key_are_shown_and_neither_flaps() {
    let mut fleet = Fleet::start_with(1, &["--tls"]);
    fleet.run("work", "hello", QUIET);
    let first = fleet.boards[0].pid("work");
    let clone = fleet.add_idle_board("board-0", &[]);
    std::fs::create_dir_all(fleet.boards[clone].state.join("identity")).unwrap();
    for name in ["identity/key.pem", "identity/identity.json"] {
        std::fs::copy(fleet.boards[0].state.join(name), fleet.boards[clone].state.join(name)).unwrap();
    }
    fleet.boards[clone].revive();
    until("the duplicate is shown", || {
        fleet.hub.find("/v1/agents/board-0").is_some_and(|a| a["state"] == "duplicate")
    });
    let epoch = |n: usize| Some(fleet.boards[n].status()?["agent"]["session"]["epoch"].clone());
    let known = |n: usize| epoch(n).filter(|epoch| !epoch.is_null());
    until("both are connected", || known(0).is_some() && known(clone).is_some());
    let sessions = [known(0), known(clone)];
    // One that does not answer in time says nothing.
    let flap =
        || [0, clone].into_iter().zip(&sessions).any(|(n, had)| epoch(n).is_some() && epoch(n) != *had);
    assert!(!eventually(Duration::from_secs(5), flap), "they flap");
    assert_eq!(fleet.boards[0].pid("work"), first);
    fleet.boards[clone].kill();
    until("it is one again", || fleet.hub.find("/v1/agents/board-0").is_some_and(|a| a["state"] == "online"));
    fleet.boards.pop();
    fleet.finish();
}

/// Between the program and the kernel: a wall clock that says what a file says, in seconds since 1970.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    if (id != CLOCK_REALTIME) return syscall(SYS_clock_gettime, id, now);
    FILE *file = fopen(getenv("BOARD_CLOCK"), "r");
    long seconds = 0;
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    now->tv_sec = seconds; now->tv_nsec = 0;
    return 0;
}
"#;

#[test]
fn f09_boards_in_1970_and_in_2099_join_connect_and_renew() {
    let mut fleet = Fleet::start_with(0, &["--tls", "--certificate-life", "20s"]);
    let (source, library) = (fleet.dir.path().join("clock.c"), fleet.dir.path().join("clock.so"));
    std::fs::write(&source, CLOCK).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(built.expect("apt-get install build-essential").success());
    for (n, (id, seconds)) in [("in-1970", "12"), ("in-2099", "4070908800")].iter().enumerate() {
        let clock = fleet.dir.path().join(format!("clock-{id}"));
        std::fs::write(&clock, seconds).unwrap();
        fleet.add_idle_board(id, &[]);
        fleet.boards[n].env = vec![
            ("LD_PRELOAD".into(), library.display().to_string()),
            ("BOARD_CLOCK".into(), clock.display().to_string()),
        ];
        let token = fleet.hub.join_token(json!({"approve": true}));
        let (code, said) = fleet.boards[n].join(&token, &[], None);
        assert_eq!(code, Some(0), "{id}: {said}");
        fleet.boards[n].revive();
        fleet.online(n);
    }
    fleet.run("work", "hello", QUIET);
    assert_eq!(identity(&fleet, 1)["clockDoubted"], true, "{}", identity(&fleet, 1));
    let first = [ends(&fleet, 0), ends(&fleet, 1)];
    until("both renew by the hub's time", || ends(&fleet, 0) > first[0] && ends(&fleet, 1) > first[1]);
    // The clocks jump the other way while the agents are off.
    std::fs::write(fleet.dir.path().join("clock-in-1970"), "4070908800").unwrap();
    std::fs::write(fleet.dir.path().join("clock-in-2099"), "12").unwrap();
    for n in 0..2 {
        fleet.boards[n].kill();
        fleet.boards[n].revive();
        fleet.online(n);
    }
    fleet.steady("work");
    fleet.finish();
}

/// What a return costs on the wire, with the session resumed and without.
#[test]
fn a_session_that_resumes_costs_less() {
    let mut fleet = Fleet::start_with(0, &["--tls"]);
    let cable = Cable::to(fleet.hub.mqtt);
    fleet.add_board_with("board-0", cable.port, &["--reconnect-max", "1"]);
    fleet.online(0);
    let settle = || {
        let mut last = 0;
        until("the wire is quiet", || {
            std::thread::sleep(Duration::from_secs(1));
            std::mem::replace(&mut last, cable.bytes()) == cable.bytes()
        });
    };
    settle();
    let came = |again: &dyn Fn()| {
        let before = cable.bytes();
        again();
        until("it is away", || fleet.hub.get("/v1/agents/board-0")["state"] != "online");
        cable.plug();
        fleet.online(0);
        settle();
        cable.bytes() - before
    };
    let resumed = came(&|| cable.pull());
    println!("bytes of a reconnect, TLS resumed: {resumed}");
    let begun = cable.bytes();
    fleet.boards[0].kill();
    fleet.boards[0].revive();
    until("it is back", || cable.bytes() > begun);
    fleet.online(0);
    settle();
    let whole = cable.bytes() - begun;
    println!("bytes of an agent's start, whole handshake: {whole}");
    assert!(resumed < whole, "{resumed} of {whole}");
    fleet.finish();
}
