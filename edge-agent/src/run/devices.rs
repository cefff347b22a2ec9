//! When a device appears or goes: inotify on the directories that lead to it, for the kernel and udev make and
//! remove nodes as files. Nothing is asked in between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use agent_core::api::DeviceId;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use crate::instance::{device_identity, readable};

#[derive(Default)]
pub struct Devices {
    wanted: BTreeSet<String>,
    told: BTreeMap<String, Option<DeviceId>>,
    /// Made anew with what is watched; none while nothing is.
    notify: Option<AsyncFd<OwnedFd>>,
}

impl Devices {
    /// From now on these; which of them are there.
    pub fn watch(&mut self, wanted: BTreeSet<String>) -> BTreeMap<String, Option<DeviceId>> {
        self.wanted = wanted;
        self.told = self.look();
        self.told.clone()
    }

    /// Returns when one of them has come or gone.
    pub async fn changed(&mut self) -> BTreeMap<String, Option<DeviceId>> {
        loop {
            match &self.notify {
                // The descriptor is thrown away with its notices: what is there is looked at, not what is told.
                Some(notify) => drop(notify.readable().await),
                None => std::future::pending().await,
            }
            let there = self.look();
            if there != self.told {
                self.told.clone_from(&there);
                return there;
            }
        }
    }

    /// Watched first and looked at second, so that nothing falls in between.
    fn look(&mut self) -> BTreeMap<String, Option<DeviceId>> {
        self.notify = None;
        if !self.wanted.is_empty() {
            match watch_all(&self.wanted) {
                Ok(notify) => self.notify = Some(notify),
                Err(e) => eprintln!("edge-agent: devices that come or go are not seen: {e}"),
            }
        }
        self.wanted.iter().map(|path| (path.clone(), device_identity(Path::new(path)))).collect()
    }
}

fn watch_all(wanted: &BTreeSet<String>) -> io::Result<AsyncFd<OwnedFd>> {
    let notify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let changes = WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE_SELF
        | WatchFlags::ONLYDIR;
    for dir in wanted.iter().flat_map(|path| directories(Path::new(path))).collect::<BTreeSet<_>>() {
        match inotify::add_watch(&notify, &dir, changes) {
            // What is above it tells when it comes.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
            other => drop(other?),
        }
    }
    readable(notify)
}

/// Where its name and, if it is a link, what it leads to can come and go. Not the root, where nothing does.
fn directories(path: &Path) -> Vec<PathBuf> {
    let resolved = path.canonicalize().ok();
    let above = |path: &Path| path.ancestors().skip(1).map(PathBuf::from).collect::<Vec<_>>();
    let all = above(path).into_iter().chain(resolved.iter().flat_map(|path| above(path)));
    all.filter(|dir| dir.parent().is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_watched_at_both_ends() {
        let tmp = tempfile::tempdir().unwrap();
        let (links, nodes) = (tmp.path().join("by-id"), tmp.path().join("nodes"));
        std::fs::create_dir(&links).unwrap();
        std::fs::create_dir(&nodes).unwrap();
        std::fs::write(nodes.join("tty"), "").unwrap();
        std::os::unix::fs::symlink(nodes.join("tty"), links.join("plc")).unwrap();
        let found = directories(&links.join("plc"));
        assert!(found.contains(&links) && found.contains(&nodes) && !found.contains(&PathBuf::from("/")));
        assert_eq!(device_identity(&links.join("plc")), None, "a file is no device");
    }
}
