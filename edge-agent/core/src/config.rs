//! Which waits and limits the core uses. The defaults are the promises; tests shorten them.

use contract::time::Millis;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreConfig {
    /// Between attempts to connect.
    pub connect_base_ms: Millis,
    pub connect_max_ms: Millis,
    /// The same after a refusal (F2: a refused device must not burn its data plan).
    pub refused_base_ms: Millis,
    pub refused_max_ms: Millis,
    /// A session that lived this long and was greeted by the hub ends the back-off.
    pub session_stable_ms: Millis,
    /// How long to wait for a hello before presence is sent again.
    pub presence_base_ms: Millis,
    pub presence_max_ms: Millis,
    /// Between the second and later restarts of an instance; the first is at once.
    pub restart_base_ms: Millis,
    pub restart_max_ms: Millis,
    /// Healthy this long, an instance starts anew in its back-off.
    pub restart_reset_ms: Millis,
    /// Between attempts to fetch an artefact. A refused one waits the longest.
    pub fetch_base_ms: Millis,
    pub fetch_max_ms: Millis,
    /// Between attempts to stop a run, or to clear what it left.
    pub work_base_ms: Millis,
    pub work_max_ms: Millis,
    /// Between attempts to send a report that did not leave.
    pub report_base_ms: Millis,
    pub report_max_ms: Millis,
    /// Until the first hello tells another.
    pub heartbeat_ms: Millis,
    /// Runs that start at one time: each spawns a process, and a board has few cores.
    pub starts_at_once: usize,
    pub fetches_at_once: usize,
    /// Instances that are stopped at one time because a probe failed. A board that stalls makes all of its
    /// probes fail: most answer again before it is their turn, and are left alone.
    pub heals_at_once: usize,
}

impl Default for CoreConfig {
    fn default() -> CoreConfig {
        const SECOND: Millis = 1000;
        const MINUTE: Millis = 60 * SECOND;
        CoreConfig {
            connect_base_ms: SECOND,
            connect_max_ms: MINUTE,
            refused_base_ms: 30 * SECOND,
            refused_max_ms: 15 * MINUTE,
            session_stable_ms: 10 * SECOND,
            presence_base_ms: 30 * SECOND,
            presence_max_ms: 15 * MINUTE,
            restart_base_ms: SECOND,
            restart_max_ms: 2 * MINUTE,
            restart_reset_ms: MINUTE,
            fetch_base_ms: SECOND,
            fetch_max_ms: 5 * MINUTE,
            work_base_ms: SECOND,
            work_max_ms: 5 * MINUTE,
            report_base_ms: SECOND,
            report_max_ms: MINUTE,
            heartbeat_ms: 10 * MINUTE,
            starts_at_once: 16,
            fetches_at_once: 4,
            heals_at_once: 4,
        }
    }
}
