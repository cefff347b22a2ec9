//! When an instance that ended starts again: at once the first time, then 1 s doubling to 2 min, anew
//! after a minute of health. The counters live in `/run` (`Op::NoteRestarts`): a restart waits for
//! no fsync (F4).

use contract::RunId;
use contract::run::Assignment;
use contract::status::Exit;
use contract::time::{Millis, backoff_ms};

use crate::api::{RestartNote, restarts_after};
use crate::config::CoreConfig;

/// Ends before health that make a candidate fall back.
pub(crate) const CANDIDATE_EXITS_MAX: u32 = 3;

/// How an ended run is counted.
pub(crate) struct Ended<'a> {
    pub run: RunId,
    pub exit: &'a Exit,
    /// It had been healthy for `restart_reset_ms`.
    pub proven: bool,
}

/// The note under which the next run of `assignment` starts.
pub(crate) fn at_start(old: Option<&RestartNote>, assignment: &Assignment) -> RestartNote {
    let fresh = RestartNote {
        revision: assignment.revision,
        attempt: assignment.attempt,
        generation: assignment.restarts,
        restarts: 0,
        streak: 0,
        counted: None,
        not_before_ms: 0,
        finished: None,
        last_exit: old.and_then(|note| note.last_exit.clone()),
    };
    let Some(old) = old.filter(|note| is_of(note, assignment)) else {
        return fresh;
    };
    let restarts = old.restarts.saturating_add(1);
    if old.generation < assignment.restarts {
        // An operator asked for it: the back-off starts anew.
        return RestartNote { restarts, ..fresh };
    }
    RestartNote { restarts, finished: None, ..old.clone() }
}

/// Counts are kept per (revision, attempt): a new one is judged anew.
fn is_of(note: &RestartNote, assignment: &Assignment) -> bool {
    note.revision == assignment.revision && note.attempt == assignment.attempt
}

/// The note as far as it speaks of this assignment: an older revision's back-off holds back nothing.
pub(crate) fn binding<'a>(note: Option<&'a RestartNote>, assignment: &Assignment) -> Option<&'a RestartNote> {
    note.filter(|note| is_of(note, assignment) && note.generation >= assignment.restarts)
}

/// The note after a run ended by itself.
pub(crate) fn at_exit(
    note: RestartNote,
    ended: &Ended<'_>,
    assignment: &Assignment,
    now: Millis,
    id: &str,
    config: &CoreConfig,
) -> RestartNote {
    let streak = match ended.exit {
        // The board's doing, not the workload's.
        Exit::Rebooted => note.streak,
        _ if ended.proven => 1,
        _ => note.streak.saturating_add(1),
    };
    let wait = backoff_ms(config.restart_base_ms, config.restart_max_ms, streak.saturating_sub(1), id);
    let again = restarts_after(assignment.run.restart_policy, ended.exit);
    RestartNote {
        streak,
        counted: Some(ended.run),
        not_before_ms: now + wait,
        finished: (!again).then(|| ended.exit.clone()),
        last_exit: Some(ended.exit.clone()),
        ..note
    }
}
