//! What this machine is called by its makers: for a hub that expects it under a name. Nothing of it is
//! secret, nor proof of anything.

use std::fs;
use std::path::Path;

use contract::identity::Machine;

pub fn facts() -> Machine {
    facts_below(Path::new("/"))
}

fn facts_below(root: &Path) -> Machine {
    let found =
        [("serial", serial(root)), ("mac", mac(root)), ("machine-id", word(&root.join("etc/machine-id")))];
    found.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))).collect()
}

/// What of this machine no copy of its card has: the serial number, or where there is none the address.
pub fn own_name() -> Option<String> {
    serial(Path::new("/")).or_else(|| mac(Path::new("/")))
}

/// The device tree's on ARM boards; the firmware's on others.
fn serial(root: &Path) -> Option<String> {
    ["proc/device-tree/serial-number", "sys/class/dmi/id/product_serial", "sys/class/dmi/id/board_serial"]
        .iter()
        .find_map(|path| word(&root.join(path)))
}

/// Of the first interface that is a device of the machine's own.
fn mac(root: &Path) -> Option<String> {
    let mut names: Vec<_> = fs::read_dir(root.join("sys/class/net")).ok()?.flatten().collect();
    names.sort_by_key(fs::DirEntry::file_name);
    let own = names.iter().filter(|entry| entry.path().join("device").exists());
    own.filter_map(|entry| word(&entry.path().join("address"))).find(|mac| mac != "00:00:00:00:00:00")
}

/// One short word, in small letters; boards end theirs with a NUL.
fn word(path: &Path) -> Option<String> {
    let text = String::from_utf8(fs::read(path).ok()?).ok()?;
    let word = text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_lowercase();
    let fits = !word.is_empty() && word.len() <= 64 && word.bytes().all(|b| b.is_ascii_graphic());
    fits.then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_known_by_what_its_kernel_tells() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert!(facts_below(root.path()).is_empty());
        put("proc/device-tree/serial-number", "10000000ABCDEF01\0");
        put("etc/machine-id", "0123\n");
        put("sys/class/net/lo/address", "00:00:00:00:00:00\n");
        put("sys/class/net/eth0/address", "DC:A6:32:00:00:01\n");
        put("sys/class/net/eth0/device/x", "");
        let facts = facts_below(root.path());
        assert_eq!(facts["serial"], "10000000abcdef01");
        assert_eq!((facts["mac"].as_str(), facts["machine-id"].as_str()), ("dc:a6:32:00:00:01", "0123"));
    }
}
