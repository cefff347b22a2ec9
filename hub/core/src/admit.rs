//! May this be applied? One pure function for apply, dry-run, diff and plan: the same words for the
//! same mistake. What it admits, it has already turned into records.

use std::collections::{BTreeMap, BTreeSet};

use contract::limits::{DATA_OBJECTS_MAX, MANIFEST_ERRORS_MAX, SPEC_BYTES_MAX};
use contract::platform::Platform;
use contract::spec::{DataUse, Workload};
use contract::{AgentId, DataId, RevisionId, Version, WorkloadKey, rules};

use crate::access;
use crate::api::{AppliedChange, Apply, ChangeKind, Prune, Refusal};
use crate::artifact::ARTIFACTS_MAX;
use crate::charge::Charge;
use crate::data::{self, DataSet, NewData, Pins};
use crate::image::ImageRecord;
use crate::place::{self, Ask, Lack};
use crate::record::{ArtifactRecord, DataRecord, WorkloadRecord};
use crate::reserve;
use crate::resolve::Images;
use crate::revision::{changed, created, repinned};
use crate::template::Template;
use crate::world::{Agent, Work, World};

/// What an apply comes to, ready to be written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Admitted {
    pub changes: Vec<AppliedChange>,
    pub warnings: Vec<String>,
    /// The records that change; `None` deletes. Versions and times are filled in at the commit.
    pub records: BTreeMap<WorkloadKey, Option<WorkloadRecord>>,
    /// Configs and Secrets that are new or have changed.
    pub data: BTreeMap<DataId, DataRecord>,
    /// Images of other registries, as they are now known.
    pub images: Vec<ArtifactRecord>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Denied {
    /// It is wrong: everything that is, at once.
    Refused(Vec<Refusal>),
    /// Somebody else changed it first.
    Conflict(Vec<Refusal>),
}

/// Workloads of one hub: each costs ~10 KB of memory with its history.
pub const WORKLOADS_MAX: usize = 10_000;
/// Agents named in one message; a fleet is longer than a line.
const NAMED_MAX: usize = 5;

pub fn admit(world: &World, apply: &Apply) -> Result<Admitted, Denied> {
    let conflicts = conflicts(world, apply);
    if !conflicts.is_empty() {
        return Err(Denied::Conflict(conflicts));
    }
    let images = Images::new(world, apply);
    let data = DataSet::new(world, &apply.data);
    let mut admission = Admission { world, images, data, errors: Vec::new(), admitted: Admitted::default() };
    admission.run(apply);
    if admission.errors.is_empty() {
        Ok(Admitted { images: admission.images.into_found(), ..admission.admitted })
    } else {
        Err(Denied::Refused(admission.listed()))
    }
}

fn conflicts(world: &World, apply: &Apply) -> Vec<Refusal> {
    let mut conflicts = Vec::new();
    for (key, wanted) in &apply.if_versions {
        let present = world.works.get(key).map_or(Version(0), |work| work.record.version);
        if present != *wanted {
            let reason = match (wanted.0, present.0) {
                (0, present) => format!("exists already, at version {present}"),
                (wanted, 0) => format!("does not exist; version {wanted} was expected"),
                (wanted, present) => format!("is at version {present}; version {wanted} was expected"),
            };
            conflicts.push(Refusal { workload: Some(key.clone()), field: "version".into(), reason });
        }
    }
    conflicts
}

struct Admission<'a> {
    world: &'a World,
    images: Images<'a>,
    data: DataSet<'a>,
    errors: Vec<Refusal>,
    admitted: Admitted,
}

