//! Which artefacts are here, and for which engines do they have to be compiled?

use std::collections::{BTreeMap, BTreeSet};

use contract::image::ImageRef;
use contract::spec::Runtime;
use contract::time::{Millis, Now, backoff_ms};
use contract::{Digest, WorkloadKey};

use crate::api::{Answer, EffectId, NewArtifact, Op, Outcome, Refusal, RequestId};
use crate::core::Core;
use crate::record::{ArtifactRecord, CompiledRecord};
use crate::sanitize;

#[derive(Debug, Default)]
pub struct Compiles {
    wanted: BTreeSet<(Digest, String)>,
    in_flight: BTreeMap<EffectId, (Digest, String)>,
    /// Faults (a worker that died, no room): tried again later.
    retries: BTreeMap<(Digest, String), (u32, Millis)>,
}

/// A worker uses a core and up to a GiB: more at once would be slower, not faster.
pub const COMPILES_MAX: usize = 2;
const RETRY_BASE_MS: Millis = 5_000;
const RETRY_MAX_MS: Millis = 600_000;
/// Artefacts are files; this bounds the records.
pub const ARTIFACTS_MAX: usize = 10_000;

impl Compiles {
    pub fn want(&mut self, image: Digest, engine: &str) {
        let job = (image, engine.to_string());
        if !self.in_flight.values().any(|running| *running == job) && !self.retries.contains_key(&job) {
            self.wanted.insert(job);
        }
    }

    pub fn next_due(&self) -> Option<Millis> {
        self.retries.values().map(|(_, at)| *at).filter(|at| *at != Millis::MAX).min()
    }

    pub fn is_running(&self, image: &Digest, engine: &str) -> bool {
        self.in_flight.values().any(|(digest, e)| digest == image && e == engine)
    }

    pub fn has_work(&self) -> bool {
        !self.wanted.is_empty() && self.in_flight.len() < COMPILES_MAX
    }
}

/// What a push may be named; asked before its bytes are taken, too.
pub fn check_tag(tag: &str) -> Result<(), String> {
    let image: ImageRef = tag.parse().map_err(|e: contract::image::ImageError| e.to_string())?;
    let plain = image.host.is_none() && image.digest.is_none() && image.tag.is_some();
    if plain { Ok(()) } else { Err(format!("'{tag}' is not name:tag")) }
}

impl Core {
    pub(crate) fn on_add_artifact(&mut self, now: Now, request: RequestId, new: NewArtifact) {
        let NewArtifact { digest, size_bytes, kind, tag, image } = new;
        if let Some(refusal) = self.refuses_artifact(&digest, tag.as_deref()) {
            return self.out.answer(request, Answer::Refused { errors: vec![refusal] });
        }
        let is_new = !self.world.artifacts.contains_key(&digest);
        let artifact = self.world.artifacts.entry(digest).or_insert_with(|| ArtifactRecord {
            digest,
            size_bytes,
            kind,
            tags: BTreeSet::new(),
            pushed_wall_ms: now.wall_ms,
            compiled: BTreeMap::new(),
            image: None,
        });
        let before = artifact.clone();
        if let Some(image) = image {
            artifact.add_image(&image);
        }
        // Pushing it again asks to try again.
        artifact.compiled.retain(|_, compiled| matches!(compiled, CompiledRecord::Ready { .. }));
        if let Some(tag) = tag {
            artifact.tags.insert(tag.clone());
            self.move_tag(tag, digest);
        }
        if self.world.artifacts.get(&digest) != Some(&before) || is_new {
            self.out.artifact(digest);
            self.changes.artifact(digest);
        }
        self.compiles.retries.retain(|(image, _), _| *image != digest);
        self.fetches.forget(&digest);
        self.compile_for_fleet(digest);
        self.out.answer(request, Answer::Done { version: self.world.meta.version });
    }

    fn refuses_artifact(&self, digest: &Digest, tag: Option<&str>) -> Option<Refusal> {
        let refusal = |reason: String| Some(Refusal { workload: None, field: "tag".into(), reason });
        if let Some(Err(reason)) = tag.map(check_tag) {
            return refusal(reason);
        }
        if self.world.artifacts.len() >= ARTIFACTS_MAX && !self.world.artifacts.contains_key(digest) {
            return refusal(format!("there are {ARTIFACTS_MAX} artefacts already; remove some"));
        }
        None
    }

    fn move_tag(&mut self, tag: String, digest: Digest) {
        let old = self.world.tags.insert(tag.clone(), digest).filter(|old| *old != digest);
        if let Some(old) = old
            && let Some(artifact) = self.world.artifacts.get_mut(&old)
        {
            artifact.tags.remove(&tag);
            self.out.artifact(old);
            self.changes.artifact(old);
        }
    }

