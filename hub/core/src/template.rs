//! A revision made ready for composing: defaults in, sizes known, labels that it needs named.

use std::collections::BTreeSet;

use contract::defaults::{container, effective};
use contract::env::{env_labels, expand_env};
use contract::run::{ArtifactRef, Assignment, MountSource, RunSpec};
use contract::spec::{EnvValue, Runtime, Workload};
use contract::{Attempt, Digest, RevisionId, WorkloadKey};

use crate::access::Taken;
use crate::charge::Price;
use crate::data::{self, Pins};
use crate::labels::Labels;

#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    pub key: WorkloadKey,
    pub revision: RevisionId,
    pub image: Digest,
    pub runtime: Runtime,
    pub requires: BTreeSet<String>,
    /// Agent labels that the environment refers to.
    pub labels: BTreeSet<String>,
    pub price: Price,
    /// Of its namespace's quota, by one instance.
    pub taken: Taken,
    /// Nobody named a signal, so that the image's own holds, if it has one.
    pub image_stops: bool,
    /// Environment as written, in `run.env`; the artefact is a placeholder.
    pub run: RunSpec,
}

/// The longest legal label value.
const LABEL_BYTES_MAX: usize = 63;
/// The longest engine id (`sanitize`), in quotes.
const ENGINE_BYTES_MAX: usize = 130;
/// What compression leaves at most of an assignment's fixed part: three digests of 32 bytes of
/// entropy in hexadecimal (~4.2 bits a digit), and a match of ≤ 4 bytes for each field name.
const FIXED_WIRE_BYTES: usize = 320;

impl Template {
    pub fn new(
        manifest: &Workload,
        revision: RevisionId,
        image: Digest,
        runtime: Runtime,
        pins: &Pins,
    ) -> Template {
        let spec = &manifest.spec;
        let effective = effective(spec);
        let texts = spec.env.iter().filter_map(|(name, value)| match value {
            EnvValue::Text(text) => Some((name.clone(), text.clone())),
            EnvValue::Secret(_) | EnvValue::Config(_) => None,
        });
        let run = RunSpec {
            runtime,
            artifact: ArtifactRef { source: image, digest: image, size_bytes: u64::MAX, engine: None },
            command: spec.command.clone(),
            args: spec.args.clone(),
            env: texts.collect(),
            limits: effective.limits,
            network: effective.network,
            mounts: effective.mounts,
            restart_policy: effective.restart_policy,
            stop_signal: effective.stop_signal,
            stop_grace_ms: effective.stop_grace_ms,
            healthy_after_ms: effective.healthy_after_ms,
            health_deadline_ms: effective.health_deadline_ms,
            probes: effective.probes,
            container: (runtime == Runtime::Oci).then(|| container(spec)),
            data: data::run_data(manifest, pins),
        };
        let labels = run.env.values().flat_map(|text| env_labels(text)).map(str::to_string).collect();
        let requires = requires(&run);
        let (key, price) = (manifest.key(), Price::default());
        let image_stops = runtime == Runtime::Oci && spec.stop.as_ref().is_none_or(|s| s.signal.is_none());
        let taken = Taken::by_one(manifest);
        let mut template =
            Template { key, revision, image, runtime, requires, labels, price, taken, image_stops, run };
        template.price = template.priced();
        // Time can be shared and memory cannot: a cpu limit that nobody asked for reserves nothing, or
        // four small workloads with no word about cpu would fill a board of two cores.
        if manifest.spec.resources.is_none_or(|given| given.cpu.is_none()) {
            template.price.cpu_millis = 0;
        }
        // The same for storage: a default bounds what runs wild, and few come near it.
        let volumes = spec.mounts.iter().filter(|m| m.volume.is_some()).filter_map(|m| m.size);
        let named = spec.resources.and_then(|given| given.storage).into_iter().chain(volumes);
        template.price.storage_bytes = named.fold(0, |sum: u64, bytes| sum.saturating_add(bytes.0));
        template
    }

    fn priced(&self) -> Price {
        let sample = self.assignment_of(Attempt(u32::MAX), u64::MAX, self.run.clone(), Vec::new());
        let expanded: usize =
            self.run.env.values().map(|text| env_labels(text).len() * LABEL_BYTES_MAX).sum();
        let run = &self.run;
        let texts = json_len(&run.command)
            + json_len(&run.args)
            + json_len(&run.env)
            + json_len(&run.network.connect)
            + json_len(&run.network.listen)
            + json_len(&run.mounts)
            + run.container.as_ref().map_or(0, json_len)
            + run.probes.as_ref().map_or(0, json_len)
            + run.data.as_ref().map_or(0, json_len)
            + json_len(&self.key);
        Price {
            cpu_millis: run.limits.cpu_millis,
            memory_bytes: run.limits.memory_bytes,
            storage_bytes: 0,
            plain_bytes: (json_len(&sample) + ENGINE_BYTES_MAX + 16 + expanded) as u32,
            wire_bytes: (texts + FIXED_WIRE_BYTES + expanded) as u32,
        }
    }

    fn assignment_of(&self, attempt: Attempt, restarts: u64, run: RunSpec, slots: Vec<u32>) -> Assignment {
        let (workload, revision) = (self.key.clone(), self.revision);
        Assignment { workload, revision, attempt, slots, run, requires: self.requires.clone(), restarts }
    }

    /// The assignment for an agent with these labels; Err names the label it lacks.
    pub fn assignment(
        &self,
        record: &crate::record::PlacementRecord,
        artifact: ArtifactRef,
        labels: &Labels,
    ) -> Result<Assignment, String> {
        let mut run = self.run.clone();
        run.artifact = artifact;
        if run.env.values().any(|text| text.contains("${")) {
            for value in run.env.values_mut() {
                *value = expand_env(value, labels).map_err(|missing| lacks(&missing.0))?;
            }
        }
        let slots = record.slots.iter().copied().collect();
        Ok(self.assignment_of(record.attempt, record.restarts, run, slots))
    }

    /// Ports of the board that nothing else placed there may have.
    pub fn ports(&self) -> &[u16] {
        self.run.container.as_ref().map_or(&[], |container| &container.ports)
    }

    /// A label that the agent lacks.
    pub fn missing_label(&self, labels: &Labels) -> Option<String> {
        self.labels.iter().find(|label| !labels.contains_key(*label)).map(|label| lacks(label))
    }
}

fn lacks(label: &str) -> String {
    format!("waiting for label '{label}' of the agent")
}

/// The features without which an agent must not run it: what it would otherwise ignore.
fn requires(run: &RunSpec) -> BTreeSet<String> {
    let runtime = match run.runtime {
        Runtime::Wasm => "wasm",
        Runtime::Oci => "oci",
    };
    let mounts = run.mounts.iter().map(|mount| match mount.from {
        MountSource::Volume { .. } => "volume-mounts",
        MountSource::HostPath { .. } => "host-path-mounts",
        MountSource::Tmpfs { .. } => "tmpfs-mounts",
    });
    let devices = run.container.iter().filter(|c| !c.devices.is_empty()).map(|_| "devices");
    let probes = run.probes.iter().map(|_| "probes");
    let data = run.data.iter().map(|_| "data");
    mounts.chain([runtime]).chain(devices).chain(probes).chain(data).map(str::to_string).collect()
}

fn json_len<T: serde::Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(0, |bytes| bytes.len())
}
