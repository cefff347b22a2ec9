//! Does a healed world come to rest where it should? Every board runs exactly what the hub's documents
//! say (or its good revision, with the rejection to be seen), and the hub shows it as it is.

use std::collections::BTreeSet;

use contract::run::Assignment;
use contract::spec::RestartPolicy;
use contract::time::Millis;
use contract::{InstanceId, RevisionId, WorkloadKey};
use hub_core::api::Request;
use hub_core::record::WorkloadRecord;
use hub_core::view::{AgentState, AgentView, InstanceFilter, InstanceView};

use crate::runtime::Behaviour;
use crate::script;
use crate::world::World;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const DAY: Millis = 24 * 60 * MINUTE;
/// The longest waits in the protocol (15 min for presence and refusals, 10 min for asking again) may
/// follow each other.
const SETTLE_MS: Millis = 75 * MINUTE;
const IDLE_BYTES_MAX: u64 = 100 << 10;
/// Keep-alive is the shell's: 96 pings and answers a day, with all headers and acknowledgements.
const PINGS_BYTES: u64 = 96 * 212;

impl World {
    /// Chaos, then peace.
    pub fn live(&mut self) {
        let end = self.plan.chaos_ms;
        self.slice_until(end);
        if self.failure.is_some() {
            return;
        }
        self.heal();
        self.settles();
        if self.plan.idle_day {
            self.idles();
        }
    }

    pub fn slice_until(&mut self, end: Millis) {
        while self.failure.is_none() && self.now < end {
            let until = (self.now + 30 * SECOND).min(end);
            self.run_until(until);
            self.check_views();
            self.check_probes();
        }
    }

    /// Within bounded time everything is as it should be, and stays so for a minute.
    pub fn settles(&mut self) {
        let end = self.now + SETTLE_MS;
        let mut quiet = 0;
        let mut minutes = 0u64;
        while self.failure.is_none() {
            let until = self.now + 20 * SECOND;
            self.slice_until(until);
            minutes += 1;
            if minutes.is_multiple_of(6) {
                self.accept_if_asked();
            }
            match self.is_settled() {
                Ok(()) if quiet == 3 => return self.check_nothing_acknowledged_is_lost(),
                Ok(()) => quiet += 1,
                Err(reason) if self.now > end => return self.violate("it_settles", reason),
                Err(_) => quiet = 0,
            }
        }
    }

    fn accept_if_asked(&mut self) {
        let now = self.hub_now();
        let Some(core) = &self.hub.core else { return };
        let views = core.agents(now, &Default::default());
        let held = |v: &AgentView| matches!(v.state, AgentState::FloorConflict | AgentState::OtherLineage);
        if views.iter().any(held) {
            self.accept_restore();
        }
    }

    pub fn is_settled(&self) -> Result<(), String> {
        let Some(core) = &self.hub.core else { return Err("there is no hub".into()) };
        if !self.hub_is_idle() {
            return Err("the hub is still writing".into());
        }
        for b in (0..self.boards.len()).filter(|b| !self.boards[*b].retired) {
            self.board_is_settled(b).map_err(|reason| format!("a{b}: {reason}"))?;
        }
        let list = core.workloads(None, &Default::default());
        for work in &list.items {
            self.steady_is_right(work)?;
        }
        Ok(())
    }

    fn board_is_settled(&self, b: usize) -> Result<(), String> {
        let board = &self.boards[b];
        let Some(process) = &board.process else { return Err("its agent is not there".into()) };
        let Some(core) = &self.hub.core else { return Err("there is no hub".into()) };
        let now = self.hub_now();
        let view = core.agent(now, &board.agent).ok_or("the hub does not know it")?;
        if view.board != board.id {
            return Err(format!("the hub knows board {} as {}", view.board, board.agent));
        }
        if view.state != AgentState::Online || !view.fresh {
            return Err(format!("it is shown {:?}, {:?}", view.state, view.problems));
        }
        let held = board.disk.desired.as_ref().map(|h| h.head.generation);
        if view.current.0 > 0 && (held != Some(view.current) || view.applied != held) {
            return Err(format!(
                "its document is {held:?}, the hub has {} and believes {:?}; it refused {:?}",
                view.current,
                view.applied,
                process.core.state().refused
            ));
        }
        self.drain_has_ended(&view)?;
        self.runs_are_right(b)?;
        let filter = InstanceFilter { agent: Some(board.agent.clone()), ..InstanceFilter::default() };
        core.instances(now, &filter).iter().try_for_each(|view| self.view_is_right(b, view))
    }

