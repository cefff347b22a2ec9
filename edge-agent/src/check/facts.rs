//! What a board is, as far as checks need it: plain data, so that a judgement can be tested with a
//! board that is not at hand.

use std::path::PathBuf;

use agent_core::StatusView;
use contract::Lineage;
use serde::Serialize;

use crate::cgroup::{Controller, Version};
use crate::identity::trust::TrustView;

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    pub system: System,
    pub controllers: Vec<Offered>,
    pub allowed_missing: Vec<Controller>,
    pub allowed_missing_seccomp: bool,
    pub state: Dir,
    pub run: Dir,
    /// Of the store's reserve file, if there is one.
    pub reserve_bytes: Option<u64>,
    pub has_store: bool,
    /// Stores that could not be opened once.
    pub set_aside: Vec<String>,
    pub wall_ms: u64,
    /// When this board last wrote a record, by its own wall clock.
    pub newest_record_ms: Option<u64>,
    pub agent: Agent,
    pub hub_key: Given,
    pub identity: Joined,
    pub token: Given,
    pub documents: Vec<Document>,
    pub broker: Broker,
    pub unit: Option<Unit>,
    pub engine: String,
}

impl Facts {
    /// Containers have been placed here: what only they need is then no matter of taste.
    pub fn has_containers(&self) -> bool {
        let asked = match &self.broker {
            Broker::Reached { document, .. } => document.as_ref(),
            _ => None,
        };
        self.documents.iter().chain(asked).any(|document| document.containers)
    }
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    pub release: String,
    pub arch: String,
    pub cmdline: String,
    /// As the device tree calls the board.
    pub model: Option<String>,
    pub is_root: bool,
    pub has_overlay: bool,
    pub has_seccomp: bool,
    pub namespaces: Vec<String>,
    pub has_loop: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Offered {
    pub controller: Controller,
    pub version: Version,
    pub path: PathBuf,
}

/// A directory and the file system it lies on; of the nearest parent while it is not there.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dir {
    pub path: PathBuf,
    pub exists: bool,
    pub is_volatile: bool,
    pub read_only: bool,
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// 0 where the file system does not count them.
    pub total_inodes: u64,
    pub free_inodes: u64,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase", tag = "name")]
pub enum Agent {
    Answers {
        status: Box<StatusView>,
        store_waits: Option<String>,
        identity: Option<Box<TrustView>>,
    },
    /// No answer, and who holds the state directory all the same.
    Silent {
        holder: Option<u32>,
        why: String,
    },
}

impl Agent {
    pub fn status(&self) -> Option<&StatusView> {
        match self {
            Agent::Answers { status, .. } => Some(status),
            Agent::Silent { .. } => None,
        }
    }
}

/// A file that a flag names: left out, usable, or why not.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase", tag = "name", content = "why")]
pub enum Given {
    LeftOut,
    Usable,
    Bad(String),
}

/// Whether this board has joined a hub.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase", tag = "name", content = "what")]
pub enum Joined {
    No,
    /// It has a token and goes on asking.
    Begun,
    Yes(Box<TrustView>),
    Bad(String),
}

/// A signed document, on the disk or at the broker.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// The file, or the topic.
    pub place: String,
    pub lineage: Option<Lineage>,
    pub for_agent: Option<String>,
    /// That its compiled code is made for.
    pub engines: Vec<String>,
    /// Some of its work is containers.
    pub containers: bool,
    /// Why it is not taken. Without a hub's key the signature is not looked at.
    pub refused: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase", tag = "name")]
pub enum Broker {
    /// The agent has a session and is asked instead.
    NotTried,
    Refused {
        url: String,
        why: String,
    },
    Reached {
        url: String,
        /// The hub that announces itself there.
        announced: Option<Lineage>,
        document: Option<Document>,
    },
}

/// The agent's unit as systemd has it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unit {
    pub name: String,
    pub properties: std::collections::BTreeMap<String, String>,
}
