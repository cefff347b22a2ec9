//! A stop signal ends a guest at once, and says so: the handler itself writes the exit record.
//!
//! A WASM guest cannot hear signals, so there is nothing to wait for. The handler uses only what is
//! async-signal-safe (open, write, rename, clock_gettime, _exit) on memory prepared beforehand.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use crate::instance::record::PROTO;
use crate::instance::signal;

/// What ends a process by default and may be sent to stop one.
const ENDING: [i32; 7] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM];

struct Prepared {
    tmp: CString,
    path: CString,
    /// By signal number: the record up to its time.
    records: Vec<(i32, String)>,
}

static PREPARED: OnceLock<Prepared> = OnceLock::new();

pub fn catch(dir: &Path, stop_signal: &str) -> Result<(), String> {
    let path = |name: &str| CString::new(dir.join(name).as_os_str().as_bytes()).map_err(|e| e.to_string());
    let mut signals = ENDING.to_vec();
    let stop = signal::number(stop_signal).ok_or_else(|| signal::unknown(stop_signal))?;
    if stop != libc::SIGKILL && stop != libc::SIGSTOP && !signals.contains(&stop) {
        signals.push(stop);
    }
    let record = |n: &i32| {
        (*n, format!("{{\"proto\":{PROTO},\"exit\":{{\"name\":\"signal\",\"signal\":{n}}},\"endedMs\":"))
    };
    let prepared = Prepared {
        tmp: path(".exit.json.signal")?,
        path: path("exit.json")?,
        records: signals.iter().map(record).collect(),
    };
    PREPARED.set(prepared).map_err(|_| "stop signals are caught twice".to_string())?;
    for number in signals {
        install(number)?;
    }
    Ok(())
}

fn install(number: i32) -> Result<(), String> {
    // SAFETY: a zeroed sigaction is valid; the handler below keeps to async-signal-safe calls. It runs on
    // the alternate stack that std sets up, for the guest's own stack may be at its end.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigfillset(&mut action.sa_mask);
        if libc::sigaction(number, &action, std::ptr::null_mut()) != 0 {
            return Err(format!("signal {number} cannot be caught: {}", std::io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// Before the record of an end by itself is written: from then on no signal changes the story.
pub fn hold_back() {
    // SAFETY: plain calls on a local set.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
}

extern "C" fn on_signal(number: i32) {
    if let Some(prepared) = PREPARED.get()
        && let Some((_, record)) = prepared.records.iter().find(|(n, _)| *n == number)
    {
        write_record(prepared, record.as_bytes());
    }
    // SAFETY: ends the process without running anything of Rust's.
    unsafe { libc::_exit(128 + number) };
}

fn write_record(prepared: &Prepared, record: &[u8]) {
    let mut digits = [0u8; 21];
    let time = decimal(&mut digits, now_ms());
    // SAFETY: async-signal-safe calls on memory that lives for ever.
    unsafe {
        let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC | libc::O_CLOEXEC;
        let fd = libc::open(prepared.tmp.as_ptr(), flags, 0o644);
        if fd < 0 {
            return;
        }
        let whole = [record, time, b"}"]
            .iter()
            .all(|part| libc::write(fd, part.as_ptr().cast(), part.len()) == part.len() as isize);
        if whole {
            libc::rename(prepared.tmp.as_ptr(), prepared.path.as_ptr());
        }
    }
}

fn now_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: async-signal-safe; `now` is valid.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

fn decimal(buffer: &mut [u8; 21], mut number: u64) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::record::ExitRecord;
    use contract::status::Exit;

    #[test]
    fn the_handlers_record_reads_as_one() {
        let tmp = tempfile::tempdir().unwrap();
        let name = |n: &str| CString::new(tmp.path().join(n).as_os_str().as_bytes()).unwrap();
        let head = "{\"proto\":1,\"exit\":{\"name\":\"signal\",\"signal\":15},\"endedMs\":".to_string();
        let prepared =
            Prepared { tmp: name("t"), path: name("exit.json"), records: vec![(15, head.clone())] };
        write_record(&prepared, head.as_bytes());
        let text = std::fs::read_to_string(tmp.path().join("exit.json")).unwrap();
        let record: ExitRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(record.exit, Exit::Signal { signal: 15 });
        assert!(record.ended_ms > 0);
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for n in [0, 9, 10, 1234, u64::MAX] {
            assert_eq!(decimal(&mut [0; 21], n), n.to_string().as_bytes());
        }
    }
}
