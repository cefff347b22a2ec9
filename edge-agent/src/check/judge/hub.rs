//! Who directs this board: agent, key, broker, hub, and whether what they say fits together.

use agent_core::{SessionView, StatusView};
use contract::Lineage;

use crate::check::facts::{Agent, Broker, Document, Facts, Given, Joined};
use crate::check::finding::{Finding, fail, ok, skipped, warn};

const RUN_ON: &str = "workloads run on meanwhile";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    vec![
        agent(facts),
        identity(facts),
        given("hub-key", &facts.hub_key, "--hub-key: the hub's file hub.pub"),
        given("agent-token", &facts.token, "--token-file: the hub's file agent-token"),
        documents(facts),
        broker(facts),
        hub(facts),
        lineage(facts),
        floor(facts),
        engine(facts),
    ]
}

fn agent(facts: &Facts) -> Finding {
    match &facts.agent {
        Agent::Answers { status, .. } => {
            ok("agent", format!("{} {} answers (start {})", status.agent, status.agent_version, status.boots))
        }
        Agent::Silent { holder: Some(pid), why } => fail(
            "agent",
            format!("process {pid} holds the state directory, but {why}"),
            "give the --run-dir that it was started with, or restart it: workloads run on",
        ),
        Agent::Silent { holder: None, .. } => skipped("agent", "none runs here; files were read instead"),
    }
}

fn identity(facts: &Facts) -> Finding {
    const NAME: &str = "identity";
    let view = match &facts.identity {
        Joined::No => return skipped(NAME, "this board has not joined a hub"),
        Joined::Begun => {
            let found = "this board has a token, and has not joined yet";
            return warn(
                NAME,
                found,
                "see the agent's log for why; `hub agents approve` where it waits for that",
            );
        }
        Joined::Bad(why) => {
            return fail(NAME, why, "edge-agent join, with a token of `hub join-token create`");
        }
        Joined::Yes(view) => view,
    };
    if let Some(trouble) = &view.trouble {
        return fail(NAME, trouble, format!("`hub agents identities` says how the board stands; {RUN_ON}"));
    }
    if view.clock_doubted {
        return warn(
            NAME,
            "this board's clock is ahead of the hub's certificate",
            "set the clock; the hub's time is believed meanwhile",
        );
    }
    ok(NAME, format!("key {}, for {}", view.key, view.hubs.join(", ")))
}

fn given(name: &'static str, given: &Given, remedy: &str) -> Finding {
    match given {
        Given::LeftOut => skipped(name, "none was given"),
        Given::Usable => ok(name, "can be read"),
        Given::Bad(why) => fail(name, why, remedy),
    }
}

fn documents(facts: &Facts) -> Finding {
    const NAME: &str = "document";
    let remote = match &facts.broker {
        Broker::Reached { document, .. } => document.as_ref(),
        _ => None,
    };
    let all: Vec<&Document> = facts.documents.iter().chain(remote).collect();
    if let Some(Document { place, refused: Some(why), .. }) = all.iter().find(|d| d.refused.is_some()) {
        return fail(
            NAME,
            format!("{place} is not taken: it {why}"),
            "give the hub.pub of the hub that directs this board as --hub-key; a damaged file is sent again",
        );
    }
    if let Some(refused) = facts.agent.status().and_then(|s| s.refused.as_ref()) {
        return fail(NAME, format!("the agent refused the last one: {refused}"), remedy_of(refused));
    }
    let checked =
        if matches!(facts.hub_key, Given::Usable) { "signed by that key" } else { "signature not checked" };
    match all.len() {
        0 => skipped(NAME, "none here yet: the hub has not sent one"),
        n => ok(NAME, format!("{n}, {checked}")),
    }
}

fn remedy_of(refused: &str) -> &'static str {
    if refused.contains("lineage") {
        return "`hub restore accept --lineage` on the hub that shall direct this board";
    }
    "compare `hub get agents` on the hub; `hub restore accept` where it lost its newest state"
}

fn broker(facts: &Facts) -> Finding {
    const NAME: &str = "broker";
    let session = facts.agent.status().map(|s| &s.session);
    match (&facts.broker, session) {
        (Broker::Reached { url, .. }, _) => ok(NAME, format!("{url} answers and takes us")),
        (Broker::Refused { url, why }, _) => {
            fail(NAME, format!("{url}: {why}"), format!("{}; {RUN_ON}", broker_remedy(why)))
        }
        (_, Some(SessionView::Connected { .. })) => ok(NAME, "the agent is connected"),
        (_, Some(SessionView::Disconnected { reason: Some(why), .. })) => {
            fail(NAME, format!("the agent is away: {why}"), format!("{}; {RUN_ON}", broker_remedy(why)))
        }
        (_, Some(_)) => warn(NAME, "the agent is about to connect", "look again in a few seconds"),
        (_, None) => skipped(NAME, "no --broker was given, no agent runs"),
    }
}

