//! An emulated board: a machine of its own under qemu, with cgroup v2, whose plug and cable can be pulled.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Hub, Process, binary, manifest};

/// Emulation is slow, and the machine below may be busy.
const LONGEST: Duration = Duration::from_secs(300);
const STEP: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    Busybox,
    Systemd,
}

pub struct Emulated {
    dir: PathBuf,
    init: Init,
    ports: String,
    process: Option<Process>,
    /// Where the cgroups of its instances are.
    pub cgroups: &'static str,
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cross/board").join(name))
}

/// What it printed; it must have gone well.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().expect("the script runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// This build's agent as a package, in the time that a test has.
fn package(agent: &Path, place: &Path, version: &str) -> PathBuf {
    let mut package = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cross/package"));
    package.args(["amd64", "--version", version, "--binary"]).arg(agent);
    package.arg("--out").arg(place).env("DPKG_DEB_COMPRESSOR_TYPE", "none");
    output(&mut package).trim().into()
}

impl Emulated {
    /// A new board, switched off, that has this build's agent and belongs to that hub.
    pub fn new(place: &Path, init: Init, hub: &Hub) -> Emulated {
        let agent = place.join("edge-agent");
        // Without its table of symbols, a third of it: an emulated processor is slow at every byte.
        output(Command::new("strip").arg("-s").arg("-o").arg(&agent).arg(binary("edge-agent")));
        Emulated::of("amd64", &agent, place, init, hub)
    }

    /// Of another processor, with the agent that `cross/build` made for it.
    pub fn of(arch: &str, agent: &Path, place: &Path, init: Init, hub: &Hub) -> Emulated {
        let image = output(script("build").arg(arch));
        let env = place.join("agent.env");
        let lines = [
            "SKERRY_AGENT_ID=board".to_string(),
            format!("SKERRY_BROKER=mqtt://127.0.0.1:{}", hub.mqtt),
            "SKERRY_HUB_KEY=/opt/hub.pub".into(),
            "SKERRY_AGENT_TOKEN=/opt/agent-token\n".into(),
        ];
        fs::write(&env, lines.join("\n")).expect("a file");
        let dir = place.join("board");
        let mut new = script("run");
        new.arg(&dir).args(["new", image.trim()]).args([agent, &env]);
        new.args([hub.data.join("hub.pub"), hub.data.join("agent-token")]);
        if init == Init::Systemd {
            new.args(["1", "2"].map(|version| package(agent, place, version)));
        }
        output(&mut new);
        let cgroups = match init {
            Init::Busybox => "/sys/fs/cgroup/skerry/board",
            Init::Systemd => "/sys/fs/cgroup/system.slice/skerry-workloads.service/agent",
        };
        let ports = format!("{},{}", hub.http, hub.mqtt);
        Emulated { dir, init, ports, process: None, cgroups }
    }

    /// Returns once it takes commands; how long that took.
    #[track_caller]
    pub fn power_on(&mut self) -> Duration {
        let start = Instant::now();
        let init = if self.init == Init::Systemd { "systemd" } else { "busybox" };
        let mut power = script("run");
        power.arg(&self.dir).arg("power").env("BOARD_INIT", init).env("BOARD_PORTS", &self.ports);
        // Its id is in a file before the pipes are answered; the last one's must not be taken for it.
        let _ = fs::remove_file(self.dir.join("pid"));
        self.process = Some(Process::spawn(power, &self.dir.with_extension("log")));
        self.until("it is switched on", |board| board.dir.join("pid").exists());
        output(script("run").arg(&self.dir).arg("wait"));
        start.elapsed()
    }

    /// The plug is pulled: nothing is flushed, nobody is asked.
    pub fn cut_power(&mut self) {
        self.process = None;
    }

    pub fn link(&self, on: bool) {
        output(script("run").arg(&self.dir).args(["link", if on { "on" } else { "off" }]));
    }

