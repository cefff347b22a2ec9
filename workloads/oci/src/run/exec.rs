//! The last step inside the container: is the command there, the filter on, and go.
//!
//! Own, and not libcontainer's: that one wants a PATH even for `/bin/x`, refuses programs that others
//! may not run (0750), and knows no filter without a C library.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use seccompiler::BpfProgram;

use super::{RunError, refused};

/// As shells and Docker have it.
pub const NOT_FOUND: i32 = 127;
pub const NOT_EXECUTABLE: i32 = 126;

/// How a refusal of [`Exec::validate`] begins, in whatever words libcontainer wraps it.
const COMMAND: &str = "command: ";

/// Only `validate` speaks of the command; another try ends the same.
pub fn refusal(error: RunError) -> RunError {
    match &error {
        RunError::Runtime { why, .. } => match why.find(COMMAND) {
            Some(at) => refused("command", &why[at + COMMAND.len()..]),
            None => error,
        },
        _ => error,
    }
}

/// The filters are made before the container is: nothing is computed after the fork.
#[derive(Clone)]
pub struct Exec {
    pub filters: Vec<BpfProgram>,
}

impl Executor for Exec {
    /// In the container's root already, as the container's user. Its error reaches whoever creates.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let refuse = |why: String| Err(ExecutorValidationError::ArgValidationError(why));
        let Some(command) = args(spec).first() else { return refuse(format!("{COMMAND}there is none")) };
        let path = path_of(spec);
        let found: Vec<_> = candidates(command, &path).filter(|p| p.is_file()).collect();
        match found.iter().find(|p| executable(p)) {
            Some(_) => Ok(()),
            None if found.is_empty() && command.contains('/') => {
                refuse(format!("{COMMAND}'{command}' is not in the image"))
            }
            None if found.is_empty() => {
                refuse(format!("{COMMAND}'{command}' is not in the image's PATH ({path})"))
            }
            None => refuse(format!("{COMMAND}{} may not be executed by this user", found[0].display())),
        }
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let wrong = |_| ExecutorError::InvalidArg;
        let argv: Vec<_> =
            args(spec).iter().map(|a| CString::new(a.as_bytes())).collect::<Result<_, _>>().map_err(wrong)?;
        let mut pointers: Vec<_> = argv.iter().map(|a| a.as_ptr()).collect();
        pointers.push(std::ptr::null());
        plain_signals();
        for filter in &self.filters {
            seccompiler::apply_filter(filter).map_err(|e| ExecutorError::Other(format!("seccomp: {e}")))?;
        }
        // SAFETY: a list of strings that ends with null; on success nothing of this process is left.
        unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
        let error = std::io::Error::last_os_error();
        // The container was started already; this is its own output now.
        eprintln!("cannot run '{}': {error}", args(spec)[0]);
        let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        // SAFETY: no destructor of the forked shim may run here.
        unsafe { libc::_exit(code) }
    }
}

/// What the process that creates has blocked or ignores (Rust ignores PIPE) is its own affair; libcontainer
/// hands it on.
fn plain_signals() {
    // SAFETY: plain calls on a local set, in a process of its own.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

fn args(spec: &Spec) -> &[String] {
    spec.process().as_ref().and_then(|p| p.args().as_deref()).unwrap_or_default()
}

fn path_of(spec: &Spec) -> String {
    let env = spec.process().as_ref().and_then(|p| p.env().as_deref()).unwrap_or_default();
    env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default().to_string()
}

pub fn candidates<'a>(command: &'a str, path: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    let named = command.contains('/').then(|| PathBuf::from(command));
    let searched = named.is_none().then(|| path.split(':').map(move |dir| Path::new(dir).join(command)));
    named.into_iter().chain(searched.into_iter().flatten())
}

pub fn executable(path: &Path) -> bool {
    let Ok(path) = CString::new(OsStr::as_bytes(path.as_os_str())) else { return false };
    // SAFETY: a string that ends with NUL.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}
