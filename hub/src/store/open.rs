//! Whether a hub may start on what it finds. A store that is gone or cannot be opened is not a first
//! start: beginning a new lineage in silence would leave the fleet with a hub it must not believe.

use std::path::PathBuf;

use contract::Lineage;
use kv::{Kv, KvError, Opened, Options, SledKv};

use super::load::LoadError;
use super::{Loaded, load};
use crate::data::{DataDir, DataError};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{store} is empty, but this hub had a store (lineage {lineage}).\n\
         Put a copy of it back; or start once with --new-lineage-if-lost: the fleet then keeps what it runs,\n\
         and `hub restore accept --lineage {lineage}` takes it over again"
    )]
    Lost { store: String, lineage: Lineage },
    #[error(
        "{store} cannot be opened: {reason}.\n\
         It was left as it is. Put a copy of it back; or start once with --new-lineage-if-lost, which moves it aside"
    )]
    Unopenable { store: String, reason: String },
    #[error("{store}: {reason}")]
    Refused { store: String, reason: String },
    #[error(transparent)]
    Data(#[from] DataError),
}

/// An open store and its content.
pub struct Found {
    pub kv: Box<dyn Kv>,
    pub loaded: Loaded,
    /// What an operator should be told about how it went.
    pub remark: Option<String>,
}

pub fn open(data: &DataDir, new_lineage_if_lost: bool) -> Result<Found, OpenError> {
    let store = data.store().display().to_string();
    let (mut kv, mut remarks) = open_kv(data, new_lineage_if_lost)?;
    let loaded = match load(&*kv) {
        Ok(loaded) => loaded,
        Err(e @ LoadError::Corrupt(_)) if new_lineage_if_lost => {
            drop(kv);
            remarks.push(format!("{e}; the store now lies at {}", move_aside(data)?.display()));
            (kv, _) = open_kv(data, false)?;
            Loaded::default()
        }
        Err(e @ LoadError::Corrupt(_)) => return Err(OpenError::Unopenable { store, reason: e.to_string() }),
        Err(e) => return Err(OpenError::Refused { store, reason: e.to_string() }),
    };
    if let (None, Some(lineage)) = (loaded.meta, data.known_lineage()?) {
        if !new_lineage_if_lost {
            return Err(OpenError::Lost { store, lineage });
        }
        remarks.push(format!("the store of lineage {lineage} is lost; this one begins a new lineage"));
    }
    let remark = (!remarks.is_empty()).then(|| remarks.join("; "));
    Ok(Found { kv, loaded, remark })
}

fn open_kv(data: &DataDir, set_aside: bool) -> Result<(Box<dyn Kv>, Vec<String>), OpenError> {
    let (dir, options) = (data.store(), Options::default());
    let store = dir.display().to_string();
    if set_aside {
        let (kv, opened) = SledKv::open_or_set_aside(&dir, &options).map_err(|e| refused(&store, &e))?;
        return Ok((Box::new(kv), aside(opened).into_iter().collect()));
    }
    let kv = SledKv::open(&dir, &options).map_err(|e| match e {
        KvError::Corrupt { why, .. } | KvError::Broken { why, .. } => {
            OpenError::Unopenable { store: store.clone(), reason: why }
        }
        other => refused(&store, &other),
    })?;
    Ok((Box::new(kv), Vec::new()))
}

/// The store itself is whole, what it holds is not: the whole of it is kept for a person to look at.
fn move_aside(data: &DataDir) -> Result<PathBuf, OpenError> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (from, to) = (data.store(), data.root().join(format!("store.unreadable-{now}")));
    let failed =
        |e: std::io::Error| OpenError::Refused { store: from.display().to_string(), reason: e.to_string() };
    std::fs::rename(&from, &to).map_err(failed)?;
    Ok(to)
}

fn refused(store: &str, e: &KvError) -> OpenError {
    OpenError::Refused { store: store.to_string(), reason: e.to_string() }
}

fn aside(opened: Opened) -> Option<String> {
    match opened {
        Opened::Fresh | Opened::Existing => None,
        Opened::SetAside { path, reason } => {
            Some(format!("the store could not be opened ({reason}) and now lies at {}", path.display()))
        }
    }
}
