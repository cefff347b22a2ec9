//! The one loop that owns the core. It only selects, steps and performs.

use std::time::Duration;

use hub_core::Core;
use hub_core::api::{EffectId, Event, HubFacts, Outcome, Request, RequestId};
use kv::KvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use transport::{BusEvent, BusEvents};

use super::clock;
use super::exit::Exit;
use super::handle::{Ask, Said};
use super::inbound::Ears;
use super::perform::Performer;
use super::quiet::Quiet;
use crate::store::Written;

/// With nothing to wake for: far enough to cost nothing.
const FAR: Duration = Duration::from_secs(24 * 3600);
/// What is durable or being made so when the hub stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);

pub struct Driver {
    pub core: Core,
    pub performer: Performer,
    pub asks: mpsc::Receiver<Ask>,
    pub finished: mpsc::UnboundedReceiver<(EffectId, Outcome)>,
    pub stored: mpsc::UnboundedReceiver<Result<(), KvError>>,
    pub bus: BusEvents,
    pub ears: Ears,
    pub stop: CancellationToken,
    /// Who waits for the store to have nothing left to do.
    pub unsettled: Vec<oneshot::Sender<()>>,
    /// Why the store takes nothing at the moment.
    pub full: Option<String>,
    /// Why the broker is away.
    pub away: Option<String>,
    pub quiet: Quiet,
}

impl Driver {
    /// Until `stop`, or until the store fails.
    pub async fn run(mut self, facts: HubFacts) -> Result<(), Exit> {
        self.step(Event::Boot(Box::new(facts)));
        let mut retry: Option<Instant> = None;
        loop {
            let wake = self.next_wake();
            tokio::select! {
                Some(answer) = self.stored.recv() => retry = self.on_stored(answer)?,
                Some((id, outcome)) = self.finished.recv() => self.step(Event::Finished { id, outcome }),
                event = self.bus.next() => self.on_bus(event)?,
                Some(ask) = self.asks.recv() => self.on_ask(ask),
                () = sleep_until(wake) => self.step(Event::Wake),
                () = sleep_until(retry.unwrap_or(wake)), if retry.is_some() => {
                    retry = None;
                    self.performer.writer.again();
                }
                () = self.stop.cancelled() => return self.drain().await,
            }
        }
    }

    fn step(&mut self, event: Event) {
        let effects = self.core.step(clock::now(), event);
        self.performer.perform(effects);
    }

    fn next_wake(&self) -> Instant {
        let wait = self.core.next_wake().map(|at| at.saturating_sub(clock::now().boot_ms));
        Instant::now() + wait.map_or(FAR, Duration::from_millis).min(FAR)
    }

    /// Durable first, then what waited for it, then the core hears of it.
    fn on_stored(&mut self, answer: Result<(), KvError>) -> Result<Option<Instant>, Exit> {
        match self.performer.writer.answered(answer) {
            Written::Durable(ids) => {
                if self.full.take().is_some() {
                    tracing::info!("the store has room again");
                }
                for id in ids {
                    self.performer.durable(id);
                    self.step(Event::Finished { id, outcome: Outcome::Done });
                }
                self.tell_settled();
                Ok(None)
            }
            Written::Full { reason, wait } => {
                tracing::error!("the store has no room, nothing can be changed: {reason}");
                self.full = Some(reason);
                Ok(Some(Instant::now() + wait))
            }
            Written::Fault(e) => Err(Exit::store_fault(&e)),
        }
    }

    fn on_bus(&mut self, event: Option<BusEvent>) -> Result<(), Exit> {
        let event = event.ok_or_else(Exit::broker_ended)?;
        if let Some(event) = self.ears.event(self.core.trust(), event) {
            self.say(&event);
            self.step(event);
        }
        Ok(())
    }

    /// What a person at the log should know of the broker's side.
    fn say(&mut self, event: &Event) {
        match event {
            Event::BusUp if self.away.take().is_some() => tracing::info!("the broker is back"),
            // Tried again and again, with the same result.
            Event::BusDown { reason } if self.away.as_ref() != Some(reason) => {
                tracing::warn!("the broker is away: {reason}");
                self.away = Some(reason.clone());
            }
            Event::Rejected { agent, reason, .. } => {
                if let Some(left_out) = self.quiet.may_say(std::time::Instant::now()) {
                    let agent = agent.as_ref().map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(agent, left_out, "{reason}");
                }
            }
            _ => {}
        }
    }

    fn on_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Request { request, said, .. } if self.refuses(&request) => {
                let reason = self.full.clone().unwrap_or_default();
                // The channel is new and empty; if its other end is gone, nobody waits.
                let _ = said.try_send(Said::NoRoom(reason));
            }
            Ask::Request { id, request, said } => {
                self.performer.waiting.insert(id, said);
                self.step(Event::Request { id, request: *request });
            }
            Ask::Abandoned(id) => self.abandoned(id),
            Ask::Look(look) => look(&self.core, clock::now()),
            Ask::Settled(waits) => self.unsettled.push(waits),
        }
        self.tell_settled();
        for id in self.performer.deaf() {
            self.abandoned(id);
        }
    }

    /// With a full disk nothing that must be kept is taken; looking and asking boards goes on.
    fn refuses(&self, request: &Request) -> bool {
        let keeps = match request {
            Request::Command { .. } => false,
            Request::Apply(apply) => !apply.dry_run,
            _ => true,
        };
        keeps && self.full.is_some()
    }

    fn tell_settled(&mut self) {
        if self.performer.writer.is_idle() {
            self.unsettled.drain(..).for_each(|waits| {
                // Who stopped waiting needs no answer.
                let _ = waits.send(());
            });
        }
    }

    fn abandoned(&mut self, id: RequestId) {
        if self.performer.waiting.remove(&id).is_some() {
            self.step(Event::Abandoned { id });
        }
    }

    /// What was decided becomes durable; what nobody was told may be lost.
    async fn drain(mut self) -> Result<(), Exit> {
        let drained = tokio::time::timeout(DRAIN_MAX, async {
            while !self.performer.writer.is_idle() {
                let Some(answer) = self.stored.recv().await else { break };
                self.on_stored(answer)?;
            }
            Ok(())
        });
        drained.await.unwrap_or(Ok(()))
    }
}
