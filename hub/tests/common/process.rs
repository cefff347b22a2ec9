//! A hub as a process of its own, to be killed.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::{Client, wait};

pub struct Hub {
    child: Child,
    pub client: Client,
    pub mqtt: String,
}

pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data"]).arg(dir);
    command.stdout(Stdio::null()).stderr(Stdio::null()).env_remove("SKERRY_FAILPOINT");
    command
}

impl Hub {
    pub fn start(dir: &Path) -> Hub {
        Hub::spawn(dir, command(dir))
    }

    pub fn with_failpoint(dir: &Path, point: &str) -> Hub {
        let mut command = command(dir);
        command.env("SKERRY_FAILPOINT", point);
        Hub::spawn(dir, command)
    }

    pub fn spawn(dir: &Path, mut command: Command) -> Hub {
        let _ = std::fs::remove_file(dir.join("hub.json"));
        let mut child = command.spawn().unwrap();
        let json = wait("a running hub", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the hub ended: {status}");
            }
            let text = std::fs::read_to_string(dir.join("hub.json")).ok()?;
            serde_json::from_str::<serde_json::Value>(&text).ok()
        });
        let token = std::fs::read_to_string(dir.join("token")).unwrap();
        let ca = std::fs::read_to_string(dir.join("ca.crt")).ok();
        let client = Client::believing(json["url"].as_str().unwrap(), token.trim(), ca.as_deref());
        Hub { child, client, mqtt: json["mqtt"].as_str().unwrap().to_string() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }

    pub fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// It was killed by its fail point.
    pub fn died(&mut self) {
        let status = wait("the fail point", || self.child.try_wait().unwrap());
        assert_eq!(status.signal(), Some(9), "{status}");
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
