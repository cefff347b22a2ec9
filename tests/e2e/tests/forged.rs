//! A broker that lets anybody say anything: every forged, damaged, old, oversize or misplaced message is
//! refused with a reason that the operator sees, and changes nothing.

use contract::codec::{self, COMPRESSED, PLAIN};
use contract::limits::{MESSAGE_BYTES_MAX, WIRE_BYTES_MAX};
use contract::message::Desired;
use contract::{Generation, Lineage};
use e2e::forge::{self, stranger};
use e2e::{Broker, Fleet, Say, until};
use ed25519_dalek::SigningKey;

const QUIET: &str = "  args: [--every, \"60000\"]";
const DESIRED: &str = "skerry/v1/agents/board-0/desired";
const HELLO: &str = "skerry/v1/agents/board-0/hello";

fn plain(retain: bool) -> Say<'static> {
    Say { content_type: PLAIN, retain }
}

/// Empty, and above all that was ever said: taken, it would stop everything.
fn wipe(wire: &[u8]) -> Desired {
    let mut document = forge::document(wire);
    document.generation = Generation(document.generation.0 + 1000);
    document.assignments.clear();
    document
}

#[test]
fn f21_no_unverified_document_counts_and_each_is_told_by_name() {
    let mut broker = Broker::start();
    let fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.run("old", "hello", QUIET);
    let old = broker.retained(DESIRED);
    fleet.run("work", "hello", QUIET);
    let (now, before) = (broker.retained(DESIRED), fleet.boards[0].pids());
    let (as_it_came, raw) = (forge::content_type(&now), Say { content_type: COMPRESSED, retain: false });

    let wrong_key = forge::sealed(&wipe(&now), Some(&stranger()));
    broker.say(DESIRED, &wrong_key, plain(false));
    fleet.told("refused", "is signed by key");
    until("it is shown beside the agent", || {
        let problems = fleet.hub.get("/v1/agents/board-0")["problems"].to_string();
        problems.contains("it refused its document") && problems.contains("is signed by key")
    });
    broker.say(DESIRED, &forge::sealed(&wipe(&now), None), plain(false));
    fleet.told("refused", "is not signed");
    // The hub's own signature under other content, and the right key's name over the stranger's.
    let own = String::from_utf8(codec::unpack(&now, as_it_came).unwrap()).unwrap();
    broker.say(DESIRED, own.replacen("60000", "60001", 1).as_bytes(), plain(false));
    fleet.told("refused", "a signature that does not fit");
    broker.say(DESIRED, b"garbage", plain(false));
    fleet.told("refused", "is not a valid message");
    broker.say(DESIRED, &now[..now.len() / 2], Say { content_type: as_it_came, retain: false });
    fleet.told("refused", if as_it_came == PLAIN { "is not a valid message" } else { "is not valid zstd" });
    broker.say(DESIRED, b"not zstd", raw);
    fleet.told("refused", "is not valid zstd");
    broker.say(DESIRED, b"{}", Say { content_type: "text/html", retain: false });
    fleet.told("refused", "content type 'text/html' is unknown");
    broker.say(DESIRED, own.replacen("\"v\":1", "\"v\":9", 1).as_bytes(), plain(false));
    fleet.told("refused", "envelope version 9");
    broker.say(DESIRED, &old, Say { content_type: forge::content_type(&old), retain: false });
    fleet.told("refused", "is held already");

    // None took the place of another in what is told, nothing changed, and the command line shows it.
    let (code, out, err) = fleet.hub.cli(&["events"]);
    assert!(code == 0 && out.contains("is signed by key") && out.contains("is held already"), "{out}{err}");
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.steady("work");
    fleet.finish();
    broker.process.terminate();
}

