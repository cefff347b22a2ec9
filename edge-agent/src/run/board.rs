//! What lies where on a board, and that only one agent uses it.
//!
//! ```text
//! <state>/board-id   made once; tells two boards with one id apart
//! <state>/store/     sled, through skerry-kv          <state>/desired/<digest>.json  signed, verbatim
//! <state>/artifacts/ code, named by digest            <state>/volumes/, <state>/logs/
//! <run>/             shims' files, restart notes, agent.sock: gone with the next boot
//! ```

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use contract::{AgentId, BoardId, Digest};

#[derive(Debug, Clone)]
pub struct Board {
    pub agent: AgentId,
    pub id: BoardId,
    pub state: PathBuf,
    pub run: PathBuf,
}

/// Held as long as the agent lives; the kernel lets go of it however it dies. The runtime holds the
/// one of the run directory.
pub struct Lock(#[allow(dead_code, reason = "held, not read")] File);

impl Board {
    /// Makes what is missing and locks the state directory.
    pub fn open(agent: AgentId, state: &Path, run: &Path) -> anyhow::Result<(Board, Lock)> {
        for dir in [state, run] {
            private_dir(dir)?;
        }
        let lock = Lock(lock(state)?);
        for dir in ["desired", "artifacts", "volumes", "logs"] {
            private_dir(&state.join(dir))?;
        }
        private_dir(&run.join("instances"))?;
        private_dir(&run.join("restarts"))?;
        let id = on_machine(board_id(&state.join("board-id"))?, crate::identity::machine::own_name());
        Ok((Board { agent, id, state: state.to_path_buf(), run: run.to_path_buf() }, lock))
    }

    pub fn socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }
}

fn private_dir(dir: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make {}", dir.display()))
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match crate::instance::lock_patiently(&file) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!("another agent uses {}: stop it, or give other directories", dir.display())
        }
        Err(other) => Err(other).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// A card that was copied into another machine makes another board of it: the hub shows both, and they do
/// not push each other out of their sessions.
fn on_machine(made: BoardId, machine: Option<String>) -> BoardId {
    let Some(machine) = machine else { return made };
    let digest = Digest::of(format!("{made} {machine}").as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&digest.as_bytes()[..16]);
    BoardId(id)
}

/// Beside the store and not in it: a lost store must not make another board of this one.
fn board_id(path: &Path) -> anyhow::Result<BoardId> {
    if let Ok(text) = fs::read_to_string(path)
        && let Ok(id) = text.trim().parse()
    {
        return Ok(id);
    }
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    let id = BoardId(bytes);
    write_durable(path, id.to_string().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(id)
}

/// All or nothing, and there after a power cut: temporary file, sync, rename, sync of the directory.
pub fn write_durable(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let temporary = path.with_extension("tmp");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

/// All or nothing, but not over a power cut: for what lies in `/run`.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_card_is_another_board_in_another_machine() {
        let made = BoardId([7; 16]);
        let of = |machine: Option<&str>| on_machine(made, machine.map(String::from));
        assert_eq!(of(None), made);
        assert_eq!(of(Some("a")), of(Some("a")));
        assert!(of(Some("a")) != of(Some("b")) && of(Some("a")) != made);
    }

    #[test]
    fn one_board_keeps_its_id_and_has_one_agent() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Board::open("a1".parse().unwrap(), &dir.path().join("s"), &dir.path().join("r"));
        let (first, locks) = open().unwrap();
        let error = open().err().expect("a second agent is refused");
        assert!(error.to_string().contains("another agent uses"), "{error}");
        drop(locks);
        let (again, _locks) = open().unwrap();
        assert_eq!(first.id, again.id);
    }
}
