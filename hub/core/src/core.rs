//! The hub's core: one state, one step. Each event has its `on_…`; then what follows is worked off.

use std::collections::BTreeSet;

use contract::message::{FromAgent, HubAnnounce};
use contract::time::{Millis, Now};
use contract::{AgentId, Term, Version, WorkloadKey};

use crate::admit::{Admitted, Denied, admit};
use crate::api::{Effect, EffectId, Event, HubFacts, Op, Outcome};
use crate::artifact::Compiles;
use crate::changes::Changes;
use crate::command::Commands;
use crate::drain::Drains;
use crate::event_log::EventLog;
use crate::fetch::Fetches;
use crate::outbox::Outbox;
use crate::pump::Queues;
use crate::record::WorkloadRecord;
use crate::refused::{Refusals, Why};
use crate::timers::Timers;
use crate::world::World;

/// Bounds that tests make small.
#[derive(Debug, Clone)]
pub struct Config {
    /// Effects, placements and documents of one step.
    pub page_max: usize,
    /// Pairs of (workload, agent) looked at in one step.
    pub reconcile_max: usize,
    pub agents_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { page_max: contract::limits::EFFECTS_PAGE_MAX, reconcile_max: 20_000, agents_max: 200_000 }
    }
}

pub struct Core {
    pub(crate) config: Config,
    pub(crate) world: World,
    pub(crate) out: Outbox,
    pub(crate) queues: Queues,
    pub(crate) timers: Timers,
    pub(crate) changes: Changes,
    pub(crate) log: EventLog,
    pub(crate) commands: Commands,
    pub(crate) compiles: Compiles,
    pub(crate) fetches: Fetches,
    /// Documents and hellos under way.
    pub(crate) publishing: BTreeSet<EffectId>,
    /// The version of this step's commit is taken.
    pub(crate) committed: bool,
    pub(crate) nonces: u64,
    pub(crate) hellos: u64,
    pub(crate) refusals: Refusals,
    pub(crate) last_rejected: Option<(Option<AgentId>, String)>,
    pub(crate) bus_reason: Option<String>,
    announcing: Option<EffectId>,
    announce_again: Option<Millis>,
    state: State,
    pub(crate) now: Now,
    /// On its clock, when this hub started.
    pub(crate) started_ms: Millis,
    pub(crate) drains: Drains,
    /// Slots that made room in this step, and the first of them by name.
    pub(crate) displaced: usize,
    pub(crate) displaced_named: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before `Event::Boot`.
    Blank,
    Running,
    /// A commit failed: what is in memory is not what is on disk. Nothing leaves any more.
    Halted,
}

/// A failed announcement is tried again after this long.
const ANNOUNCE_AGAIN_MS: Millis = 5_000;

impl Core {
    pub fn new(config: Config) -> Core {
        Core {
            config,
            world: World::load(HubFacts::blank()),
            out: Outbox::default(),
            queues: Queues::default(),
            timers: Timers::default(),
            changes: Changes::default(),
            log: EventLog::load(Vec::new()),
            commands: Commands::default(),
            compiles: Compiles::default(),
            fetches: Fetches::default(),
            publishing: BTreeSet::new(),
            committed: false,
            nonces: 0,
            hellos: 0,
            refusals: Refusals::default(),
            last_rejected: None,
            bus_reason: None,
            announcing: None,
            announce_again: None,
            state: State::Blank,
            now: Now { boot_ms: 0, wall_ms: None },
            started_ms: 0,
            drains: Drains::default(),
            displaced: 0,
            displaced_named: Vec::new(),
        }
    }

    pub fn step(&mut self, now: Now, event: Event) -> Vec<Effect> {
        // A clock that steps back would make waits endless.
        let now = Now { boot_ms: self.now.boot_ms.max(now.boot_ms), wall_ms: now.wall_ms };
        self.now = now;
        let booting = matches!(event, Event::Boot(_));
        if self.state == State::Halted || booting != (self.state == State::Blank) {
            return Vec::new();
        }
        self.committed = false;
        (self.displaced, self.displaced_named) = (0, Vec::new());
        self.out.begin();
        self.on_event(now, event);
        if self.state == State::Halted {
            return Vec::new();
        }
        self.on_time(now);
        self.pump(now);
        self.out.finish(&self.world)
    }

    /// What an apply would come to; `Request::Apply` asks the same function.
    pub fn plan(&self, apply: &crate::api::Apply) -> Result<Admitted, Denied> {
        admit(&self.world, apply)
    }

    /// The present record of a workload, to compare with a plan.
    pub fn record(&self, key: &WorkloadKey) -> Option<&WorkloadRecord> {
        self.world.works.get(key).map(|work| &*work.record)
    }

