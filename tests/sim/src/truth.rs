//! What is really so? Kept by the world, beside the cores, to compare their claims with.

use std::collections::{BTreeMap, BTreeSet};

use contract::message::{Desired, DesiredHead, FromAgent, Hello, ObservedBody, Presence};
use contract::run::Assignment;
use contract::time::Millis;
use contract::{
    AgentId, Attempt, BoardId, Digest, Epoch, Generation, InstanceId, Lineage, Nonce, RevisionId, Version,
    WorkloadKey,
};

use hub_core::record::AgentRecord;

use crate::broker::Down;

/// What is tried on a board.
pub type Candidate = (WorkloadKey, RevisionId, Attempt);

/// The result of an acknowledged request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    pub version: Version,
    /// None: deleted.
    pub revision: Option<RevisionId>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    epoch: Epoch,
    seq: u64,
    complete: bool,
    known: bool,
}

#[derive(Debug, Default)]
pub struct Truth {
    pub acked: BTreeMap<WorkloadKey, Acked>,
    /// Deletions asked for since; whether they were done nobody was told.
    pub deletes_tried: BTreeSet<WorkloadKey>,
    published: BTreeSet<(AgentId, Lineage, Generation, Digest)>,
    pub last_hello: BTreeMap<AgentId, Hello>,
    echoed: BTreeSet<Nonce>,
    /// By board: the newest document that was durable there.
    pub highest: BTreeMap<usize, DesiredHead>,
    /// When a session could still say something; none: it can now.
    sessions: BTreeMap<(usize, Epoch), (u64, Option<Millis>)>,
    last_up: BTreeMap<(usize, InstanceId, RevisionId), Millis>,
    last_down: BTreeMap<(usize, InstanceId), Millis>,
    healthy: BTreeSet<(usize, WorkloadKey, RevisionId)>,
    /// What of Configs and Secrets each revision was first started with.
    contents: BTreeMap<(WorkloadKey, RevisionId), Vec<Digest>>,
    /// How often a candidate took its board down, since it was named.
    felled: BTreeMap<(usize, Candidate), u32>,
    /// By board: what was delivered to the hub's door, in its order.
    streams: BTreeMap<BoardId, Stream>,
    renumbered: BTreeMap<AgentId, (Epoch, u64, u64)>,
    wills: BTreeMap<BoardId, Epoch>,
    /// By agent and start: the events that ever left a board.
    events: BTreeMap<(AgentId, u64), BTreeSet<u64>>,
    pub taken: BTreeMap<(AgentId, u64), u64>,
    /// Since the hub had nothing left to do: something that may move work happened.
    caused: bool,
    /// What presences said of a board at the hub's door.
    told: BTreeSet<(AgentId, BoardFacts)>,
    /// What the hub has decided to believe of each agent.
    believed: BTreeMap<AgentId, BoardFacts>,
    /// The hub's store went back in time, or a board lost its own: some promises rest until then.
    pub rewound: bool,
    pub boards_lost: bool,
    pub up_bytes: BTreeMap<usize, u64>,
    pub messages: u64,
    /// Sizes cost time: counted only where they are looked at.
    pub counts_bytes: bool,
}

/// What moves work: a board's labels and what its code is compiled for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BoardFacts {
    labels: BTreeMap<String, String>,
    engines: Vec<String>,
}

fn facts_of(record: &AgentRecord) -> BoardFacts {
    BoardFacts { labels: record.own_labels(), engines: record.engines.clone() }
}

/// `last_up` of what is up, `last_down` of what is not.
const NOW: Millis = Millis::MAX;

/// Envelope, topic, MQTT header, TCP and IP headers, the acknowledgement and its headers.
const OVERHEAD_BYTES: u64 = 60 + 50 + 10 + 52 + 4 + 52 + 52;

impl Truth {
    // --- runs ---

    pub fn up(&mut self, b: usize, instance: &InstanceId, revision: RevisionId, now: Millis) {
        self.last_up.insert((b, instance.clone(), revision), NOW);
        self.last_down.insert((b, instance.clone()), now);
    }

    pub fn down(
        &mut self,
        b: usize,
        instance: &InstanceId,
        assignment: &Assignment,
        since: Millis,
        now: Millis,
        success: bool,
    ) {
        let revision = assignment.revision;
        self.last_up.insert((b, instance.clone(), revision), now);
        self.last_down.insert((b, instance.clone()), NOW);
        if success || now - since >= assignment.run.healthy_after_ms {
            self.healthy.insert((b, instance.workload.clone(), revision));
        }
    }

