//! How are sled's idle threads kept asleep?
//!
//! sled writes through a pool of seven threads that belong to the process, not to the store: they
//! never end (closing the store does not stop them), and each wakes once a second to find its queue
//! empty: 420 wakeups a minute, for nothing (`sled-0.34.7/src/threadpool.rs`, `recv_timeout`). The
//! wait has no setting. But the kernel may delay a timed wait by the thread's *timer slack*, which a
//! new thread inherits from the one that starts it. So the pool is started by a thread with a slack
//! of a day. Only timeouts are late by that; work in the queue wakes the threads at once as before.
//!
//! The slack is set through `/proc`, which takes 64 bits everywhere; `prctl` is limited to four
//! seconds on 32-bit boards. A thread may set its own without any privilege. Where `/proc` refuses,
//! all works as before, with the wakeups.

use std::fs;
use std::path::PathBuf;

const DAY_NANOS: &str = "86400000000000";

/// Writing zero restores what the thread had when it was made.
const INHERITED: &str = "0";

/// For a thread that soon ends.
pub(super) fn raise_for_good() {
    set(DAY_NANOS);
}

/// For a piece of work in which sled may start more threads; they inherit the slack too.
pub(super) struct Raised(());

impl Raised {
    pub fn new() -> Raised {
        set(DAY_NANOS);
        Raised(())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        set(INHERITED);
    }
}

fn set(nanos: &str) {
    if let Some(path) = own_slack() {
        let _ = fs::write(path, nanos);
    }
}

/// The file stands under `/proc/<tid>` only, and not under `/proc/thread-self`.
fn own_slack() -> Option<PathBuf> {
    let own = fs::read_link("/proc/thread-self").ok()?;
    let tid = own.file_name()?.to_str()?.parse::<u32>().ok()?;
    Some(PathBuf::from(format!("/proc/{tid}/timerslack_ns")))
}
