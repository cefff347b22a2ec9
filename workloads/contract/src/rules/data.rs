//! Which Configs and Secrets make sense, and which uses of them. No reason shows a value.

use super::{Finding, Findings, texts};
use crate::data::{DataName, check_key};
use crate::field;
use crate::limits::{DATA_BYTES_MAX, DATA_KEYS_MAX};
use crate::spec::{DataObject, Mount, Runtime, WorkloadSpec};

/// Everything that is wrong with an object, in no particular order.
pub fn check(object: &DataObject) -> Vec<Finding> {
    let mut found = Findings::default();
    texts::labels(&object.metadata.labels, "metadata.labels", &mut found);
    texts::annotations(&object.metadata.annotations, "metadata.annotations", &mut found);
    let mut size = 0;
    for (part, keys) in [("data", &object.data), ("binaryData", &object.binary_data)] {
        for (key, value) in keys {
            let at = field::key(part, key);
            if let Err(reason) = check_key(key) {
                found.add(&at, reason);
            }
            match if part == "data" { Ok(value.len()) } else { base64_len(value) } {
                Ok(len) => size += len,
                Err(reason) => found.add(&at, reason),
            }
        }
    }
    for key in object.binary_data.keys().filter(|key| object.data.contains_key(*key)) {
        found.add(field::key("binaryData", key), "stands in data, too; keep one of the two");
    }
    let keys = object.data.len() + object.binary_data.len();
    if keys == 0 {
        found.add("data", "is missing: give at least one key, like data: {key: value}");
    }
    if keys > DATA_KEYS_MAX {
        found.add("data", format!("has {keys} keys; at most {DATA_KEYS_MAX}"));
    }
    if size > DATA_BYTES_MAX {
        let reason = format!(
            "has {size} bytes; at most {DATA_BYTES_MAX} are taken: split it, or put it into the image"
        );
        found.add("data", reason);
    }
    found.0
}

/// How many bytes it stands for: length and alphabet tell that without decoding.
fn base64_len(text: &str) -> Result<usize, &'static str> {
    let digits = text.trim_end_matches('=');
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 || !digits.bytes().all(legal) {
        return Err("is not base64 (with '=' at its end, on one line): base64 -w0 FILE");
    }
    Ok(digits.len() * 3 / 4)
}

/// Fields of a mount that are for Configs and Secrets alone.
pub(super) fn mount(mount: &Mount, at: &str, found: &mut Findings) {
    let fields = [
        ("key", mount.key.is_some()),
        ("mode", mount.mode.is_some()),
        ("owner", mount.owner.is_some()),
        ("optional", mount.optional),
    ];
    if mount.of_data().is_none() {
        for (name, _) in fields.iter().filter(|(_, used)| *used) {
            found.add(field::key(at, name), "is for a mounted config or secret: leave it out");
        }
        return;
    }
    if let Some(Err(reason)) = mount.key.as_deref().map(check_key) {
        found.add(field::key(at, "key"), reason);
    }
    if let Some(Err(reason)) = mount.mode.as_deref().map(file_mode) {
        found.add(field::key(at, "mode"), reason);
    }
    if let Some(Err(reason)) = mount.owner.as_deref().map(file_owner) {
        found.add(field::key(at, "owner"), reason);
    }
}

pub(super) fn env(of: Option<(DataName, &str, bool)>, at: &str, found: &mut Findings) {
    if let Some(Err(reason)) = of.map(|(_, key, _)| check_key(key)) {
        found.add(field::key(at, "key"), reason);
    }
}

/// WebAssembly sees directories: a single key comes as a file in one that holds nothing else.
pub(super) fn fits(spec: &WorkloadSpec, runtime: Runtime, found: &mut Findings) {
    if runtime != Runtime::Wasm {
        return;
    }
    for (n, mount) in spec.mounts.iter().enumerate().filter(|(_, mount)| mount.of_data().is_some()) {
        let at = field::item("spec.mounts", n);
        if mount.owner.is_some() {
            let reason = "is for containers (oci), and this is WebAssembly: leave it out";
            found.add(field::key(&at, "owner"), reason);
        }
        if mount.key.is_none() {
            continue;
        }
        let directory = mount.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let reason = if directory.is_empty() {
            "lies in the root itself, and WebAssembly sees directories: put it into one, like /config/key"
                .into()
        } else if spec.mounts.iter().any(|other| other.path == directory) {
            format!(
                "lies in {directory}, which is mounted itself, and WebAssembly sees no mount within another: give it a directory of its own"
            )
        } else {
            continue;
        };
        found.add(field::key(&at, "path"), reason);
    }
}

/// `0440` to its bits.
pub fn file_mode(text: &str) -> Result<u32, String> {
    let digits = text.len() == 3 || text.len() == 4 && text.starts_with('0');
    let octal = text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    u32::from_str_radix(text, 8).ok().filter(|_| digits && octal).ok_or_else(|| {
        format!("'{}' is not a file's mode: write three octal digits, like 0440", field::shown(text))
    })
}

/// `uid` or `uid:gid`; a uid alone is its group's number, too.
pub fn file_owner(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| n.to_string() == text && *n < u32::MAX);
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    number(uid)
        .zip(number(gid))
        .ok_or_else(|| format!("'{}' is not uid or uid:gid: write numbers, like 101:101", field::shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_owners_and_base64_are_exact() {
        assert_eq!((file_mode("0440"), file_mode("600")), (Ok(0o440), Ok(0o600)));
        for wrong in ["", "44", "0999", "1777", "rw-", "+44"] {
            assert!(file_mode(wrong).is_err(), "{wrong}");
        }
        assert_eq!((file_owner("101"), file_owner("0:5")), (Ok((101, 101)), Ok((0, 5))));
        for wrong in ["", "www", "1:", "01", "4294967295", "1:2:3"] {
            assert!(file_owner(wrong).is_err(), "{wrong}");
        }
        assert_eq!((base64_len("AP8="), base64_len(""), base64_len("AAAA")), (Ok(2), Ok(0), Ok(3)));
        for wrong in ["AP8", "A===", "A P8", "AP\n8", "====", "?aaa"] {
            assert!(base64_len(wrong).is_err(), "{wrong}");
        }
    }
}
