//! What does an image's name mean for a workload? A name of the hub's own registry means what it means at
//! each apply: whoever applies moved the tag. A tag of another registry is asked for once and then stays
//! what it was, as long as the workload names the same image: somebody else's push rolls nothing out, and
//! an outage over there stops no apply here. `--resolve` asks again.

use std::collections::{BTreeMap, BTreeSet};

use contract::image::{ImageError, ImageRef};
use contract::platform::Platform;
use contract::spec::Workload;
use contract::{Digest, WorkloadKey};

use crate::api::Apply;
use crate::core::Core;
use crate::image::ImageRecord;
use crate::labels;
use crate::record::{ArtifactKind, ArtifactRecord};
use crate::world::World;

/// An image that a registry has to be asked for before an apply can be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// As the manifest names it.
    pub image: String,
    pub reference: ImageRef,
    /// The first that names it.
    pub workload: WorkloadKey,
    /// Of the boards that its workloads select.
    pub platforms: BTreeSet<Platform>,
}

/// What a registry said to that.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub digest: Digest,
    pub record: ImageRecord,
}

impl Core {
    /// What these workloads name that only a registry can tell. `again`: tags that were told before, too.
    pub fn wanted_images(&self, workloads: &[Workload], again: bool) -> Vec<Wanted> {
        let mut wanted: BTreeMap<&str, Wanted> = BTreeMap::new();
        for workload in workloads {
            let (key, image) = (workload.key(), workload.spec.image.as_str());
            let Ok(reference) = image.parse::<ImageRef>() else { continue };
            let asks = reference.host.is_some()
                && (again && reference.digest.is_none()
                    || known(&self.world, &key, image, &reference).is_none());
            if !asks {
                continue;
            }
            let entry = wanted.entry(image).or_insert_with(|| {
                let (image, workload) = (image.to_string(), key.clone());
                Wanted { image, reference, workload, platforms: BTreeSet::new() }
            });
            let selector = workload.spec.placement.as_ref().and_then(|p| p.selector.as_ref());
            let agents = self.world.agents.values();
            let selected = agents.filter(|agent| labels::miss(selector, &agent.record.labels).is_none());
            entry.platforms.extend(selected.map(|agent| Platform::of_board(&agent.record.arch)));
        }
        wanted.into_values().collect()
    }

    /// What each workload's image would mean, where that is known.
    pub fn digests(&self, apply: &Apply) -> BTreeMap<WorkloadKey, Digest> {
        let images = Images::new(&self.world, apply);
        let each = apply.workloads.iter().map(|workload| (workload.key(), &workload.spec.image));
        each.filter_map(|(key, image)| Some((key.clone(), images.meaning(&key, image).ok()?.digest)))
            .collect()
    }
}

/// Artefacts as they will be when an apply is done.
pub struct Images<'a> {
    world: &'a World,
    named: BTreeMap<&'a str, Digest>,
    found: BTreeMap<Digest, ArtifactRecord>,
}

impl<'a> Images<'a> {
    pub fn new(world: &'a World, apply: &'a Apply) -> Images<'a> {
        let (mut named, mut found) = (BTreeMap::new(), BTreeMap::<Digest, ArtifactRecord>::new());
        for (name, image) in &apply.images {
            named.insert(name.as_str(), image.digest);
            let present = || world.artifacts.get(&image.digest).cloned();
            let artifact = found.entry(image.digest);
            let artifact = artifact.or_insert_with(|| present().unwrap_or_else(|| blank(image.digest)));
            artifact.add_image(&image.record);
        }
        Images { world, named, found }
    }

    pub fn get(&self, digest: &Digest) -> Option<&ArtifactRecord> {
        self.found.get(digest).or_else(|| self.world.artifacts.get(digest))
    }

    /// How many there would be.
    pub fn count(&self) -> usize {
        let new = self.found.keys().filter(|digest| !self.world.artifacts.contains_key(digest)).count();
        self.world.artifacts.len() + new
    }

    /// What came from registries for this apply.
    pub fn into_found(self) -> Vec<ArtifactRecord> {
        self.found.into_values().collect()
    }

    /// Whether its tag is one of another registry that was not asked just now.
    pub fn is_kept(&self, image: &str) -> bool {
        let elsewhere = image.parse::<ImageRef>().is_ok_and(|image| image.host.is_some());
        elsewhere && !self.named.contains_key(image)
    }

    /// What an image means now.
    pub fn meaning(&self, key: &WorkloadKey, image: &str) -> Result<&ArtifactRecord, String> {
        if let Some(artifact) = self.named.get(image).and_then(|digest| self.get(digest)) {
            return Ok(artifact);
        }
        let reference: ImageRef = image.parse().map_err(|e: ImageError| e.to_string())?;
        if let Some(artifact) = known(self.world, key, image, &reference) {
            return Ok(artifact);
        }
        if let Some(host) = &reference.host {
            return Err(format!("'{image}' of {host} changed while it was asked for: apply again"));
        }
        if let Some(digest) = &reference.digest {
            return Err(format!("no artefact with the digest {digest} was pushed"));
        }
        Err(missing(self.world, &reference))
    }
}

fn blank(digest: Digest) -> ArtifactRecord {
    ArtifactRecord {
        digest,
        size_bytes: 0,
        kind: ArtifactKind::OciImage,
        tags: BTreeSet::new(),
        pushed_wall_ms: None,
        compiled: BTreeMap::new(),
        image: None,
    }
}

/// What is meant, if nobody has to be asked.
fn known<'a>(
    world: &'a World,
    key: &WorkloadKey,
    image: &str,
    reference: &ImageRef,
) -> Option<&'a ArtifactRecord> {
    if let Some(digest) = &reference.digest {
        return world.artifacts.get(digest);
    }
    let digest = match &reference.host {
        None => *world.tags.get(&tag_of(reference))?,
        Some(_) => {
            let work = world.works.get(key)?;
            (work.record.manifest.spec.image == image).then_some(work.record.image)?
        }
    };
    world.artifacts.get(&digest)
}

fn tag_of(reference: &ImageRef) -> String {
    format!("{}:{}", reference.repository, reference.tag_or_latest().unwrap_or_default())
}

fn missing(world: &World, reference: &ImageRef) -> String {
    let (tag, prefix) = (tag_of(reference), format!("{}:", reference.repository));
    let tags = world.tags.range(prefix.clone()..).map(|(tag, _)| tag.as_str());
    let others: Vec<&str> = tags.take_while(|tag| tag.starts_with(&prefix)).take(5).collect();
    match others.as_slice() {
        [] => format!(
            "no artefact '{tag}' was pushed to this hub: hub push FILE --tag {tag}; if Docker Hub is meant, write {}",
            reference.at_docker_hub()
        ),
        others => format!("no artefact '{tag}' was pushed to this hub; there is {}", others.join(", ")),
    }
}
