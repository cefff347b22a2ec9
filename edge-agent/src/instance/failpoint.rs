//! For crash tests only: die at a named arrow of the shim contract.
//!
//! `SKERRY_FAILPOINT=<name>[:<nth>]` makes the process that reaches that arrow (for the nth time) kill
//! itself with SIGKILL, as a power cut or an OOM kill would. Unset (always, outside tests) it costs one
//! look at the environment.

use std::sync::atomic::{AtomicU32, Ordering};

/// Every arrow, in the order in which a run passes them; `edge-agent shim --failpoints` prints them.
pub const ALL: [&str; 16] = [
    // the agent
    "after-directory",
    "after-spec",
    "after-cgroup",
    "after-spawn",
    // the shim
    "before-shim-json",
    "after-shim-json",
    "before-start",
    "after-start",
    "before-exit-json",
    "after-exit-json",
    // the agent
    "before-remove",
    "after-kill",
    "after-unmount",
    "after-cgroup-removed",
    // the agent's store
    "agent-before-persist",
    "agent-after-persist",
];

/// The arrows of `edge-agent join` (see `identity`).
pub const JOIN: [&str; 4] =
    ["agent-join-taken", "agent-join-key", "agent-join-answered", "agent-join-stored"];

static REACHED: AtomicU32 = AtomicU32::new(0);

pub fn reach(name: &str) {
    debug_assert!(ALL.contains(&name) || JOIN.contains(&name), "unknown failpoint {name}");
    let Some(armed) = std::env::var_os("SKERRY_FAILPOINT") else { return };
    let armed = armed.to_string_lossy();
    let (wanted, nth) = armed.split_once(':').unwrap_or((&armed, "1"));
    if wanted == name && nth.parse() == Ok(REACHED.fetch_add(1, Ordering::Relaxed) + 1) {
        let me = rustix::process::getpid();
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
}
