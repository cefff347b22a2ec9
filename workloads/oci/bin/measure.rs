//! A development tool: what one container costs (create, start, `true`, wait, delete), beside crun and runc
//! with the same files, in rounds that take turns. `oci-measure ROUNDS BUSYBOX`, as root.
//!
//! Ours mounts an overlay with a bounded writable layer and applies the filter. Theirs stand there twice: as they
//! come, on a plain directory without a filter, and with the same mounts (made here by the same calls) and
//! Docker's profile. Everything is on one tmpfs, as a board's /run is; the unified hierarchy beside v1, which
//! crun refuses, is unmounted for all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use serde_json::{Value, json};

type Done<T> = Result<T, Box<dyn std::error::Error>>;

/// Docker's default as podman brings it (package golang-github-containers-common).
const PROFILE: &str = "/usr/share/containers/seccomp.json";

struct Runner {
    name: &'static str,
    command: Vec<String>,
    /// Mount points of an overlay that is made and taken away with each container.
    overlay: Option<PathBuf>,
}

fn main() -> Done<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, rounds, busybox] = args.as_slice() else {
        return Err("usage: oci-measure ROUNDS BUSYBOX".into());
    };
    let dir = own_place()?;
    let rootfs = dir.join("rootfs");
    prepare(&rootfs, busybox)?;
    let mut runners = vec![ours(&dir)?];
    for (name, program) in [("crun", "crun"), ("runc", "runc")] {
        runners.push(theirs(&dir, name, program, None)?);
    }
    if Path::new(PROFILE).exists() {
        for (name, program) in [("crun, filter and overlay", "crun"), ("runc, filter and overlay", "runc")] {
            runners.push(theirs(&dir, name, program, Some(allowed()?))?);
        }
    }
    let mut samples = vec![Vec::new(); runners.len()];
    for round in 0..rounds.parse::<usize>()? {
        for turn in 0..runners.len() {
            let n = (turn + round) % runners.len();
            samples[n].push(once(&runners[n], &rootfs)?);
        }
    }
    for (runner, samples) in runners.iter().zip(&samples) {
        let middle = |at: fn(&(f64, f64)) -> f64| {
            let mut all: Vec<f64> = samples.iter().map(at).collect();
            all.sort_by(f64::total_cmp);
            (all[all.len() / 2], all[0])
        };
        let ((cpu, cpu_min), (wall, wall_min)) = (middle(|s| s.0), middle(|s| s.1));
        println!(
            "{}: cpu {cpu:.1} ms (min {cpu_min:.1}), wall {wall:.1} ms (min {wall_min:.1})",
            runner.name
        );
    }
    Ok(())
}

/// In a mount namespace of its own, so that nothing is left behind.
fn own_place() -> Done<PathBuf> {
    // SAFETY: this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let _ = unmount("/sys/fs/cgroup/unified", UnmountFlags::DETACH);
    let dir = PathBuf::from("/mnt");
    mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), None)?;
    Ok(dir)
}

fn prepare(rootfs: &Path, busybox: &str) -> Done<()> {
    for name in ["bin", "proc", "sys", "dev", "etc"] {
        fs::create_dir_all(rootfs.join(name))?;
    }
    fs::copy(busybox, rootfs.join("bin/busybox"))?;
    Ok(symlink("busybox", rootfs.join("bin/true"))?)
}

fn ours(dir: &Path) -> Done<Runner> {
    let job = json!({
        "settings": {"id": "measure", "command": ["/bin/true"], "seccomp": "default", "network": "none",
            "limits": {"memoryBytes": 64 << 20, "cpuMillis": 2000, "pids": 32},
            "cgroupsPath": "/oci-measure/ours", "writable": {"memory": {"sizeBytes": 1 << 20}}},
        "image": {}, "layers": [dir.join("rootfs")], "bundle": dir.join("bundle"), "state": dir.join("state"),
    });
    let path = dir.join("job.json");
    fs::write(&path, serde_json::to_vec(&job)?)?;
    let own = std::env::current_exe()?.with_file_name("oci-run");
    let command = vec![own.display().to_string(), path.display().to_string()];
    Ok(Runner { name: "ours", command, overlay: None })
}

