//! The directory that a layer becomes, and where in it a name comes to lie.
//!
//! No name leads out of it: every part is opened by itself, relative to the directory before, and never
//! followed when it is a link; links are walked here, with the layer's root as `/`. What a layer does
//! not hold is looked up in the layers below, as the finished overlay would show it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;

use super::meta::{self, Meta};
use super::path::{clean, show};
use super::{Stop, node};

pub const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// What the paths of a layer's directories may take of memory, for their times are kept to the end. An image
/// with 30,000 directories takes 6 MB; one made to fill a board's memory would take gigabytes.
const PATHS_BYTES_MAX: usize = 32 << 20;
/// As the kernel has it.
const LINKS_MAX: usize = 40;

/// A directory of the tree, with no link on the way to it.
#[derive(Debug, Clone)]
pub struct Dir {
    pub fd: Rc<OwnedFd>,
    pub path: Vec<Vec<u8>>,
}

/// Something in a lower layer.
pub struct Found {
    pub dir: OwnedFd,
    pub stat: Stat,
}

pub struct Tree<'a> {
    root: Dir,
    /// The uppermost first.
    lowers: &'a [OwnedFd],
    /// Directories through which nothing below is seen.
    opaque: HashSet<Vec<Vec<u8>>>,
    /// Set when all is there, for every new entry changes its directory's.
    times: HashMap<Vec<Vec<u8>>, Meta>,
    /// Of the paths in both.
    held_bytes: usize,
    /// Entries of one directory come together.
    last: Option<(Vec<Vec<u8>>, Dir)>,
    /// Whether the layer would be another one over other layers.
    pub leans: bool,
    /// Directories that the layer only implied.
    pub implied: u64,
}

enum Look {
    Dir(OwnedFd),
    Link(Vec<u8>),
}

pub fn fault(what: &str, path: &[Vec<u8>], name: &[u8]) -> impl FnOnce(Errno) -> Stop {
    let whole = format!("{what} {}", show(&[path, &[name.to_vec()]].concat()));
    move |e| Stop::Fault(whole, e.into())
}

pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

