//! The same fleet over somebody else's broker (Debian's Mosquitto): dead and back, absent at the start,
//! taken over, and late with a will.

use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Broker, Cable, Fleet, Say, eventually, until};

const QUIET: &str = "  args: [--every, \"60000\"]";
const PRESENCE: &str = "skerry/v1/agents/board-0/presence";

#[test]
fn f20_a_dead_broker_stops_nothing_and_all_comes_back_by_itself() {
    let mut broker = Broker::start();
    let fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    for _ in 0..2 {
        broker.process.kill();
        until("the hub knows nothing for sure any more", || fleet.instance("work", 0)["fresh"] == false);
        assert_eq!(fleet.boards[0].pids(), before);
        broker.revive();
        fleet.online(0);
        fleet.steady("work");
        assert_eq!(fleet.boards[0].pids(), before);
    }
    assert_eq!(fleet.instance("work", 0)["restarts"], 0);
    fleet.finish();
    broker.process.terminate();
}

#[test]
fn f05_a_boot_with_no_broker_runs_what_is_good_and_reports_when_there_is_one() {
    let mut broker = Broker::start();
    let mut fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.run("work", "hello", QUIET);
    fleet.boards[0].kill();
    broker.process.kill();
    let first = fleet.boards[0].pid("work");
    e2e::kill9(first);
    until("the work is gone", || fleet.boards[0].pids().is_empty());
    std::fs::remove_dir_all(&fleet.boards[0].run).unwrap();
    fleet.boards[0].revive();
    let second = fleet.boards[0].pid("work");
    // A hub that starts without its broker answers, and says that it knows nothing for sure.
    fleet.hub.kill();
    fleet.hub.revive();
    assert_eq!(fleet.hub.get("/v1/status")["broker"]["up"], false);
    assert_eq!(fleet.instance("work", 0)["fresh"], false);
    broker.revive();
    fleet.online(0);
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pid("work"), second);
    fleet.finish();
    broker.process.terminate();
}

/// As what the agent itself left behind when it was killed.
fn last_will(fleet: &mut Fleet, broker: &Broker) -> Vec<u8> {
    let before = broker.retained(PRESENCE);
    fleet.boards[0].kill();
    until("the broker has published the will", || broker.retained(PRESENCE) != before);
    let will = broker.retained(PRESENCE);
    fleet.boards[0].revive();
    fleet.online(0);
    will
}

#[track_caller]
fn stays_online(fleet: &Fleet, why: &str) {
    let left = eventually(Duration::from_secs(2), || {
        fleet.hub.find("/v1/agents/board-0").is_none_or(|a| a["state"] != "online")
    });
    assert!(!left, "{why}: {:#}", fleet.hub.get("/v1/agents/board-0"));
}

#[test]
fn f11_a_will_that_comes_late_never_beats_the_session_that_followed() {
    let mut broker = Broker::start();
    let mut fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let will = last_will(&mut fleet, &broker);

    // The same words, delayed by the broker: a session whose will waits a second after its end.
    let will = contract::codec::unpack(&will, e2e::forge::content_type(&will)).expect("a captured presence");
    let said = String::from_utf8(will.clone()).expect("JSON");
    let mut late = broker.client("mosquitto_sub", "nothing");
    late.args(["-i", "late", "-x", "60", "-c", "--will-topic", PRESENCE, "--will-qos", "1", "--will-retain"]);
    late.args(["--will-payload", &said, "-D", "will", "will-delay-interval", "1"]);
    late.args(["-D", "will", "content-type", "application/json"]);
    let mut late = late.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mosquitto_sub");
    until("it is let in", || broker.process.text().contains(" as late "));
    late.kill().unwrap();
    late.wait().unwrap();
    until("the broker has published the late will", || broker.retained(PRESENCE) == will);
    stays_online(&fleet, "a delayed will");
    // And once more, as a broker with a long memory would.
    broker.say(PRESENCE, &will, Say { retain: true, ..Say::default() });
    stays_online(&fleet, "a repeated will");
    // A hub that starts now finds only that will. It says what it knows, and finds out in a moment.
    fleet.hub.kill();
    fleet.hub.revive();
    fleet.online(0);
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.finish();
    broker.process.terminate();
}

#[test]
fn f11_a_session_taken_over_while_the_old_one_hangs_stays_the_agents() {
    let mut broker = Broker::start();
    let mut fleet = Fleet::start_over(&broker, 0, &[]);
    let cable = Cable::to(broker.port);
    fleet.add_board_with("board-0", cable.port, &[]);
    fleet.online(0);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let epoch = fleet.hub.get("/v1/agents/board-0")["epoch"].clone();
    // The link goes silent and the agent starts anew over another: the broker still holds the old
    // session, ends it for the new one, and has its will to publish.
    cable.silence(true);
    fleet.boards[0].kill();
    fleet.boards[0].set_broker(broker.port);
    fleet.boards[0].revive();
    until("the new session is the one that counts", || {
        let agent = fleet.hub.get("/v1/agents/board-0");
        agent["state"] == "online" && agent["epoch"] != epoch
    });
    stays_online(&fleet, "taken over");
    // Only now the broker hears that the old link is gone.
    drop(cable);
    stays_online(&fleet, "the old link ended");
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.finish();
    broker.process.terminate();
}

/// A stranger who takes the agent's own client id pushes it out again and again; the work runs on.
#[test]
fn f02_two_clients_with_one_id_back_off_and_stop_nothing() {
    let mut broker = Broker::start();
    let fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let status = fleet.boards[0].status().expect("the agent answers");
    let board = status["agent"]["board"].as_str().expect("it says its board's id").to_string();
    let id = format!("board-0.{}", &board[..8]);
    for _ in 0..3 {
        let mut thief: Command = broker.client("mosquitto_sub", "nothing");
        let mut thief = thief
            .args(["-i", &id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub");
        until("the agent is pushed out", || {
            fleet.boards[0].status().is_some_and(|s| s["agent"]["session"]["name"] != "connected")
        });
        thief.kill().unwrap();
        thief.wait().unwrap();
        fleet.online(0);
    }
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.finish();
    broker.process.terminate();
}
