//! One spawned process with its output in a file; killed by id, never by name.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Process {
    child: Option<Child>,
    pub log: PathBuf,
}

impl Process {
    pub fn spawn(mut command: Command, log: &Path) -> Process {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a second handle")).stderr(file);
        let child = command.spawn().unwrap_or_else(|why| panic!("{command:?}: {why}"));
        Process { child: Some(child), log: log.to_path_buf() }
    }

    /// None that runs, but where its words will be.
    pub fn ended(log: &Path) -> Process {
        Process { child: None, log: log.to_path_buf() }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("a child of ours").is_none())
    }

    /// SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and wait: an orderly end must come by itself.
    #[track_caller]
    pub fn terminate(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal(child.id(), libc::SIGTERM);
        let ended =
            crate::eventually(crate::wait::LONGEST, || child.try_wait().expect("a child of ours").is_some());
        if !ended {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{} did not end on SIGTERM", self.log.display());
        }
    }

    /// Waits for an end of its own accord (a fail point); the exit code, if it had one.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        crate::until("the process has ended", || !self.is_alive());
        self.child.take().and_then(|mut child| child.wait().ok()).and_then(|status| status.code())
    }

    /// Processor time it took so far.
    pub fn cpu_ms(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        // utime and stime, in ticks of 10 ms.
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn signal(pid: u32, signal: i32) {
    // SAFETY: no memory is involved; the ids are of processes that this test started.
    unsafe { libc::kill(pid as i32, signal) };
}
