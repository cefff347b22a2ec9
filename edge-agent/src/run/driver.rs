//! The loop that owns the agent's core: it selects, steps and performs, and nothing else.
//!
//! Everything that takes time runs as a task and sends its end here as an event. The loop itself
//! waits for nothing but the next event.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use agent_core::Core;
use agent_core::api::{Effect, EffectId, Event, Op, Outcome};
use contract::run::RunSpec;
use contract::time::Now;
use contract::{Name, limits};
use ed25519_dalek::VerifyingKey;
use tokio::net::UnixListener;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::artifacts::{ArtifactError, Artifacts};
use super::contents::Contents;
use super::devices::Devices;
use super::fetch;
use super::fetch_image;
use super::gate::Gate;
use super::images::Images;
use super::link::Link;
use super::local;
use super::notes::Notes;
use super::persist::{PersistThread, Persisted};
use super::serve::{ServeConfig, serve};
use super::supervisor::Supervisor;
use crate::identity::Trust;
use crate::instance::{Artifact, Exited, Runtime, StartError};
use crate::probe::Prober;
use crate::volumes;

/// A fetch that brings nothing ends after `SILENCE`; one that trickles ends here and resumes.
const FETCH_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// How long the farewell to the broker may hold up a stop.
const FAREWELL: Duration = Duration::from_secs(2);
/// After this long with nothing to do, memory that was needed is given back: after the agent's own start, the first
/// session included where there is a hub, and after each start, stop or fetch of work and what is told of it.
const SETTLED: Duration = Duration::from_secs(1);
/// Left when the store is broken: a supervisor starts us anew, the shims live on.
pub const EXIT_STORE: i32 = 70;

pub struct Driver {
    pub core: Core,
    pub gate: Gate,
    pub link: Link,
    pub store: PersistThread,
    pub runtime: Runtime,
    /// The state directory.
    pub state: PathBuf,
    pub artifacts: Artifacts,
    pub contents: Contents,
    pub images: Images,
    pub devices: Devices,
    pub hub_key: VerifyingKey,
    /// Of a board that has joined.
    pub trust: Option<Rc<Trust>>,
    pub notes: Notes,
    pub serve: ServeConfig,
    pub serving: BTreeMap<Name, AbortHandle>,
    pub prober: Prober,
    /// Where artefacts are, from the newest hello.
    pub base_url: Option<String>,
    /// The same channel that `Inputs::events` reads: how tasks tell their end.
    pub events: Sender<Event>,
    /// Why nothing becomes durable at present, for `edge-agent status`.
    pub store_waits: Option<String>,
    pub supervisor: Supervisor,
}

pub struct Inputs {
    pub events: Receiver<Event>,
    /// At most one message a run, so bounded by what the core starts.
    pub exits: UnboundedReceiver<Exited>,
    pub persisted: Receiver<Persisted>,
    pub replies: Receiver<contract::message::Reply>,
    pub socket: UnixListener,
    pub stop: tokio::signal::unix::Signal,
    pub interrupt: tokio::signal::unix::Signal,
}

impl Driver {
    pub async fn run(mut self, mut inputs: Inputs, first: Event) -> anyhow::Result<()> {
        self.step(first);
        self.forget_logs();
        self.supervisor.ready();
        let mut settled = std::pin::pin!(tokio::time::sleep(SETTLED));
        loop {
            let wake =
                self.core.next_wake().map(|at| Duration::from_millis(at.saturating_sub(now().boot_ms)));
            self.supervisor.tell(|| self.core.summary());
            tokio::select! {
                Some(event) = inputs.events.recv() => {
                    // A run's end is told before the end of the Stop that caused it.
                    while let Ok(exited) = inputs.exits.try_recv() {
                        self.on_exited(exited);
                    }
                    self.step(event);
                }
                Some(exited) = inputs.exits.recv() => self.on_exited(exited),
                there = self.devices.changed() => self.step(Event::Devices(there)),
                events = self.link.next() => events.into_iter().for_each(|event| self.step(event)),
                Some(persisted) = inputs.persisted.recv() => self.on_persisted(persisted),
                Some(reply) = inputs.replies.recv(), if self.link.has_room() => self.link.reply(reply),
                visitor = inputs.socket.accept() => local::answer(visitor, &self.status()),
                () = sleep(wake), if wake.is_some() => self.step(Event::Wake),
                () = &mut settled, if !settled.is_elapsed() => {
                    super::frugal::give_back();
                    continue;
                }
                () = self.supervisor.beat() => continue,
                () = gone(self.trust.as_deref()) => return self.wipe().await,
                _ = inputs.stop.recv() => break,
                _ = inputs.interrupt.recv() => break,
            }
            settled.as_mut().reset(Instant::now() + SETTLED);
        }
        self.supervisor.stopping();
        self.farewell().await;
        Ok(())
    }

