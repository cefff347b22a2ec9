//! Who a container's process is: names are those of the image's own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::{RunError, refused};

const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// `root` is the container's root as this process sees it.
pub fn find(root: &Path, asked: &str) -> Result<User, RunError> {
    let (passwd, group) = (read(root, "etc/passwd"), read(root, "etc/group"));
    lookup(&passwd, &group, asked)
}

/// An image may have neither. Its links lead nowhere outside of it.
fn read(root: &Path, name: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let Ok(dir) = rustix::fs::open(root, flags, Mode::empty()) else { return String::new() };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat2(dir, name, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS);
    let mut bytes = Vec::new();
    if let Ok(file) = file {
        let _ = File::from(file).take(FILE_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lookup(passwd: &str, group: &str, asked: &str) -> Result<User, RunError> {
    let (name, group_name) = match asked.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (asked, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let line = fields(passwd).find(|f| match number {
        Some(uid) => f.get(2).is_some_and(|have| have.parse() == Ok(uid)),
        None => f[0] == name,
    });
    let field = |n: usize| line.as_ref().and_then(|l| l.get(n)).copied();
    let uid = number.or_else(|| field(2)?.parse().ok());
    let uid = uid.ok_or_else(|| {
        refused("user", format!("the image's /etc/passwd has no '{name}'; a number needs none"))
    })?;
    let gid = match group_name.filter(|g| !g.is_empty()) {
        Some(wanted) => find_group(group, wanted)?,
        None => field(3).and_then(|g| g.parse().ok()).unwrap_or(0),
    };
    // Whoever names a group gets that one alone, as with Docker.
    let groups = match (group_name, field(0)) {
        (None, Some(login)) => groups_of(group, login).filter(|g| *g != gid).collect(),
        _ => Vec::new(),
    };
    let home = field(5).filter(|h| !h.is_empty()).unwrap_or("/").to_string();
    Ok(User { uid, gid, groups, home })
}

fn find_group(group: &str, wanted: &str) -> Result<u32, RunError> {
    let named = || fields(group).find(|f| f[0] == wanted)?.get(2)?.parse().ok();
    wanted.parse().ok().or_else(named).ok_or_else(|| {
        refused("user", format!("the image's /etc/group has no '{wanted}'; a number needs none"))
    })
}

fn groups_of<'a>(group: &'a str, login: &'a str) -> impl Iterator<Item = u32> + 'a {
    let member = move |f: &Vec<&str>| f.get(3).is_some_and(|members| members.split(',').any(|m| m == login));
    fields(group).filter(member).filter_map(|f| f.get(2)?.parse().ok())
}

fn fields(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|l| l.trim().split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# no line\nweb:x:101:102:web:/srv:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nadm:x:4:web,other\ntty:x:5:web\n";

    #[test]
    fn names_and_numbers() {
        let found = |asked| {
            let u = lookup(PASSWD, GROUP, asked).unwrap();
            (u.uid, u.gid, u.groups, u.home)
        };
        assert_eq!(found("web"), (101, 102, vec![4, 5], "/srv".into()));
        assert_eq!(found("101"), (101, 102, vec![4, 5], "/srv".into()));
        assert_eq!(found("web:adm"), (101, 4, vec![], "/srv".into()));
        assert_eq!(found("7:8"), (7, 8, vec![], "/".into()));
        assert_eq!(found("7"), (7, 0, vec![], "/".into()));
        assert_eq!(found(""), (0, 0, vec![], "/root".into()));
        assert_eq!(found("0:web"), (0, 102, vec![], "/root".into()));
    }

    #[test]
    fn strangers_are_refused_by_name() {
        for (asked, why) in [
            ("nobody", "passwd has no 'nobody'"),
            ("web:wheel", "group has no 'wheel'"),
            ("-1", "no '-1'"),
            ("broken", "no 'broken'"),
        ] {
            let error = lookup(PASSWD, GROUP, asked).unwrap_err().to_string();
            assert!(error.contains(why), "{asked}: {error}");
        }
    }
}
