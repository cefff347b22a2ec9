//! Where containers are measured: one tmpfs, as a board's /run is, in a mount namespace that takes all of it along
//! when it ends, and a cgroup for each runner.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Below the root of each hierarchy.
pub const GROUP: &str = "/skerry-bench-containers";

pub struct Place {
    pub dir: PathBuf,
    /// Where the kernel counts processor time, and whether that is v2.
    counted: (PathBuf, bool),
}

/// Everything in it, and in what is below it, is counted.
pub struct Account {
    dir: PathBuf,
    v2: bool,
}

impl Place {
    pub fn make() -> Place {
        own_mounts();
        let dir = std::env::temp_dir().join(format!("skerry-bench.{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        mount(Some("tmpfs"), &dir, Some("tmpfs"), 0);
        let place = Place { dir, counted: counted() };
        place.rootfs();
        place
    }

    /// busybox and nothing else.
    fn rootfs(&self) {
        let root = self.root();
        for name in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            fs::create_dir_all(root.join(name)).expect("a directory");
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
        fs::copy(busybox.expect("busybox: apt-get install busybox-static"), root.join("bin/busybox"))
            .expect("a copy");
        for name in ["true", "sh", "sleep"] {
            symlink("busybox", root.join("bin").join(name)).expect("a link");
        }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    pub fn account(&self, id: &str) -> Account {
        let (root, v2) = &self.counted;
        let dir = root.join(GROUP.trim_start_matches('/')).join(id);
        fs::create_dir_all(&dir).expect("a cgroup");
        Account { dir, v2: *v2 }
    }

    /// The tmpfs goes with the namespace; cgroups are nobody's.
    pub fn clear(self) {
        let group = GROUP.trim_start_matches('/');
        for root in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove(&root.path().join(group));
        }
        remove(&Path::new("/sys/fs/cgroup").join(group));
        let dir = CString::new(self.dir.display().to_string()).expect("a path");
        // SAFETY: a string that ends with NUL.
        unsafe { libc::umount2(dir.as_ptr(), libc::MNT_DETACH) };
        let _ = fs::remove_dir(&self.dir);
    }
}

impl Account {
    pub fn cpu_ms(&self) -> f64 {
        let text = |name| fs::read_to_string(self.dir.join(name)).expect("a cgroup that counts");
        if self.v2 {
            let stat = text("cpu.stat");
            let line = stat.lines().find_map(|l| l.strip_prefix("usage_usec ")).expect("usage_usec");
            line.parse::<f64>().expect("a number") / 1e3
        } else {
            text("cpuacct.usage").trim().parse::<f64>().expect("a number") / 1e6
        }
    }

    /// To be run as one that is counted here.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let file = self.dir.join(if self.v2 { "cgroup.procs" } else { "tasks" });
        // A leaf, for v2 lets no process into an inner one.
        let file = if self.v2 { self.leaf(file) } else { file };
        // SAFETY: one write between fork and exec.
        unsafe { command.pre_exec(move || fs::write(&file, "0")) };
        command.stdin(Stdio::null());
        command
    }

    fn leaf(&self, file: PathBuf) -> PathBuf {
        let leaf = self.dir.join("commands");
        fs::create_dir_all(&leaf).expect("a cgroup");
        leaf.join(file.file_name().expect("it has one"))
    }
}

/// Its output, if it succeeded.
pub fn done(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{command:?}: {} {}", output.status, text(&output.stderr))),
    }
}

/// crun refuses the unified hierarchy beside v1, so it is unmounted, for all.
fn own_mounts() {
    // SAFETY: this thread alone goes.
    assert!(unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0, "root: {}", io::Error::last_os_error());
    mount(None, Path::new("/"), None, libc::MS_PRIVATE | libc::MS_REC);
    // SAFETY: a string that ends with NUL.
    unsafe { libc::umount2(c"/sys/fs/cgroup/unified".as_ptr(), libc::MNT_DETACH) };
}

fn mount(source: Option<&str>, target: &Path, kind: Option<&str>, flags: libc::c_ulong) {
    let text = |text: &str| CString::new(text).expect("no NUL");
    let (source, kind, target) = (source.map(text), kind.map(text), text(&target.display().to_string()));
    let pointer = |t: &Option<CString>| t.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
    // SAFETY: strings that end with NUL, or none.
    let done =
        unsafe { libc::mount(pointer(&source), target.as_ptr(), pointer(&kind), flags, std::ptr::null()) };
    assert!(done == 0, "mount on {target:?}: {}", io::Error::last_os_error());
}

fn counted() -> (PathBuf, bool) {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mut v1 = table.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let counts = kind.starts_with("cgroup ") && kind.split([',', ' ']).any(|o| o == "cpuacct");
        counts.then(|| PathBuf::from(mount.split(' ').nth(4).unwrap_or_default()))
    });
    match v1.next_back() {
        Some(dir) => (dir, false),
        None => (PathBuf::from("/sys/fs/cgroup"), true),
    }
}

fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