    /// Exactly what the document says.
    fn runs_are_right(&self, b: usize) -> Result<(), String> {
        let board = &self.boards[b];
        let assignments = board.disk.desired.as_ref().map(|h| &h.document.assignments);
        let wanted = |instance: &InstanceId| {
            let a = assignments?.get(&instance.workload)?;
            a.slots.contains(&instance.slot).then_some(a)
        };
        for ((instance, run), state) in &board.runs {
            match wanted(instance) {
                None => return Err(format!("{instance} run {run} is left: {:?}", state.state)),
                Some(a) if !state.is_live() && self.is_steady_kind(b, a) => {
                    return Err(format!("nothing_left_behind: {instance} run {run}"));
                }
                Some(_) => {}
            }
        }
        for assignment in assignments.into_iter().flat_map(|map| map.values()) {
            for instance in assignment.instances() {
                self.instance_is_right(b, &instance, assignment)?;
            }
        }
        Ok(())
    }

    /// What should run comes up and stays up.
    fn is_steady_kind(&self, b: usize, assignment: &Assignment) -> bool {
        let Some((assignment, _)) = self.trusted(b, assignment) else { return false };
        use Behaviour::{Flaky, Good, Slow, Stubborn};
        matches!(self.behaviour(&assignment), Good | Slow | Stubborn | Flaky)
    }

    /// The document's assignment, or the good one after a fall-back, and whether it fell back.
    fn trusted(&self, b: usize, assignment: &Assignment) -> Option<(Assignment, bool)> {
        let record = self.boards[b].disk.workloads.get(&assignment.workload);
        let fell = record
            .and_then(|r| r.rejected.as_ref())
            .is_some_and(|r| r.revision == assignment.revision && r.attempt >= assignment.attempt);
        match record.and_then(|r| r.good.clone()) {
            Some(good) if fell => Some((good, true)),
            _ => Some((assignment.clone(), false)),
        }
    }

    fn instance_is_right(&self, b: usize, instance: &InstanceId, a: &Assignment) -> Result<(), String> {
        let Some((wanted, fell)) = self.trusted(b, a) else { return Ok(()) };
        let live: Vec<_> =
            self.boards[b].runs.iter().filter(|((i, _), r)| i == instance && r.is_live()).collect();
        if live.len() > 1 {
            return Err(format!("{instance} runs {} times", live.len()));
        }
        if let Some((_, run)) = live.first() {
            let restarts = run.assignment.restarts >= a.restarts;
            if run.assignment.revision != wanted.revision || !restarts {
                return Err(format!("{instance} runs revision {}", run.assignment.revision.short()));
            }
        }
        let running = live.first().is_some_and(|(_, run)| run.is_running());
        match self.behaviour(&wanted) {
            Behaviour::Good | Behaviour::Slow | Behaviour::Stubborn | Behaviour::Flaky if !running => {
                let waits = self.boards[b].process.as_ref().map(|p| {
                    let status = p.core.status(self.boards[b].clock(self.now));
                    status.workloads.get(&instance.workload).map(|w| format!("{w:?}"))
                });
                Err(format!("{instance} does not run (fell back: {fell}): {waits:?}"))
            }
            Behaviour::Completes if running && wanted.run.restart_policy != RestartPolicy::Always => {
                Err(format!("{instance} has not completed yet"))
            }
            _ => Ok(()),
        }
    }

    fn view_is_right(&self, b: usize, view: &InstanceView) -> Result<(), String> {
        let held = self.boards[b].disk.desired.as_ref();
        let assignment = held.and_then(|h| h.document.assignments.get(&view.workload));
        let Some(assignment) = assignment.filter(|a| a.slots.contains(&view.instance.slot)) else {
            return match view.waiting.is_some() && !view.ready {
                true => Ok(()),
                false => Err(format!("{} is shown and in no document: {view:?}", view.instance)),
            };
        };
        if !view.fresh {
            return Err(format!("{} is not fresh", view.instance));
        }
        if !self.is_steady_kind(b, assignment) {
            return Ok(());
        }
        let run = self.boards[b].runs.iter().find(|((i, _), r)| *i == view.instance && r.is_running());
        let revision = run.map(|(_, r)| r.assignment.revision);
        match view.ready && revision == Some(view.revision) {
            true => Ok(()),
            false => Err(format!("{} is shown as {view:?}, it runs {revision:?}", view.instance)),
        }
    }