fn broker_remedy(why: &str) -> &'static str {
    if why.contains("refused us") {
        return "--token-file must hold this hub's agent-token, and --id be as the broker knows it";
    }
    "start the hub or the broker, or correct --broker"
}

fn hub(facts: &Facts) -> Finding {
    const NAME: &str = "hub";
    match (facts.agent.status().map(|s| (&s.session, s)), &facts.broker) {
        (Some((SessionView::Connected { greeted: true, .. }, status)), _) => ok(NAME, hub_of(status)),
        (Some((SessionView::Connected { .. }, _)), _) => warn(
            NAME,
            "the broker is reached, the hub has not answered",
            format!("start the hub (`hub serve`), with this broker and this --prefix; {RUN_ON}"),
        ),
        (Some(_), _) => fail(NAME, "cannot be reached without the broker", format!("see 'broker'; {RUN_ON}")),
        (None, Broker::Reached { announced: Some(lineage), .. }) => {
            ok(NAME, format!("announces itself, lineage {}", short(lineage)))
        }
        (None, Broker::Reached { .. }) => warn(
            NAME,
            "nothing at the broker announces a hub",
            "start the hub (`hub serve`), with this broker and this --prefix",
        ),
        (None, Broker::Refused { .. }) => {
            fail(NAME, "cannot be reached without the broker", format!("see 'broker'; {RUN_ON}"))
        }
        (None, Broker::NotTried) => skipped(NAME, "no --broker was given, no agent runs"),
    }
}

fn hub_of(status: &StatusView) -> String {
    let lineage =
        status.hub.as_ref().map_or_else(String::new, |h| format!(", lineage {}", short(&h.lineage)));
    format!("answers in this session{lineage}")
}

fn short(lineage: &Lineage) -> String {
    lineage.to_string().chars().take(8).collect()
}

/// What the board has, against what the hub at the broker says of itself.
fn lineage(facts: &Facts) -> Finding {
    const NAME: &str = "lineage";
    let here = match facts.agent.status() {
        Some(status) => status.applied.map(|head| head.lineage),
        None => facts.documents.iter().find_map(|d| d.lineage),
    };
    let there = match (&facts.broker, facts.agent.status()) {
        (Broker::Reached { announced, .. }, _) => *announced,
        (_, status) => status.and_then(|s| s.hub.as_ref()).map(|h| h.lineage),
    };
    match (here, there) {
        (Some(here), Some(there)) if here != there => fail(
            NAME,
            format!("this board follows lineage {}, the hub is of {}", short(&here), short(&there)),
            format!("`hub restore accept --lineage {here}` on the hub if it shall take over this board"),
        ),
        (Some(here), Some(_)) => ok(NAME, format!("board and hub agree on {}", short(&here))),
        (Some(here), None) => {
            skipped(NAME, format!("this board follows {}; no hub to compare", short(&here)))
        }
        (None, _) => skipped(NAME, "no document here yet"),
    }
}

/// The hub is behind the board: a restored old store, or an old disk in this board.
fn floor(facts: &Facts) -> Finding {
    const NAME: &str = "floor";
    let Some(status) = facts.agent.status() else { return skipped(NAME, "only a running agent can tell") };
    let (Some(here), Some(hub)) = (status.applied, &status.hub) else {
        return skipped(NAME, "no document or no hub yet");
    };
    if here.lineage == hub.lineage && hub.term < here.term {
        return fail(
            NAME,
            format!("the hub is at term {}, this board has seen {}", hub.term, here.term),
            "the hub's store is older than what it once said: `hub restore accept`",
        );
    }
    ok(NAME, "the hub is not behind this board")
}

fn engine(facts: &Facts) -> Finding {
    const NAME: &str = "engine";
    let remote = match &facts.broker {
        Broker::Reached { document, .. } => document.as_ref(),
        _ => None,
    };
    let engines: Vec<&String> = facts.documents.iter().chain(remote).flat_map(|d| &d.engines).collect();
    if let Some(other) = engines.iter().find(|e| ***e != facts.engine) {
        return fail(
            NAME,
            format!("the hub compiled for {other}, this agent runs {}", facts.engine),
            "bring agent and hub to versions with the same engine; the hub recompiles by itself",
        );
    }
    match engines.len() {
        0 => skipped(NAME, format!("{}; no compiled code here to compare", facts.engine)),
        n => ok(NAME, format!("{} of {n} workloads", facts.engine)),
    }
}
