//! Whether a hub may start on what it finds. A store that is gone or cannot be opened is not a first
//! start: beginning a new lineage in silence would leave the fleet with a hub it must not believe.

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
    let dir = data.store();
    let store = dir.display().to_string();
    let options = Options::default();
    let unopenable = |reason: String| OpenError::Unopenable { store: store.clone(), reason };
    let (kv, mut remark) = if new_lineage_if_lost {
        let (kv, opened) = SledKv::open_or_set_aside(&dir, &options).map_err(|e| refused(&store, &e))?;
        (kv, aside(opened))
    } else {
        let kv = SledKv::open(&dir, &options).map_err(|e| match e {
            KvError::Corrupt { why, .. } => unopenable(why),
            KvError::Broken { why, .. } => unopenable(why),
            other => refused(&store, &other),
        })?;
        (kv, None)
    };
    let loaded = load(&kv).map_err(|e| match e {
        LoadError::Corrupt(_) => unopenable(e.to_string()),
        other => OpenError::Refused { store: store.clone(), reason: other.to_string() },
    })?;
    if let (None, Some(lineage)) = (loaded.meta, data.known_lineage()?) {
        if !new_lineage_if_lost {
            return Err(OpenError::Lost { store, lineage });
        }
        let lost = format!("the store of lineage {lineage} is lost; this one begins a new lineage");
        remark = Some(remark.map_or(lost.clone(), |aside| format!("{aside}; {lost}")));
    }
    Ok(Found { kv: Box::new(kv), loaded, remark })
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
