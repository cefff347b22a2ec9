//! A board: the agent's process, its two directories, its cgroup, and what runs there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Hub, Process, binary, until};

pub struct Board {
    pub id: String,
    pub process: Process,
    pub state: PathBuf,
    pub run: PathBuf,
    pub cgroup: String,
    /// More of its command line.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub token: PathBuf,
    /// It has joined: it comes encrypted, with its own certificate.
    pub joined: bool,
    broker: u16,
    key: PathBuf,
}

impl Board {
    /// `broker`: where it connects, for a cable may lie between.
    pub fn start(id: &str, place: &Path, cgroup: &str, hub: &Hub, broker: u16, args: &[&str]) -> Board {
        let mut board = Board::idle(id, place, cgroup, hub, broker, args);
        if hub.is_tls() {
            let token = hub.join_token(serde_json::json!({"approve": true, "uses": 1}));
            let (code, said) = board.join(&token, &[], None);
            assert_eq!(code, Some(0), "{said}");
        }
        board.revive();
        board
    }

    /// One that has not started yet, nor joined.
    pub fn idle(id: &str, place: &Path, cgroup: &str, hub: &Hub, broker: u16, args: &[&str]) -> Board {
        fs::create_dir_all(place).expect("a directory");
        Board {
            id: id.to_string(),
            process: Process::ended(&place.join("agent.log")),
            state: place.join("state"),
            run: place.join("run"),
            cgroup: cgroup.to_string(),
            args: args.iter().map(ToString::to_string).collect(),
            env: Vec::new(),
            joined: hub.is_tls(),
            broker,
            key: hub.data.join("hub.pub"),
            token: hub.data.join("agent-token"),
        }
    }

    /// `edge-agent join`, at the place where it connects: exit code, and what it said.
    pub fn join(&self, token: &str, more: &[&str], failpoint: Option<&str>) -> (Option<i32>, String) {
        let mut command = Command::new(binary("edge-agent"));
        command.args(["join", &format!("127.0.0.1:{}", self.broker), token, "--id", &self.id]).args(more);
        command.arg("--state-dir").arg(&self.state);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(failpoint) = failpoint {
            command.env("SKERRY_FAILPOINT", failpoint);
        }
        let output = command.output().expect("the command runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn revive(&mut self) {
        self.revive_with(None);
    }

    pub fn revive_with(&mut self, failpoint: Option<&str>) {
        if !self.process.is_alive() {
            let command = self.command(failpoint);
            self.process = Process::spawn(command, &self.process.log.clone());
        }
    }

    fn command(&self, failpoint: Option<&str>) -> Command {
        let mut command = Command::new(binary("edge-agent"));
        command.args(["run", "--id", &self.id, "--cgroup", &self.cgroup]);
        command.args(["--label", &format!("board={}", self.id)]).args(&self.args);
        command.arg("--state-dir").arg(&self.state).arg("--run-dir").arg(&self.run);
        if !self.joined {
            command.arg("--broker").arg(format!("mqtt://127.0.0.1:{}", self.broker));
            command.arg("--hub-key").arg(&self.key);
            // An external broker has its own ways to let agents in.
            if self.token.exists() {
                command.arg("--token-file").arg(&self.token);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(failpoint) = failpoint {
            command.env("SKERRY_FAILPOINT", failpoint);
        }
        command
    }

    pub fn set_broker(&mut self, port: u16) {
        self.broker = port;
    }

    /// `edge-agent status` of the running agent.
    pub fn status(&self) -> Option<Value> {
        let output = Command::new(binary("edge-agent"))
            .args(["status", "-o", "json", "--run-dir"])
            .arg(&self.run)
            .output();
        let output = output.expect("the command runs");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// Ends the back-off, while the agent is down: a test that kills ten times need not wait for it.
    pub fn forget_restarts(&self) {
        let _ = fs::remove_dir_all(self.run.join("restarts"));
    }

    pub fn answers(&self) {
        until(&format!("{} answers", self.id), || self.status().is_some());
    }

    /// Directories of runs that were not cleared yet.
    pub fn runs(&self) -> Vec<PathBuf> {
        let list = |dir: &Path| {
            fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.is_dir())
                .collect::<Vec<_>>()
        };
        list(&self.run.join("instances")).iter().flat_map(|dir| list(dir)).collect()
    }

    /// Instance → pid of its living shim, as the files tell.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let alive = self.runs().into_iter().filter_map(|run| {
            let shim: Value = serde_json::from_slice(&fs::read(run.join("shim.json")).ok()?).ok()?;
            let pid = shim["pid"].as_u64()? as u32;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse::<u64>().ok()?;
            let zombie = stat.rsplit_once(')')?.1.trim_start().starts_with('Z');
            (shim["startTicks"] == started && !zombie)
                .then(|| (shim["instance"].as_str().unwrap_or_default().to_string(), pid))
        });
        alive.collect()
    }

    #[track_caller]
    pub fn pid(&self, workload: &str) -> u32 {
        let id = format!("default/{workload}/0");
        let mut found = None;
        until(&format!("{id} runs on {}", self.id), || {
            found = self.pids().get(&id).copied();
            found.is_some()
        });
        found.expect("just seen")
    }

    /// Everything a workload's runs said that is still kept.
    pub fn said(&self, workload: &str) -> String {
        let dir = self.state.join("logs").join(format!("default.{workload}.0"));
        let mut files: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.sort();
        files.iter().map(|f| String::from_utf8_lossy(&fs::read(f).unwrap_or_default()).into_owned()).collect()
    }

    pub fn log_bytes(&self, workload: &str) -> u64 {
        let dir = self.state.join("logs").join(format!("default.{workload}.0"));
        fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.metadata().ok())
            .map(|m| m.len())
            .sum()
    }
}
