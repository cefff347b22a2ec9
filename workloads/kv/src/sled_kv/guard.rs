//! What if opening the store panics, hangs or kills the process?
//!
//! sled trusts what it reads: damaged bytes make it panic, loop or ask for absurd memory. Release
//! builds abort on panic, so `catch_unwind` is no answer there, and a library cannot start its own
//! program again to try it in a child. So the open leaves a trace that the *next* start judges:
//!
//! * Before the open the file `opening` gets a number, one more than it had. A success removes it.
//! * A panic adds its text there (the panic hook runs before the abort). That is a proof that the
//!   store, not the world, is at fault: the next start sets it aside at once.
//! * A number alone proves nothing: power cuts and kills in the middle of an ordinary open leave it
//!   too, and a good store must not be thrown away for that. Only after [`ATTEMPTS_MAX`] opens in a
//!   row that ended without any result is the store set aside (which renames, and deletes nothing).
//! * The removal is synced together with the directory ([`super::prepare::settle`]). Otherwise the
//!   numbers of opens that did succeed could come back, one with each power cut, and add up.
//!   The file itself is not synced: it has to survive the death of the process, and what only a
//!   power cut can lose is the trace of an open that a power cut interrupted.
//! * An open that answers with an error has a result: it strikes the number out, except for an I/O
//!   error on reading (`EIO`), which may be a bad sector of this store for ever.
//!
//! The open runs on a thread of its own, for the deadline, and so that panics on it and on sled's
//! threads can be told from those of the rest of the process.

use std::any::Any;
use std::fs;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{room, slack};
use crate::error::KvError;

/// Three, because a supervisor restarts within seconds, and because three power cuts in a row, each
/// within the few milliseconds of an open, do not happen by chance.
const ATTEMPTS_MAX: u32 = 3;

const THREAD_NAME: &str = "kv-open";

/// A panic with less room than this on the disk is not held against the store.
const ROOM_TO_BLAME_BYTES: u64 = 64 << 10;

/// The panic hook belongs to the whole process: one guarded open at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Why the store in `dir` must be set aside without another try; `None`: it may be opened.
pub(super) fn verdict(dir: &Path) -> Option<String> {
    let trace = Trace::read(dir);
    match trace.panic {
        Some(panic) => Some(format!("the last open panicked: {panic}")),
        None if trace.attempts >= ATTEMPTS_MAX => {
            Some(format!("{} opens in a row ended without a result", trace.attempts))
        }
        None => None,
    }
}

pub(super) fn strike_out(dir: &Path) {
    let _ = fs::remove_file(Trace::path(dir)); // mostly: there is none
}

/// Opens by `open` on a thread of its own, leaving the trace described above.
pub(super) fn run<T: Send + 'static>(
    dir: &Path,
    deadline: Duration,
    open: impl FnOnce() -> Result<T, KvError> + Send + 'static,
) -> Result<T, KvError> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let trace = Trace { attempts: Trace::read(dir).attempts + 1, panic: None };
    trace.write(dir);
    let hook = Hook::install(dir, trace.attempts);
    let outcome = run_on_thread(dir, deadline, open);
    hook.remove();
    match &outcome {
        Ok(_) => {}                              // struck out once all is durable
        Err(error) if error.must_exit() => {}    // it hangs: the number stays
        Err(error) if is_read_fault(error) => {} // perhaps a bad sector: the number stays
        Err(_) => strike_out(dir),
    }
    outcome
}

fn run_on_thread<T: Send + 'static>(
    dir: &Path,
    deadline: Duration,
    open: impl FnOnce() -> Result<T, KvError> + Send + 'static,
) -> Result<T, KvError> {
    let (send, receive) = sync_channel(1);
    let guarded = move || {
        slack::raise_for_good();
        let _ = send.send(panic::catch_unwind(AssertUnwindSafe(open)));
    };
    let spawned = thread::Builder::new().name(THREAD_NAME.into()).spawn(guarded);
    spawned.map_err(|e| KvError::io(dir, e))?;
    match receive.recv_timeout(deadline) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) if room::free(dir) < ROOM_TO_BLAME_BYTES => Err(room::full(dir)),
        Ok(Err(panic)) => Err(KvError::corrupt(dir, panic_text(&*panic))),
        Err(RecvTimeoutError::Timeout) => {
            let why = format!("opening did not end within {} s", deadline.as_secs());
            Err(KvError::Broken { dir: dir.to_path_buf(), why })
        }
        Err(RecvTimeoutError::Disconnected) => Err(KvError::corrupt(dir, "the opening thread vanished")),
    }
}

fn is_read_fault(error: &KvError) -> bool {
    const EIO: i32 = 5;
    match error {
        // sled clones its errors, which keeps the text and loses the number.
        KvError::Io { source, .. } => {
            source.raw_os_error() == Some(EIO) || source.to_string().contains("os error 5)")
        }
        _ => false,
    }
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_else(|| "without a message".to_owned()))
}

