//! Asks running instances how they are, as the core says, and tells it each answer that can still count.
//!
//! One task for each question, asleep between two of them; no questions, no tasks. A question is asked
//! only when the one before it has its answer, and only so many are under way at one time: on a slow board
//! they come later, not faster. What took too long because *we* were held up (a board that slept, or had
//! no time for us) is no answer at all.

mod exec;
mod http;
mod tcp;

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use agent_core::api::{Asking, Event};
use contract::run::{ProbeAsk, RunProbe};
use contract::status::ProbeKind;
use contract::{InstanceId, RunId, limits};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::instance::{Places, boottime_ms};

/// Questions over the network under way at one time; each is a socket and a few KiB.
const NETWORK_MAX: usize = 32;
/// Commands under way at one time; each is a process or two.
const EXEC_MAX: usize = 4;
/// Between the end of a time-out and when we notice, on a board that has time for us.
const HELD_UP_MS: u64 = 1_000;

/// Which question of which run.
type Key = (InstanceId, RunId, ProbeKind);

/// Dropped, it asks no more.
pub struct Prober {
    asked: HashMap<Key, AbortHandle>,
    asker: Rc<Asker>,
    events: Sender<Event>,
}

struct Asker {
    /// This binary: what joins a container is a process of its own.
    exe: PathBuf,
    places: Places,
    network: Semaphore,
    exec: Semaphore,
}

impl Prober {
    pub fn new(exe: PathBuf, places: Places, events: Sender<Event>) -> Prober {
        let (network, exec) = (Semaphore::new(NETWORK_MAX), Semaphore::new(EXEC_MAX));
        Prober { asked: HashMap::new(), asker: Rc::new(Asker { exe, places, network, exec }), events }
    }

    /// The last one given counts.
    pub fn ask(&mut self, instance: InstanceId, run: RunId, which: ProbeKind, asking: Option<Asking>) {
        let key = (instance, run, which);
        if let Some(task) = self.asked.remove(&key) {
            task.abort();
        }
        let Some(asking) = asking else { return };
        let task = go_on(self.asker.clone(), key.clone(), asking, self.events.clone());
        self.asked.insert(key, tokio::task::spawn_local(task).abort_handle());
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.asked.values().for_each(AbortHandle::abort);
    }
}

async fn go_on(asker: Rc<Asker>, key: Key, asking: Asking, events: Sender<Event>) {
    let Asking { probe, delay_ms } = asking;
    let mut told = Told::default();
    sleep(Duration::from_millis(delay_ms)).await;
    loop {
        let (began, answer) = asker.ask(&key, &probe).await;
        if let Some(answer) = answer.filter(|answer| told.counts(answer.is_ok(), &probe)) {
            let (instance, run, which) = key.clone();
            let answer = answer.map_err(|why| limits::clip(&format!("{}: {why}", probe.ask)));
            if events.send(Event::Probed { instance, run, which, answer }).await.is_err() {
                return; // The agent is going down.
            }
        }
        sleep_until(began + Duration::from_millis(probe.period_ms)).await;
    }
}

/// What the core has heard.
#[derive(Default)]
struct Told {
    last: Option<bool>,
    times: u32,
}

impl Told {
    /// Whether one more of these can change anything.
    fn counts(&mut self, well: bool, probe: &RunProbe) -> bool {
        self.times = if self.last == Some(well) { self.times.saturating_add(1) } else { 1 };
        self.last = Some(well);
        self.times <= if well { probe.success_threshold } else { probe.failure_threshold }
    }
}

impl Asker {
    /// When it was asked, after it had its turn, and the answer; none: nobody could ask.
    async fn ask(&self, key: &Key, probe: &RunProbe) -> (Instant, Option<Result<(), String>>) {
        let turns = if matches!(probe.ask, ProbeAsk::Exec { .. }) { &self.exec } else { &self.network };
        let turn = turns.acquire().await;
        let (began, began_ms) = (Instant::now(), boottime_ms());
        let limit = Duration::from_millis(probe.timeout_ms);
        let answer = match &probe.ask {
            ProbeAsk::Exec { command } => {
                let dir = self.places.run(&key.0, key.1);
                exec::run(&self.exe, dir.path(), command, limit).await
            }
            ProbeAsk::Http { host, port, path, headers } => {
                let get = timeout(limit, http::get(*host, *port, path, headers)).await;
                Some(get.unwrap_or_else(|_| Err(silence(limit))))
            }
            ProbeAsk::Tcp { host, port } => {
                let connect = timeout(limit, tcp::connect(*host, *port)).await;
                Some(connect.unwrap_or_else(|_| Err(silence(limit))))
            }
        };
        drop(turn);
        let longest = 2 * probe.timeout_ms + exec::MARGIN.as_millis() as u64 + HELD_UP_MS;
        let held_up = boottime_ms().saturating_sub(began_ms) > longest;
        (began, answer.filter(|answer| answer.is_ok() || !held_up))
    }
}

fn silence(limit: Duration) -> String {
    format!("no answer within {}", contract::quantity::Duration { ms: limit.as_millis() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(success_threshold: u32, failure_threshold: u32) -> RunProbe {
        let ask = ProbeAsk::Tcp { host: "127.0.0.1".parse().unwrap(), port: 1 };
        let (initial_delay_ms, period_ms, timeout_ms) = (0, 1000, 1000);
        RunProbe { ask, initial_delay_ms, period_ms, timeout_ms, success_threshold, failure_threshold }
    }

    #[test]
    fn what_cannot_count_any_more_is_not_told() {
        let (mut told, probe) = (Told::default(), probe(2, 3));
        let answers = [false, false, false, false, true, true, true, false, true, false, false, false, false];
        let told: Vec<bool> = answers.into_iter().map(|well| told.counts(well, &probe)).collect();
        let all = [true, true, true, false, true, true, false, true, true, true, true, true, false];
        assert_eq!(told, all);
    }
}
