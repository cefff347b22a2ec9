//! Which platforms of images of other registries does the fleet need that are not here? Fetched when a
//! board comes that needs one, a few at a time, again and again while the registry does not give it.

use std::collections::{BTreeMap, BTreeSet};

use contract::Digest;
use contract::platform::Platform;
use contract::time::{Millis, Now, backoff_ms};

use crate::api::{EffectId, Op, Outcome};
use crate::core::Core;
use crate::record::ArtifactRecord;
use crate::sanitize;

/// One platform of one image.
type Part = (Digest, Platform);

#[derive(Debug, Default)]
pub struct Fetches {
    wanted: BTreeSet<Part>,
    in_flight: BTreeMap<EffectId, Part>,
    /// Whether the registry or we are at fault: it may be mended there, so it is tried again.
    retries: BTreeMap<Part, (u32, Millis)>,
}

/// More at once share one line.
const FETCHES_MAX: usize = 2;
const RETRY_BASE_MS: Millis = 5_000;
const RETRY_MAX_MS: Millis = 600_000;

impl Fetches {
    pub fn want(&mut self, image: Digest, platform: Platform) {
        let part = (image, platform);
        if !self.in_flight.values().any(|running| *running == part) && !self.retries.contains_key(&part) {
            self.wanted.insert(part);
        }
    }

    pub fn next_due(&self) -> Option<Millis> {
        self.retries.values().map(|(_, at)| *at).filter(|at| *at != Millis::MAX).min()
    }

    pub fn has_work(&self) -> bool {
        !self.wanted.is_empty() && self.in_flight.len() < FETCHES_MAX
    }

    /// The image is gone, or came another way.
    pub fn forget(&mut self, image: &Digest) {
        self.wanted.retain(|(of, _)| of != image);
        self.retries.retain(|(of, _), _| of != image);
    }
}

impl Core {
    pub(crate) fn start_fetches(&mut self) {
        while self.fetches.has_work() {
            let Some((image, platform)) = self.fetches.wanted.pop_first() else { return };
            let record = self.world.artifacts.get(&image).and_then(|artifact| artifact.image.as_ref());
            let Some(record) = record.filter(|record| record.offered.contains(&platform)) else { continue };
            let sources = record.sources.clone();
            let op = Op::Fetch { image, sources, platform: platform.clone() };
            let id = self.out.after(op);
            self.fetches.in_flight.insert(id, (image, platform));
        }
    }

    pub(crate) fn retry_fetches(&mut self, now: Now) {
        for (part, (_, at)) in self.fetches.retries.iter_mut().filter(|(_, (_, at))| *at <= now.boot_ms) {
            *at = Millis::MAX;
            self.fetches.wanted.insert(part.clone());
        }
    }

    /// Whether `id` was a fetch.
    pub(crate) fn on_fetched(&mut self, now: Now, id: EffectId, outcome: &Outcome) -> bool {
        let Some(part) = self.fetches.in_flight.remove(&id) else { return false };
        let reason = match outcome {
            Outcome::Fetched { image } => {
                let Some(mut artifact) = self.world.artifacts.get(&part.0).cloned() else { return true };
                artifact.add_image(image);
                let lacks = artifact.image.as_ref().is_some_and(|image| image.offered.contains(&part.1));
                if !lacks {
                    self.put_image(artifact);
                    return true;
                }
                "something else came".to_string()
            }
            Outcome::Refused(reason) | Outcome::Fault(reason) => sanitize::text(reason),
            Outcome::Done | Outcome::Compiled { .. } | Outcome::Deadline => "it took too long".to_string(),
        };
        let attempt = self.fetches.retries.get(&part).map_or(0, |(n, _)| *n) + 1;
        let wait = backoff_ms(RETRY_BASE_MS, RETRY_MAX_MS, attempt, &part.1.to_string());
        self.fetches.retries.insert(part.clone(), (attempt, now.boot_ms + wait));
        let image = part.0;
        self.world.unfetched.insert(part, reason);
        // What they wait for has another reason now.
        self.dirty_users(image);
        true
    }

    /// The one place where an image of another registry is written.
    pub(crate) fn put_image(&mut self, artifact: ArtifactRecord) {
        let digest = artifact.digest;
        if self.world.artifacts.get(&digest) == Some(&artifact) {
            return;
        }
        self.world.artifacts.insert(digest, artifact);
        self.world.unfetched.retain(|(image, _), _| *image != digest);
        self.fetches.forget(&digest);
        self.out.artifact(digest);
        self.changes.artifact(digest);
        self.dirty_users(digest);
    }
}
