//! The loop: one event in, the whole picture looked at once, effects out.
//!
//! ```text
//! event ─▶ on_<event> ─▶ ripen, count ─▶ judge ─▶ fetch ─▶ reconcile ─▶ perform ─▶ persist ─▶ connect ─▶ report
//!          (take it in)  (health) (good?)           (the plan)                          (what is told)
//! ```
//!
//! A store fault halts the core: nothing more leaves, the shell exits, the shims live on.

use std::collections::{BTreeMap, BTreeSet};

use contract::limits::clip;
use contract::message::{AgentEvent, Capacity, EventKind, Presence};
use contract::time::Millis;
use contract::{AgentId, BoardId, Epoch, InstanceId, Now, WorkloadKey};

use crate::api::{Effect, EffectId, Event, HubMessage, Outcome};
use crate::command::Commands;
use crate::config::CoreConfig;
use crate::desired::Documents;
use crate::devices::Devices;
use crate::fetch::Artifacts;
use crate::garbage::Garbage;
use crate::outbox::{Outbox, Pending};
use crate::record::Workload;
use crate::report::Reporter;
use crate::session::Session;
use crate::spool::Spool;

#[derive(Debug)]
pub struct Core {
    pub(crate) config: CoreConfig,
    pub(crate) booted: bool,
    halted: bool,
    /// Boottime never goes back, whatever the shell hands in.
    clock_ms: Millis,
    pub(crate) me: Me,
    pub(crate) features: BTreeSet<String>,
    pub(crate) out: Outbox,
    pub(crate) session: Session,
    pub(crate) documents: Documents,
    pub(crate) workloads: BTreeMap<WorkloadKey, Workload>,
    pub(crate) artifacts: Artifacts,
    pub(crate) devices: Devices,
    pub(crate) reporter: Reporter,
    pub(crate) spool: Spool,
    pub(crate) garbage: Garbage,
    pub(crate) commands: Commands,
    pub(crate) wake_ms: Option<Millis>,
}

/// Who this is.
#[derive(Debug)]
pub(crate) struct Me {
    pub agent: AgentId,
    pub board: BoardId,
    pub presence: Presence,
    pub boots: u64,
    /// When this process began.
    pub started_ms: Millis,
    /// Runs started under `boots`.
    pub runs: u64,
}

impl Me {
    /// Until `Boot` tells.
    fn nobody() -> Me {
        let board = BoardId([0; 16]);
        let presence = Presence {
            board,
            epoch: Epoch::default(),
            online: false,
            contract_version: contract::message::CONTRACT_VERSION,
            agent_version: String::new(),
            features: BTreeSet::new(),
            engines: Vec::new(),
            arch: String::new(),
            labels: BTreeMap::new(),
            capacity: Capacity::default(),
        };
        Me {
            agent: "nobody".parse().expect("a legal name"),
            board,
            presence,
            boots: 0,
            started_ms: 0,
            runs: 0,
        }
    }
}

impl Core {
    pub fn new(config: CoreConfig) -> Core {
        Core {
            config,
            booted: false,
            halted: false,
            clock_ms: 0,
            me: Me::nobody(),
            features: BTreeSet::new(),
            out: Outbox::default(),
            session: Session::default(),
            documents: Documents::default(),
            workloads: BTreeMap::new(),
            artifacts: Artifacts::default(),
            devices: Devices::default(),
            reporter: Reporter::default(),
            spool: Spool::default(),
            garbage: Garbage::default(),
            commands: Commands::default(),
            wake_ms: None,
        }
    }

