//! The forked process, until it is the command or its own end.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::{Signal, set_parent_process_death_signal, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use seccompiler::BpfProgram;

use super::group::Group;
use super::target::{Ids, Target};
use super::{CANNOT_JOIN, Command, JoinError, Work, privilege};
use crate::run::exec::{NOT_EXECUTABLE, NOT_FOUND, candidates, executable};
use crate::run::{RunError, Streams, fault, refused, user};

pub struct Child {
    pub target: Target,
    pub work: Work,
    pub filters: Vec<BpfProgram>,
    pub streams: Streams,
    pub has_terminal: bool,
    /// Where it says why it cannot be; closed by itself when it can.
    pub said: OwnedFd,
}

/// Never returns: nothing of the process that forked may run twice.
pub fn live(child: Child, group: &Group) -> ! {
    let Child { target, work, filters, streams, has_terminal, said } = child;
    let done = enter(&target, group, &streams, has_terminal).map_err(JoinError::from);
    let failed = match (done, work) {
        (Err(e), _) => e,
        (Ok(()), Work::Command(command)) => match run(&command, &target, &filters, has_terminal) {
            Err(e) => e,
        },
        (Ok(()), Work::Own(work)) => {
            drop(said);
            exit(work())
        }
    };
    let text = chain(&failed);
    let _ = File::from(said).write_all(&[&[failed.code()], text.as_bytes()].concat());
    exit(CANNOT_JOIN)
}

fn enter(target: &Target, group: &Group, streams: &Streams, has_terminal: bool) -> Result<(), RunError> {
    // Under memory pressure it goes with the container, not with the agent that asked.
    if let Ok(score) = fs::read_to_string(format!("/proc/{}/oom_score_adj", target.pid)) {
        let _ = fs::write("/proc/self/oom_score_adj", score.trim());
    }
    group.enter().map_err(fault("the container's cgroup"))?;
    target.enter().map_err(|e| fault("the container's namespaces")(e.into()))?;
    let own_streams = || {
        setsid()?;
        if has_terminal {
            rustix::process::ioctl_tiocsctty(&streams.stdin)?;
        }
        dup2_stdin(streams.stdin.as_fd())?;
        dup2_stdout(streams.stdout.as_fd())?;
        dup2_stderr(streams.stderr.as_fd())
    };
    own_streams().map_err(|e| fault("its streams")(e.into()))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    default_signals();
    // If the watcher is killed, so is this; what it started meanwhile is swept by the next who joins.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    Ok(())
}

fn run(
    command: &Command,
    target: &Target,
    filters: &[BpfProgram],
    has_terminal: bool,
) -> Result<Infallible, JoinError> {
    let process = &target.process;
    let (ids, home) = ids(command, &process.user)?;
    own_streams(ids.uid, has_terminal);
    let env = environment(&process.env, home.as_deref(), &command.env)?;
    let argv = strings("args", &command.args)?;
    let same = ids.uid == process.user.uid;
    let other = privilege::of_another(ids.uid, &process.capabilities);
    let capabilities = if same { &process.capabilities } else { &other };
    privilege::become_user(&ids, capabilities).map_err(|e| fault("user and capabilities")(e.into()))?;
    let workdir = command.workdir.as_deref().unwrap_or(&process.cwd);
    std::env::set_current_dir(workdir).map_err(fault(format!("workdir {workdir}")))?;
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let programs = programs(&env, &command.args[0])?;
    let pointers =
        |list: &[CString]| -> Vec<_> { list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect() };
    let (argv, env) = (pointers(&argv), pointers(&env));
    for filter in filters {
        seccompiler::apply_filter(filter).map_err(|e| refused("seccomp", e.to_string()))?;
    }
    let mut error = io::Error::from_raw_os_error(libc::ENOENT);
    for program in &programs {
        // SAFETY: lists of strings that end with null; on success nothing of this process is left.
        unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        error = io::Error::last_os_error();
    }
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Err(refuse(code, format!("cannot run '{}': {error}", command.args[0])))
}

/// Whoever opens `/dev/stdout` or `/dev/tty` by its name needs to own what it leads to; root does in any case.
fn own_streams(uid: u32, has_terminal: bool) {
    use rustix::fs::FileType;
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let kind = rustix::fs::fstat(stream).map(|s| FileType::from_raw_mode(s.st_mode));
        if uid != 0 && (has_terminal || kind == Ok(FileType::Fifo)) {
            let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
    }
}

/// Names are looked up in the container's own files, for its root is ours by now.
fn ids(command: &Command, own: &Ids) -> Result<(Ids, Option<String>), RunError> {
    let Some(asked) = &command.user else { return Ok((own.clone(), None)) };
    let found = user::find(Path::new("/"), asked)?;
    Ok((Ids { uid: found.uid, gid: found.gid, additional_gids: found.groups }, Some(found.home)))
}

fn environment(
    own: &[String],
    home: Option<&str>,
    over: &[(String, String)],
) -> Result<Vec<CString>, RunError> {
    let mut env: std::collections::BTreeMap<&str, &str> =
        own.iter().filter_map(|e| e.split_once('=')).collect();
    env.extend(home.map(|home| ("HOME", home)));
    env.extend(over.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    strings("env", &env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>())
}

fn strings(field: &'static str, list: &[String]) -> Result<Vec<CString>, RunError> {
    let nul = |_| refused(field, "it holds a NUL character");
    list.iter().map(|s| CString::new(s.as_bytes()).map_err(nul)).collect()
}

/// Where the command may be, in the order of its PATH.
fn programs(env: &[CString], command: &str) -> Result<Vec<CString>, JoinError> {
    let path = env.iter().rev().find_map(|e| e.to_str().ok()?.strip_prefix("PATH=")).unwrap_or_default();
    let there: Vec<_> = candidates(command, path).filter(|p| p.is_file()).collect();
    let may: Vec<_> = there.iter().filter(|p| executable(p)).collect();
    if may.is_empty() {
        return Err(match there.first() {
            None if command.contains('/') => {
                refuse(NOT_FOUND, format!("'{command}' is not in the container"))
            }
            None => refuse(NOT_FOUND, format!("'{command}' is not in the container's PATH ({path})")),
            Some(file) => {
                refuse(NOT_EXECUTABLE, format!("{} may not be executed by this user", file.display()))
            }
        });
    }
    Ok(may.iter().filter_map(|p| CString::new(p.to_str()?).ok()).collect())
}

fn refuse(code: i32, why: String) -> JoinError {
    JoinError::Command { code: code as u8, why }
}

/// Rust ignores SIGPIPE, and whoever started us may have held signals back: no command expects either.
fn default_signals() {
    // SAFETY: plain calls; no handler of ours is needed any more. An action of zeroes is the default one on every
    // processor; not by the C library, which keeps two signals to itself.
    unsafe {
        let default = [0u64; 8];
        for number in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), std::ptr::null::<u8>(), 8);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

fn exit(code: u8) -> ! {
    // SAFETY: no destructor of the forked process may run here.
    unsafe { libc::_exit(code.into()) }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