    fn step(&mut self, mut event: Event) {
        if let Event::Hub(agent_core::api::HubMessage::Hello(hello)) = &mut event {
            if let Some(trust) = &self.trust {
                trust.on_hello(hello, now().boot_ms);
                hello.artifacts = trust.artifacts(&hello.artifacts);
            }
            self.base_url = Some(hello.artifacts.clone());
        }
        let effects = self.core.step(now(), event);
        self.admit(effects);
    }

    fn admit(&mut self, effects: Vec<Effect>) {
        let mut free = self.gate.admit(effects);
        while !free.is_empty() {
            let ended: Vec<Event> = free.into_iter().flat_map(|effect| self.perform(effect)).collect();
            let next = ended.into_iter().flat_map(|event| self.core.step(now(), event)).collect();
            free = self.gate.admit(next);
        }
    }

    fn on_exited(&mut self, exited: Exited) {
        let Exited { instance, run, exit } = exited;
        self.step(Event::Exited { instance, run, exit });
    }

    fn on_persisted(&mut self, persisted: Persisted) {
        match persisted {
            Persisted::Done(id) => {
                self.store_waits = None;
                let free = self.gate.durable(id);
                self.admit_free(free);
                self.step(Event::Finished { id, outcome: Outcome::Done });
            }
            Persisted::Waiting(why) => {
                if self.store_waits.is_none() {
                    eprintln!("edge-agent: nothing becomes durable at present, workloads run on: {why}");
                    self.step(Event::StoreWaits { reason: why.clone() });
                }
                self.store_waits = Some(why);
            }
            Persisted::Broken(why) => {
                eprintln!("edge-agent: the store is broken, leaving (workloads run on): {why}");
                std::process::exit(EXIT_STORE);
            }
        }
    }

    fn admit_free(&mut self, free: Vec<Effect>) {
        for effect in free {
            for event in self.perform(effect) {
                self.step(event);
            }
        }
    }

