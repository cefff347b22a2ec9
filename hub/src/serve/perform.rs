//! What each effect of the core does outside, and when it may start. An effect marked `after` waits
//! for its Persist to be durable; all others start at once; each ends in exactly one `Finished`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use contract::Digest;
use contract::platform::Platform;
use hub_core::api::{Answer, Effect, EffectId, Op, Outcome, RequestId, Write};
use tokio::sync::mpsc;
use wasm::EngineId;

use super::handle::Said;
use super::publish::{Publication, Publisher};
use super::ring::Ring;
use crate::artifact::{ArtifactStore, Pin};
use crate::compile::{CompileFailure, Workers, compile_blob};
use crate::failpoint::{self, Point};
use crate::fetch::{FetchError, Fetcher};
use crate::store::StoreWriter;

pub struct Performer {
    pub writer: StoreWriter,
    /// Who waits for an answer, or for replies.
    pub waiting: HashMap<RequestId, mpsc::Sender<Said>>,
    pub publisher: Publisher,
    pub ring: Ring,
    pub artifacts: ArtifactStore,
    pub workers: Arc<Workers>,
    pub fetcher: Arc<Fetcher>,
    /// Ends of effects. As many as there are effects in progress, which the core bounds.
    pub finished: mpsc::UnboundedSender<(EffectId, Outcome)>,
    /// Told when blobs may have lost their last name.
    pub sweep: Arc<tokio::sync::Notify>,
    gates: Gates,
    deaf: Vec<RequestId>,
}

/// Persists that are not durable yet, and what waits for each.
#[derive(Default)]
struct Gates {
    pending: BTreeSet<EffectId>,
    held: BTreeMap<EffectId, Vec<Effect>>,
    /// Those that take a name from a blob.
    unnaming: BTreeSet<EffectId>,
}

impl Performer {
    #[allow(clippy::too_many_arguments, reason = "each is another door to the outside")]
    pub fn new(
        writer: StoreWriter,
        publisher: Publisher,
        ring: Ring,
        artifacts: ArtifactStore,
        workers: Arc<Workers>,
        fetcher: Arc<Fetcher>,
        finished: mpsc::UnboundedSender<(EffectId, Outcome)>,
        sweep: Arc<tokio::sync::Notify>,
    ) -> Performer {
        let (waiting, gates, deaf) = (HashMap::new(), Gates::default(), Vec::new());
        Performer {
            writer,
            waiting,
            publisher,
            ring,
            artifacts,
            workers,
            fetcher,
            finished,
            sweep,
            gates,
            deaf,
        }
    }