impl<'a> Tree<'a> {
    pub fn new(upper: OwnedFd, lowers: &'a [OwnedFd]) -> Result<Tree<'a>, Stop> {
        let root = Dir { fd: Rc::new(upper), path: Vec::new() };
        let (opaque, times) = (HashSet::new(), HashMap::new());
        let mut tree =
            Tree { root, lowers, opaque, times, held_bytes: 0, last: None, leans: false, implied: 0 };
        tree.inherit_root()?;
        Ok(tree)
    }

    /// The root of an overlay is that of its uppermost layer, and few layers say what it should be.
    fn inherit_root(&mut self) -> Result<(), Stop> {
        let Some(below) = self.lowers.first() else { return Ok(()) };
        let stat = fstat(below).map_err(fault("attributes of", &[], b""))?;
        let meta = Meta::of_stat(&stat, meta::xattrs_of(below.as_fd())?);
        self.leans = meta.mode != 0o755 || (meta.uid, meta.gid) != (0, 0) || !meta.xattrs.is_empty();
        let root = self.root.clone();
        self.give(&root, meta).map(drop)
    }

    /// The directory of that name, links on the way followed inside, made when it is not there.
    pub fn dir(&mut self, path: &[Vec<u8>]) -> Result<Dir, Stop> {
        if let Some((known, dir)) = &self.last
            && known == path
        {
            return Ok(dir.clone());
        }
        let mut todo: VecDeque<Vec<u8>> = path.iter().cloned().collect();
        let (mut here, mut links) = (self.root.clone(), 0);
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                here = self.above(here)?;
                continue;
            }
            match self.look(&here, &name)? {
                Look::Dir(fd) => here = Dir { fd: Rc::new(fd), path: [here.path, vec![name]].concat() },
                Look::Link(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Stop::Refused(format!("{}: links without end on the way", show(path))));
                    }
                    if target.starts_with(b"/") {
                        here = self.root.clone();
                    }
                    parts(&target).rev().for_each(|p| todo.push_front(p.to_vec()));
                }
            }
        }
        self.last = Some((path.to_vec(), here.clone()));
        Ok(here)
    }

    /// At the root it stays.
    fn above(&self, mut here: Dir) -> Result<Dir, Stop> {
        here.path.pop();
        let mut fd = self.root.fd.clone();
        for name in &here.path {
            let next = openat(&*fd, name.as_slice(), DIRECTORY, Mode::empty());
            fd = Rc::new(next.map_err(fault("open", &here.path, b""))?);
        }
        Ok(Dir { fd, path: here.path })
    }

    fn look(&mut self, here: &Dir, name: &[u8]) -> Result<Look, Stop> {
        match openat(&*here.fd, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => return Ok(Look::Dir(fd)),
            Err(Errno::NOENT) => return self.bring(here, name),
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(fault("open", &here.path, name)(e)),
        }
        let stat =
            statat(&*here.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fault("look at", &here.path, name))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Ok(Look::Link(read_link(&here.fd, name)?)),
            _ if is_whiteout(&stat) => {
                unlinkat(&*here.fd, name, AtFlags::empty()).map_err(fault("replace", &here.path, name))?;
                self.imply(here, name, Meta::implied(), true).map(Look::Dir)
            }
            _ => Err(not_a_directory(here, name)),
        }
    }

    /// What the layer does not hold comes from below, or is made.
    fn bring(&mut self, here: &Dir, name: &[u8]) -> Result<Look, Stop> {
        self.leans = true;
        let Some(found) = self.below(here, name)? else {
            return self.imply(here, name, Meta::implied(), false).map(Look::Dir);
        };
        match FileType::from_raw_mode(found.stat.st_mode) {
            FileType::Symlink => Ok(Look::Link(read_link(&found.dir, name)?)),
            FileType::Directory => {
                let meta = Meta::of_stat(&found.stat, meta::xattrs_at(&found.dir, name)?);
                self.imply(here, name, meta, false).map(Look::Dir)
            }
            _ => Err(not_a_directory(here, name)),
        }
    }

    fn imply(&mut self, here: &Dir, name: &[u8], meta: Meta, opaque: bool) -> Result<OwnedFd, Stop> {
        self.implied += 1;
        let dir = self.make_dir(here, name, opaque)?;
        self.give(&dir, meta)?;
        Rc::try_unwrap(dir.fd).map_err(|_| Stop::Refused("a directory is held twice".into()))
    }

    pub fn make_dir(&mut self, here: &Dir, name: &[u8], opaque: bool) -> Result<Dir, Stop> {
        mkdirat(&*here.fd, name, Mode::RWXU).map_err(fault("make", &here.path, name))?;
        let fd =
            openat(&*here.fd, name, DIRECTORY, Mode::empty()).map_err(fault("open", &here.path, name))?;
        let dir = Dir { fd: Rc::new(fd), path: [here.path.as_slice(), &[name.to_vec()]].concat() };
        if opaque {
            self.hide_below(&dir)?;
        }
        Ok(dir)
    }

    pub fn hide_below(&mut self, dir: &Dir) -> Result<(), Stop> {
        self.hold(dir)?;
        self.opaque.insert(dir.path.clone());
        meta::set_opaque(&*dir.fd)
    }

    /// All but the time, which is for the end; what was left out.
    pub fn give(&mut self, dir: &Dir, meta: Meta) -> Result<Vec<String>, Stop> {
        self.hold(dir)?;
        let left_out = meta.give(&dir.fd, b".", false)?;
        self.times.insert(dir.path.clone(), Meta { xattrs: Vec::new(), ..meta });
        Ok(left_out)
    }

    fn hold(&mut self, dir: &Dir) -> Result<(), Stop> {
        const EACH: usize = 2 * size_of::<Vec<u8>>();
        self.held_bytes += dir.path.iter().map(|part| part.len() + EACH).sum::<usize>();
        match self.held_bytes > PATHS_BYTES_MAX {
            true => Err(Stop::Refused(format!(
                "the paths of its directories take more than {PATHS_BYTES_MAX} bytes"
            ))),
            false => Ok(()),
        }
    }

    /// `name` in the layers below, as it would be seen if this layer did not hold it.
    pub fn below(&self, here: &Dir, name: &[u8]) -> Result<Option<Found>, Stop> {
        if (1..=here.path.len()).any(|n| self.opaque.contains(&here.path[..n])) {
            return Ok(None);
        }
        for root in self.lowers {
            let (found, last) = find_in(root.as_fd(), here, name)?;
            if found.is_some() || last {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Something that was on the way to other names is not there any more.
    pub fn forget(&mut self) {
        self.last = None;
    }

    pub fn root(&self) -> Dir {
        self.root.clone()
    }

    /// Directories that were replaced meanwhile are gone, or were given again.
    pub fn finish(self) -> Result<(), Stop> {
        for (path, meta) in &self.times {
            match self.reach(path) {
                Ok(fd) => node::set_time(&fd, meta.mtime).map_err(fault("time of", path, b""))?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(fault("open", path, b"")(e)),
            }
        }
        Ok(())
    }

    fn reach(&self, path: &[Vec<u8>]) -> Result<Rc<OwnedFd>, Errno> {
        let mut fd = self.root.fd.clone();
        for name in path {
            fd = Rc::new(openat(&*fd, name.as_slice(), DIRECTORY, Mode::empty())?);
        }
        Ok(fd)
    }
}

/// What one lower layer knows of `name`, and whether layers below it are not seen there any more.
fn find_in(root: BorrowedFd<'_>, here: &Dir, name: &[u8]) -> Result<(Option<Found>, bool), Stop> {
    let open = |dir: BorrowedFd<'_>, part: &[u8]| openat(dir, part, DIRECTORY, Mode::empty());
    let mut dir = open(root, b".").map_err(fault("open", &[], b""))?;
    let mut last = false;
    for part in &here.path {
        match open(dir.as_fd(), part) {
            Ok(next) => dir = next,
            Err(Errno::NOENT) => return Ok((None, last)),
            // A file or a whiteout hides what is below it.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok((None, true)),
            Err(e) => return Err(fault("open", &here.path, b"")(e)),
        }
        last |= meta::is_opaque(&dir);
    }
    match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is_whiteout(&stat) => Ok((None, true)),
        Ok(stat) => Ok((Some(Found { dir, stat }), true)),
        Err(Errno::NOENT) => Ok((None, last)),
        Err(e) => Err(fault("look at", &here.path, name)(e)),
    }
}

/// Of a link's target; `..` is for the walk.
fn parts(target: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    target.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".")
}

pub fn read_link(dir: &OwnedFd, name: &[u8]) -> Result<Vec<u8>, Stop> {
    Ok(readlinkat(dir, name, Vec::new()).map_err(fault("read the link", &[], name))?.into_bytes())
}

fn not_a_directory(here: &Dir, name: &[u8]) -> Stop {
    let path = show(&[here.path.as_slice(), &[name.to_vec()]].concat());
    Stop::Refused(format!("{path} is no directory, but something is to be put into it"))
}

/// Parent and name; `None` for the root itself.
pub fn split(path: &[u8]) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let mut parts = clean(path);
    let name = parts.pop()?;
    Some((parts, name))
}
