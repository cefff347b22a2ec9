//! Where this kernel offers the controllers: the mount table, read once at the agent's start.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CgroupError, Controller, Version, io_error};

/// One mounted hierarchy and which of our controllers it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    pub mount: PathBuf,
    pub version: Version,
    pub controllers: Vec<Controller>,
}

pub fn hierarchies() -> Result<Vec<Hierarchy>, CgroupError> {
    let table = Path::new("/proc/self/mounts");
    let text = fs::read_to_string(table).map_err(io_error(table))?;
    let on_v2 = |mount: &Path| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    Ok(from_table(&text, on_v2))
}

fn from_table(table: &str, on_v2: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in table.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(mount), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let mount = PathBuf::from(mount);
        let (version, offered) = match kind {
            "cgroup" => (Version::V1, options.replace(',', " ")),
            "cgroup2" => (Version::V2, on_v2(&mount)),
            _ => continue,
        };
        let is_new = |c: &Controller| !found.iter().any(|h| h.controllers.contains(c));
        let named = |c: &Controller| offered.split_whitespace().any(|word| word == c.name());
        let controllers: Vec<_> =
            Controller::ALL.into_iter().filter(|c| named(c)).filter(|c| is_new(c)).collect();
        if !controllers.is_empty() {
            found.push(Hierarchy { mount, version, controllers });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use Controller::*;

    #[test]
    fn v1_is_read_from_the_mount_options() {
        let table = "proc /proc proc rw 0 0\n\
                     cgroup /c/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
                     cgroup /c/cpuset cgroup rw,cpuset 0 0\n\
                     cgroup /c/memory cgroup rw,memory 0 0\n\
                     cgroup2 /c/unified cgroup2 rw 0 0\n";
        let found = from_table(table, |_| String::new());
        let brief: Vec<_> =
            found.iter().map(|h| (h.mount.to_str().unwrap(), h.controllers.clone())).collect();
        assert_eq!(brief, [("/c/cpu,cpuacct", vec![Cpu]), ("/c/memory", vec![Memory])]);
    }

    #[test]
    fn v2_is_one_hierarchy_and_the_same_mounted_twice_counts_once() {
        let table = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\ncgroup2 /mnt/cg cgroup2 rw 0 0\n";
        let found = from_table(table, |_| "cpuset cpu io memory pids\n".to_string());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].version, found[0].controllers.len()), (Version::V2, 3));
    }
}
