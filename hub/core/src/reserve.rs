//! Which ports of boards would two workloads have for certain? What would clash only on some boards is
//! no mistake: the later one waits there, by name (`place`).

use std::collections::{BTreeMap, BTreeSet};

use contract::WorkloadKey;
use contract::spec::{Placement, WorkloadSpec};

use crate::api::Refusal;
use crate::image::ImageRecord;
use crate::record::WorkloadRecord;
use crate::resolve::Images;
use crate::world::World;

/// Of these records, once written (`None` deletes), those that could run nowhere for another's port.
pub fn clashes(
    world: &World,
    images: &Images<'_>,
    records: &BTreeMap<WorkloadKey, Option<WorkloadRecord>>,
) -> Vec<Refusal> {
    let new = records.iter().filter_map(|(key, record)| Reserving::new(images, key, record.as_ref()?));
    let new: Vec<Reserving<'_>> = new.collect();
    let kept = world.works.iter().filter(|(key, _)| !records.contains_key(*key) && !new.is_empty());
    let kept: Vec<Reserving<'_>> =
        kept.filter_map(|(key, work)| Reserving::new(images, key, &work.record)).collect();
    let mut clashes = Vec::new();
    for wanting in &new {
        let hindered = |other: &&Reserving<'_>| {
            // Of two new ones that hinder each other, one is told.
            let told = records.contains_key(other.key) && wanting.key < other.key;
            other.key != wanting.key && other.is_wherever(wanting) && !(told && wanting.is_wherever(other))
        };
        for other in new.iter().chain(&kept).filter(hindered) {
            if let Some(port) = wanting.ports().intersection(&other.ports()).next() {
                let key = other.key;
                let reason =
                    format!("wants port {port}, which {key} has on every agent where this could run");
                let (workload, field) = (Some(wanting.key.clone()), "spec.ports".into());
                clashes.push(Refusal { workload, field, reason });
            }
        }
    }
    clashes
}

/// A workload as it will be when the apply is done.
#[derive(Clone, Copy)]
struct Reserving<'a> {
    key: &'a WorkloadKey,
    record: &'a WorkloadRecord,
    image: &'a ImageRecord,
}

impl<'a> Reserving<'a> {
    fn new(
        images: &'a Images<'_>,
        key: &'a WorkloadKey,
        record: &'a WorkloadRecord,
    ) -> Option<Reserving<'a>> {
        if record.manifest.spec.ports.is_empty() {
            return None;
        }
        let image = images.get(&record.image)?.image.as_deref()?;
        Some(Reserving { key, record, image })
    }

    fn ports(&self) -> BTreeSet<u16> {
        self.record.manifest.spec.ports.iter().map(|port| port.host.unwrap_or(port.port)).collect()
    }

    /// It is on every board where `other` could ever be, whatever boards come.
    fn is_wherever(&self, other: &Reserving<'a>) -> bool {
        let (own, theirs) = (&self.record.manifest.spec, &other.record.manifest.spec);
        let placement = |spec: &'a WorkloadSpec| spec.placement.clone().unwrap_or_default();
        let (mine, other_place) = (placement(own), placement(theirs));
        let free = Placement { tolerations: mine.tolerations.clone(), ..Placement::default() };
        let same = Placement { tolerations: mine.tolerations.clone(), ..other_place.clone() };
        own.every_agent
            && (mine == free || mine == same)
            && other_place.tolerations.iter().all(|t| mine.tolerations.contains(t))
            // Whoever has a higher priority does not wait for a port.
            && own.priority.unwrap_or(0) >= theirs.priority.unwrap_or(0)
            && self.image.covers(other.image)
    }
}
