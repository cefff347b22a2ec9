//! Is there a device under this name, and is it the one that was there before?

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use agent_core::api::DeviceId;
use contract::Digest;
use contract::run::RunSpec;

/// Links are followed, as in `/dev/serial/by-id`. Owner and mode may change: that is udev at work.
pub fn identity(path: &Path) -> Option<DeviceId> {
    let found = fs::metadata(path).ok()?;
    let kind = found.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return None;
    }
    // Of these numbers and not of std's hasher, for it is compared with what another version wrote.
    let parts = [found.dev(), found.ino(), found.rdev()];
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_be_bytes()).collect();
    u64::from_str_radix(&Digest::of(&bytes).hex()[..16], 16).ok()
}

/// Those that a run is started with.
pub(super) fn of(run: &RunSpec) -> BTreeMap<String, DeviceId> {
    let devices = run.container.iter().flat_map(|c| &c.devices);
    devices.filter_map(|d| Some((d.path.clone(), identity(Path::new(&d.path))?))).collect()
}
