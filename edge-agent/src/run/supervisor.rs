//! What is the service manager told? That the agent is up, that its loop turns, and in a line for people what
//! the board does. Without one (no NOTIFY_SOCKET) nothing is told, and nothing wakes the agent for it.

use std::time::Duration;

use agent_core::Summary;
use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

pub struct Supervisor {
    listens: bool,
    /// Turns with the loop that owns the agent, and not on a thread of its own: a loop that is stuck must be missed.
    watchdog: Option<Interval>,
    summary: Option<Summary>,
}

impl Supervisor {
    /// As the environment says; within the runtime.
    pub fn new() -> Supervisor {
        // Half of what the manager waits for, as its manual asks; less would only wake the board more often.
        let period = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let watchdog = period.filter(|period| *period >= Duration::from_millis(1)).map(|period| {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Supervisor { listens: std::env::var_os("NOTIFY_SOCKET").is_some(), watchdog, summary: None }
    }

    /// The work from disk is on its way, and the agent can be asked.
    pub fn ready(&self) {
        self.say(&[NotifyState::Ready]);
    }

    pub fn stopping(&self) {
        self.say(&[NotifyState::Stopping, NotifyState::Status("stopping; workloads run on")]);
    }

    /// A line for `systemctl status`, when there is something new to read.
    pub fn tell(&mut self, summary: impl FnOnce() -> Summary) {
        if !self.listens {
            return;
        }
        let summary = summary();
        if self.summary != Some(summary) {
            self.summary = Some(summary);
            self.say(&[NotifyState::Status(&line(&summary))]);
        }
    }

    /// Tells at the right times that whoever waits here still does; never returns when nobody listens.
    /// Safe to cancel.
    pub async fn beat(&mut self) {
        match &mut self.watchdog {
            Some(interval) => interval.tick().await,
            None => std::future::pending().await,
        };
        self.say(&[NotifyState::Watchdog]);
    }

    /// A manager that does not read is no reason to do anything else: it sees for itself what it missed.
    fn say(&self, what: &[NotifyState<'_>]) {
        if self.listens {
            let _ = sd_notify::notify(what);
        }
    }
}

fn line(summary: &Summary) -> String {
    let Summary { running, instances, connected, greeted } = *summary;
    let hub = match (connected, greeted) {
        (_, true) => "connected to the hub",
        (true, false) => "the broker is there, the hub has not answered",
        (false, false) => "not connected",
    };
    match instances {
        0 => format!("no workloads; {hub}"),
        _ => format!("{running} of {instances} instances run; {hub}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_can_read_the_line() {
        let summary = Summary { running: 2, instances: 3, connected: false, greeted: false };
        assert_eq!(line(&summary), "2 of 3 instances run; not connected");
        let idle = Summary { instances: 0, running: 0, connected: true, greeted: true };
        assert_eq!(line(&idle), "no workloads; connected to the hub");
    }
}