    /// When to step again with `Event::Wake` if nothing else happens.
    pub fn next_wake(&self) -> Option<Millis> {
        match self.state {
            State::Running if self.has_work() => Some(self.now.boot_ms),
            State::Running => {
                let times = [
                    self.timers.next(),
                    self.commands.next_due(),
                    self.compiles.next_due(),
                    self.fetches.next_due(),
                    self.drains.next(),
                    self.announce_again,
                ];
                times.into_iter().flatten().min()
            }
            State::Blank | State::Halted => None,
        }
    }

    fn on_event(&mut self, now: Now, event: Event) {
        match event {
            Event::Boot(facts) => self.on_boot(now, *facts),
            Event::Finished { id, outcome } => self.on_finished(now, id, outcome),
            Event::Request { id, request } => self.on_request(now, id, request),
            Event::Abandoned { id } => self.on_abandoned(id),
            Event::Agent { agent, message } => self.on_message(now, &agent, message),
            Event::Overflow { agent } => self.on_overflow(now, &agent),
            Event::Rejected { agent, why, reason } => self.note_rejected(now, agent.as_ref(), why, reason),
            Event::BusUp => self.on_bus_up(now),
            Event::BusDown { reason } => self.on_bus_down(reason),
            Event::Wake => {}
        }
    }

    fn on_message(&mut self, now: Now, agent: &AgentId, message: FromAgent) {
        // The embedded broker's door asks too; somebody else's broker lets in whom it likes.
        // That a board is gone is believed of any.
        let leaves = matches!(&message, FromAgent::Presence(presence) if !presence.online);
        if let Some(why) = self.world.trust.barred(agent).filter(|_| !leaves) {
            return self.note_rejected(now, Some(agent), Why::Barred, why.to_string());
        }
        match message {
            FromAgent::Presence(presence) => self.on_presence(now, agent, presence),
            FromAgent::Observed(report) => self.on_observed(now, agent, report),
            FromAgent::Events(batch) => self.on_events(now, agent, batch),
            FromAgent::Reply(reply) => self.on_reply(now, agent, reply),
        }
    }

    fn on_boot(&mut self, now: Now, mut facts: HubFacts) {
        self.state = State::Running;
        self.started_ms = now.boot_ms;
        self.log = EventLog::load(std::mem::take(&mut facts.events));
        self.world = World::load(facts);
        self.world.meta.term = Term(self.world.meta.term.0.saturating_add(1));
        self.out.meta();
        let works: Vec<_> = self.world.works.iter().map(|(k, work)| (k.clone(), work.priority())).collect();
        for (key, priority) in &works {
            self.queues.dirty.set_priority(key, *priority);
            self.queues.dirty.all(key);
        }
        let draining = self.world.agents.iter().filter(|(_, agent)| agent.record.is_draining());
        let draining: Vec<AgentId> = draining.map(|(id, _)| id.clone()).collect();
        draining.iter().for_each(|id| self.watch_drain(now, id));
    }

    fn on_finished(&mut self, now: Now, id: EffectId, outcome: Outcome) {
        if self.out.finished(id) {
            if outcome != Outcome::Done {
                self.state = State::Halted;
            }
        } else if self.publishing.remove(&id) {
            // One that did not arrive is sent again when the agent does not report it as applied.
        } else if self.announcing == Some(id) {
            self.announcing = None;
            let failed = outcome != Outcome::Done;
            self.announce_again = failed.then_some(now.boot_ms + ANNOUNCE_AGAIN_MS);
        } else {
            let _ = self.on_compiled(now, id, &outcome)
                || self.on_fetched(now, id, &outcome)
                || self.on_command_sent(id, &outcome);
        }
    }

    /// Whatever is due.
    fn on_time(&mut self, now: Now) {
        while let Some(agent) = self.timers.pop_due(now.boot_ms) {
            self.on_timer(now, &agent);
        }
        self.end_late_commands(now);
        self.retry_compiles(now);
        self.retry_fetches(now);
        self.end_drain_waits(now);
        if self.announce_again.is_some_and(|at| at <= now.boot_ms) {
            self.announce();
        }
    }

    pub(crate) fn announce(&mut self) {
        self.announce_again = None;
        if !self.world.bus_up {
            return;
        }
        let (meta, window_ms) = (self.world.meta, self.world.settings.announce_window_ms);
        let announce = HubAnnounce { lineage: meta.lineage, term: meta.term, window_ms };
        self.announcing = Some(self.out.after(Op::PublishAnnounce(announce)));
    }

    /// The version of this step's commit; one for all that the step changes.
    pub(crate) fn commit(&mut self) -> Version {
        if !self.committed {
            self.committed = true;
            self.world.meta.version = self.world.meta.version.next();
            self.out.meta();
        }
        self.world.meta.version
    }
}
