//! For crash tests only: die at a named arrow of the shim contract.
//!
//! `SKERRY_FAILPOINT=<name>` makes the process that reaches that arrow kill itself with SIGKILL, as a
//! power cut or an OOM kill would. Unset (always, outside tests) it costs one look at the environment.

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

pub fn reach(name: &str) {
    debug_assert!(ALL.contains(&name), "unknown failpoint {name}");
    if std::env::var_os("SKERRY_FAILPOINT").is_some_and(|wanted| wanted == name) {
        let me = rustix::process::getpid();
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
}
