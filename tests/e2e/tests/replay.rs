//! A broker that hears everything and says it again, changed or not, whenever it likes; and a thief with
//! another board's key. Boards that have joined sign what they say: each kind of message × each lie is
//! refused under a name that the operator sees, and changes nothing.

use e2e::forge::{content_type, resealed, stolen_key};
use e2e::{Broker, Ear, Fleet, Say, Value, until};

const QUIET: &str = "  args: [--every, \"60000\"]";
const ME: &str = "agents/board-0/";

struct Scene {
    broker: Broker,
    fleet: Fleet,
    ear: Ear,
}

fn scene() -> Scene {
    let broker = Broker::start();
    let ear = broker.listen();
    let mut fleet = Fleet::start_with(0, &["--tls", "--broker", &broker.url()]);
    for n in 0..2 {
        fleet.add_board(&format!("board-{n}"));
        fleet.online(n);
        assert!(fleet.boards[n].joined);
    }
    fleet.run("work", "hello", QUIET);
    // A command, and its reply.
    let (code, _, err) = fleet.hub.cli(&["logs", "work", "--tail", "1"]);
    assert_eq!(code, 0, "{err}");
    Scene { broker, fleet, ear }
}

impl Scene {
    /// The newest of each kind that board-0 has said: the kind, and how it was said.
    fn said(&self) -> Vec<(String, Vec<u8>)> {
        let heard = self.ear.heard();
        let newest = |kind: &str| {
            let of_kind = |topic: &str| topic.strip_prefix(ME).is_some_and(|rest| rest.starts_with(kind));
            let found = heard.iter().rev().find(|(topic, payload)| of_kind(topic) && !payload.is_empty());
            let (topic, payload) = found.unwrap_or_else(|| panic!("board-0 has said no {kind}"));
            (topic[ME.len()..].to_string(), payload.clone())
        };
        ["presence", "observed", "events", "reply/"].map(newest).to_vec()
    }

    fn say(&self, agent: &str, kind: &str, bytes: &[u8]) {
        let say = Say { content_type: content_type(bytes), retain: false };
        self.broker.say(&format!("skerry/v1/agents/{agent}/{kind}"), bytes, say);
    }

    fn refused(&self, agent: &str, why: &str) -> u64 {
        let agent = self.fleet.hub.get(&format!("/v1/agents/{agent}"));
        let counts = agent["refused"].as_array().cloned().unwrap_or_default();
        counts.iter().find(|r| r["why"] == why).and_then(|r| r["count"].as_u64()).unwrap_or(0)
    }

    /// Said in this agent's name, it is refused as this.
    #[track_caller]
    fn is_refused(&self, agent: &str, kind: &str, bytes: &[u8], whys: &[&str]) {
        let count = || whys.iter().map(|why| self.refused(agent, why)).sum::<u64>();
        let before = count();
        self.say(agent, kind, bytes);
        until(&format!("{kind} is refused as {whys:?}"), || count() > before);
    }

    fn is_well(&self, before: &Value) {
        until("board-0 is online, fresh, and in the same session", || {
            let agent = self.fleet.hub.get("/v1/agents/board-0");
            agent["state"] == "online" && agent["fresh"] == true && agent["epoch"] == before["epoch"]
        });
        self.fleet.steady("work");
    }
}