    /// Steady says: every target runs the present revision, healthy. And where it does, it says so.
    fn steady_is_right(&self, work: &hub_core::view::WorkloadView) -> Result<(), String> {
        let key = &work.key;
        let mut all = work.targets.waiting == 0;
        let mut sure = true;
        for ((placed, agent), record) in &self.hub.disk.placements {
            if placed != key {
                continue;
            }
            let board = self.boards_of(agent).find(|b| !self.boards[*b].retired);
            let Some(b) = board else { return Ok(()) };
            for slot in &record.slots {
                let instance = InstanceId { workload: key.clone(), slot: *slot };
                let mut runs = self.boards[b].runs.iter().filter(|((i, _), _)| *i == instance);
                let up = runs.any(|(_, r)| {
                    let since = match r.state {
                        crate::runtime::RunState::Running { since } => since,
                        _ => return false,
                    };
                    let long = self.now - since > r.assignment.run.healthy_after_ms + 10 * SECOND;
                    let probed = r.assignment.run.probes.is_some();
                    sure &= !probed || self.now - since.max(self.healed_at) > 90 * SECOND;
                    r.assignment.revision == work.revision && long
                });
                let digest = work.image_digest;
                if self.operator.behaviour(&digest) == Behaviour::Completes {
                    sure = false;
                }
                all &= up;
            }
        }
        if !sure || work.steady == all {
            return Ok(());
        }
        Err(format!(
            "{key} is shown steady: {}, it is {all}: {:?} {}",
            work.steady, work.targets, work.message
        ))
    }

    /// A day in which nothing happens: nothing is written, and little is said. Messages are counted with
    /// all headers and acknowledgements; MQTT's own pings, which a client needs only when it is otherwise
    /// silent, are not.
    pub fn idles(&mut self) {
        if self.failure.is_some() {
            return;
        }
        self.clear_unsteady();
        self.slice_until(self.now + 15 * MINUTE);
        self.settles();
        self.slice_until(self.now + 15 * MINUTE);
        let written: u64 = self.boards.iter().map(|b| b.persists).sum();
        let commits = self.hub.commits;
        self.truth.counts_bytes = true;
        self.truth.up_bytes.clear();
        self.slice_until(self.now + DAY);
        let written = self.boards.iter().map(|b| b.persists).sum::<u64>() - written;
        let commits = self.hub.commits - commits;
        self.demand(written + commits == 0, "nothing_written_at_idle", || {
            format!("{written} commits on boards, {commits} at the hub in a day")
        });
        let most = self.truth.up_bytes.values().max().copied().unwrap_or(0);
        if self.plan.heartbeat_ms >= 900_000 {
            self.demand(most + PINGS_BYTES < IDLE_BYTES_MAX, "f1_idle_day_stays_below_100_kib", || {
                format!("{most} bytes in a day, and {PINGS_BYTES} of pings")
            });
        }
    }

    /// Of what does not run and run on, nothing is left: also not where an earlier revision stands in for
    /// a present one that waits (for a label that its board has not, say).
    fn clear_unsteady(&mut self) {
        use Behaviour::{Good, Slow, Stubborn};
        let good =
            |image: &contract::Digest| matches!(self.operator.behaviour(image), Good | Slow | Stubborn);
        let steady = |(key, record): &(&WorkloadKey, &WorkloadRecord)| {
            let placed = self.hub.disk.placements.iter().filter(|((k, _), _)| k == *key);
            let placed: BTreeSet<RevisionId> = placed.map(|(_, placement)| placement.revision).collect();
            let mut earlier = record.revisions.iter().filter(|r| placed.contains(&r.revision));
            good(&record.image) && earlier.all(|r| good(&r.image))
        };
        let works = self.hub.disk.workloads.iter();
        let keys: Vec<_> = works.filter(|work| !steady(work)).map(|(key, _)| key.clone()).collect();
        let first = script::workload(0, 0, 99);
        self.request(Request::Delete { keys, if_version: None });
        self.request(script::apply(vec![first]));
    }
}
