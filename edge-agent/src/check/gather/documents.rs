//! Signed documents, verified as the agent would.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use contract::message::Desired;
use contract::{Digest, codec};
use ed25519_dalek::VerifyingKey;

use crate::check::facts::Document;
use crate::run::containers::FEATURES;

pub fn on_disk(dir: &Path, key: Option<&VerifyingKey>) -> Vec<Document> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries.filter(|path| path.extension().is_some_and(|e| e == "json"));
    let mut all: Vec<_> = files.map(|path| file(&path, key)).collect();
    all.sort_by(|a, b| a.place.cmp(&b.place));
    all
}

fn file(path: &Path, key: Option<&VerifyingKey>) -> Document {
    let place = path.display().to_string();
    let signed = match fs::read(path) {
        Ok(signed) => signed,
        Err(why) => return refused(place, format!("cannot be read: {why}")),
    };
    if path.file_stem().is_none_or(|stem| *stem != *Digest::of(&signed).hex()) {
        return refused(place, "has changed since it was written".to_string());
    }
    document(place, &signed, key)
}

pub fn document(place: String, signed: &[u8], key: Option<&VerifyingKey>) -> Document {
    let desired = match codec::open::<Desired>(codec::Kind::Desired, signed, key.map(|key| key as _)) {
        Ok(desired) => desired,
        Err(why) => return refused(place, why.to_string()),
    };
    let engines: Vec<_> =
        desired.assignments.values().filter_map(|a| a.run.artifact.engine.clone()).collect();
    Document {
        place,
        lineage: Some(desired.lineage),
        for_agent: Some(desired.agent.to_string()),
        engines: engines.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
        containers: desired.assignments.values().any(|a| FEATURES.iter().any(|f| a.requires.contains(*f))),
        refused: None,
    }
}

pub fn refused(place: String, why: String) -> Document {
    Document {
        place,
        lineage: None,
        for_agent: None,
        engines: Vec::new(),
        containers: false,
        refused: Some(why),
    }
}
