//! A layer's tar, entry after entry, into its directory.

use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Stat, linkat, makedev, statat};
use rustix::io::Errno;

use super::meta::Meta;
use super::path::{Name, show, whiteout};
use super::tree::{Dir, Tree, fault, is_whiteout, split};
use super::{Limits, Stop, node};
use crate::tar::{Entry, Kind, TarReader};

/// What becomes of device nodes in images. A container gets its devices from its spec, and the nodes of
/// an image are doors to the host's hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    Drop,
    Make,
}

const NOTES_MAX: usize = 16;

/// What is left of an image's limits, and what was left out so far.
pub struct Budget {
    limits: Limits,
    bytes: u64,
    entries: u64,
    notes: Vec<String>,
    more_notes: u64,
}

impl Budget {
    pub fn new(limits: &Limits) -> Budget {
        Budget { limits: *limits, bytes: 0, entries: 0, notes: Vec::new(), more_notes: 0 }
    }

    pub fn bytes_left(&self) -> u64 {
        self.limits.bytes_max - self.bytes
    }

    pub fn spend_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn spend_entries(&mut self, entries: u64) -> Result<(), Stop> {
        self.entries += entries;
        match self.entries > self.limits.entries_max {
            true => {
                Err(Stop::Refused(format!("the image has more than {} entries", self.limits.entries_max)))
            }
            false => Ok(()),
        }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        } else {
            self.more_notes += 1;
        }
    }

    pub fn into_notes(mut self) -> Vec<String> {
        if self.more_notes > 0 {
            self.notes.push(format!("and {} more", self.more_notes));
        }
        self.notes
    }
}

/// Whether the layer leans on those below.
pub fn apply(from: impl Read, upper: OwnedFd, lowers: &[OwnedFd], budget: &mut Budget) -> Result<bool, Stop> {
    let mut tar = TarReader::new(from);
    let mut tree = Tree::new(upper, lowers)?;
    while let Some(mut entry) = tar.next()? {
        let implied = tree.implied;
        put(&mut tree, &mut entry, &mut tar, budget)?;
        budget.spend_entries(1 + tree.implied - implied)?;
    }
    let leans = tree.leans;
    tree.finish()?;
    Ok(leans)
}

fn put(
    tree: &mut Tree<'_>,
    entry: &mut Entry,
    data: &mut impl Read,
    budget: &mut Budget,
) -> Result<(), Stop> {
    let Some((parent, name)) = split(&entry.path) else {
        return put_root(tree, entry, budget);
    };
    let name = name.as_slice();
    match whiteout(name)? {
        Name::Plain => {}
        Name::Opaque => {
            let dir = tree.dir(&parent)?;
            return tree.hide_below(&dir);
        }
        Name::Gone(gone) => return put_whiteout(tree, &parent, gone),
        Name::Bookkeeping => return Ok(()),
    }
    let dir = tree.dir(&parent)?;
    match entry.kind {
        Kind::Directory => put_dir(tree, &dir, name, entry, budget),
        Kind::HardLink => put_hard_link(tree, &dir, name, entry),
        _ => put_file(tree, &dir, name, entry, data, budget),
    }
}

fn put_root(tree: &mut Tree<'_>, entry: &mut Entry, budget: &mut Budget) -> Result<(), Stop> {
    if entry.kind != Kind::Directory {
        return Err(Stop::Refused("the root is to become something else than a directory".into()));
    }
    let root = tree.root();
    let left_out = tree.give(&root, Meta::of(entry))?;
    note_xattrs(budget, entry, left_out);
    Ok(())
}

/// Speaks of the layers below only: what this layer itself holds under that name stays.
fn put_whiteout(tree: &mut Tree<'_>, parent: &[Vec<u8>], gone: &[u8]) -> Result<(), Stop> {
    let dir = tree.dir(parent)?;
    tree.leans = true;
    match there(&dir, gone)? {
        Some(stat) if is_dir(&stat) => {
            let own = tree.dir(&[dir.path.as_slice(), &[gone.to_vec()]].concat())?;
            tree.hide_below(&own)
        }
        Some(_) => Ok(()),
        // Where nothing is to be hidden, the whiteout itself would be seen.
        None if tree.below(&dir, gone)?.is_none() => Ok(()),
        None => node::make_whiteout(&dir, gone),
    }
}

