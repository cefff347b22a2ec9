//! Whether a further command in a running container is of the container in every respect, ends when it must with all
//! that it started, and leaves nothing. Needs root.

#[path = "fixtures/container.rs"]
mod container;
mod fixtures;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use container::{World, cgroups};
use skerry_oci::run::{Network, Seccomp, Settings};

struct Running<'a> {
    world: &'a World,
    settings: Settings,
    shim: Child,
}

impl Running<'_> {
    fn start(world: &World, settings: Settings) -> Running<'_> {
        let mut shim =
            world.command(&settings, &world.job(&settings)).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shim.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Running { world, settings, shim }
    }

    fn plain(world: &World) -> Running<'_> {
        Running::start(world, world.settings(LIVES))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-join"));
        command
            .arg(self.world.tmp.path().join(&self.settings.id).join("state"))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    fn join(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// A shell line that must succeed.
    fn says(&self, line: &str) -> String {
        let output = self.join(&["--", "sh", "-c", line]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_string()
    }

    /// Of the commands that joined, in all hierarchies.
    fn groups(&self) -> usize {
        let dirs = cgroups(&self.settings.cgroups_path).into_iter();
        dirs.flat_map(|d| fs::read_dir(d).unwrap().flatten())
            .filter(|e| e.file_name().to_string_lossy().starts_with("exec-"))
            .count()
    }

    fn processes(&self) -> usize {
        let dirs = cgroups(&self.settings.cgroups_path);
        let pids = dirs.iter().find(|d| d.join("pids.current").exists()).unwrap();
        fs::read_to_string(pids.join("pids.current")).unwrap().trim().parse().unwrap()
    }
}

impl Running<'_> {
    /// No zombie counts any more either: the first process is no init and reaps none.
    fn falls_to(&self, processes: usize) {
        let start = Instant::now();
        while (self.processes(), self.groups()) != (processes, 0) {
            assert!(start.elapsed() < Duration::from_secs(60), "{} in {}", self.processes(), self.groups());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for dir in cgroups(&self.settings.cgroups_path) {
            for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
                let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
            }
        }
        let _ = self.shim.wait();
        if !std::thread::panicking() {
            self.world.nothing_left(&self.settings);
        }
    }
}

const LIVES: &str = "echo up; exec sleep 600";

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

