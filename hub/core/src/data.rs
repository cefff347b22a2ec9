//! Which content of which Configs and Secrets does each workload use? A workload's record pins one
//! content of each object that it names, so a revision is one set of contents for ever; another content is
//! another revision. The core knows names, keys, sizes and digests, and never a value.

use std::collections::{BTreeMap, BTreeSet};

use contract::run::DataRef;
use contract::spec::{DataUse, Metadata, Workload, WorkloadSpec};
use contract::time::{Millis, Now};
use contract::{AgentId, DataId, DataKind, DataName, Digest, Name, RevisionId, Version, WorkloadKey};
use serde::{Deserialize, Serialize};

use crate::api::{Answer, Refusal, RequestId};
use crate::core::Core;
use crate::record::DataRecord;
use crate::world::{Work, World};

/// One content, as a revision has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub digest: Digest,
    pub size_bytes: u64,
    /// Of the keys that the workload names, those that the content has.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keys: BTreeSet<String>,
}

/// By name, within the workload's namespace.
pub type Pins = BTreeMap<DataName, Pin>;

/// A Config or Secret as given; its content lies in the artefact store, a Secret's encrypted.
#[derive(Debug, Clone, PartialEq)]
pub struct NewData {
    pub kind: DataKind,
    pub metadata: Metadata,
    /// Of what lies in the store.
    pub content: Digest,
    pub size_bytes: u64,
    /// Keys, and how many bytes each has.
    pub keys: BTreeMap<String, u64>,
}

impl NewData {
    pub fn id(&self) -> DataId {
        let Metadata { namespace, name, .. } = &self.metadata;
        let key = WorkloadKey { namespace: namespace.clone(), name: name.clone() };
        DataId { kind: self.kind, key }
    }

    pub fn record(&self) -> DataRecord {
        DataRecord {
            metadata: self.metadata.clone(),
            content: self.content,
            size_bytes: self.size_bytes,
            keys: self.keys.clone(),
            version: Version(0),
            created_wall_ms: None,
            applied_wall_ms: None,
        }
    }
}

/// Objects as they will be when an apply is done.
pub struct DataSet<'a> {
    world: &'a World,
    new: BTreeMap<DataId, DataRecord>,
}

impl<'a> DataSet<'a> {
    pub fn new(world: &'a World, given: &[NewData]) -> DataSet<'a> {
        DataSet { world, new: given.iter().map(|data| (data.id(), data.record())).collect() }
    }

    fn get(&self, id: &DataId) -> Option<&DataRecord> {
        self.new.get(id).or_else(|| self.world.data.get(id))
    }

    /// How many there would be.
    pub fn count(&self) -> usize {
        self.world.data.len() + self.new.keys().filter(|id| !self.world.data.contains_key(id)).count()
    }

    /// The contents that a workload gets, or what it names that is not there: field and reason.
    pub fn pins(&self, namespace: &Name, spec: &WorkloadSpec) -> Result<Pins, Vec<(String, String)>> {
        let (mut pins, mut missing) = (Pins::new(), Vec::new());
        for used in spec.data_uses() {
            let id = used.of.within(namespace);
            let Some(record) = self.get(&id) else {
                missing.extend(lacks(&used, format!("there is no {} {}", id.kind, id.key)));
                continue;
            };
            let pin = pins.entry(used.of.clone()).or_insert_with(|| Pin {
                digest: record.content,
                size_bytes: record.size_bytes,
                keys: BTreeSet::new(),
            });
            let Some(key) = used.key else { continue };
            if record.keys.contains_key(key) {
                pin.keys.insert(key.to_string());
            } else {
                let has = record.keys.keys().take(5).cloned().collect::<Vec<_>>().join(", ");
                missing
                    .extend(lacks(&used, format!("{} {} has no key '{key}'; it has {has}", id.kind, id.key)));
            }
        }
        if missing.is_empty() { Ok(pins) } else { Err(missing) }
    }
}

fn lacks(used: &DataUse<'_>, what: String) -> Option<(String, String)> {
    let reason = format!("{what}: apply it before or in the same manifest, or write optional: true");
    (!used.optional).then(|| (used.path.clone(), reason))
}

/// The revision of a spec with these contents.
pub fn revision(spec: &WorkloadSpec, image: &Digest, pins: &Pins) -> RevisionId {
    spec.revision(image, pins.iter().map(|(name, pin)| (name, &pin.digest)))
}

/// What boards are told of these contents.
pub fn run_data(manifest: &Workload, pins: &Pins) -> Option<Box<contract::run::RunData>> {
    let pinned = |of: &DataName| {
        let pin = pins.get(of)?;
        Some(DataRef { of: of.clone(), digest: pin.digest, size_bytes: pin.size_bytes })
    };
    contract::defaults::data(&manifest.spec, pinned, |of, key| pins[of].keys.contains(key))
}

impl World {
    /// Workloads whose specs name this object.
    pub fn users(&self, id: &DataId) -> Vec<&WorkloadKey> {
        let names = |key: &WorkloadKey, work: &Work| {
            key.namespace == id.key.namespace
                && work.record.manifest.spec.data_uses().iter().any(|used| used.of == id.local())
        };
        self.works.iter().filter(|(key, work)| names(key, work)).map(|(key, _)| key).collect()
    }
}

impl Core {
    /// Every content that an object or a kept revision names.
    pub fn data_contents(&self) -> BTreeSet<Digest> {
        let works = self.world.works.values();
        let pins = works.flat_map(|work| {
            work.record.data.values().chain(work.record.revisions.iter().flat_map(|old| old.data.values()))
        });
        self.world.data.values().map(|record| record.content).chain(pins.map(|pin| pin.digest)).collect()
    }