/// runc's own default specification, with our limits.
fn theirs(dir: &Path, name: &'static str, program: &str, filter: Option<Value>) -> Done<Runner> {
    let (overlay, id) =
        (filter.is_some().then(|| dir.join(format!("{program}.overlay"))), format!("measure-{program}"));
    let bundle = dir.join(name);
    fs::create_dir_all(&bundle)?;
    Command::new("runc").arg("spec").current_dir(&bundle).status()?;
    let path = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&path)?)?;
    spec["root"]["path"] = json!(overlay.as_ref().map_or(dir.join("rootfs"), |o| o.join("root")));
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["/bin/true"]);
    spec["linux"]["cgroupsPath"] = "/oci-measure/theirs".into();
    spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    spec["linux"]["resources"]["pids"] = json!({"limit": 32});
    spec["linux"]["resources"]["cpu"] = json!({"quota": 200_000, "period": 100_000});
    if let Some(filter) = filter {
        spec["linux"]["seccomp"] = filter;
    }
    fs::write(&path, serde_json::to_vec(&spec)?)?;
    let words = [
        program,
        "--root",
        &dir.join("theirs").display().to_string(),
        "run",
        "--bundle",
        &bundle.display().to_string(),
        &id,
    ];
    Ok(Runner { name, command: words.map(String::from).to_vec(), overlay })
}

/// What the profile allows to everybody; it says more, by capability and kernel.
fn allowed() -> Done<Value> {
    let profile: Value = serde_json::from_slice(&fs::read(PROFILE)?)?;
    let (own, architecture) = match cfg!(target_arch = "x86_64") {
        true => ("amd64", "SCMP_ARCH_X86_64"),
        false => ("arm64", "SCMP_ARCH_AARCH64"),
    };
    let none = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    let plain = profile["syscalls"].as_array().into_iter().flatten().filter(|rule| {
        let (includes, arches) = (&rule["includes"], &rule["includes"]["arches"]);
        let here = none(arches) || arches.as_array().is_some_and(|all| all.contains(&own.into()));
        rule["action"] == "SCMP_ACT_ALLOW" && none(&rule["args"]) && none(&includes["caps"]) && here
    });
    let rules: Vec<_> = plain.map(|rule| json!({"names": rule["names"], "action": rule["action"]})).collect();
    Ok(json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": [architecture], "syscalls": rules}))
}

/// Milliseconds of processor (its children's and, for the mounts, ours) and on the wall.
fn once(runner: &Runner, rootfs: &Path) -> Done<(f64, f64)> {
    let (start, own) = (Instant::now(), usage(libc::RUSAGE_SELF));
    if let Some(dir) = &runner.overlay {
        make_overlay(dir, rootfs)?;
    }
    let made = usage(libc::RUSAGE_SELF) - own;
    let child = Command::new(&runner.command[0]).args(&runner.command[1..]).stdin(Stdio::null()).spawn()?;
    let mut status = 0;
    // SAFETY: all zeroes are a valid rusage; both places outlive the call.
    let theirs = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::wait4(child.id() as i32, &mut status, 0, &mut usage);
        millis(&usage)
    };
    if status != 0 {
        return Err(format!("{:?} ended with {status}", runner.command).into());
    }
    let own = usage(libc::RUSAGE_SELF);
    if let Some(dir) = &runner.overlay {
        unmount(dir.join("root"), UnmountFlags::empty())?;
        unmount(dir, UnmountFlags::empty())?;
    }
    let cleared = usage(libc::RUSAGE_SELF) - own;
    Ok((theirs + made + cleared, start.elapsed().as_secs_f64() * 1e3))
}

fn make_overlay(dir: &Path, rootfs: &Path) -> Done<()> {
    fs::create_dir_all(dir)?;
    mount("tmpfs", dir, "tmpfs", MountFlags::NODEV, c"size=1m")?;
    for name in ["root", "data", "work"] {
        fs::create_dir(dir.join(name))?;
    }
    let at = dir.display();
    let options = format!("lowerdir={},upperdir={at}/data,workdir={at}/work,volatile", rootfs.display());
    let options = std::ffi::CString::new(options)?;
    Ok(mount("overlay", dir.join("root"), "overlay", MountFlags::NODEV, options.as_c_str())?)
}

fn usage(who: libc::c_int) -> f64 {
    // SAFETY: all zeroes are a valid rusage, which outlives the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    millis(&usage)
}

fn millis(usage: &libc::rusage) -> f64 {
    let one = |t: libc::timeval| t.tv_sec as f64 * 1e3 + t.tv_usec as f64 / 1e3;
    one(usage.ru_utime) + one(usage.ru_stime)
}