    pub fn stopping(&mut self, b: usize, instance: &InstanceId, _now: Millis) {
        self.last_down.insert((b, instance.clone()), NOW);
    }

    /// It ran this revision at some moment since.
    pub fn ran_since(&self, b: usize, instance: &InstanceId, revision: RevisionId, since: Millis) -> bool {
        self.last_up.get(&(b, instance.clone(), revision)).is_some_and(|at| *at >= since)
    }

    pub fn was_down_since(&self, b: usize, instance: &InstanceId, since: Millis) -> bool {
        self.last_down.get(&(b, instance.clone())).is_none_or(|at| *at >= since)
    }

    pub fn was_healthy(&self, b: usize, key: &WorkloadKey, revision: RevisionId) -> bool {
        self.healthy.contains(&(b, key.clone(), revision))
    }

    /// Those that this revision was first started with, anywhere.
    pub fn contents_of(&mut self, key: &WorkloadKey, revision: RevisionId, now: &[Digest]) -> Vec<Digest> {
        self.contents.entry((key.clone(), revision)).or_insert_with(|| now.to_vec()).clone()
    }

    pub fn felled(&mut self, b: usize, candidate: Candidate) -> u32 {
        let count = self.felled.entry((b, candidate)).or_default();
        *count += 1;
        *count
    }

    /// Another candidate was named on the board meanwhile: it is counted anew.
    pub fn renamed(&mut self, b: usize, key: &WorkloadKey, named: Option<(RevisionId, Attempt)>) {
        let same = |c: &Candidate| Some((c.1, c.2)) == named;
        self.felled.retain(|(board, c), _| *board != b || c.0 != *key || same(c));
    }

    // --- sessions and reports ---

    pub fn session_begins(&mut self, b: usize, life: u64, epoch: Epoch) {
        self.sessions.insert((b, epoch), (life, None));
    }

    pub fn is_known(&self, b: usize, epoch: Epoch) -> bool {
        self.sessions.contains_key(&(b, epoch))
    }

    /// A board that lost its store uses epochs again, in another life.
    pub fn session_over(&mut self, b: usize, life: u64, epoch: Epoch, now: Millis) {
        if let Some((of, over)) = self.sessions.get_mut(&(b, epoch))
            && *of == life
        {
            over.get_or_insert(now);
        }
    }

    pub fn session_alive_since(&self, b: usize, epoch: Epoch, since: Millis) -> bool {
        match self.sessions.get(&(b, epoch)) {
            Some((_, None)) => true,
            Some((_, Some(at))) => *at >= since,
            None => false,
        }
    }

    pub fn said(&mut self, _b: usize, message: &FromAgent) {
        if let FromAgent::Observed(report) = message {
            self.echoed.extend(report.nonce);
        }
    }

    pub fn was_echoed(&self, nonce: &Nonce) -> bool {
        self.echoed.contains(nonce)
    }

    pub fn events_left(&mut self, agent: &AgentId, first: u64, n: u64) {
        let set = self.events.entry((agent.clone(), first >> 32)).or_default();
        set.extend(first..first + n);
    }

    pub fn events_of(&self, agent: &AgentId, boots: u64) -> u64 {
        self.events.get(&(agent.clone(), boots)).map_or(0, |set| set.len() as u64)
    }

    /// Delivered at the hub's door: a hole in what was delivered must not look fresh.
    pub fn heard(&mut self, message: &FromAgent) {
        match message {
            FromAgent::Presence(p) if !p.online => {
                let will = self.wills.entry(p.board).or_default();
                *will = (*will).max(p.epoch);
            }
            FromAgent::Observed(report) => {
                let stream = self.streams.entry(report.board).or_default();
                if report.epoch > stream.epoch {
                    *stream = Stream { epoch: report.epoch, seq: 0, complete: stream.complete, known: false };
                }
                if report.epoch < stream.epoch || report.seq <= stream.seq {
                    return;
                }
                let full = matches!(report.body, ObservedBody::Full { .. });
                if full {
                    (stream.complete, stream.known) = (true, true);
                } else if report.seq != stream.seq + 1 {
                    (stream.complete, stream.known) = (false, true);
                    return;
                }
                stream.seq = report.seq;
            }
            _ => {}
        }
    }

    pub fn has_hole(&self, board: &BoardId, epoch: Epoch) -> bool {
        self.streams.get(board).is_some_and(|s| s.epoch == epoch && s.known && !s.complete)
    }

