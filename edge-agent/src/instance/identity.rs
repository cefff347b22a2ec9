//! Is this still the same process? A pid alone is reused; (kernel boot id, pid, start time) is not.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// `/proc/sys/kernel/random/boot_id`
    pub kernel_boot: String,
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`, in clock ticks since the kernel booted.
    pub start_ticks: u64,
}

impl ProcessId {
    pub fn own() -> io::Result<ProcessId> {
        let pid = std::process::id();
        Ok(ProcessId { kernel_boot: kernel_boot()?, pid, start_ticks: start_ticks(pid)? })
    }

    /// A handle to the very process that wrote this, if it still lives. The handle is opened first and
    /// checked second, so a pid reused in between cannot slip through.
    pub fn open(&self) -> Option<OwnedFd> {
        if kernel_boot().ok()? != self.kernel_boot {
            return None;
        }
        let handle = open_pid(self.pid).ok()?;
        (start_ticks(self.pid).ok()? == self.start_ticks && !is_zombie(self.pid)).then_some(handle)
    }

    /// When it began, on the boottime clock.
    pub fn started_ms(&self) -> u64 {
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        self.start_ticks.saturating_mul(1000) / per_second
    }
}

pub fn open_pid(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

pub fn kernel_boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_string())
}

fn start_ticks(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    field_after_name(&stat, 19).and_then(|n| n.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    matches!(field_after_name(&stat, 0), Some("Z" | "X"))
}

/// The name in brackets may hold spaces and brackets itself: count from the last one.
fn field_after_name(stat: &str, index: usize) -> Option<&str> {
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_itself_and_nobody_else() {
        let me = ProcessId::own().unwrap();
        assert!(me.open().is_some());
        assert!(ProcessId { start_ticks: me.start_ticks + 1, ..me.clone() }.open().is_none());
        assert!(ProcessId { kernel_boot: "another".into(), ..me.clone() }.open().is_none());
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime_ms = uptime.split('.').next().unwrap().parse::<u64>().unwrap() * 1000;
        assert!(me.started_ms() <= uptime_ms + 1000 && me.started_ms() + 3_600_000 > uptime_ms);
    }

    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(field_after_name("7 (a) b) (c)) S 1 2", 0), Some("S"));
    }
}