#[test]
fn f32_an_old_document_replayed_after_reconnect_and_restart_changes_nothing() {
    let mut broker = Broker::start();
    let mut fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.run("old", "hello", QUIET);
    let old = broker.retained(DESIRED);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let replay = Say { content_type: forge::content_type(&old), retain: true };
    // Retained in the hub's absence: the first thing that the agent hears, in each session.
    fleet.hub.kill();
    broker.say(DESIRED, &old, replay);
    let refused = |fleet: &Fleet| {
        fleet.boards[0]
            .status()
            .is_some_and(|s| s["agent"]["refused"].to_string().contains("is held already"))
    };
    until("it is refused at once", || refused(&fleet));
    broker.process.kill();
    broker.revive();
    broker.say(DESIRED, &old, replay);
    until("after a reconnect", || {
        refused(&fleet) && fleet.boards[0].status().unwrap()["agent"]["session"]["name"] == "connected"
    });
    fleet.boards[0].kill();
    fleet.boards[0].revive();
    until("after a restart of the agent", || refused(&fleet));
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.hub.revive();
    fleet.online(0);
    fleet.told("refused", "is held already");
    fleet.steady("work");
    until("the hub has put its own document back", || broker.retained(DESIRED) != old);
    until("and nothing is shown as refused any more", || {
        fleet.hub.get("/v1/agents/board-0")["problems"] == e2e::Value::Null
    });
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.finish();
    broker.process.terminate();
}

/// Of the same key: a hub that lost its store and began a new one.
#[test]
fn f21_a_document_of_another_lineage_is_refused_by_name() {
    let mut broker = Broker::start();
    let fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let seed = std::fs::read_to_string(fleet.hub.data.join("hub.key")).unwrap();
    let byte = |n: usize| u8::from_str_radix(&seed[2 * n..2 * n + 2], 16).unwrap();
    let key = SigningKey::from_bytes(&std::array::from_fn(byte));
    let mut document = wipe(&broker.retained(DESIRED));
    document.lineage = Lineage([9; 16]);
    broker.say(DESIRED, &forge::sealed(&document, Some(&key)), plain(false));
    fleet.told("refused", "of another hub store");
    let mut document = wipe(&broker.retained(DESIRED));
    document.agent = "board-7".parse().unwrap();
    broker.say(DESIRED, &forge::sealed(&document, Some(&key)), plain(false));
    fleet.told("refused", "the document is for agent board-7, this is board-0");
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.finish();
    broker.process.terminate();
}

#[test]
fn oversize_bombs_and_misplaced_messages_to_an_agent_are_refused_by_name() {
    let mut broker = Broker::start();
    let fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let bomb = forge::bomb();
    assert!(bomb.len() < WIRE_BYTES_MAX);
    broker.say(DESIRED, &vec![b'x'; WIRE_BYTES_MAX + 1], plain(false));
    fleet.told("refused", "245761 bytes on the wire");
    broker.say(DESIRED, &bomb, Say { content_type: COMPRESSED, retain: false });
    fleet.told("refused", &format!("more than {MESSAGE_BYTES_MAX} bytes once decompressed"));
    // Larger than any of ours: the broker does not take it, as its own limit says (hub/README.md).
    assert!(!broker.takes(DESIRED, &vec![b'x'; WIRE_BYTES_MAX + (8 << 10)]));
    // A document where a hello belongs, and a hello that nobody signed, for any of the hub's topics.
    let document = broker.retained(DESIRED);
    broker.say(HELLO, &document, Say { content_type: forge::content_type(&document), retain: false });
    fleet.told("refused", "is a Desired message where a Hello one was expected");
    let announce = br#"{"v":1,"kind":"announce","body":{"lineage":"00000000000000000000000000000000","term":9,"window_ms":1}}"#;
    broker.say("skerry/v1/hub", announce, plain(false));
    fleet.told("refused", "hub: message is not signed");
    let command = br#"{"v":1,"kind":"command","body":{"id":"c1","nonce":"00000000000000000000000000000000","deadline_ms":1,"op":{"cancel":{"command":"c2"}}}}"#;
    broker.say("skerry/v1/agents/board-0/command/c1", command, plain(false));
    fleet.told("refused", "command/c1: message is not signed");
    // Nobody's topics: nobody hears them.
    for topic in
        ["skerry/v1/agents/board-0/nonsense", "skerry/v1/agents/board-0/desired/more", "skerry/v2/hub"]
    {
        broker.say(topic, b"garbage", plain(true));
    }
    let memory = std::fs::read_to_string(format!("/proc/{}/status", fleet.boards[0].process.pid())).unwrap();
    let peak = memory
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.unwrap() < 64 << 10, "{peak:?} KiB at most");
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.steady("work");
    fleet.finish();
    broker.process.terminate();
}

