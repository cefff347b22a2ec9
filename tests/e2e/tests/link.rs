//! The cable to the broker: pulled for long, and gone silent without a word.

use std::time::{Duration, Instant};

use e2e::{Cable, Fleet, Value, eventually, kill9, until};

const QUIET: &str = "  args: [--every, \"60000\"]";

/// Half an hour at one attempt a minute, sixty times as fast.
const OUTAGE: Duration = Duration::from_secs(30);
/// `contract::limits::EVENT_SPOOL_MAX`
const SPOOL_MAX: u64 = contract::limits::EVENT_SPOOL_MAX as u64;

#[test]
fn f02_half_an_hour_of_outage_costs_little_and_all_reconciles() {
    let mut fleet = Fleet::start(0);
    let cable = Cable::to(fleet.hub.mqtt);
    fleet.add_board_with("board-0", cable.port, &["--reconnect-max", "1"]);
    fleet.online(0);
    fleet.run("stays", "hello", QUIET);
    fleet.run("goes", "hello", QUIET);
    // What makes events all the time, far more than are kept.
    let restless: Vec<String> = (0..45).map(|n| format!("restless-{n}")).collect();
    let all = restless.iter().map(|n| e2e::manifest(n, "hello", QUIET)).collect::<Vec<_>>().join("---\n");
    fleet.hub.apply(&all);
    restless.iter().for_each(|name| fleet.steady(name));
    let (stays, dialled) = (fleet.boards[0].pid("stays"), cable.dialled());

    cable.pull();
    until("the hub knows nothing for sure any more", || fleet.instance("stays", 0)["fresh"] == false);
    fleet.hub.delete("/v1/workloads/default/goes");
    fleet.hub.apply(&e2e::manifest("new", "hello", QUIET));
    let (cpu, begun, mut ends) = (fleet.boards[0].process.cpu_ms(), Instant::now(), 0);
    let mut killed = std::collections::BTreeSet::new();
    // On a slow machine it takes longer until the spool runs over.
    while begun.elapsed() < OUTAGE || (ends * 2 <= SPOOL_MAX && begun.elapsed() < OUTAGE * 10) {
        for (instance, pid) in fleet.boards[0].pids() {
            if instance.starts_with("default/restless") && killed.insert(pid) {
                kill9(pid);
                ends += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(250));
        let spooled = fleet.boards[0].status().map_or(0, |s| s["agent"]["spooled"].as_u64().unwrap());
        assert!(spooled <= SPOOL_MAX, "{spooled} events are kept");
    }
    let (cpu, dialled) = (fleet.boards[0].process.cpu_ms() - cpu, cable.dialled() - dialled);
    let outage = begun.elapsed();
    let spooled = fleet.boards[0].status().unwrap()["agent"]["spooled"].as_u64().unwrap();
    println!(
        "outage: {dialled} connects, {ends} ends of runs, {spooled} events kept, {cpu} ms of processor time"
    );
    // A pause of a second less a quarter at most, after the first few that grow to it. How many fit
    // in is the machine's affair, as is what each end of a run costs: an agent that spins is what
    // the processor time tells of.
    let most = outage.as_millis() as u32 / 750 + 4;
    assert!((2..=most).contains(&dialled), "{dialled} attempts in {outage:?}");
    assert!(cpu < outage.as_millis() as u64 / 2, "{cpu} ms of processor time");
    assert_eq!(fleet.boards[0].pid("stays"), stays);

    cable.plug();
    fleet.online(0);
    until("the deleted work is gone", || !fleet.boards[0].pids().contains_key("default/goes/0"));
    fleet.steady("new");
    assert_eq!(fleet.boards[0].pid("stays"), stays, "an outage restarts nothing");
    assert_eq!(fleet.instance("stays", 0)["restarts"], 0);
    // The hub acknowledges events by the dozen, and the last few with the next heartbeat.
    until("the spool is worked off", || {
        fleet.boards[0].status().is_some_and(|s| s["agent"]["spooled"].as_u64() < Some(32))
    });
    assert!(ends * 2 > SPOOL_MAX, "{ends} ends of runs do not fill the spool");
    fleet.told("lost", "events were dropped");
    drop(cable);
    fleet.boards[0].set_broker(fleet.hub.mqtt);
    fleet.boards[0].process.terminate();
    fleet.finish();
}

#[test]
fn f02_a_refused_agent_asks_seldom() {
    let mut fleet = Fleet::start(0);
    let cable = Cable::to(fleet.hub.mqtt);
    fleet.add_board_with("board-0", cable.port, &[]);
    fleet.online(0);
    fleet.boards[0].kill();
    let right = fleet.boards[0].token.clone();
    let wrong = fleet.dir.path().join("wrong-token");
    std::fs::write(&wrong, "not-the-password-of-this-fleet").unwrap();
    fleet.boards[0].token = wrong;
    let (dialled, bytes) = (cable.dialled(), cable.bytes());
    fleet.boards[0].revive();
    let session = |fleet: &Fleet| fleet.boards[0].status().unwrap_or_default()["agent"]["session"].clone();
    until("it is told why", || session(&fleet)["reason"].to_string().contains("refused us"));
    let again = eventually(Duration::from_secs(5), || cable.dialled() - dialled > 1);
    assert!(!again, "it asked again within seconds: {}", session(&fleet));
    assert!(cable.bytes() - bytes < 2048, "{} bytes", cable.bytes() - bytes);
    fleet.boards[0].kill();
    fleet.boards[0].token = right;
    fleet.boards[0].revive();
    fleet.online(0);
    fleet.finish();
}

#[test]
fn f12_a_cable_that_goes_silent_shows_unknown_after_two_and_a_half_heartbeats() {
    const BEAT: Duration = Duration::from_secs(2);
    let mut fleet = Fleet::start_with(0, &["--heartbeat", "2s"]);
    let cable = Cable::to(fleet.hub.mqtt);
    fleet.add_board_with("board-0", cable.port, &["--keep-alive", "3600"]);
    fleet.online(0);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    // Judged by the age that the hub itself shows: on a machine that stalls a heartbeat may come late.
    let unknown_from_ms = BEAT.as_millis() as u64 * 5 / 2;
    let (mut age, mut beats) = (0, 0);
    until("three heartbeats keep it fresh", || {
        let now = fleet.instance("work", 0);
        let before = std::mem::replace(&mut age, now["reportAgeMs"].as_u64().unwrap_or_default());
        assert!(now["fresh"] == true || age >= unknown_from_ms, "{now:#}");
        beats += u32::from(now["fresh"] == true && age < before);
        beats == 3
    });

    cable.silence(true);
    let cut = Instant::now();
    let mut view = Value::Null;
    until("its work is unknown", || {
        view = fleet.instance("work", 0);
        view["fresh"] == false && view["state"].as_str().is_some_and(|s| s.starts_with("unknown"))
    });
    println!(
        "silent cable: unknown after {} ms with heartbeats of {} ms",
        cut.elapsed().as_millis(),
        BEAT.as_millis()
    );
    assert!(view["reportAgeMs"].as_u64() >= Some(unknown_from_ms), "{view:#}");
    assert_eq!(fleet.hub.get("/v1/agents/board-0")["state"], "unknown");
    assert_eq!(fleet.boards[0].pids(), before);

    cable.silence(false);
    fleet.online(0);
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pids(), before, "nothing was restarted");
    fleet.finish();
}