fn put_dir(
    tree: &mut Tree<'_>,
    dir: &Dir,
    name: &[u8],
    entry: &mut Entry,
    budget: &mut Budget,
) -> Result<(), Stop> {
    let own = match there(dir, name)? {
        Some(stat) if is_dir(&stat) => {
            let path = [dir.path.as_slice(), &[name.to_vec()]].concat();
            tree.dir(&path)?
        }
        Some(stat) => {
            clear(tree, dir, name, &stat)?;
            // What was here a moment ago hid what is below; so does what comes after it.
            tree.make_dir(dir, name, true)?
        }
        None => tree.make_dir(dir, name, false)?,
    };
    let left_out = tree.give(&own, Meta::of(entry))?;
    note_xattrs(budget, entry, left_out);
    Ok(())
}

fn put_file(
    tree: &mut Tree<'_>,
    dir: &Dir,
    name: &[u8],
    entry: &mut Entry,
    data: &mut impl Read,
    budget: &mut Budget,
) -> Result<(), Stop> {
    if let Some(stat) = there(dir, name)? {
        clear(tree, dir, name, &stat)?;
    }
    match entry.kind {
        Kind::Symlink => node::make_link(dir, name, &entry.link)?,
        Kind::Fifo => node::make_node(dir, name, FileType::Fifo, 0)?,
        Kind::Character | Kind::Block if !make_device(dir, name, entry, budget)? => return Ok(()),
        Kind::Character | Kind::Block => {}
        _ => node::fill(&mut node::make_file(dir, name)?, entry, data)?,
    }
    let left_out = Meta::of(entry).give(&dir.fd, name, entry.kind == Kind::Symlink)?;
    note_xattrs(budget, entry, left_out);
    Ok(())
}

fn make_device(dir: &Dir, name: &[u8], entry: &Entry, budget: &mut Budget) -> Result<bool, Stop> {
    let (major, minor) = entry.device;
    let path = show(&[dir.path.as_slice(), &[name.to_vec()]].concat());
    let kind = if entry.kind == Kind::Block { FileType::BlockDevice } else { FileType::CharacterDevice };
    if budget.limits.devices == Devices::Drop {
        budget.note(format!("{path}: device node left out; name it in the spec's devices if it is needed"));
    } else if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
        budget.note(format!("{path}: device 0:0 left out, for overlayfs takes it for a whiteout"));
    } else {
        node::make_node(dir, name, kind, makedev(major, minor))?;
        return Ok(true);
    }
    Ok(false)
}

fn put_hard_link(tree: &mut Tree<'_>, dir: &Dir, name: &[u8], entry: &Entry) -> Result<(), Stop> {
    let refused = |why: &str| {
        let (path, link) = (String::from_utf8_lossy(&entry.path), String::from_utf8_lossy(&entry.link));
        Stop::Refused(format!("{path}: hard link to {link}, {why}"))
    };
    let (parent, target) = split(&entry.link).ok_or_else(|| refused("which is the root"))?;
    let from = tree.dir(&parent)?;
    if (&from.path, target.as_slice()) == (&dir.path, name) {
        return Ok(());
    }
    match there(&from, &target)? {
        Some(stat) if is_dir(&stat) => return Err(refused("which is a directory")),
        Some(stat) if is_whiteout(&stat) => return Err(refused("which this layer deleted")),
        Some(_) => {}
        None => {
            let found = tree.below(&from, &target)?.ok_or_else(|| refused("which is not there"))?;
            tree.leans = true;
            node::copy_up(&found, &from, &target)?;
        }
    }
    if let Some(stat) = there(dir, name)? {
        clear(tree, dir, name, &stat)?;
    }
    linkat(&*from.fd, target.as_slice(), &*dir.fd, name, AtFlags::empty()).map_err(fault(
        "make the hard link",
        &dir.path,
        name,
    ))
}

fn there(dir: &Dir, name: &[u8]) -> Result<Option<Stat>, Stop> {
    match statat(&*dir.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(fault("look at", &dir.path, name)(e)),
    }
}

fn clear(tree: &mut Tree<'_>, dir: &Dir, name: &[u8], stat: &Stat) -> Result<(), Stop> {
    tree.forget();
    node::remove(dir, name, stat)
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn note_xattrs(budget: &mut Budget, entry: &Entry, left_out: Vec<String>) {
    for key in left_out {
        budget.note(format!("{}: attribute {key} left out", String::from_utf8_lossy(&entry.path)));
    }
}
