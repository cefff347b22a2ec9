//! What an operator writes as a Config or a Secret, and where a workload names one.

use std::collections::BTreeMap;
use std::fmt;

#[cfg(feature = "manifest")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EnvValue, Metadata, Mount, WorkloadSpec};
use crate::data::{DataId, DataKind, DataName};
use crate::field;
use crate::id::{Name, WorkloadKey};

/// Values under keys, for workloads of the same namespace: as variables, or as files.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct DataObject {
    /// Names the object.
    pub metadata: Metadata,
    /// Text by key, each kept as it is written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Bytes by key, in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binary_data: BTreeMap<String, String>,
}

/// Never the values: whatever prints this may be a log.
impl fmt::Debug for DataObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().chain(self.binary_data.keys()).collect();
        f.debug_struct("DataObject").field("metadata", &self.metadata).field("keys", &keys).finish()
    }
}

impl DataObject {
    pub fn id(&self, kind: DataKind) -> DataId {
        let Metadata { namespace, name, .. } = &self.metadata;
        DataId { kind, key: WorkloadKey { namespace: namespace.clone(), name: name.clone() } }
    }
}

/// One place in a spec that names a Config or Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataUse<'a> {
    pub of: DataName,
    /// None: all of them.
    pub key: Option<&'a str>,
    pub optional: bool,
    /// `spec.env.TOKEN`
    pub path: String,
}

impl EnvValue {
    /// The object, its key, and whether it may be missing; none for a text.
    pub fn of_data(&self) -> Option<(DataName, &str, bool)> {
        let (kind, name, key, optional) = match self {
            EnvValue::Text(_) => return None,
            EnvValue::Secret(s) => (DataKind::Secret, &s.secret, &s.key, s.optional),
            EnvValue::Config(c) => (DataKind::Config, &c.config, &c.key, c.optional),
        };
        Some((DataName { kind, name: name.clone() }, key, optional))
    }
}

impl Mount {
    pub fn of_data(&self) -> Option<DataName> {
        let named = |kind, name: &Option<Name>| name.clone().map(|name| DataName { kind, name });
        named(DataKind::Config, &self.config).or_else(|| named(DataKind::Secret, &self.secret))
    }
}

impl WorkloadSpec {
    /// Every place that names a Config or Secret of its namespace.
    pub fn data_uses(&self) -> Vec<DataUse<'_>> {
        let env = self.env.iter().filter_map(|(variable, value)| {
            let (of, key, optional) = value.of_data()?;
            Some(DataUse { of, key: Some(key), optional, path: field::key("spec.env", variable) })
        });
        let mounts = self.mounts.iter().enumerate().filter_map(|(n, mount)| {
            let path = field::item("spec.mounts", n);
            Some(DataUse { of: mount.of_data()?, key: mount.key.as_deref(), optional: mount.optional, path })
        });
        env.chain(mounts).collect()
    }
}