    /// Starts one effect. What ends at once comes back as events; the rest ends through the channel.
    fn perform(&mut self, effect: Effect) -> Vec<Event> {
        let id = effect.id;
        let done = |outcome| vec![Event::Finished { id, outcome }];
        match effect.op {
            Op::Persist(writes) => match self.store.submit(id, writes) {
                Ok(()) => Vec::new(),
                Err(why) => {
                    eprintln!("edge-agent: {why}, leaving (workloads run on)");
                    std::process::exit(EXIT_STORE);
                }
            },
            Op::Connect { epoch, will, .. } => self.link.connect(id, epoch, &will),
            Op::Disconnect => {
                self.link.disconnect();
                done(Outcome::Done)
            }
            Op::Publish(message) => self.link.publish(id, &message).into_iter().collect(),
            Op::Fetch { artifact, base_url } => {
                let (store, images, key) = (self.artifacts.clone(), self.images.clone(), self.hub_key);
                self.task(id, FETCH_DEADLINE, async move {
                    // Code is compiled for an engine; an image has none.
                    let fetched = match artifact.engine {
                        Some(_) => fetch::fetch(&store, &key, &artifact, &base_url).await,
                        None => fetch_image::fetch(&images, &artifact, &base_url).await,
                    };
                    match fetched {
                        Ok(()) => Outcome::Done,
                        Err(why) if why.is_refusal() => Outcome::Refused(limits::clip(&why.to_string())),
                        Err(why) => Outcome::Fault(limits::clip(&why.to_string())),
                    }
                })
            }
            Op::FetchData { data, base_url } => {
                let contents = self.contents.clone();
                self.task(id, FETCH_DEADLINE, async move {
                    match contents.fetch(&data, &base_url).await {
                        Ok(()) => Outcome::Done,
                        Err(why) if why.is_refusal() => Outcome::Refused(limits::clip(&why.to_string())),
                        Err(why) => Outcome::Fault(limits::clip(&why.to_string())),
                    }
                })
            }
            Op::Start { instance, run, assignment } => {
                let artifact = match self.artifact(&assignment.run) {
                    Ok(artifact) => artifact,
                    Err(outcome) => return done(outcome),
                };
                let loaded = match self.contents.load(&assignment.run) {
                    Ok(loaded) => loaded,
                    Err(why) if why.is_lost() => return done(Outcome::Missing),
                    Err(why) => return done(fault(why)),
                };
                let runtime = self.runtime.clone();
                self.task(id, Duration::MAX, async move {
                    match runtime.start_with(&instance, run, &assignment, artifact, loaded).await {
                        Ok(started) => Outcome::Started { pid: started.pid },
                        Err(StartError::Refused(why)) => Outcome::Refused(limits::clip(&why)),
                        Err(StartError::Fault(why)) => Outcome::Fault(limits::clip(&why)),
                        Err(StartError::Deadline(_)) => Outcome::Deadline,
                    }
                })
            }
            Op::Stop { instance, run, signal, grace_ms } => {
                let runtime = self.runtime.clone();
                self.task(id, Duration::MAX, async move {
                    let stopped =
                        runtime.stop(&instance, run, &signal, Duration::from_millis(grace_ms)).await;
                    stopped.map_or_else(fault, |()| Outcome::Done)
                })
            }
            Op::Remove { instance, run } => {
                let runtime = self.runtime.clone();
                self.task(id, Duration::MAX, async move {
                    runtime.remove(&instance, run).await.map_or_else(fault, |()| Outcome::Done)
                })
            }
            Op::Probe { instance, run, which, asking } => {
                self.prober.ask(instance, run, which, asking.map(|asking| *asking));
                done(Outcome::Done)
            }
            Op::NoteRestarts { instance, note } => {
                if note.is_none() {
                    self.forget_logs();
                }
                done(self.notes.write(&instance, note.as_ref()))
            }
            Op::Serve(command) => self.serve(id, command),
            Op::WatchDevices(wanted) => {
                let there = self.devices.watch(wanted);
                let told = Event::Devices(there);
                vec![told, Event::Finished { id, outcome: Outcome::Done }]
            }
            Op::KeepArtifacts(keep) => {
                self.artifacts.keep(&keep);
                self.contents.keep(&keep);
                let images = self.images.clone();
                self.task(id, Duration::MAX, async move {
                    let swept = tokio::task::spawn_blocking(move || images.keep(&keep)).await;
                    match swept {
                        Ok(Ok(())) => Outcome::Done,
                        Ok(Err(why)) => fault(why),
                        Err(why) => fault(why),
                    }
                })
            }
        }
    }

    /// What a start is made of, as it lies here now.
    fn artifact(&self, run: &RunSpec) -> Result<Artifact, Outcome> {
        let digest = &run.artifact.digest;
        if run.runtime == contract::spec::Runtime::Oci {
            return match self.images.ready(digest) {
                Ok(image) => Ok(image.into()),
                Err(why) if why.is_missing() => {
                    eprintln!("edge-agent: image {}: {}", digest.short(), crate::instance::told(&why));
                    Err(Outcome::Missing)
                }
                Err(why) => Err(fault(why)),
            };
        }
        match self.artifacts.verified(digest) {
            Ok(path) => Ok(Artifact::Code(path)),
            Err(ArtifactError::Missing(_)) => Err(Outcome::Missing),
            Err(why @ ArtifactError::Changed { .. }) => {
                eprintln!("edge-agent: {why}");
                Err(Outcome::Missing)
            }
            Err(why) => Err(Outcome::Fault(why.to_string())),
        }
    }

