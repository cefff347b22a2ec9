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
    /// It had been healthy for `restart_reset_ms` without a break.
    pub proven: bool,
}

/// The note under which the next run of `assignment` starts.
pub(crate) fn at_start(old: Option<&RestartNote>, assignment: &Assignment) -> RestartNote {
    let fresh = RestartNote {
        revision: assignment.revision,
        attempt: assignment.attempt,
        generation: assignment.restarts,
        started: true,
        restarts: 0,
        by_probe: 0,
        streak: 0,
        counted: None,
        not_before_ms: 0,
        finished: None,
        last_exit: old.and_then(|note| note.last_exit.clone()),
        probes: None,
    };
    let Some(old) = old.filter(|note| is_of(note, assignment)) else {
        return fresh;
    };
    let restarts = old.restarts.saturating_add(1);
    if old.generation < assignment.restarts {
        // An operator asked for it: the back-off starts anew.
        return RestartNote { restarts, by_probe: old.by_probe, ..fresh };
    }
    RestartNote { started: true, restarts, finished: None, probes: None, ..old.clone() }
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
        by_probe: note.by_probe + u32::from(matches!(ended.exit, Exit::ProbeFailed { .. })),
        probes: None,
        ..note
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assignment;
    use contract::Attempt;
    use contract::spec::RestartPolicy;

    const RUN: RunId = RunId { boots: 1, number: 1 };

    fn end(note: RestartNote, exit: &Exit, proven: bool, assignment: &Assignment) -> RestartNote {
        let config = CoreConfig::default();
        at_exit(note, &Ended { run: RUN, exit, proven }, assignment, 1000, "a", &config)
    }

    #[test]
    fn the_first_restart_is_at_once_and_the_wait_ends_at_two_minutes() {
        let a = assignment("a", 1, &[0]);
        let exit = Exit::Code { code: 1 };
        let mut note = end(at_start(None, &a), &exit, false, &a);
        assert_eq!((note.streak, note.not_before_ms), (1, 1000));
        let mut last = 0;
        for _ in 0..40 {
            note = end(at_start(Some(&note), &a), &exit, false, &a);
            let wait = note.not_before_ms - 1000;
            assert!(wait >= last * 3 / 4 && (750..=120_000).contains(&wait), "{wait}");
            last = wait;
        }
        assert_eq!(note.restarts, 40);
        assert!(last >= 90_000);
        let note = end(at_start(Some(&note), &a), &exit, true, &a);
        assert_eq!((note.streak, note.not_before_ms), (1, 1000), "a minute of health forgives");
    }

    #[test]
    fn a_reboot_is_not_the_workloads_failure() {
        let a = assignment("a", 1, &[0]);
        let note = end(at_start(None, &a), &Exit::Rebooted, false, &a);
        assert_eq!((note.streak, note.not_before_ms, note.finished), (0, 1000, None));
    }

    #[test]
    fn policies_say_what_ends_for_good() {
        let ok = Exit::Code { code: 0 };
        let bad = Exit::Code { code: 3 };
        for (policy, after_ok, after_bad) in [
            (RestartPolicy::Always, false, false),
            (RestartPolicy::OnFailure, true, false),
            (RestartPolicy::Never, true, true),
        ] {
            let mut a = assignment("a", 1, &[0]);
            a.run.restart_policy = policy;
            assert_eq!(end(at_start(None, &a), &ok, false, &a).finished.is_some(), after_ok);
            assert_eq!(end(at_start(None, &a), &bad, false, &a).finished.is_some(), after_bad);
        }
    }

    #[test]
    fn a_note_binds_only_what_it_was_written_for() {
        let a = assignment("a", 1, &[0]);
        let note = end(at_start(None, &a), &Exit::Code { code: 1 }, false, &a);
        assert!(binding(Some(&note), &a).is_some());
        let restarted = Assignment { restarts: 1, ..a.clone() };
        assert!(binding(Some(&note), &restarted).is_none());
        assert_eq!(at_start(Some(&note), &restarted).restarts, 1, "an operator's restart is one too");
        assert_eq!(at_start(Some(&note), &restarted).streak, 0);
        let again = Assignment { attempt: Attempt(2), ..a };
        assert!(binding(Some(&note), &again).is_none());
        let other = at_start(Some(&note), &assignment("a", 2, &[0]));
        assert_eq!((other.restarts, other.streak), (0, 0));
        assert_eq!(other.last_exit, note.last_exit, "how the run before ended is kept");
    }
}
