//! The container's first process: born into its pid namespace and cgroups, and handed to libcontainer, which
//! makes the rest of a container of it and waits for the start.
//!
//! Below libcontainer's builder, which writes the specification and its state to files and reads them again
//! (four times), forks twice, and looks for the cgroups by itself: half of what a start cost.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use libcgroups::common::CgroupConfig;
use libcontainer::notify_socket::{NOTIFY_FILE, NotifyListener, NotifySocket};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::channel::{self, InitReceiver, MainSender};
use libcontainer::process::init::container_init_process;
use libcontainer::syscall::syscall::SyscallType;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::cgroup::Cgroups;
use super::container::Streams;
use super::exec::Exec;
use super::{RunError, bounds, fault};

pub struct Launched {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// Returns when all of the container is there but its first instruction. `state` is an empty directory.
pub fn create(
    spec: Spec,
    root: &Path,
    exec: Exec,
    cgroups: &Cgroups,
    state: &Path,
    streams: Streams,
) -> Result<Launched, RunError> {
    let args = ContainerArgs {
        container_type: ContainerType::InitContainer,
        syscall: SyscallType::default(),
        spec: Rc::new(spec),
        rootfs: root.into(),
        notify_listener: NotifyListener::new(&state.join(NOTIFY_FILE)).map_err(runtime("create"))?,
        executor: Box::new(exec),
        stdin: Some(streams.stdin.as_raw_fd()),
        stdout: Some(streams.stdout.as_raw_fd()),
        stderr: Some(streams.stderr.as_raw_fd()),
        preserve_fds: 0,
        detached: true,
        no_pivot: false,
        as_sibling: false,
        console_socket: None,
        container: None,
        user_ns_config: None,
        pid_file: None,
        // Of the part that is left out.
        cgroup_config: CgroupConfig {
            cgroup_path: "/".into(),
            systemd_cgroup: false,
            container_name: String::new(),
        },
    };
    let (mut sender, mut receiver) = channel::main_channel().map_err(runtime("create"))?;
    let (unused, mut from_main) = channel::init_channel().map_err(runtime("create"))?;
    let launched = clone(cgroups, |born_in| inside(&args, cgroups, born_in, &mut sender, &mut from_main))?;
    // What is left open of it here would keep its end from being seen.
    sender.close().and_then(|()| unused.close()).map_err(runtime("create"))?;
    receiver.wait_for_init_ready().map_err(|e| {
        let _ = pidfd_send_signal(&launched.pidfd, Signal::KILL);
        let _ = waitid(WaitId::PidFd(launched.pidfd.as_fd()), WaitIdOptions::EXITED);
        runtime("create")(e)
    })?;
    Ok(launched)
}

pub fn start(state: &Path) -> Result<(), RunError> {
    NotifySocket::new(state.join(NOTIFY_FILE)).notify_container_start().map_err(runtime("start"))
}

/// In the new process. Its error is the creator's to tell.
fn inside(
    args: &ContainerArgs,
    cgroups: &Cgroups,
    born_in: bool,
    sender: &mut MainSender,
    receiver: &mut InitReceiver,
) -> ! {
    let _ = rustix::thread::set_name(c"container");
    // Nobody who is in the container's namespaces may look into what is still the board's.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let done = match bounds::enter(cgroups, born_in) {
        Ok(()) => container_init_process(args, sender, receiver).map_err(|e| words(&e)),
        Err(e) => Err(words(&e)),
    };
    if let Err(why) = done {
        let _ = sender.exec_failed(why);
    }
    // SAFETY: no destructor of the process that it is a copy of may run.
    unsafe { libc::_exit(1) }
}

/// As `fork`: the child has a copy of all, and this process has one thread.
fn clone(cgroups: &Cgroups, inside: impl FnOnce(bool)) -> Result<Launched, RunError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let v2 = cgroups.hierarchies.iter().find(|h| h.v2);
    let dir = v2.and_then(|h| rustix::fs::open(&h.dir, flags, Mode::empty()).ok());
    let (mut born_in, mut done) = (dir.is_some(), clone3(dir.as_ref().map(AsRawFd::as_raw_fd)));
    // Linux 5.7 was the first to do so.
    if born_in && done.as_ref().is_err_and(|e| matches!(e.raw_os_error(), Some(libc::E2BIG | libc::EINVAL))) {
        (born_in, done) = (false, clone3(None));
    }
    match done.map_err(fault("a process for the container"))? {
        Some(launched) => Ok(launched),
        None => {
            inside(born_in);
            unreachable!("it becomes the program or ends")
        }
    }
}

/// None in the child.
fn clone3(cgroup: Option<i32>) -> io::Result<Option<Launched>> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all zeroes are valid; sizes and places are those of this frame.
    let pid = unsafe {
        let mut args: CloneArgs = std::mem::zeroed();
        args.flags = (libc::CLONE_NEWPID | libc::CLONE_PIDFD) as u64;
        args.pidfd = &raw mut pidfd as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        let mut size = CLONE_ARGS_SIZE_5_5;
        if let Some(fd) = cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = fd as u64;
            size = size_of::<CloneArgs>();
        }
        libc::syscall(libc::SYS_clone3, &raw mut args, size)
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => {
            let pid = Pid::from_raw(pid as i32).expect("not 0");
            // SAFETY: the kernel has just made it for us.
            Ok(Some(Launched { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }))
        }
    }
}

/// The kernel's `clone_args`, which libc lacks for 32-bit ARM.
#[repr(C)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_and_parent_tid: [u64; 2],
    exit_signal: u64,
    stack_and_size: [u64; 2],
    tls: u64,
    set_tid_and_size: [u64; 2],
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Without the cgroup at its end, which older kernels do not know.
const CLONE_ARGS_SIZE_5_5: usize = 80;

fn runtime<E: Error>(what: &'static str) -> impl FnOnce(E) -> RunError {
    move |error| RunError::Runtime { what, why: words(&error) }
}

/// Errors keep the cause in `source`, level after level, and some say it themselves.
fn words(error: &dyn Error) -> String {
    let mut why = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        next = source.source();
    }
    why
}