impl Admission<'_> {
    fn run(&mut self, apply: &Apply) {
        let mut seen = BTreeSet::new();
        for workload in &apply.workloads {
            if !seen.insert(workload.key()) {
                self.refuse(&workload.key(), "metadata.name", "stands in the manifest twice".into());
            }
        }
        self.objects(&apply.data);
        for workload in &apply.workloads {
            self.workload(workload);
        }
        if let Some(prune) = &apply.prune {
            self.prune(prune, &seen);
        }
        if !self.admitted.data.is_empty() {
            self.followers(&seen);
        }
        let is_new = |c: &&AppliedChange| c.is_of_work() && c.change == ChangeKind::Created;
        let added = self.admitted.changes.iter().filter(is_new).count();
        if self.world.works.len() + added > WORKLOADS_MAX {
            let reason = format!("there would be more than {WORKLOADS_MAX} workloads");
            self.errors.push(Refusal { workload: None, field: String::new(), reason });
        }
        if self.data.count() > DATA_OBJECTS_MAX {
            let reason = format!("there would be more than {DATA_OBJECTS_MAX} Configs and Secrets");
            self.errors.push(Refusal { workload: None, field: String::new(), reason });
        }
        if self.images.count() > ARTIFACTS_MAX && !apply.images.is_empty() {
            let reason = format!("there would be more than {ARTIFACTS_MAX} artefacts; remove some");
            self.errors.push(Refusal { workload: None, field: String::new(), reason });
        }
        if self.errors.is_empty() {
            self.documents();
            self.errors.extend(access::over_quota(self.world, &self.admitted.records));
            self.errors.extend(reserve::clashes(self.world, &self.images, &self.admitted.records));
        }
    }

    fn refuse(&mut self, key: &WorkloadKey, field: &str, reason: String) {
        self.errors.push(Refusal { workload: Some(key.clone()), field: field.into(), reason });
    }

    /// At most so many, and how many more there are.
    fn listed(self) -> Vec<Refusal> {
        let mut errors = self.errors;
        let more = errors.len().saturating_sub(MANIFEST_ERRORS_MAX);
        if more > 0 {
            errors.truncate(MANIFEST_ERRORS_MAX);
            let reason = format!("and {more} more");
            errors.push(Refusal { workload: None, field: String::new(), reason });
        }
        errors
    }

    fn workload(&mut self, workload: &Workload) {
        let key = workload.key();
        let before = self.errors.len();
        let size = serde_json::to_vec(workload).map_or(usize::MAX, |bytes| bytes.len());
        if size > SPEC_BYTES_MAX {
            self.refuse(&key, "", format!("has {size} bytes; at most {SPEC_BYTES_MAX} are taken"));
        }
        let findings = rules::check(workload).into_iter().chain(rules::not_yet(workload));
        for finding in findings {
            self.refuse(&key, &finding.path, finding.reason);
        }
        self.errors.extend(access::forbidden(self.world, workload));
        let artifact = match self.images.meaning(&key, &workload.spec.image) {
            Ok(artifact) => artifact.clone(),
            Err(reason) => return self.refuse(&key, "spec.image", reason),
        };
        let runtime = artifact.kind.runtime();
        if let Some(given) = workload.spec.runtime.filter(|given| *given != runtime) {
            let (given, is) = (word(&given), word(&runtime));
            self.refuse(&key, "spec.runtime", format!("is {given}, but the artefact is {is}: leave it out"));
        }
        for finding in rules::fits(&workload.spec, runtime) {
            self.refuse(&key, &finding.path, finding.reason);
        }
        let pins = match self.data.pins(&key.namespace, &workload.spec) {
            Ok(pins) => pins,
            Err(missing) => {
                missing.into_iter().for_each(|(field, reason)| self.refuse(&key, &field, reason));
                return;
            }
        };
        if self.errors.len() > before {
            return;
        }
        let revision = data::revision(&workload.spec, &artifact.digest, &pins);
        let template = Template::new(workload, revision, artifact.digest, runtime, &pins);
        if Charge::shortage(
            Charge::limit(&ample()),
            Charge::default(),
            Charge::default(),
            template.price.of(1, 0),
        )
        .is_some()
        {
            let bytes = template.price.plain_bytes;
            self.refuse(&key, "spec", format!("would alone fill an agent's document, with {bytes} bytes"));
        }
        self.agents(&key, workload, &template);
        self.record(workload, revision, &artifact, pins);
    }

    /// Who would run it, and whether they have what it needs: labels for its environment, features, and
    /// something that they can run.
    fn agents(&mut self, key: &WorkloadKey, workload: &Workload, template: &Template) {
        let ask = ask(workload, template);
        let selected = |agent: &&Agent| place::suits(&ask, &agent.record).is_ok();
        let matching = self.world.agents.iter().filter(|(_, agent)| selected(agent));
        let image = self.images.get(&template.image).and_then(|a| a.image.as_deref());
        let mut count = 0;
        let mut lacking: BTreeMap<&str, Vec<&AgentId>> = BTreeMap::new();
        let mut featureless: BTreeMap<&str, Vec<&AgentId>> = BTreeMap::new();
        let (mut unserved, mut alien): (Vec<&AgentId>, Vec<&AgentId>) = Default::default();
        for (id, agent) in matching {
            count += 1;
            for label in template.labels.iter().filter(|label| !agent.record.labels.contains_key(*label)) {
                lacking.entry(label).or_default().push(id);
            }
            for feature in template.requires.iter().filter(|f| !agent.record.features.contains(*f)) {
                featureless.entry(feature).or_default().push(id);
            }
            match self.world.fits(template, image, &agent.record) {
                Ok(()) => {}
                Err(Lack::Engine(_)) => unserved.push(id),
                Err(Lack::Platform { .. }) => alien.push(id),
            }
        }
        if count == 0 {
            let known = self.world.agents.len();
            let reason = format!("{key}: no agent matches its placement now ({known} agents known)");
            self.admitted.warnings.push(reason);
        }
        for (label, agents) in lacking {
            let field = contract::field::key("spec", "env");
            let names = named(&agents);
            if agents.len() == count {
                let reason =
                    format!("refers to the label '{label}', which none of the selected agents has: {names}");
                self.errors.push(Refusal { workload: Some(key.clone()), field, reason });
            } else {
                self.admitted
                    .warnings
                    .push(format!("{key}: waits on agents without the label '{label}': {names}"));
            }
        }
        for (feature, agents) in featureless {
            let names = named(&agents);
            self.admitted
                .warnings
                .push(format!("{key}: does not run on agents without the feature '{feature}': {names}"));
        }
        self.spread(key, workload);
        self.architecture(key, workload, template);
        self.platforms(key, template, &alien, count);
        if !unserved.is_empty() {
            let names = named(&unserved);
            self.admitted.warnings.push(format!("{key}: no compile worker serves the engine of: {names}"));
        }
    }

    /// Taken, so that one manifest serves `everyAgent` and `replicas`; nothing follows from it.
    fn spread(&mut self, key: &WorkloadKey, workload: &Workload) {
        let placement = workload.spec.placement.as_ref();
        if workload.spec.every_agent && placement.is_some_and(|p| p.spread.is_some()) {
            let text =
                "spec.placement.spread changes nothing beside everyAgent, which is on each agent anyway";
            self.admitted.warnings.push(format!("{key}: {text}"));
        }
    }

    /// What is asked for, and what the image is made for.
    fn architecture(&mut self, key: &WorkloadKey, workload: &Workload, template: &Template) {
        let Some(arch) = workload.spec.placement.as_ref().and_then(|p| p.arch.as_deref()) else { return };
        let image = self.images.get(&template.image).and_then(|a| a.image.as_deref());
        let runs = |image: &&ImageRecord| image.for_board(arch).is_ok() || image.lacks(arch).is_some();
        if let Some(image) = image.filter(|image| !runs(image)) {
            let reason = format!("is {arch}, for which the image has nothing; it has {}", image.names());
            self.refuse(key, "spec.placement.arch", reason);
        }
    }

    /// Boards for which the image has nothing: a warning, unless they are all.
    fn platforms(&mut self, key: &WorkloadKey, template: &Template, alien: &[&AgentId], count: usize) {
        let image = self.images.get(&template.image).and_then(|a| a.image.clone());
        let (Some(image), false) = (image, alien.is_empty()) else { return };
        let archs = alien.iter().filter_map(|id| self.world.agents.get(*id)).map(|a| &*a.record.arch);
        let lacking: BTreeSet<String> = archs.map(|arch| Platform::of_board(arch).to_string()).collect();
        let (lacking, names) = (lacking.into_iter().collect::<Vec<_>>().join(", "), named(alien));
        let has = image.names();
        if alien.len() == count {
            let reason = format!(
                "has nothing for {lacking}, and the selected agents are all of that: {names}; it has {has}"
            );
            self.refuse(key, "spec.image", reason);
        } else {
            self.admitted
                .warnings
                .push(format!("{key}: the image has nothing for {lacking} ({names}); it has {has}"));
        }
    }

    /// Configs and Secrets that are given.
    fn objects(&mut self, given: &[NewData]) {
        for new in given {
            let (id, record) = (new.id(), new.record());
            let present = self.world.data.get(&id);
            let same = |p: &DataRecord| (p.content, &p.metadata) == (record.content, &record.metadata);
            let change = match present {
                None => ChangeKind::Created,
                Some(present) if same(present) => ChangeKind::Unchanged,
                Some(_) => ChangeKind::Changed,
            };
            let (kind, workload) = (Some(id.kind), id.key.clone());
            self.admitted.changes.push(AppliedChange {
                kind,
                workload,
                change,
                revision: None,
                resolved: None,
            });
            if change != ChangeKind::Unchanged {
                self.admitted.data.insert(id, record);
            }
        }
    }

    /// Workloads that are not given, and use what has changed.
    fn followers(&mut self, given: &BTreeSet<WorkloadKey>) {
        let changed = |key: &WorkloadKey, used: &DataUse<'_>| {
            self.admitted.data.contains_key(&used.of.within(&key.namespace))
        };
        let follows = |key: &WorkloadKey, work: &Work| {
            let left = !given.contains(key) && !self.admitted.records.contains_key(key);
            left && work.record.manifest.spec.data_uses().iter().any(|used| changed(key, used))
        };
        let world = self.world;
        let followers: Vec<_> = world.works.iter().filter(|(key, work)| follows(key, work)).collect();
        for (key, work) in followers {
            let pins = match self.data.pins(&key.namespace, &work.record.manifest.spec) {
                Ok(pins) => pins,
                Err(missing) => {
                    missing.into_iter().for_each(|(field, reason)| self.refuse(key, &field, reason));
                    continue;
                }
            };
            let Some(record) = repinned(&work.record, pins) else { continue };
            self.admitted.changes.push(AppliedChange {
                kind: None,
                workload: key.clone(),
                change: ChangeKind::Changed,
                revision: Some(record.revision),
                resolved: None,
            });
            self.admitted.records.insert(key.clone(), Some(record));
        }
    }

    fn record(&mut self, workload: &Workload, revision: RevisionId, artifact: &ArtifactRecord, pins: Pins) {
        let key = workload.key();
        let present = self.world.works.get(&key);
        let (record, change) = match present {
            None => (created(workload, revision, artifact, pins), ChangeKind::Created),
            Some(work) => changed(self.world, work, workload, revision, artifact, pins),
        };
        let image = &workload.spec.image;
        let kept =
            if self.images.is_kept(image) { " (as before; --resolve asks its registry again)" } else { "" };
        let resolved = (!image.contains('@')).then(|| format!("{image} → {}{kept}", artifact.digest));
        let revision = Some(revision);
        self.admitted.changes.push(AppliedChange {
            kind: None,
            workload: key.clone(),
            change,
            revision,
            resolved,
        });
        if change != ChangeKind::Unchanged {
            self.admitted.records.insert(key, Some(record));
        }
    }

    fn prune(&mut self, Prune { labels, within }: &Prune, kept: &BTreeSet<WorkloadKey>) {
        if labels.is_empty() {
            let reason = "names no label, and would delete everything else: give key=value".to_string();
            return self.errors.push(Refusal { workload: None, field: "prune".into(), reason });
        }
        for (key, work) in &self.world.works {
            let own = &work.record.manifest.metadata.labels;
            if !kept.contains(key)
                && within.has(&key.namespace)
                && labels.iter().all(|(k, v)| own.get(k) == Some(v))
            {
                self.admitted.records.insert(key.clone(), None);
                let (workload, change) = (key.clone(), ChangeKind::Deleted);
                self.admitted.changes.push(AppliedChange {
                    kind: None,
                    workload,
                    change,
                    revision: None,
                    resolved: None,
                });
            }
        }
    }

    /// What `everyAgent` would make of each document. (A replica goes where there is room.)
    fn documents(&mut self) {
        let records = &self.admitted.records;
        let every: Vec<(&WorkloadKey, &WorkloadRecord, Template)> = records
            .iter()
            .filter_map(|(key, record)| Some((key, record.as_ref()?)))
            .filter(|(_, record)| record.manifest.spec.every_agent)
            .map(|(key, r)| (key, r, Template::new(&r.manifest, r.revision, r.image, r.runtime, &r.data)))
            .collect();
        if every.is_empty() {
            return;
        }
        let mut over: BTreeMap<&WorkloadKey, Vec<String>> = BTreeMap::new();
        for (id, agent) in &self.world.agents {
            let mut used = agent.used;
            for key in agent.works.iter().filter(|key| records.contains_key(key)) {
                let charge = self.world.works.get(key).and_then(|work| work.placed.get(id)).map(|p| p.charge);
                used = used.minus(charge.unwrap_or_default());
            }
            for (key, record, template) in &every {
                if place::suits(&ask(&record.manifest, template), &agent.record).is_err() {
                    continue;
                }
                let charge = template.price.of(1, 0);
                match Charge::shortage(agent.limit(), used, Charge::default(), charge) {
                    Some(short) if short.is_of_document() => {
                        over.entry(key).or_default().push(format!("agent {id}: {short}"));
                    }
                    Some(_) => {}
                    None => used = used.plus(charge),
                }
            }
        }
        for (key, agents) in over {
            let reason = format!("does not fit into the document of {}", listed(&agents));
            self.errors.push(Refusal { workload: Some(key.clone()), field: "spec".into(), reason });
        }
    }
}

fn ask<'a>(workload: &'a Workload, template: &'a Template) -> Ask<'a> {
    Ask {
        placement: workload.spec.placement.as_ref(),
        requires: &template.requires,
        price: template.price,
        ports: template.ports(),
    }
}

/// A board with room for everything: what remains is the document's own limit.
fn ample() -> contract::message::Capacity {
    contract::message::Capacity { cpu_millis: u32::MAX, memory_bytes: u64::MAX, storage_bytes: u64::MAX }
}

fn named(agents: &[&AgentId]) -> String {
    listed(&agents.iter().take(NAMED_MAX + 1).map(|id| id.to_string()).collect::<Vec<_>>())
        .replace("and 1 more", &format!("and {} more", agents.len().saturating_sub(NAMED_MAX)))
}

fn listed(items: &[String]) -> String {
    let shown = items.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default()
}