#[test]
fn a_command_sees_what_the_container_sees() {
    let world = World::new();
    let mut settings = world.settings("export GONE=1; echo x > /tmp/written; echo up; exec sleep 600");
    settings.env = [("SITE".into(), "a b=c".into())].into();
    settings.hostname = Some("press-1".into());
    let running = Running::start(&world, settings);
    let said = running.says("cat /tmp/written; hostname; pwd; env; ls /proc | grep -c '^[0-9]'; id -u");
    for line in ["x", "press-1", "/work", "SITE=a b=c", "PATH=/bin", "HOME=/root", "0"] {
        assert!(said.lines().any(|l| l == line), "{line} in {said}");
    }
    assert!(!said.contains("GONE") && !said.contains("CARGO"), "{said}");
    let of = |pid: &str| {
        running
            .says(&format!("for n in mnt pid ipc uts net cgroup user; do readlink /proc/{pid}/ns/$n; done"))
    };
    assert_eq!(of("1"), of("self"));
    let status = |pid: &str| {
        running.says(&format!("grep -E '^(Cap|NoNew|Seccomp:|Groups|Uid|Gid)' /proc/{pid}/status"))
    };
    assert_eq!(status("1"), status("self"));
    let score = |pid: &str| running.says(&format!("cat /proc/{pid}/oom_score_adj"));
    assert_eq!(score("1"), score("self"));
    let output = running.join(&["--", "grep", "-E", "SigIgn|SigBlk", "/proc/self/status"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim_end(),
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000"
    );
}

#[test]
fn it_is_in_the_containers_cgroups() {
    let world = World::new();
    let mut settings = world.settings(LIVES);
    settings.limits.pids = 8;
    settings.limits.memory_bytes = 32 << 20;
    let running = Running::start(&world, settings);
    let output =
        running.join(&["--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; echo all"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("can't fork"), "{output:?}");
    let output = running.join(&["--", "tail", "/dev/zero"]);
    assert_eq!(code(&output), 137, "the container's memory bounds it: {output:?}");
    let path = running.says("cat /proc/self/cgroup");
    assert!(path.lines().all(|l| l.ends_with(":/") || l.contains(":/exec-") || l.contains("/..")), "{path}");
}

#[test]
fn codes_streams_and_what_cannot_be_run() {
    let world = World::new();
    let running = Running::plain(&world);
    let output = running.join(&["--", "sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!((code(&output), &output.stdout[..], &output.stderr[..]), (42, &b"out\n"[..], &b"err\n"[..]));
    assert_eq!(code(&running.join(&["--", "sh", "-c", "kill -9 $$"])), 137);
    for (command, expected, why) in [
        ("nothing", 127, "'nothing' is not in the container's PATH (/bin)"),
        ("/bin/nothing", 127, "'/bin/nothing' is not in the container"),
        ("/bin/text", 126, "/bin/text may not be executed by this user"),
    ] {
        let output = running.join(&["--", command]);
        assert_eq!(code(&output), expected);
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
    let output = running.join(&["--workdir", "/none", "--", "true"]);
    assert!(
        code(&output) == 125 && String::from_utf8_lossy(&output.stderr).contains("workdir /none"),
        "{output:?}"
    );
    let output = running.join(&["--"]);
    assert!(
        code(&output) == 125 && String::from_utf8_lossy(&output.stderr).contains("command: there is none")
    );

    let mut child =
        running.command(&["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through and through").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through and through");
    assert_eq!(running.groups(), 0);
}

#[test]
fn another_user_and_directory() {
    let world = World::new();
    let mut settings = world.settings(LIVES);
    settings.user = Some("web".into());
    settings.capabilities.add = vec!["NET_ADMIN".into()];
    let running = Running::start(&world, settings);
    assert!(running.says("id; echo $HOME").contains("uid=101(web) gid=102(web) groups=4(adm)"));
    let effective = |args: &[&str]| {
        let output = running.join(&[args, &["--", "grep", "CapEff", "/proc/self/status"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        u64::from_str_radix(text.split_whitespace().last().unwrap(), 16).unwrap()
    };
    assert_eq!(effective(&[]), 1 << 12);
    assert_eq!(effective(&["--user", "7:8"]), 0, "what was given by name is that user's alone");
    let bounding = running.says("grep CapBnd /proc/1/status");
    let bounding = u64::from_str_radix(bounding.split_whitespace().last().unwrap(), 16).unwrap();
    assert_eq!(effective(&["--user", "root"]), bounding);
    let output =
        running.join(&["--user", "0", "--workdir", "/tmp", "--", "sh", "-c", "id -u; pwd; echo $HOME"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n/tmp\n/root\n");
    let output = running.join(&["--user", "stranger", "--", "true"]);
    assert!(
        code(&output) == 125 && String::from_utf8_lossy(&output.stderr).contains("no 'stranger'"),
        "{output:?}"
    );
}

#[test]
fn the_filter_is_the_containers() {
    let world = World::new();
    for (seccomp, mode) in [(Seccomp::Default, "2"), (Seccomp::Off, "0")] {
        let mut settings = world.settings(LIVES);
        (settings.seccomp, settings.network) = (seccomp, Network::Host);
        let running = Running::start(&world, settings);
        assert!(running.says("grep Seccomp: /proc/self/status").ends_with(mode));
    }
}

#[test]
fn a_terminal_is_one() {
    let world = World::new();
    let mut settings = world.settings(LIVES);
    settings.user = Some("web".into());
    let running = Running::start(&world, settings);
    let line = "test -t 0 && test -t 1 && test -t 2 && echo all; busybox stty size; readlink /proc/self/fd/0; echo again > /dev/tty; \
        echo more > $(readlink /proc/self/fd/0); exit 3";
    let output = running.join(&["--tty", "--", "sh", "-c", line]);
    assert_eq!(code(&output), 3, "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "all\r\n24 80\r\n/dev/pts/0\r\nagain\r\nmore\r\n");
}

/// Two generations, one of them in a session of its own, with nobody above it any more.
#[test]
fn a_timeout_takes_all_that_was_started() {
    let world = World::new();
    let running = Running::plain(&world);
    let before = running.processes();
    let start = Instant::now();
    let line = "(trap '' TERM HUP; sleep 600 & exec sleep 600) & sleep 600";
    for tty in [&[][..], &["--tty"]] {
        let args = [tty, &["--timeout-ms", "300", "--", "sh", "-c", line]].concat();
        let mut child = running.command(&args).stdout(Stdio::null()).spawn().unwrap();
        if tty.is_empty() {
            assert_eq!(child.wait().unwrap().code(), Some(124));
        } else {
            // The tool reads its terminal to the end, so that it is killed itself here.
            std::thread::sleep(Duration::from_millis(300));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        running.falls_to(before);
    }
    assert!(start.elapsed() < Duration::from_secs(300), "the sleeps were waited for");
}

#[test]
fn what_goes_on_in_the_background_is_the_containers() {
    let world = World::new();
    let running = Running::plain(&world);
    let before = running.processes();
    running.says("sleep 600 >/dev/null 2>&1 & true");
    assert_eq!((running.processes(), running.groups()), (before + 1, 0));
}

#[test]
fn what_a_killed_watcher_started_ends_too() {
    let world = World::new();
    let running = Running::plain(&world);
    let before = running.processes();
    let mut watcher = running
        .command(&["--", "sh", "-c", "sleep 600 & echo up; sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(watcher.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    // Somebody else's who is looked after stays.
    running.says("true");
    assert_eq!((running.processes(), running.groups()), (before + 2, 1));
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    running.falls_to(before);
}

#[test]
fn nobody_in_the_container_looks_into_the_one_who_joins() {
    let world = World::new();
    let running = Running::plain(&world);
    let watcher = "while true; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in */oci-join*) echo $p; esac; done; done";
    let mut spy =
        running.command(&["--", "timeout", "3", "sh", "-c", watcher]).stdout(Stdio::piped()).spawn().unwrap();
    for _ in 0..60 {
        running.says("true");
    }
    let _ = spy.wait();
    let mut seen = String::new();
    std::io::Read::read_to_string(spy.stdout.as_mut().unwrap(), &mut seen).unwrap();
    assert_eq!(seen, "");
}

#[test]
fn a_container_that_does_not_run_is_named() {
    let world = World::new();
    let running = Running::plain(&world);
    let state = world.tmp.path().join("none");
    let output =
        Command::new(env!("CARGO_BIN_EXE_oci-join")).arg(&state).args(["--", "true"]).output().unwrap();
    assert!(
        code(&output) == 125 && String::from_utf8_lossy(&output.stderr).contains("none runs here"),
        "{output:?}"
    );
    fs::create_dir(&state).unwrap();
    let config =
        fs::read_to_string(world.tmp.path().join(&running.settings.id).join("state/container.json")).unwrap();
    fs::write(
        state.join("container.json"),
        config.replace(&running.settings.cgroups_path, "/skerry-oci-test/none"),
    )
    .unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_oci-join")).arg(&state).args(["--", "true"]).output().unwrap();
    assert!(
        code(&output) == 125 && String::from_utf8_lossy(&output.stderr).contains("it does not run"),
        "{output:?}"
    );
}