    /// A shell line on the board: exit code and all that it said.
    pub fn try_sh(&self, line: &str) -> (i32, String) {
        let output = script("run").arg(&self.dir).args(["sh", line]).output().expect("the script runs");
        let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        (output.status.code().unwrap_or(-1), said.trim().to_string())
    }

    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        let (code, said) = self.try_sh(line);
        assert_eq!(code, 0, "{line}: {said}\n{}", self.words());
        said
    }

    #[track_caller]
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Emulated) -> bool) {
        let end = Instant::now() + LONGEST;
        while !holds(self) {
            assert!(Instant::now() < end, "not within {LONGEST:?}: {what}\n{}", self.words());
            std::thread::sleep(STEP);
        }
    }

    #[track_caller]
    pub fn online(&self, hub: &Hub) {
        self.until("the board is online", |_| {
            hub.find("/v1/agents/board").is_some_and(|agent| agent["state"] == "online")
        });
    }

    #[track_caller]
    pub fn run(&self, hub: &Hub, name: &str, image: &str, spec: &str) {
        hub.apply(&manifest(name, image, spec));
        self.steady(hub, name);
    }

    #[track_caller]
    pub fn steady(&self, hub: &Hub, name: &str) {
        let path = format!("/v1/workloads/default/{name}");
        self.until(&format!("{name} is steady"), |_| hub.get(&path)["steady"] == true);
    }

    /// `edge-agent status` on the board, when the agent answers.
    pub fn status(&self) -> Option<Value> {
        let (code, said) = self.try_sh("/opt/edge-agent status -o json");
        if code == 0 { serde_json::from_str(&said).ok() } else { None }
    }

    /// Workload → processes in its cgroup, as the kernel says: of a container its payload's, then its shim.
    pub fn pids(&self) -> BTreeMap<String, Vec<u32>> {
        let files = "$d/work/cgroup.procs $d/shim/cgroup.procs $d/cgroup.procs";
        let each = format!("for d in */; do echo $d $(cat {files} 2>/dev/null); done");
        let (_, said) = self.try_sh(&format!("cd {} && {each}", self.cgroups));
        let pids = said.lines().filter_map(|line| {
            let (group, pids) = line.split_once("/ ")?;
            let pids: Vec<u32> = pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            (!pids.is_empty()).then(|| Some((group.split('.').nth(1)?.to_string(), pids)))?
        });
        pids.collect()
    }

    #[track_caller]
    pub fn pid(&self, workload: &str) -> u32 {
        let mut found = None;
        self.until(&format!("{workload} runs"), |board| {
            found = board.pids().get(workload).map(|pids| pids[0]);
            found.is_some()
        });
        found.expect("just seen")
    }

    /// A file of a workload's cgroup; a container's limits are below `work/`.
    #[track_caller]
    pub fn limit(&self, workload: &str, file: &str) -> String {
        self.sh(&format!("cat {}/default.{workload}.0.*/{file}", self.cgroups))
    }

    /// Of each of these the first process, once all of them run.
    #[track_caller]
    pub fn first_pids<const N: usize>(&self, workloads: [&str; N]) -> [u32; N] {
        let mut found = BTreeMap::new();
        self.until(&format!("{workloads:?} run"), |board| {
            found = board.pids();
            workloads.iter().all(|name| found.contains_key(*name))
        });
        workloads.map(|name| found[name][0])
    }

    /// Seconds by the board's own clock, from its start, at which each of these processes was started.
    #[track_caller]
    pub fn started<const N: usize>(&self, pids: [u32; N]) -> [f64; N] {
        let stats = self.sh(&format!("cat {}", pids.map(|pid| format!("/proc/{pid}/stat")).join(" ")));
        let mut ticks =
            stats.lines().map(|stat| stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok());
        pids.map(|pid| match ticks.next() {
            Some(Some::<f64>(ticks)) => ticks / 100.0,
            _ => panic!("{pid} has no start time: {stats}"),
        })
    }

    #[track_caller]
    pub fn agent_pid(&self) -> u32 {
        self.try_agent_pid().expect("an agent runs")
    }

    pub fn try_agent_pid(&self) -> Option<u32> {
        let line = match self.init {
            Init::Busybox => "cat /run/agent.pid",
            Init::Systemd => "systemctl show -P MainPID edge-agent",
        };
        self.try_sh(line).1.parse().ok().filter(|pid| *pid != 0)
    }

    /// One finding of `edge-agent check` on the board.
    #[track_caller]
    pub fn check(&self, name: &str) -> Value {
        let (_, said) = self.try_sh("/opt/edge-agent check -o json");
        let report: Value = serde_json::from_str(&said).expect("a report");
        let checks = report["checks"].as_array().expect("checks");
        checks.iter().find(|c| c["name"] == name).cloned().expect("the check is there")
    }

    /// What there is to read when something went wrong.
    fn words(&self) -> String {
        let console = fs::read_to_string(self.dir.join("console.log")).unwrap_or_default();
        let agent = match self.init {
            Init::Busybox => "tail -n 20 /var/log/agent.log; ps | grep -v '\\['",
            Init::Systemd => "journalctl -n 40 --no-pager; systemctl status --no-pager",
        };
        let mut said = String::new();
        if self.process.is_some() {
            said = self.try_sh(agent).1;
        }
        let from = console.len().saturating_sub(1000);
        format!("--- the board\n{said}\n--- its console\n{}", console.get(from..).unwrap_or_default())
    }
}
