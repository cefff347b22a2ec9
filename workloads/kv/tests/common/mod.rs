//! What do the tests of the real store share: chance, temporary places, child processes, mounts.
#![allow(dead_code)] // each test program uses its part

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Small, seeded, good enough to choose moments and bytes.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Another seed at each run, printed so that a failure can be looked into.
    pub fn of_today(what: &str) -> Chance {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = std::env::var("SKERRY_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(now.as_nanos() as u64);
        println!("{what}: SKERRY_SEED={seed}");
        Chance::new(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut chance = Chance::new(seed ^ 0xABCD);
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        out.extend_from_slice(&chance.next().to_le_bytes());
    }
    out.truncate(len);
    out
}

/// `name` cycles: few in an ordinary run, many with SKERRY_LONG=1, or as SKERRY_CYCLES says.
pub fn cycles(ordinary: u64, long: u64) -> u64 {
    let set = std::env::var("SKERRY_CYCLES").ok().and_then(|cycles| cycles.parse().ok());
    set.unwrap_or(if std::env::var_os("SKERRY_LONG").is_some() { long } else { ordinary })
}

/// Waits for a condition, never for a time.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "waited 60 s for: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// This test program again, in a role of its own: its `#[test] fn role()` does what KV_ROLE says.
pub fn role(role: &str, vars: &[(&str, &Path)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture", "--test-threads=1"]).env("KV_ROLE", role);
    command.envs(vars.iter().map(|(name, path)| (name, path.as_os_str())));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

pub fn var(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")))
}

pub fn stderr_of(child: &mut Child) -> String {
    let mut text = String::new();
    let _ = child.stderr.take().unwrap().read_to_string(&mut text);
    text
}

pub fn kill(mut child: Child) -> String {
    child.kill().unwrap();
    child.wait().unwrap();
    stderr_of(&mut child)
}

pub fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output();
    let out = out.unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"));
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {text}");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Mounting needs root. Says so and returns false for anybody else; root must be able to.
pub fn may_mount(test: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("{test}: NOT RUN, it mounts file systems and so needs root");
    }
    root
}

/// A mounted file system, gone with the value.
pub struct Mount {
    pub at: PathBuf,
    device: Option<String>,
}

impl Mount {
    pub fn tmpfs(at: &Path, size: &str) -> Mount {
        fs::create_dir_all(at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "skerry-kv-test", at.to_str().unwrap()]);
        Mount { at: at.to_path_buf(), device: None }
    }

    /// An ext4 image by a loop device; mounting replays its journal.
    pub fn image(image: &Path, at: &Path) -> Mount {
        fs::create_dir_all(at).unwrap();
        let device = run("losetup", &["-f", "--show", image.to_str().unwrap()]);
        let mount = Mount { at: at.to_path_buf(), device: Some(device.clone()) };
        run("mount", &["-t", "ext4", &device, at.to_str().unwrap()]);
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmount = || Command::new("umount").arg(&self.at).stderr(Stdio::null()).status();
        if std::thread::panicking() {
            // The failed test may still have the store open.
            let _ = Command::new("umount").args(["-l".as_ref(), self.at.as_os_str()]).status();
        }
        // The last job of sled's pool may hold a file for a moment.
        until("umount", || unmount().is_ok_and(|s| s.success()) || !is_mounted(&self.at));
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
    }
}

fn is_mounted(at: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == at.to_str())
}

pub fn make_ext4(image: &Path, bytes: u64) {
    fs::File::create(image).unwrap().set_len(bytes).unwrap();
    run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
}

pub fn copy_sparse(from: &Path, to: &Path) {
    run("cp", &["--sparse=always", from.to_str().unwrap(), to.to_str().unwrap()]);
}

pub fn copy_dir(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    run("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
}