#[test]
fn oversize_bombs_and_misplaced_messages_to_the_hub_are_refused_by_name() {
    let mut broker = Broker::start();
    let fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let topic = |kind: &str| format!("skerry/v1/agents/board-0/{kind}");
    let named = |reason: &str| {
        until(&format!("the hub names it: {reason}"), || {
            let last = fleet.hub.get("/v1/status")["lastRejected"].to_string();
            last.contains("agent board-0") && last.contains(reason)
        });
        let problems = fleet.hub.get("/v1/agents/board-0")["problems"].to_string();
        assert!(problems.contains(reason), "{problems}");
    };
    let packed = Say { content_type: COMPRESSED, retain: false };
    broker.say(&topic("observed"), b"garbage", plain(false));
    named("'observed' is not a valid message");
    broker.say(&topic("observed"), &vec![b'x'; WIRE_BYTES_MAX + 1], plain(false));
    named("245761 bytes on the wire");
    broker.say(&topic("events"), &forge::bomb(), packed);
    named("'events' more than 1048576 bytes once decompressed");
    broker.say(&topic("events"), b"not zstd", packed);
    named("is not valid zstd");
    broker.say(&topic("observed"), br#"{"v":1,"kind":"reply","body":{}}"#, plain(false));
    named("is a Reply message where a Observed one was expected");
    let reply = br#"{"v":1,"kind":"reply","body":{"id":"c2","nonce":"00000000000000000000000000000000","seq":0,"body":"accepted"}}"#;
    broker.say(&topic("reply/c1"), reply, plain(false));
    named("carries the id 'c2'");
    broker.say(&topic("presence"), &vec![b'x'; 32 << 10], plain(false));
    assert!(!broker.takes(&topic("observed"), &vec![b'x'; WIRE_BYTES_MAX + (8 << 10)]));
    // What the hub itself says, and what nobody says, it does not even hear.
    let rejected = fleet.hub.get("/v1/status")["rejected"].clone();
    for kind in ["desired", "hello", "nonsense", "observed/more"] {
        broker.say(&topic(kind), b"garbage", plain(false));
    }
    broker.say("skerry/v1/agents/Not a name/observed", b"garbage", plain(false));
    fleet.steady("work");
    assert_eq!(fleet.hub.get("/v1/status")["rejected"], rejected);
    assert_eq!(fleet.boards[0].pids(), before);
    assert_eq!(fleet.instance("work", 0)["fresh"], true);
    fleet.finish();
    broker.process.terminate();
}

#[test]
fn f31_a_document_that_would_be_too_large_is_refused_at_apply_by_agent_and_size() {
    let fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    // Hexadecimal digits of a counter's digest: they compress to half and no further.
    let noise = |seed: usize| -> String {
        (0..700).map(|n| contract::Digest::of(format!("{seed} {n}").as_bytes()).hex()).collect()
    };
    let big = |n: usize| e2e::manifest(&format!("big-{n}"), "hello", &format!("  args: [\"{}\"]", noise(n)));
    let (status, answer) =
        fleet.hub.post("/v1/apply", (0..20).map(big).collect::<Vec<_>>().join("---\n").as_bytes());
    let said = answer.to_string();
    assert!(status == 422 && said.contains("board-0") && said.contains("bytes"), "{status} {answer:#}");
    assert_eq!(fleet.hub.get("/v1/workloads")["items"].as_array().unwrap().len(), 1, "all or nothing");
    // One manifest over its own limit, and a file over all limits.
    let long = e2e::manifest("long", "hello", &format!("  args: [\"{}\"]", "x".repeat(70 << 10)));
    let (status, answer) = fleet.hub.post("/v1/apply", long.as_bytes());
    assert!((400..500).contains(&status) && answer.to_string().contains("65536"), "{status} {answer:#}");
    let (status, answer) = fleet.hub.post("/v1/apply", &vec![b'#'; (1 << 20) + 1]);
    assert!((400..500).contains(&status) && answer.to_string().contains("1048576"), "{status} {answer:#}");
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.steady("work");
    fleet.finish();
}