    pub fn will_heard(&self, board: &BoardId) -> Epoch {
        self.wills.get(board).copied().unwrap_or_default()
    }

    /// For a planted bug: numbers as if nothing had been lost.
    pub fn renumber(&mut self, agent: &AgentId, epoch: Epoch, seq: u64) -> u64 {
        let (known, last, given) = self.renumbered.entry(agent.clone()).or_default();
        if *known != epoch {
            (*known, *last, *given) = (epoch, 0, 0);
        }
        if seq > *last {
            (*last, *given) = (seq, *given + 1);
        }
        *given
    }

    pub fn next_seq(&mut self, board: &BoardId) -> u64 {
        let stream = self.streams.entry(*board).or_default();
        stream.seq += 1;
        stream.seq
    }

    // --- documents ---

    pub fn published(&mut self, agent: &AgentId, document: &Desired) {
        let head = document.head();
        self.published.insert((agent.clone(), head.lineage, head.generation, head.digest));
    }

    pub fn was_published(&self, agent: &AgentId, head: &DesiredHead) -> bool {
        self.published.contains(&(agent.clone(), head.lineage, head.generation, head.digest))
    }

    pub fn greeted(&mut self, agent: &AgentId, hello: &Hello) {
        self.last_hello.insert(agent.clone(), hello.clone());
    }

    pub fn store_lost(&mut self, b: usize) {
        self.highest.remove(&b);
        self.felled.retain(|(board, _), _| *board != b);
        self.boards_lost = true;
    }

    // --- the hub ---

    pub fn cause(&mut self) {
        self.caused = true;
    }

    pub fn was_caused(&self) -> bool {
        self.caused
    }

    pub fn board_told(&mut self, agent: &AgentId, presence: &Presence) {
        let facts = BoardFacts { labels: presence.labels.clone(), engines: presence.engines.clone() };
        self.told.insert((agent.clone(), facts));
    }

    /// What the hub's store says is where it goes on.
    pub fn hub_begins(&mut self, agents: &BTreeMap<AgentId, AgentRecord>) {
        self.believed = agents.iter().map(|(id, record)| (id.clone(), facts_of(record))).collect();
    }

    /// The hub takes other facts of a board in than it had, and a board did say so. That may be long
    /// after it heard them: of two boards with one id it asks the known one first.
    pub fn hub_believes(&mut self, agent: &AgentId, record: Option<&AgentRecord>) {
        let Some(facts) = record.map(facts_of) else { return drop(self.believed.remove(agent)) };
        let news = self.believed.get(agent) != Some(&facts);
        if news && self.told.contains(&(agent.clone(), facts.clone())) {
            self.caused = true;
        }
        self.believed.insert(agent.clone(), facts);
    }

    pub fn hub_is_quiet(&mut self) {
        self.caused = false;
    }

    pub fn hub_died(&mut self) {
        self.last_hello.clear();
        self.streams.clear();
        self.wills.clear();
        self.renumbered.clear();
    }

    /// Whatever was acknowledged is gone with the store, by the operator's own hand.
    pub fn rewind(&mut self) {
        self.acked.clear();
        self.taken.clear();
        self.rewound = true;
        self.caused = true;
    }

    // --- the wire ---

    pub fn bytes(&mut self, b: usize, message: &FromAgent) {
        if !self.counts_bytes {
            return;
        }
        self.messages += 1;
        let body = match message {
            FromAgent::Presence(p) => serde_json::to_vec(p),
            FromAgent::Observed(o) => serde_json::to_vec(o),
            FromAgent::Events(e) => serde_json::to_vec(e),
            FromAgent::Reply(r) => serde_json::to_vec(r),
        };
        *self.up_bytes.entry(b).or_default() += body.map_or(0, |b| b.len() as u64) + OVERHEAD_BYTES;
    }

    pub fn bytes_down(&mut self, b: usize, message: &Down, documents: &[std::sync::Arc<Desired>]) {
        if !self.counts_bytes {
            return;
        }
        self.messages += 1;
        let body = match message {
            Down::Announce(a) => serde_json::to_vec(a),
            Down::Hello(h) => serde_json::to_vec(h),
            Down::Desired(n) => serde_json::to_vec(documents[*n].as_ref()),
            Down::Command(c) => serde_json::to_vec(c),
        };
        *self.up_bytes.entry(b).or_default() += body.map_or(0, |b| b.len() as u64) + OVERHEAD_BYTES;
    }
}
