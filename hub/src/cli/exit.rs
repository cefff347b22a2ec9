//! What an exit code of the operator's commands means. Stable: scripts rest on it.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    /// `diff` found a difference; work failed; a followed thing ended badly.
    Failed = 1,
    Usage = 2,
    /// The hub refused what was given: a manifest, a module, a parameter.
    Invalid = 3,
    NotFound = 4,
    /// Somebody else changed it first.
    Conflict = 5,
    /// No hub there, or it does not let us in.
    Unreachable = 6,
    Timeout = 7,
    Internal = 8,
    /// By a signal, as shells number it.
    Interrupted = 130,
}

pub const TABLE: &str = "\
Exit codes:
  0  done                          5  conflict: it was changed meanwhile
  1  a difference, or failed work  6  no hub reachable, or no access
  2  wrong usage                   7  timed out; nothing was cancelled
  3  refused by the hub            8  the hub failed
  4  not found";

/// An error with the code that the process ends with.
#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    pub text: String,
}

impl Failure {
    pub fn new(code: Code, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }

    pub fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Code::Usage, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// A closed pipe (`| head`) is no failure: the reader has what it wanted.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        let code = if error.kind() == std::io::ErrorKind::BrokenPipe { Code::Ok } else { Code::Internal };
        Failure::new(code, error.to_string())
    }
}

pub type Done<T = ()> = Result<T, Failure>;