    pub fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect.after {
                Some(gate) if self.gates.pending.contains(&gate) && !matches!(effect.op, Op::Persist(_)) => {
                    self.gates.held.entry(gate).or_default().push(effect);
                }
                _ => self.start(effect),
            }
        }
    }

    /// This Persist is durable: start what waited for it.
    pub fn durable(&mut self, id: EffectId) {
        failpoint::pass(Point::AfterPersist);
        self.gates.pending.remove(&id);
        // Not before: a crash would leave the record, and no blob.
        if self.gates.unnaming.remove(&id) {
            self.sweep.notify_one();
        }
        for effect in self.gates.held.remove(&id).unwrap_or_default() {
            self.start(effect);
        }
    }

    /// Requests whose client was found gone, each told once.
    pub fn deaf(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.deaf)
    }

    fn start(&mut self, Effect { id, op, .. }: Effect) {
        match op {
            Op::Persist(writes) => self.persist(id, &writes),
            Op::Answer { request, answer } => self.answer(id, request, answer),
            Op::Relay { request, reply } => self.say(id, request, Said::Reply(reply)),
            Op::Changed(changes) => {
                self.ring.push(changes);
                self.finish(id, Outcome::Done);
            }
            Op::Compile { source, engine } => self.compile(id, source, engine),
            Op::Fetch { image, sources, platform } => self.fetch(id, image, sources, platform),
            Op::PublishDesired { agent, document } => {
                self.publisher.publish(id, Publication::Desired { agent, document });
            }
            Op::PublishHello { agent, hello } => {
                self.publisher.publish(id, Publication::Hello { agent, hello })
            }
            Op::PublishAnnounce(announce) => self.publisher.publish(id, Publication::Announce(announce)),
            Op::PublishCommand { agent, command } => {
                self.publisher.publish(id, Publication::Command { agent, command });
            }
            Op::ClearAgent { agent } => self.publisher.publish(id, Publication::Clear { agent }),
        }
    }

    fn persist(&mut self, id: EffectId, writes: &[Write]) {
        failpoint::pass(Point::BeforePersist);
        if writes
            .iter()
            .any(|write| matches!(write, Write::Artifact { record: None, .. } | Write::Data { .. }))
        {
            self.gates.unnaming.insert(id);
        }
        self.gates.pending.insert(id);
        self.writer.persist(id, writes);
    }

    fn answer(&mut self, id: EffectId, request: RequestId, answer: Answer) {
        failpoint::pass(Point::BeforeAnswer);
        let more_follows = answer == Answer::Accepted;
        self.say(id, request, Said::Answer(answer));
        failpoint::pass(Point::AfterAnswer);
        if !more_follows {
            self.waiting.remove(&request);
        }
    }

    /// A client that does not listen is given up: it neither holds the loop nor grows a queue.
    fn say(&mut self, id: EffectId, request: RequestId, said: Said) {
        let last = matches!(
            said,
            Said::Reply(
                contract::message::ReplyBody::Done { .. } | contract::message::ReplyBody::Refused { .. }
            )
        );
        if let Some(waiting) = self.waiting.get(&request) {
            let heard = waiting.try_send(said).is_ok();
            if last {
                self.waiting.remove(&request);
            } else if !heard {
                self.deaf.push(request);
            }
        }
        self.finish(id, Outcome::Done);
    }

    fn compile(&self, id: EffectId, source: Digest, engine: String) {
        let (workers, store) = (Arc::clone(&self.workers), self.artifacts.clone());
        let finished = self.finished.clone();
        tokio::spawn(async move {
            let outcome = compile(&workers, &store, source, engine).await;
            // The loop has ended: nobody waits.
            let _ = finished.send((id, outcome));
        });
    }

    fn fetch(&self, id: EffectId, image: Digest, sources: Vec<String>, platform: Platform) {
        let (fetcher, finished) = (Arc::clone(&self.fetcher), self.finished.clone());
        tokio::spawn(async move {
            let outcome = fetch(&fetcher, image, sources, platform).await;
            let _ = finished.send((id, outcome));
        });
    }

    fn finish(&self, id: EffectId, outcome: Outcome) {
        let _ = self.finished.send((id, outcome));
    }
}

/// As with compiled code, the pieces stay pinned until the record must have been written.
async fn fetch(fetcher: &Arc<Fetcher>, image: Digest, sources: Vec<String>, platform: Platform) -> Outcome {
    let wanted = platform.clone();
    let done = fetcher.apart(async move |fetcher| fetcher.late(image, &sources, &wanted).await).await;
    match done {
        Some(Ok((record, pins))) => {
            tracing::info!(%image, %platform, "fetched");
            pins.into_iter().for_each(Pin::release_later);
            Outcome::Fetched { image: Box::new(record) }
        }
        Some(Err(FetchError::Refused(reason))) => {
            tracing::warn!(%image, %platform, "not fetched: {reason}");
            Outcome::Refused(reason)
        }
        Some(Err(FetchError::Fault(reason))) => {
            tracing::warn!(%image, %platform, "not fetched, to be tried again: {reason}");
            Outcome::Fault(reason)
        }
        None => Outcome::Fault("the hub is stopping".into()),
    }
}

/// Compiled code stays pinned for a moment after the core was told: its record is written by then or
/// it is compiled again.
async fn compile(workers: &Workers, store: &ArtifactStore, source: Digest, engine: String) -> Outcome {
    let Some(target) = EngineId::from(engine.clone()).served_target() else {
        return Outcome::Refused(format!("no compile worker here serves the engine '{engine}'"));
    };
    match compile_blob(workers, store, source, target).await {
        Ok((pin, size_bytes)) => {
            let digest = pin.digest();
            tracing::info!(%source, engine, %digest, size_bytes, "compiled");
            pin.release_later();
            Outcome::Compiled { digest, size_bytes }
        }
        Err(CompileFailure::Refused(reason)) => {
            tracing::warn!(%source, engine, "not compiled: {reason}");
            Outcome::Refused(reason)
        }
        Err(CompileFailure::Fault(reason)) => {
            tracing::error!(%source, engine, "the compile worker failed: {reason}");
            Outcome::Fault(reason)
        }
    }
}
