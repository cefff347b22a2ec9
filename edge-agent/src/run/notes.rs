//! Restart notes: one small file an instance in `/run`, written without a sync. They survive the
//! agent, so that a crash of it does not reset a back-off; a reboot starts counting anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use agent_core::api::{Outcome, RestartNote};
use contract::InstanceId;

use super::board::write_atomic;

pub struct Notes {
    dir: PathBuf,
}

impl Notes {
    pub fn new(run: &std::path::Path) -> Notes {
        Notes { dir: run.join("restarts") }
    }

    pub fn write(&self, instance: &InstanceId, note: Option<&RestartNote>) -> Outcome {
        let path = self.dir.join(instance.file_name()).with_added_extension("json");
        let written = match note {
            Some(note) => {
                serde_json::to_vec(note).map_err(Into::into).and_then(|text| write_atomic(&path, &text))
            }
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        written.map_or_else(|why| Outcome::Fault(format!("{}: {why}", path.display())), |()| Outcome::Done)
    }

    /// A note that cannot be read is as good as none: the back-off starts anew.
    pub fn read_all(&self) -> BTreeMap<InstanceId, RestartNote> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return BTreeMap::new() };
        let notes = entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            let instance = InstanceId::from_file_name(name.to_str()?.strip_suffix(".json")?).ok()?;
            let note = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            Some((instance, note))
        });
        notes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Attempt, Digest, RevisionId};

    #[test]
    fn a_note_is_found_again_and_garbage_is_not() {
        let run = tempfile::tempdir().unwrap();
        fs::create_dir(run.path().join("restarts")).unwrap();
        let (notes, instance): (_, InstanceId) = (Notes::new(run.path()), "plant/press/0".parse().unwrap());
        let note = RestartNote {
            revision: RevisionId(Digest::of(b"r")),
            attempt: Attempt(1),
            generation: 0,
            started: true,
            restarts: 3,
            counted: None,
            streak: 0,
            not_before_ms: 5,
            finished: None,
            last_exit: None,
            by_probe: 0,
            probes: None,
        };
        assert_eq!(notes.write(&instance, Some(&note)), Outcome::Done);
        fs::write(run.path().join("restarts/plant.other.0.json"), "garbage").unwrap();
        assert_eq!(notes.read_all(), BTreeMap::from([(instance.clone(), note)]));
        assert_eq!(notes.write(&instance, None), Outcome::Done);
        assert!(notes.read_all().is_empty());
    }
}
