//! What can be listed, and under which names people know it.

use std::str::FromStr;

use contract::{DataKind, Name, WorkloadKey};

use super::exit::{Code, Done, Failure};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Workloads,
    Instances,
    Agents,
    Artifacts,
    Configs,
    Secrets,
    /// Of the artefacts, those that are containers.
    Images,
    Events,
    /// Workloads and their instances.
    All,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        match text.to_lowercase().as_str() {
            "workload" | "workloads" | "w" | "wl" => Ok(Kind::Workloads),
            "instance" | "instances" | "i" => Ok(Kind::Instances),
            "agent" | "agents" | "a" => Ok(Kind::Agents),
            "artifact" | "artifacts" | "artefact" | "artefacts" => Ok(Kind::Artifacts),
            "config" | "configs" | "configmap" | "configmaps" | "cm" => Ok(Kind::Configs),
            "secret" | "secrets" => Ok(Kind::Secrets),
            "image" | "images" | "img" => Ok(Kind::Images),
            "event" | "events" | "ev" => Ok(Kind::Events),
            "all" => Ok(Kind::All),
            "pod" | "pods" | "po" | "task" | "tasks" | "alloc" | "allocs" => {
                Err("here they are 'instances'".into())
            }
            "node" | "nodes" | "no" => Err("here they are 'agents'".into()),
            "deployment" | "deployments" | "deploy" | "ds" | "daemonset" | "job" | "jobs" | "service"
            | "services" => Err("here they are 'workloads'".into()),
            _ => Err("kinds: workloads, instances, agents, configs, secrets, artifacts, images, events, all"
                .into()),
        }
    }
}

/// `name`, or `namespace/name`, within `namespace`.
pub fn key(text: &str, namespace: Option<&str>) -> Done<WorkloadKey> {
    let full = if text.contains('/') {
        text.to_string()
    } else {
        format!("{}/{text}", namespace.unwrap_or("default"))
    };
    full.parse().map_err(|why| Failure::usage(format!("workload {why}")))
}

/// The path of a Config or Secret in the API.
pub fn data_path(kind: DataKind, key: &WorkloadKey) -> String {
    format!("/v1/{kind}s/{}/{}", key.namespace, key.name)
}

impl Kind {
    pub fn of_data(self) -> Option<DataKind> {
        match self {
            Kind::Configs => Some(DataKind::Config),
            Kind::Secrets => Some(DataKind::Secret),
            _ => None,
        }
    }
}

/// The path of a workload in the API.
pub fn path(key: &WorkloadKey) -> String {
    format!("/v1/workloads/{}/{}", key.namespace, key.name)
}

pub fn namespace(text: Option<&String>) -> Done<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    text.parse::<Name>().map_err(|why| Failure::usage(format!("--namespace: {why}")))?;
    Ok(Some(text.clone()))
}

/// `k=v,…` for `-l`, as the API takes it.
pub fn not_found(what: &str) -> Failure {
    Failure::new(Code::NotFound, what.to_string())
}
