//! Why a hub ends by itself, and the exit code that says so to a supervisor.

use kv::KvError;

/// From sysexits(3), which supervisors know.
pub const STORE_FAULT: i32 = 74;
pub const BROKER_ENDED: i32 = 69;
pub const REFUSED_TO_START: i32 = 78;
/// As shells tell of SIGINT.
pub const SECOND_SIGNAL: i32 = 130;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub code: i32,
    pub reason: String,
}

impl Exit {
    /// Nothing after this may leave: only a new process learns what became durable.
    pub fn store_fault(e: &KvError) -> Exit {
        Exit {
            code: STORE_FAULT,
            reason: format!("store fault: {e}; start again: what was answered is kept"),
        }
    }

    pub fn broker_ended() -> Exit {
        Exit { code: BROKER_ENDED, reason: "the embedded broker has ended; start again".to_string() }
    }

    /// Without destructors: those of a failed store may hang.
    pub fn leave(&self) -> ! {
        tracing::error!("{}", self.reason);
        // SAFETY: ends the process; nothing after it runs.
        unsafe { libc::_exit(self.code) }
    }
}
