//! How a run gets its Configs and Secrets: as files in a tmpfs of its own, below the run's directory and gone
//! with it, and as variables, which the shim and whoever joins later read there. `spec.json` names keys and
//! holds no value.
//!
//! ```text
//! <run-dir>/…/mounts/data/<n>/<file>   of the n-th mount
//! <run-dir>/…/mounts/data/env          {"NAME":"value"}: for root alone, and in no container
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use contract::DataName;
use contract::data::Content;
use contract::run::{DataMount, RunData, RunSpec};
use contract::spec::Runtime;
use rustix::mount::{MountFlags, mount};
use zeroize::Zeroizing;

use super::mounts::{MountError, fault};
use super::record::{Directory, RunDir};

/// Opened for one start, and forgotten after it.
pub type Loaded = BTreeMap<DataName, Content>;

/// Of one file: its page, its inode, and room for the directories.
const PAGE_BYTES: u64 = 4096;

/// Where one mount's files lie, and where the guest sees them.
struct Place {
    directory: PathBuf,
    /// File names by key; none: each key is its own.
    renamed: Option<(String, String)>,
    seen: Directory,
}

/// WebAssembly sees directories only: what lies in one directory of the guest lies in one here.
fn places(dir: &RunDir, run: &RunSpec, data: &RunData) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for (n, asked) in data.mounts.iter().enumerate() {
        let own = root(dir).join(n.to_string());
        let place = match (&asked.key, run.runtime) {
            (None, _) => place(own.clone(), None, own, asked.path.clone()),
            (Some(key), Runtime::Oci) => {
                place(own.clone(), Some((key.clone(), key.clone())), own.join(key), asked.path.clone())
            }
            (Some(key), Runtime::Wasm) => {
                let (parent, name) = asked.path.rsplit_once('/').unwrap_or(("", &asked.path));
                let shared = places.iter().find(|p| p.renamed.is_some() && p.seen.guest == parent);
                let directory = shared.map_or(own, |place| place.directory.clone());
                place(directory.clone(), Some((key.clone(), name.to_string())), directory, parent.to_string())
            }
        };
        places.push(place);
    }
    places
}

fn place(directory: PathBuf, renamed: Option<(String, String)>, host: PathBuf, guest: String) -> Place {
    Place { directory, renamed, seen: Directory { host, guest, read_only: true } }
}

fn root(dir: &RunDir) -> PathBuf {
    dir.mounts().join("data")
}

/// What the guest will see.
pub fn plan(dir: &RunDir, run: &RunSpec) -> Vec<Directory> {
    let Some(data) = &run.data else { return Vec::new() };
    let mut all: Vec<Directory> = Vec::new();
    for Place { seen, .. } in places(dir, run, data) {
        if !all.contains(&seen) {
            all.push(seen);
        }
    }
    all
}

/// Blocks for a moment: memory only.
pub fn make(dir: &RunDir, run: &RunSpec, loaded: &Loaded) -> Result<(), MountError> {
    let Some(data) = &run.data else { return Ok(()) };
    let root = root(dir);
    fs::create_dir_all(&root).map_err(fault(root.display().to_string()))?;
    tmpfs(&root, loaded, data)?;
    let variables = variables(data, loaded)?;
    if !variables.is_empty() {
        let text = Zeroizing::new(serde_json::to_vec(&variables).expect("texts"));
        write(&root.join("env"), &text, 0o400, None)
            .map_err(fault("the environment from Configs and Secrets"))?;
    }
    for (asked, place) in data.mounts.iter().zip(places(dir, run, data)) {
        files(asked, &place, loaded)?;
    }
    Ok(())
}

fn variables<'a>(data: &'a RunData, loaded: &'a Loaded) -> Result<BTreeMap<&'a str, &'a str>, MountError> {
    let mut variables = BTreeMap::new();
    for (name, wanted) in &data.env {
        let value = content(loaded, &wanted.of)?.get(&wanted.key);
        let refused =
            |why: &str| MountError::Refused(format!("env {name}: {} key {} {why}", wanted.of, wanted.key));
        let value = value.ok_or_else(|| refused("is not there"))?;
        let text = std::str::from_utf8(value).ok().filter(|text| !text.contains('\0'));
        let text =
            text.ok_or_else(|| refused("is not text, which a variable must be: mount it as a file"))?;
        variables.insert(name.as_str(), text);
    }
    Ok(variables)
}

fn content<'a>(loaded: &'a Loaded, of: &DataName) -> Result<&'a Content, MountError> {
    loaded.get(of).ok_or_else(|| MountError::Refused(format!("{of} is not among what was loaded")))
}

fn files(asked: &DataMount, place: &Place, loaded: &Loaded) -> Result<(), MountError> {
    let at = || format!("{} at {}", asked.of, asked.path);
    let content = content(loaded, &asked.of)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&place.directory);
    made.map_err(fault(at()))?;
    let files: Vec<(&str, &[u8])> = match &place.renamed {
        None => content.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect(),
        Some((key, name)) => {
            let value = content.get(key);
            let missing = || MountError::Refused(format!("{} has no key {key}", asked.of));
            vec![(name.as_str(), value.ok_or_else(missing)?.as_slice())]
        }
    };
    for (name, value) in files {
        write(&place.directory.join(name), value, asked.mode, asked.owner).map_err(fault(at()))?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut file = fs::File::options().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    if let Some((uid, gid)) = owner {
        chown(path, Some(uid), Some(gid))?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Never on a swap device, where the kernel can do that (6.4).
fn tmpfs(root: &Path, loaded: &Loaded, data: &RunData) -> Result<(), MountError> {
    let values = || loaded.values().flat_map(Content::values);
    let uses = (data.mounts.len() + 1) as u64;
    let bytes: u64 = values().map(|value| (value.len() as u64).next_multiple_of(PAGE_BYTES) * 2).sum();
    let files = values().count() as u64;
    let (size, inodes) = ((bytes + 16 * PAGE_BYTES) * uses, (files + 4) * uses + 16);
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let attempt = |more: &str| {
        let options = format!("size={size},nr_inodes={inodes},mode=0700{more}");
        let options = std::ffi::CString::new(options).expect("digits hold no NUL");
        mount("skerry-data", root, "tmpfs", flags, options.as_c_str())
    };
    let made =
        attempt(",noswap").or_else(|e| if e == rustix::io::Errno::INVAL { attempt("") } else { Err(e) });
    made.map_err(|e| fault(format!("tmpfs on {}", root.display()))(e.into()))
}

/// Where variables lie, if any come from a Config or Secret.
pub fn env_file(dir: &RunDir, run: &RunSpec) -> Option<PathBuf> {
    run.data.as_ref().is_some_and(|data| !data.env.is_empty()).then(|| root(dir).join("env"))
}

/// For the shim.
pub fn read_env(dir: &RunDir, run: &RunSpec) -> Result<BTreeMap<String, String>, String> {
    let Some(path) = env_file(dir, run) else { return Ok(BTreeMap::new()) };
    let told = |e: io::Error| format!("the environment from Configs and Secrets: {e}");
    let text = Zeroizing::new(fs::read(&path).map_err(told)?);
    if run.runtime == Runtime::Wasm {
        // Nothing joins a module.
        let _ = fs::remove_file(&path);
    }
    serde_json::from_slice(&text).map_err(|e| told(e.into()))
}