    /// A new artefact is compiled for every engine of the fleet at once: it will be applied soon.
    fn compile_for_fleet(&mut self, digest: Digest) {
        let agents = self.world.agents.values();
        let engines: BTreeSet<String> =
            agents.filter_map(|agent| self.world.engine(&agent.record).ok()).map(str::to_string).collect();
        let Some(artifact) = self.world.artifacts.get(&digest) else { return };
        let engines = if artifact.kind.runtime() == Runtime::Wasm { engines } else { BTreeSet::new() };
        for engine in engines.iter().filter(|engine| !artifact.compiled.contains_key(*engine)) {
            self.compiles.want(digest, engine);
        }
        // Boards that wait for it look again, for code that failed before.
        self.dirty_users(digest);
    }

    pub(crate) fn on_remove_artifact(&mut self, request: RequestId, reference: &str) {
        let digest = self.world.named(reference);
        let artifact = digest.and_then(|digest| self.world.artifacts.get_mut(&digest));
        let Some(artifact) = artifact else {
            let reason = format!("there is no artefact '{}'", contract::field::shown(reference));
            let errors = vec![Refusal { workload: None, field: String::new(), reason }];
            return self.out.answer(request, Answer::NotFound { errors });
        };
        let digest = artifact.digest;
        let only_tag = artifact.tags.len() > 1 && artifact.tags.contains(reference);
        if only_tag {
            artifact.tags.remove(reference);
            self.world.tags.remove(reference);
        } else if let users @ [_, ..] = &*self.users_of(digest) {
            let list: Vec<String> = users.iter().take(10).map(ToString::to_string).collect();
            let reason = format!("it is used by {}; delete or change them first", list.join(", "));
            let errors = vec![Refusal { workload: None, field: String::new(), reason }];
            return self.out.answer(request, Answer::Refused { errors });
        } else {
            self.world.artifacts.remove(&digest);
            self.world.tags.retain(|_, to| *to != digest);
            self.compiles.wanted.retain(|(image, _)| *image != digest);
            self.compiles.retries.retain(|(image, _), _| *image != digest);
            self.fetches.forget(&digest);
            self.world.unfetched.retain(|(image, _), _| *image != digest);
        }
        self.out.artifact(digest);
        self.changes.artifact(digest);
        self.out.answer(request, Answer::Done { version: self.world.meta.version });
    }

    /// Workloads whose present revision, or one that an agent still runs, is of this artefact.
    pub(crate) fn users_of(&self, digest: Digest) -> Vec<WorkloadKey> {
        let uses = |work: &crate::world::Work| {
            let old: BTreeSet<_> =
                work.record.revisions.iter().filter(|r| r.image == digest).map(|r| r.revision).collect();
            work.record.image == digest
                || !old.is_empty() && work.placed.values().any(|p| old.contains(&p.record.revision))
        };
        self.world.works.iter().filter(|(_, work)| uses(work)).map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn dirty_users(&mut self, digest: Digest) {
        for key in self.users_of(digest) {
            self.queues.dirty.all(&key);
            self.changes.workload(&key);
        }
    }

    /// Start what is wanted, a few at a time.
    pub(crate) fn start_compiles(&mut self) {
        while self.compiles.has_work() {
            let Some((source, engine)) = self.compiles.wanted.pop_first() else { return };
            let artifact = self.world.artifacts.get(&source);
            if artifact.is_none_or(|artifact| artifact.compiled.contains_key(&engine)) {
                continue;
            }
            // After the Persist: what is compiled must not be unknown after a crash.
            let id = self.out.after(Op::Compile { source, engine: engine.clone() });
            self.compiles.in_flight.insert(id, (source, engine));
        }
    }

    pub(crate) fn retry_compiles(&mut self, now: Now) {
        for (job, (_, at)) in self.compiles.retries.iter_mut().filter(|(_, (_, at))| *at <= now.boot_ms) {
            *at = Millis::MAX;
            self.compiles.wanted.insert(job.clone());
        }
    }

    /// Whether `id` was a compile.
    pub(crate) fn on_compiled(&mut self, now: Now, id: EffectId, outcome: &Outcome) -> bool {
        let Some(job) = self.compiles.in_flight.remove(&id) else { return false };
        let (digest, engine) = job.clone();
        let compiled = match outcome {
            Outcome::Compiled { digest, size_bytes } => {
                CompiledRecord::Ready { digest: *digest, size_bytes: *size_bytes }
            }
            Outcome::Refused(reason) => CompiledRecord::Failed { reason: sanitize::text(reason) },
            Outcome::Done | Outcome::Fetched { .. } | Outcome::Fault(_) | Outcome::Deadline => {
                let attempt = self.compiles.retries.get(&job).map_or(0, |(n, _)| *n) + 1;
                let wait = backoff_ms(RETRY_BASE_MS, RETRY_MAX_MS, attempt, &engine);
                self.compiles.retries.insert(job, (attempt, now.boot_ms + wait));
                return true;
            }
        };
        self.compiles.retries.remove(&job);
        if let Some(artifact) = self.world.artifacts.get_mut(&digest) {
            artifact.compiled.insert(engine, compiled);
            self.out.artifact(digest);
            self.changes.artifact(digest);
            self.dirty_users(digest);
        }
        true
    }
}
