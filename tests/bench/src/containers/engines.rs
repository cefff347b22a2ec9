//! Engines: podman, and docker with a daemon of its own that is started for this and ended after it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Runner;
use super::beside::parent;
use super::place::{Account, GROUP, Place, done};
use crate::process::{Memory, memory};
use crate::scene::settle;

const IMAGE: &str = "skerry-bench";
const LONGEST: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(100);

pub fn found(place: &Place) -> Vec<Result<Box<dyn Runner>, String>> {
    let boxed = |r: Docker| Box::new(r) as Box<dyn Runner>;
    vec![Podman::find(place).map(|r| Box::new(r) as Box<dyn Runner>), Docker::start(place).map(boxed)]
}

/// No network, our limits.
fn run(id: &str, more: &[&str], command: &[&str]) -> Vec<String> {
    let parent = format!("--cgroup-parent={GROUP}/{id}/c");
    let words = ["run", "--rm", "--network=none", "--memory=64m", "--cpus=2", "--pids-limit=32", &parent];
    [&words, more, &[IMAGE], command].concat().into_iter().map(String::from).collect()
}

fn once(id: &str) -> Vec<String> {
    run(id, &[], &["/bin/true"])
}

const STAYS: [&str; 3] = ["/bin/busybox", "sleep", "600"];

/// The root file system as an archive, for engines import no directories.
fn archive(place: &Place) -> Result<PathBuf, String> {
    let path = place.dir.join("rootfs.tar");
    if !path.exists() {
        done(Command::new("tar").arg("-cf").arg(&path).arg("-C").arg(place.root()).arg("."))?;
    }
    Ok(path)
}

struct Podman {
    before: Vec<String>,
    conf: PathBuf,
}

impl Podman {
    fn find(place: &Place) -> Result<Podman, String> {
        done(Command::new("podman").arg("--version"))
            .map_err(|_| "podman: apt-get install podman".to_string())?;
        let (dir, conf) = (place.dir.join("podman"), place.dir.join("containers.conf"));
        // It would raise limits that a machine like this may not let it raise.
        fs::write(&conf, "[containers]\ndefault_ulimits = [\"nofile=1024:20000\", \"nproc=4096:4096\"]\n")
            .expect("a file");
        let of = |name: &str| dir.join(name).display().to_string();
        let before = [
            "--root",
            &of("root"),
            "--runroot",
            &of("run"),
            "--tmpdir",
            &of("tmp"),
            "--runtime",
            "crun",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        ];
        let podman = Podman { before: before.map(String::from).to_vec(), conf };
        let mut import = Command::new("podman");
        done(
            import
                .args(&podman.before)
                .env("CONTAINERS_CONF", &podman.conf)
                .arg("import")
                .arg(archive(place)?)
                .arg(IMAGE),
        )?;
        Ok(podman)
    }
}

impl Runner for Podman {
    fn id(&self) -> &'static str {
        "podman"
    }

    fn once(&mut self, account: &Account) -> Result<(), String> {
        let mut command = account.command("podman");
        done(command.args(&self.before).env("CONTAINERS_CONF", &self.conf).args(once("podman"))).map(drop)
    }

    fn beside(&mut self, account: &Account) -> Result<Option<Memory>, String> {
        let podman = |account: &Account, args: &[String]| {
            let mut command = account.command("podman");
            done(command.args(&self.before).env("CONTAINERS_CONF", &self.conf).args(args))
        };
        let pidfile = self.conf.with_file_name("conmon.pid").display().to_string();
        podman(account, &run("podman", &["-d", "--name", "stays", "--conmon-pidfile", &pidfile], &STAYS))?;
        settle();
        let conmon = fs::read_to_string(&pidfile).map_err(|e| format!("{pidfile}: {e}"))?;
        let conmon = memory(conmon.trim().parse().map_err(|e| format!("{conmon}: {e}"))?);
        podman(account, &["rm", "-f", "-t", "0", "stays"].map(String::from))?;
        Ok(Some(conmon))
    }
}

struct Docker {
    daemon: Child,
    socket: String,
}

impl Docker {
    fn start(place: &Place) -> Result<Docker, String> {
        let dir = place.dir.join("docker");
        fs::create_dir_all(&dir).expect("a directory");
        let of = |name: &str| dir.join(name).display().to_string();
        let log = fs::File::create(dir.join("log")).expect("a file");
        let mut daemon = place.account("docker").command("dockerd");
        let socket = format!("unix://{}", of("docker.sock"));
        daemon.args([
            "-H",
            &socket,
            "--data-root",
            &of("data"),
            "--exec-root",
            &of("exec"),
            "--pidfile",
            &of("pid"),
        ]);
        daemon.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=overlay2"]);
        daemon.args(["--exec-opt=native.cgroupdriver=cgroupfs", "--oom-score-adjust=0"]);
        daemon.stdout(log.try_clone().expect("a file")).stderr(log);
        let daemon = daemon.spawn().map_err(|_| "docker: apt-get install docker.io".to_string())?;
        let docker = Docker { daemon, socket };
        let end = Instant::now() + LONGEST;
        while let Err(why) = docker.client(&["info"]) {
            if Instant::now() > end {
                let said = fs::read_to_string(dir.join("log")).unwrap_or_default();
                let last = said.lines().next_back().unwrap_or_default();
                return Err(format!("docker, its daemon does not answer: {why}; {last}"));
            }
            std::thread::sleep(STEP);
        }
        docker.client(&["import", &archive(place)?.display().to_string(), IMAGE])?;
        Ok(docker)
    }

    fn client(&self, args: &[&str]) -> Result<String, String> {
        done(Command::new("docker").args(["-H", &self.socket]).args(args).stdin(Stdio::null()))
    }
}

impl Runner for Docker {
    fn id(&self) -> &'static str {
        "docker"
    }

    fn once(&mut self, account: &Account) -> Result<(), String> {
        done(account.command("docker").args(["-H", &self.socket]).args(once("docker"))).map(drop)
    }

    fn beside(&mut self, account: &Account) -> Result<Option<Memory>, String> {
        let started = run("docker", &["-d", "--name", "stays"], &STAYS);
        done(account.command("docker").args(["-H", &self.socket]).args(started))?;
        settle();
        let pid = self.client(&["inspect", "-f", "{{.State.Pid}}", "stays"])?;
        let shim = memory(parent(&pid)?);
        self.client(&["rm", "-f", "stays"])?;
        Ok(Some(shim))
    }
}

impl Drop for Docker {
    /// It ends its containerd with it.
    fn drop(&mut self) {
        // SAFETY: a signal to our own child.
        unsafe { libc::kill(self.daemon.id() as i32, libc::SIGTERM) };
        let _ = self.daemon.wait();
    }
}
