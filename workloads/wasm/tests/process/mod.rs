//! Runs a guest in a process of its own, as a shim would, and hands back what it said.
#![allow(dead_code)] // each test file uses its part

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Deserialize;
use skerry_wasm::spec::{Ended, Network, NetworkMode, Preopen, RunConfig, Stdin};

/// Far beyond what any guest here takes.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Guest {
    config: RunConfig,
    input: String,
    outer_env: Vec<(String, String)>,
}

/// A guest left by `tests/compile.rs`.
pub fn guest(name: &str) -> Guest {
    let dir = super::guests::compiled_dir();
    assert!(dir.is_dir(), "no compiled guests in {}: run ./test.sh", dir.display());
    let config = RunConfig {
        module: dir.join(name),
        args: vec![name.into()],
        env: vec![],
        preopens: vec![],
        network: Network::default(),
        memory_limit_bytes: 64 << 20,
        stdin: Stdin::Null,
    };
    Guest { config, input: String::new(), outer_env: vec![] }
}

impl Guest {
    pub fn module(mut self, path: &Path) -> Self {
        self.config.module = path.into();
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.config.args.extend(args.iter().map(|a| a.to_string()));
        self
    }

    pub fn no_name(mut self) -> Self {
        self.config.args.clear();
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.config.env.push((name.into(), value.into()));
        self
    }

    pub fn outer_env(mut self, name: &str, value: &str) -> Self {
        self.outer_env.push((name.into(), value.into()));
        self
    }

    pub fn memory(mut self, bytes: u64) -> Self {
        self.config.memory_limit_bytes = bytes;
        self
    }

    pub fn preopen(mut self, preopen: Preopen) -> Self {
        self.config.preopens.push(preopen);
        self
    }

    /// Also switches the network on.
    pub fn connect(mut self, rules: &[&str]) -> Self {
        self.config.network.mode = NetworkMode::Host;
        self.config.network.connect = rules.iter().map(|r| r.to_string()).collect();
        self
    }

    /// Also switches the network on.
    pub fn listen(mut self, ports: &[u16]) -> Self {
        self.config.network.mode = NetworkMode::Host;
        self.config.network.listen = ports.to_vec();
        self
    }

    pub fn mode(mut self, mode: NetworkMode) -> Self {
        self.config.network.mode = mode;
        self
    }

    pub fn input(mut self, text: &str) -> Self {
        self.input = text.into();
        self
    }

    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.config.stdin = stdin;
        self
    }

    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    pub fn run(self) -> Ran {
        self.spawn().finish()
    }

    pub fn spawn(self) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.json");
        std::fs::write(&config, serde_json::to_vec(&self.config).unwrap()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_wasm-run"))
            .arg(&config)
            .arg(dir.path().join("report.json"))
            .envs(self.outer_env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        match stdin.write_all(self.input.as_bytes()) {
            // A guest that does not read may be over before we have written.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        }
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            let mut whole = String::new();
            for line in BufReader::new(stdout).lines() {
                let line = line.unwrap();
                whole.push_str(&line);
                whole.push('\n');
                let _ = sender.send(line);
            }
            whole
        });
        Running { child, stdin: Some(stdin), reader: Some(reader), lines, dir }
    }
}

pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    reader: Option<JoinHandle<String>>,
    lines: Receiver<String>,
    dir: tempfile::TempDir,
}

impl Running {
    /// Waits for a line of output.
    pub fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).expect("the guest says the line before it ends");
            if wanted(&line) {
                return line;
            }
        }
    }

    /// A field of the process's `/proc/…/status`.
    pub fn status(&self, field: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        text.lines().find_map(|l| l.strip_prefix(field)).unwrap().trim().to_string()
    }

    /// Waits for its end; its output closes when it ends.
    pub fn finish(mut self) -> Ran {
        drop(self.stdin.take());
        while self.lines.recv_timeout(DEADLINE).map_err(|e| {
            assert!(e != std::sync::mpsc::RecvTimeoutError::Timeout, "the guest does not end");
        }) != Err(())
        {}
        let stdout = self.reader.take().unwrap().join().unwrap();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the process itself failed: {status}: {stderr}");
        let report: Report =
            serde_json::from_slice(&std::fs::read(self.dir.path().join("report.json")).unwrap()).unwrap();
        Ran {
            ended: report.ended,
            start_micros: report.start_micros,
            threads: report.threads,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Deserialize)]
struct Report {
    ended: Ended,
    start_micros: Option<u64>,
    threads: String,
}

pub struct Ran {
    pub ended: Ended,
    pub start_micros: Option<u64>,
    pub threads: String,
    pub stdout: String,
    pub stderr: String,
}
