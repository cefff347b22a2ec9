//! When the core must look again by itself.
//!
//! Whatever is due has been done by the end of a step, or waits for an event and not for the time. So
//! only moments in the future count, and a `Wake` can never follow a `Wake` without time passing.

use contract::time::Millis;

use crate::core::Core;
use crate::record::Workload;
use crate::session::Link;

struct Earliest {
    now: Millis,
    at: Option<Millis>,
}

impl Earliest {
    fn offer(&mut self, at: impl IntoIterator<Item = Millis>) {
        let future = at.into_iter().filter(|at| *at > self.now).min();
        self.at = self.at.into_iter().chain(future).min();
    }
}

impl Core {
    pub(crate) fn wake_after(&self, now: Millis) -> Option<Millis> {
        let mut wake = Earliest { now, at: None };
        self.workloads.values().for_each(|workload| offer_workload(&mut wake, workload));
        if self.session.base_url.is_some() {
            wake.offer(self.artifacts.retries());
        }
        match self.session.link {
            Link::Down { at_ms } => wake.offer([at_ms]),
            Link::Up { .. } => self.offer_session(&mut wake),
            Link::Connecting { .. } | Link::Closing { .. } => {}
        }
        wake.at
    }

    fn offer_session(&self, wake: &mut Earliest) {
        if self.session.greeting.is_none() {
            return wake.offer(self.session.presence_at_ms);
        }
        wake.offer([self.reporter.wake(self.heartbeat_ms())]);
        wake.offer(self.spool.retry_at());
    }
}

fn offer_workload(wake: &mut Earliest, workload: &Workload) {
    wake.offer(workload.deadline());
    for instance in workload.slots.values() {
        wake.offer(instance.bucket.wait().and_then(|wait| wait.until()));
        wake.offer(instance.runs.values().filter_map(|run| run.healthy_at()));
        wake.offer(instance.runs.values().filter_map(|run| run.patience_ends()));
    }
}