#[test]
fn nobody_speaks_for_a_board_that_has_joined() {
    let scene = scene();
    let before = scene.fleet.hub.get("/v1/agents/board-0");
    let pids = scene.fleet.boards[0].pids();
    let thief = stolen_key(&scene.fleet.boards[1].state);
    for (kind, bytes) in scene.said() {
        scene.is_refused("board-0", &kind, &resealed(&bytes, None), &["unsigned"]);
        scene.is_refused("board-0", &kind, &resealed(&bytes, Some(&thief)), &["forged"]);
        scene.is_refused("board-1", &kind, &bytes, &["forged"]);
        scene.is_refused("board-0", &kind, &bytes[..bytes.len() / 2], &["damaged"]);
        let elsewhere = if kind == "events" { "observed" } else { "events" };
        scene.is_refused("board-0", elsewhere, &bytes, &["misplaced"]);
        // Said again in the session; a presence in its own session is true, and changes nothing.
        match kind.as_str() {
            "presence" => scene.say("board-0", &kind, &bytes),
            "observed" | "events" => scene.is_refused("board-0", &kind, &bytes, &["repeated"]),
            _ => scene.is_refused("board-0", &kind, &bytes, &["unasked", "repeated"]),
        }
    }
    scene.is_well(&before);
    assert_eq!(scene.fleet.boards[0].pids(), pids);
    scene.fleet.told("refused", "refused as forged");
    let (code, out, err) = scene.fleet.hub.cli(&["describe", "agent", "board-0"]);
    assert!(code == 0 && out.contains("Refused") && out.contains("forged, the last"), "{out}{err}");
    let (code, out, err) = scene.fleet.hub.cli(&["status"]);
    assert!(code == 0 && out.contains(" unsigned") && out.contains(" forged"), "{out}{err}");
    let Scene { mut broker, fleet, ear } = scene;
    drop(ear);
    fleet.finish();
    broker.process.terminate();
}

#[test]
fn what_was_said_before_a_reconnect_and_a_restart_is_old() {
    let mut scene = scene();
    let first = scene.said();
    let pids = scene.fleet.boards[0].pids();
    let hub_said = scene.ear.heard();
    let session = |scene: &Scene| scene.fleet.hub.get("/v1/agents/board-0")["epoch"].clone();
    for restart in [false, true] {
        let old = session(&scene);
        match restart {
            // Only the broker goes, and comes back without a memory.
            false => {
                scene.broker.process.kill();
                scene.broker.revive();
            }
            true => {
                scene.fleet.boards[0].kill();
                scene.fleet.boards[0].revive();
            }
        }
        until("it is back in a new session", || session(&scene) != old);
        scene.fleet.online(0);
        let before = scene.fleet.hub.get("/v1/agents/board-0");
        for (kind, bytes) in &first {
            let whys: &[&str] = match kind.as_str() {
                "presence" => &["older"],
                "observed" | "events" => &["otherSession"],
                _ => &["unasked"],
            };
            scene.is_refused("board-0", kind, bytes, whys);
        }
        // The hub's own words, to the board: hellos and commands of the sessions before.
        for (topic, bytes) in hub_said.iter().filter(|(topic, _)| {
            topic.starts_with("agents/board-0/hello") || topic.starts_with("agents/board-0/command")
        }) {
            scene.say("board-0", &topic[ME.len()..], bytes);
        }
        scene.is_well(&before);
        assert_eq!(scene.fleet.boards[0].pids(), pids);
    }
    scene.fleet.told("refused", "hello: it is for session");
    scene.fleet.told("refused", "command: the command is of another session");
    let Scene { mut broker, fleet, ear } = scene;
    drop(ear);
    fleet.finish();
    broker.process.terminate();
}

#[test]
fn a_flood_of_forgeries_is_one_event_and_a_number() {
    let scene = scene();
    let before = scene.fleet.hub.get("/v1/agents/board-0");
    let forged = r#"{"v":1,"kind":"observed","sig":"AAAA","body":{}}"#;
    for _ in 0..5 {
        scene.broker.flood("skerry/v1/agents/board-0/observed", forged, 2000);
    }
    until("they are counted", || scene.refused("board-0", "forged") > 100);
    let told = scene.fleet.hub.events();
    let told = told.iter().filter(|e| e["kind"] == "refused" && e["agent"] == "board-0");
    assert_eq!(told.count(), 1);
    scene.is_well(&before);
    let Scene { mut broker, fleet, ear } = scene;
    drop(ear);
    fleet.finish();
    broker.process.terminate();
}
