//! Which mounts make sense: one source each, on paths that cannot escape or hide one another.

use std::collections::BTreeMap;

use super::Findings;
use crate::field;
use crate::quantity::Bytes;
use crate::spec::Mount;

/// PATH_MAX of Linux, with its NUL.
const PATH_BYTES_MAX: usize = 4095;

pub(super) fn check(mounts: &[Mount], found: &mut Findings) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (n, mount) in mounts.iter().enumerate() {
        let at = field::item("spec.mounts", n);
        source(mount, &at, found);
        let path = field::key(&at, "path");
        if let Err(reason) = check_path(&mount.path) {
            found.add(path, reason);
        } else if mount.path == "/" {
            found.add(path, "is the root itself; mount below it, like /data");
        } else if let Some(first) = seen.insert(&mount.path, n) {
            found.add(path, format!("is taken by spec.mounts[{first}]; each path is mounted once"));
        }
    }
}

fn source(mount: &Mount, at: &str, found: &mut Findings) {
    let given: Vec<&str> = [
        ("volume", mount.volume.is_some()),
        ("hostPath", mount.host_path.is_some()),
        ("tmpfs", mount.tmpfs.is_some()),
        ("config", mount.config.is_some()),
        ("secret", mount.secret.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    match given[..] {
        [_] => {}
        [] => found.add(at, "says not what to mount: give one of volume, hostPath, tmpfs, config and secret"),
        _ => found.add(at, format!("has {} sources ({}); keep exactly one", given.len(), given.join(", "))),
    }
    if let Some(Err(reason)) = mount.host_path.as_deref().map(check_path) {
        found.add(field::key(at, "hostPath"), reason);
    }
    super::data::mount(mount, at, found);
    if mount.tmpfs == Some(Bytes(0)) {
        found.add(field::key(at, "tmpfs"), "is 0: give a size, like 16Mi");
    }
    let size = field::key(at, "size");
    match mount.size {
        Some(_) if mount.volume.is_none() => {
            found.add(size, "only a volume has a size; write tmpfs: <size> for memory");
        }
        Some(Bytes(0)) => found.add(size, "is 0: give a size, like 100Mi"),
        _ => {}
    }
}

/// Absolute, and in the one spelling that names it.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let shown = field::shown(path);
    if !path.starts_with('/') {
        return Err(format!("'{shown}' is not absolute: begin with '/'"));
    }
    if path.len() > PATH_BYTES_MAX || path.split('/').any(|part| part.len() > 255) {
        return Err("is longer than the kernel takes: 4095 bytes, 255 between two '/'".to_string());
    }
    if path.contains('\0') {
        return Err("holds a NUL character: remove it".to_string());
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("'{shown}' holds '..': write the path that is meant"));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let right = format!("/{}", parts.join("/"));
    if right != path {
        return Err(format!("'{shown}' is not in its shortest form: write '{}'", field::shown(&right)));
    }
    Ok(())
}
