//! `localhost` in a network namespace of its own: the interface is there but down, and libcontainer leaves
//! it so.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::{RunError, fault};

/// Goes into the container's network namespace and back; other threads would not come along.
pub fn up(pid: u32) -> Result<(), RunError> {
    let of = |path: String| File::open(&path).map_err(fault(path));
    let (own, theirs) = (of("/proc/self/ns/net".into())?, of(format!("/proc/{pid}/ns/net"))?);
    enter(&theirs).map_err(fault("the container's network namespace"))?;
    let done = set_up();
    // Staying there would cut the shim off from the board.
    enter(&own).map_err(fault("back from the container's network namespace"))?;
    done.map_err(fault("loopback of the container"))
}

fn enter(namespace: &File) -> io::Result<()> {
    let kind = rustix::thread::LinkNameSpaceType::Network;
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))?)
}

fn set_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeroes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request lives until the call returns, and names an interface and its flags.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
