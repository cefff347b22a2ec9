//! What names a container knows without asking anybody: `localhost`, its own, and on the board's network the
//! board's. Images carry no such files; whoever runs them makes them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat2, unlinkat};
use rustix::io::Errno;

use super::settings::{Network, Settings};
use super::{RunError, fault};

const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
/// Debian's address for a host that has only its name.
const OWN: &str = "127.0.1.1";

/// Into the writable layer of a container that does not run yet: two mounts less than Docker's way.
pub fn write(root: &Path, settings: &Settings) -> Result<(), RunError> {
    let hostname = settings.hostname();
    let hosts = hosts(settings.network, hostname);
    let written = etc(root).and_then(|etc| {
        replace(&etc, "hosts", &hosts)?;
        replace(&etc, "hostname", &format!("{hostname}\n"))
    });
    written.map_err(|e| fault("hosts and hostname in the image's /etc")(e))
}

fn hosts(network: Network, hostname: &str) -> String {
    let board = match network {
        Network::None => None,
        Network::Host => fs::read_to_string("/etc/hosts").ok(),
    };
    let mut hosts = board.unwrap_or_else(|| LOCAL.into());
    if !hosts.is_empty() && !hosts.ends_with('\n') {
        hosts.push('\n');
    }
    hosts + &format!("{OWN}\t{hostname}\n")
}

/// An image's links lead nowhere outside of it.
fn etc(root: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(root, flags, Mode::empty())?;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(&dir, "etc", flags, Mode::empty(), within) {
        Err(Errno::NOENT) => {
            mkdirat(&dir, "etc", Mode::from_raw_mode(0o755))?;
            Ok(openat2(&dir, "etc", flags, Mode::empty(), within)?)
        }
        other => Ok(other?),
    }
}

/// The image's own was of the machine that built it, or a link.
fn replace(etc: &OwnedFd, name: &str, text: &str) -> io::Result<()> {
    match unlinkat(etc, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        // A directory: somebody means something else by it.
        Err(Errno::ISDIR | Errno::PERM) => return Ok(()),
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = openat2(etc, name, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?;
    File::from(file).write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_and_its_own_name() {
        let none = hosts(Network::None, "press-1");
        assert!(
            none.starts_with("127.0.0.1\tlocalhost\n") && none.ends_with("127.0.1.1\tpress-1\n"),
            "{none}"
        );
    }
}