/// The file `opening`: the number of opens that have not ended, and a line for a panic.
#[derive(Debug, Default, PartialEq, Eq)]
struct Trace {
    attempts: u32,
    panic: Option<String>,
}

impl Trace {
    fn path(dir: &Path) -> PathBuf {
        dir.join("opening")
    }

    fn read(dir: &Path) -> Trace {
        let Ok(text) = fs::read_to_string(Self::path(dir)) else { return Trace::default() };
        let mut lines = text.splitn(2, '\n');
        // A torn file was written by an open that did not end: it counts as one.
        let attempts = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(1);
        let panic = lines.next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        Trace { attempts, panic }
    }

    /// Best effort: a disk too full for three bytes must not prevent the open.
    fn write(&self, dir: &Path) {
        let panic = self.panic.as_deref().unwrap_or_default();
        let _ = fs::write(Self::path(dir), format!("{}\n{panic}", self.attempts));
    }
}

type PanicHook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// While installed, panics of the opening thread and of sled's pool go into the trace; all others
/// go where they went before.
struct Hook {
    previous: Arc<PanicHook>,
}

impl Hook {
    fn install(dir: &Path, attempts: u32) -> Hook {
        let previous: Arc<PanicHook> = Arc::new(panic::take_hook());
        let (others, dir) = (previous.clone(), dir.to_path_buf());
        panic::set_hook(Box::new(move |info| match is_ours() {
            true if room::free(&dir) < ROOM_TO_BLAME_BYTES => {}
            true => Trace { attempts, panic: Some(one_line(info)) }.write(&dir),
            false => others(info),
        }));
        Hook { previous }
    }

    fn remove(self) {
        drop(panic::take_hook());
        let previous = self.previous;
        panic::set_hook(Box::new(move |info| previous(info)));
    }
}

fn is_ours() -> bool {
    let current = thread::current();
    current.name().is_some_and(|name| name == THREAD_NAME || name.starts_with("sled-io-"))
}

fn one_line(info: &PanicHookInfo<'_>) -> String {
    let text: String = info.to_string().replace('\n', " ");
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never_ends(dir: &Path) {
        let trace = Trace { attempts: Trace::read(dir).attempts + 1, panic: None };
        trace.write(dir);
    }

    #[test]
    fn only_three_opens_in_a_row_without_a_result_condemn_a_store() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(verdict(dir.path()), None);
        never_ends(dir.path());
        never_ends(dir.path());
        assert_eq!(verdict(dir.path()), None);
        run(dir.path(), Duration::from_secs(60), || Ok(())).unwrap();
        assert_eq!(Trace::read(dir.path()).attempts, 3, "struck out by the caller, once durable");
        strike_out(dir.path());
        for _ in 0..3 {
            never_ends(dir.path());
        }
        assert!(verdict(dir.path()).unwrap().contains("3 opens in a row"));
    }

    #[test]
    fn a_panic_is_written_down_before_it_unwinds_or_aborts() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let (here, out) = (dir.path().to_path_buf(), seen.clone());
        // In a build that aborts, the process would end where this catch is.
        let outcome: Result<(), KvError> = run(dir.path(), Duration::from_secs(60), move || {
            let _ = panic::catch_unwind(|| panic!("bad page 7"));
            *out.lock().unwrap() = verdict(&here).unwrap_or_default();
            panic!("bad page 7")
        });
        assert!(seen.lock().unwrap().contains("bad page 7"), "{:?}", seen);
        assert!(matches!(outcome, Err(KvError::Corrupt { why, .. }) if why == "panic: bad page 7"));
        assert_eq!(verdict(dir.path()), None, "the caller was told: nothing is left for the next start");
    }

    #[test]
    fn a_hang_ends_at_the_deadline_and_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (release, wait) = sync_channel::<()>(1);
        let outcome = run(dir.path(), Duration::from_millis(50), move || {
            let _ = wait.recv();
            Ok(())
        });
        assert!(matches!(&outcome, Err(error) if error.must_exit()));
        assert_eq!(Trace::read(dir.path()).attempts, 1);
        drop(release);
    }

    #[test]
    fn an_error_is_a_result_but_an_unreadable_sector_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        let fails = |number: i32| {
            let path = path.clone();
            let error = move || KvError::io(&path, std::io::Error::from_raw_os_error(number));
            run(dir.path(), Duration::from_secs(60), move || Err::<(), _>(error())).unwrap_err();
            Trace::read(dir.path()).attempts
        };
        assert_eq!(fails(13), 0, "EACCES");
        assert_eq!(fails(5), 1, "EIO");
        assert_eq!(fails(5), 2, "EIO");
    }
}