    /// Take one event in; what comes out is to be performed. Events before `Boot` mean nothing.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let boots = matches!(event, Event::Boot(_));
        if self.halted || boots == self.booted {
            return Vec::new();
        }
        self.clock_ms = self.clock_ms.max(now.boot_ms);
        let now = Now { boot_ms: self.clock_ms, ..now };
        match event {
            Event::Boot(facts) => self.on_boot(now, *facts),
            Event::Finished { id, outcome } => self.on_finished(now, id, outcome),
            Event::Exited { instance, run, exit } => self.on_exited(now, instance, run, exit),
            Event::Probed { instance, run, which, answer } => {
                self.on_probed(now, instance, run, which, answer);
            }
            Event::Disconnected { epoch, reason, refused } => {
                self.on_disconnected(now, epoch, &reason, refused)
            }
            Event::Hub(HubMessage::Announce(announce)) => self.on_announce(now, announce),
            Event::Hub(HubMessage::Hello(hello)) => self.on_hello(now, hello),
            Event::Hub(HubMessage::Desired { document, signed }) => self.on_desired(now, document, signed),
            Event::Hub(HubMessage::Command(command)) => self.on_command(now, command),
            Event::Rejected { topic, reason } => self.on_rejected(now, &topic, &reason),
            Event::StoreWaits { reason } => {
                let text = format!("nothing becomes durable at present, workloads run on: {reason}");
                self.tell(now, EventKind::DiskFull, None, text);
            }
            Event::Devices(there) => self.on_devices(now, there),
            Event::Wake => {}
        }
        self.settle(now);
        self.out.take()
    }

    /// Boottime at which `Wake` is due; none: sleep until something happens.
    pub fn next_wake(&self) -> Option<Millis> {
        self.wake_ms
    }

    fn settle(&mut self, now: Now) {
        if self.halted {
            self.wake_ms = None;
            return;
        }
        self.ripen(now);
        self.count_trials();
        self.judge(now);
        self.fetch_needed(now);
        self.watch_devices();
        self.pursue(now);
        self.pursue_probes(now);
        self.flush_writes();
        self.sweep_artifacts();
        self.pursue_session(now);
        self.send_report(now);
        self.send_events(now);
        self.wake_ms = self.wake_after(now.boot_ms);
    }

    fn on_finished(&mut self, now: Now, id: EffectId, outcome: Outcome) {
        match self.out.finish(id) {
            None | Some(Pending::Nothing) => {}
            Some(Pending::Presence(_)) => {} // Said again until the hub answers.
            Some(Pending::Reply(_)) => {}    // The hub has a deadline.
            Some(Pending::Disconnect) => self.on_closed(now, id),
            Some(Pending::Persist) => self.on_persist_end(now, id, &outcome),
            Some(Pending::Connect) => self.on_connect_end(now, id, outcome),
            Some(Pending::Observed(epoch)) => self.on_report_end(now, epoch, &outcome),
            Some(Pending::Events(epoch)) => self.on_events_end(now, epoch, &outcome),
            Some(Pending::Fetch(digest)) => self.on_fetched(now, digest, outcome),
            Some(Pending::Start(instance, run)) => self.on_start_end(now, instance, run, outcome),
            Some(Pending::Stop(instance, run)) => self.on_stop_end(now, instance, run, outcome),
            Some(Pending::Remove(instance, run)) => self.on_remove_end(now, instance, run, outcome),
            Some(Pending::Serve(command)) => self.commands.ended(&command),
            Some(Pending::Sweep) => self.on_swept(),
        }
    }

    fn on_persist_end(&mut self, now: Now, id: EffectId, outcome: &Outcome) {
        match outcome {
            Outcome::Done => self.on_persisted(now, id),
            // What is durable is not known any more.
            _ => self.halted = true,
        }
    }

    /// Spool an event for the operator.
    pub(crate) fn tell(&mut self, now: Now, kind: EventKind, instance: Option<InstanceId>, text: String) {
        let wall_ms = now.wall_ms.or(self.session.wall_at(now.boot_ms));
        let event = AgentEvent {
            at_ms: now.boot_ms,
            boots: self.me.boots,
            wall_ms,
            instance,
            kind,
            text: clip(&text),
        };
        self.spool.push(event);
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted
    }

    pub(crate) fn agent_text(&self) -> String {
        self.me.agent.to_string()
    }
}