    /// The Secret that this content is of, if that agent is told to run something with it.
    pub fn secret_for(&self, agent: &AgentId, content: &Digest) -> Option<DataId> {
        let works = &self.world.agents.get(agent)?.works;
        works.iter().find_map(|key| {
            let work = self.world.works.get(key)?;
            let placed = work.placed.get(agent)?;
            let template = work.template(placed.record.revision)?;
            let wanted = template.run.contents().iter().chain(work.template.run.contents());
            let found = wanted
                .into_iter()
                .find(|data| data.digest == *content && data.of.kind == DataKind::Secret)?;
            Some(found.of.within(&key.namespace))
        })
    }

    pub(crate) fn on_delete_data(&mut self, id: RequestId, wanted: &DataId, if_version: Option<Version>) {
        let refusal =
            |field: &str, reason: String| vec![Refusal { workload: None, field: field.into(), reason }];
        let name = format!("{} {}", wanted.kind, wanted.key);
        let Some(record) = self.world.data.get(wanted) else {
            let errors = refusal("", format!("there is no {name}"));
            return self.out.answer(id, Answer::NotFound { errors });
        };
        if let Some(version) = if_version.filter(|version| *version != record.version) {
            let present = record.version;
            let errors =
                refusal("version", format!("is at version {present}; version {version} was expected"));
            return self.out.answer(id, Answer::Conflict { errors });
        }
        let users: Vec<String> = self.world.users(wanted).into_iter().map(ToString::to_string).collect();
        if !users.is_empty() {
            let (shown, more) = (users.iter().take(5).cloned().collect::<Vec<_>>().join(", "), users.len());
            let more = if more > 5 { format!(" and {} more", more - 5) } else { String::new() };
            let errors = refusal(&name, format!("is used by {shown}{more}: delete or change those first"));
            return self.out.answer(id, Answer::Refused { errors });
        }
        self.commit();
        self.world.data.remove(wanted);
        self.out.data(wanted);
        self.out.answer(id, Answer::Done { version: self.world.meta.version });
    }

    /// The one place where an object changes.
    pub(crate) fn write_data(&mut self, now: Now, id: DataId, mut record: DataRecord) {
        record.version = self.world.meta.version;
        record.applied_wall_ms = now.wall_ms;
        let present = self.world.data.get(&id);
        record.created_wall_ms = present.map_or(now.wall_ms, |present| present.created_wall_ms);
        self.out.data(&id);
        self.world.data.insert(id, record);
    }
}

/// A Config or Secret, without its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DataView {
    pub key: WorkloadKey,
    pub kind: DataKind,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Names its content; of a Secret it says nothing about it.
    pub content: Digest,
    /// Keys, and how many bytes each has.
    pub keys: BTreeMap<String, u64>,
    pub used_by: Vec<WorkloadKey>,
    /// Its resource version.
    pub version: Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_wall_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_wall_ms: Option<Millis>,
}

impl Core {
    pub fn data(&self, id: &DataId) -> Option<DataView> {
        Some(self.data_view(id, self.world.data.get(id)?))
    }

    pub fn data_list(
        &self,
        kind: DataKind,
        namespace: Option<&Name>,
        selector: &crate::labels::Query,
    ) -> Vec<DataView> {
        let wanted = |id: &DataId, record: &DataRecord| {
            id.kind == kind
                && namespace.is_none_or(|ns| *ns == id.key.namespace)
                && selector.matches(&record.metadata.labels)
        };
        let wanted = self.world.data.iter().filter(|(id, record)| wanted(id, record));
        wanted.map(|(id, record)| self.data_view(id, record)).collect()
    }

    fn data_view(&self, id: &DataId, record: &DataRecord) -> DataView {
        DataView {
            key: id.key.clone(),
            kind: id.kind,
            labels: record.metadata.labels.clone(),
            annotations: record.metadata.annotations.clone(),
            content: record.content,
            keys: record.keys.clone(),
            used_by: self.world.users(id).into_iter().cloned().collect(),
            version: record.version,
            created_wall_ms: record.created_wall_ms,
            applied_wall_ms: record.applied_wall_ms,
        }
    }
}