    /// A task ends in exactly one event, its deadline included.
    fn task(
        &self,
        id: EffectId,
        deadline: Duration,
        work: impl Future<Output = Outcome> + 'static,
    ) -> Vec<Event> {
        let events = self.events.clone();
        tokio::task::spawn_local(async move {
            let outcome = if deadline == Duration::MAX {
                work.await // the runtime bounds its own waits
            } else {
                tokio::time::timeout(deadline, work).await.unwrap_or(Outcome::Deadline)
            };
            let _ = events.send(Event::Finished { id, outcome }).await;
        });
        Vec::new()
    }

    fn serve(&mut self, id: EffectId, command: contract::message::Command) -> Vec<Event> {
        self.serving.retain(|_, task| !task.is_finished());
        if let contract::message::CommandOp::Cancel { command: other } = &command.op
            && let Some(task) = self.serving.remove(other)
        {
            task.abort();
        }
        let (config, base, events) = (self.serve.clone(), self.base_url.clone(), self.events.clone());
        let running = command.op.session().and_then(|id| Some((id, self.core.running(id)?.0)));
        let run = running.map(|(id, run)| self.runtime.settings().places.run(id, run));
        let name = command.id.clone();
        let task = tokio::task::spawn_local(async move {
            serve(config, command, base, run).await;
        });
        self.serving.insert(name, task.abort_handle());
        tokio::task::spawn_local(async move {
            let _ = task.await; // done, or cancelled: either way it is over
            let _ = events.send(Event::Finished { id, outcome: Outcome::Done }).await;
        });
        Vec::new()
    }

    fn status(&self) -> LocalStatus {
        let agent = self.core.status(now());
        let mut kept_volumes = volumes::all(&self.runtime.settings().places);
        kept_volumes.retain(|volume| !volumes::is_here(&agent, &volume.instance));
        let identity = self.trust.as_ref().map(|trust| trust.view());
        LocalStatus { agent, identity, store_waits: self.store_waits.clone(), kept_volumes }
    }

    /// An instance is gone: what it and others before it said has an end.
    fn forget_logs(&self) {
        let (agent, logs) = (self.core.status(now()), self.serve.logs.clone());
        tokio::task::spawn_blocking(move || {
            crate::logs::forget_gone(&logs, |id| volumes::is_here(&agent, id))
        });
    }

    /// The hub's signed word: this board is none of its any more.
    async fn wipe(self) -> anyhow::Result<()> {
        let reason = self.trust.and_then(|trust| trust.decommissioned()).unwrap_or_default();
        eprintln!("edge-agent: {reason}: ending all work and wiping what was stored here");
        crate::identity::wipe::wipe(&self.runtime, &self.state, &reason).await?;
        anyhow::bail!("this board was wiped, as its hub said ({reason}); edge-agent join makes it another's")
    }

    /// Tells the hub that the board's agent goes, if that is quick; workloads run on.
    async fn farewell(mut self) {
        if !self.link.is_up() {
            return;
        }
        self.link.say_goodbye();
        let end = async {
            while !self.link.next().await.iter().any(|e| matches!(e, Event::Disconnected { .. })) {}
        };
        let _ = tokio::time::timeout(FAREWELL, end).await;
    }
}

/// What `edge-agent status` is told.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalStatus {
    pub agent: agent_core::StatusView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<crate::identity::trust::TrustView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_waits: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept_volumes: Vec<volumes::Volume>,
}

fn fault(why: impl std::error::Error + Send + Sync + 'static) -> Outcome {
    Outcome::Fault(limits::clip(&format!("{:#}", anyhow::Error::new(why))))
}

async fn gone(trust: Option<&Trust>) {
    match trust {
        Some(trust) => trust.gone.notified().await,
        None => std::future::pending().await,
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// CLOCK_BOOTTIME for decisions; the wall clock only as a label, and only if it is not 1970.
pub fn now() -> Now {
    const YEAR_2020_MS: u64 = 1_577_836_800_000;
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot_ms = boot.tv_sec as u64 * 1000 + boot.tv_nsec as u64 / 1_000_000;
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok();
    let wall_ms = wall.map(|d| d.as_millis() as u64).filter(|ms| *ms > YEAR_2020_MS);
    Now { boot_ms, wall_ms }
}
