//! A small board for one trial: directories and cgroups of its own, and nothing of them left after it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::cgroup::{Controller, Tree};
use crate::instance::{Exited, Places, Runtime, Settings};
use crate::run::containers;

const ROOT: &str = "/run/skerry-try";

pub struct Board {
    pub runtime: Runtime,
    pub exits: UnboundedReceiver<Exited>,
    dir: PathBuf,
}

impl Board {
    pub fn open(allow_missing: &[Controller], allow_missing_seccomp: bool) -> anyhow::Result<Board> {
        let name = std::process::id().to_string();
        let dir = Path::new(ROOT).join(&name);
        let mut settings = settings(&name, allow_missing).with_context(needs_root)?;
        settings.seccomp = containers::seccomp(allow_missing_seccomp);
        let (runtime, exits) = Runtime::open(settings).with_context(needs_root)?;
        Ok(Board { runtime, exits, dir })
    }

    /// `keep`: the records stay, the cgroups do not.
    pub fn close(self, keep: bool) {
        let settings = self.runtime.settings();
        settings.cgroups.remove_parent();
        let _ = fs::remove_dir_all(&settings.places.state_dir);
        if !keep {
            let _ = fs::remove_dir_all(&self.dir);
            let _ = fs::remove_dir(ROOT);
        }
    }
}

fn settings(name: &str, allow_missing: &[Controller]) -> anyhow::Result<Settings> {
    let dir = Path::new(ROOT).join(name);
    let tree = Tree::open(&format!("/skerry-try-{name}"), allow_missing)?;
    let state = image_dir(name).unwrap_or_else(|| dir.join("state"));
    let mut settings = Settings::new(Places::new(&dir, state), tree);
    settings.inherit_streams = true;
    Ok(settings)
}

/// Images may be larger than what fits into `/run`.
fn image_dir(name: &str) -> Option<PathBuf> {
    Some(super::artifact::cache_dir().ok()?.join(format!("trial-{name}")))
}

fn needs_root() -> String {
    let root = rustix::process::geteuid().is_root();
    let hint = if root { "" } else { " (limits need root: try with sudo)" };
    format!("no place to run it{hint}")
}

/// What trials that were killed left behind. A trial that lives holds its lock.
pub async fn clear_leftovers(allow_missing: &[Controller]) {
    let Ok(entries) = fs::read_dir(ROOT) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let lives = Path::new("/proc").join(&name).exists();
        if lives || name.parse::<u32>().is_err() || entry.path().join("kept").exists() {
            continue;
        }
        let Ok(settings) = settings(&name, allow_missing) else { continue };
        let Ok((runtime, exits)) = Runtime::open(settings) else { continue };
        for found in runtime.scan().unwrap_or_default() {
            let _ = runtime.remove(&found.instance, found.run).await;
        }
        Board { runtime, exits, dir: entry.path() }.close(false);
    }
}
