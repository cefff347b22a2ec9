//! A development tool: what one container costs (create, start, `true`, wait, delete), beside `runc run` and
//! `crun run` of the same files, in rounds that take turns. `oci-measure ROUNDS BUSYBOX`, as root.
//!
//! Ours mounts an overlay and a writable layer and applies the filter; theirs use a plain directory and no
//! filter. crun refuses hybrid cgroups, so it runs in a mount namespace without the unified one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

type Done<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Done<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, rounds, busybox] = args.as_slice() else {
        return Err("usage: oci-measure ROUNDS BUSYBOX".into());
    };
    let dir = std::env::temp_dir().join(format!("oci-measure.{}", std::process::id()));
    let rootfs = dir.join("rootfs");
    prepare(&rootfs, busybox)?;
    let commands = [("ours", ours(&dir)?), ("runc", runc(&dir)?), ("crun", crun(&dir)?)];
    let mut samples = vec![Vec::new(); commands.len()];
    for round in 0..rounds.parse::<usize>()? {
        for turn in 0..commands.len() {
            let n = (turn + round) % commands.len();
            samples[n].push(once(&commands[n].1)?);
        }
    }
    for ((name, _), samples) in commands.iter().zip(&samples) {
        let middle = |at: fn(&(f64, f64)) -> f64| {
            let mut all: Vec<f64> = samples.iter().map(at).collect();
            all.sort_by(f64::total_cmp);
            (all[all.len() / 2], all[0])
        };
        let ((cpu, cpu_min), (wall, wall_min)) = (middle(|s| s.0), middle(|s| s.1));
        println!("{name}: cpu {cpu:.1} ms (min {cpu_min:.1}), wall {wall:.1} ms (min {wall_min:.1})");
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn prepare(rootfs: &Path, busybox: &str) -> Done<()> {
    for name in ["bin", "proc", "sys", "dev", "etc"] {
        fs::create_dir_all(rootfs.join(name))?;
    }
    fs::copy(busybox, rootfs.join("bin/busybox"))?;
    Ok(symlink("busybox", rootfs.join("bin/true"))?)
}

fn ours(dir: &Path) -> Done<Vec<String>> {
    let job = serde_json::json!({
        "settings": {"id": "measure", "command": ["/bin/true"], "seccomp": "default", "network": "none",
            "limits": {"memoryBytes": 64 << 20, "cpuMillis": 2000, "pids": 32},
            "cgroupsPath": "/oci-measure/ours", "writable": {"memory": {"sizeBytes": 1 << 20}}},
        "image": {}, "layers": [dir.join("rootfs")], "bundle": dir.join("bundle"), "state": dir.join("state"),
    });
    let path = dir.join("job.json");
    fs::write(&path, serde_json::to_vec(&job)?)?;
    let own = std::env::current_exe()?.with_file_name("oci-run");
    Ok(vec![own.display().to_string(), path.display().to_string()])
}

/// runc's own default specification, with our limits.
fn runc(dir: &Path) -> Done<Vec<String>> {
    Command::new("runc").arg("spec").current_dir(dir).status()?;
    let path = dir.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["/bin/true"]);
    spec["linux"]["cgroupsPath"] = "/oci-measure/theirs".into();
    spec["linux"]["resources"]["memory"] = serde_json::json!({"limit": 64 << 20});
    spec["linux"]["resources"]["pids"] = serde_json::json!({"limit": 32});
    spec["linux"]["resources"]["cpu"] = serde_json::json!({"quota": 200_000, "period": 100_000});
    fs::write(&path, serde_json::to_vec(&spec)?)?;
    Ok(["runc", "run", "--bundle", &dir.display().to_string(), "measure-runc"].map(String::from).to_vec())
}

fn crun(dir: &Path) -> Done<Vec<String>> {
    let line = format!(
        "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun run --bundle {} measure-crun",
        dir.display()
    );
    Ok(["unshare", "-m", "sh", "-c", &line].map(String::from).to_vec())
}

/// Milliseconds of processor (its children's too) and on the wall.
fn once(command: &[String]) -> Done<(f64, f64)> {
    let start = Instant::now();
    let child = Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).spawn()?;
    let mut status = 0;
    // SAFETY: all zeroes are a valid rusage; both places outlive the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::wait4(child.id() as i32, &mut status, 0, &mut usage);
        usage
    };
    if status != 0 {
        return Err(format!("{command:?} ended with {status}").into());
    }
    let millis = |t: libc::timeval| t.tv_sec as f64 * 1e3 + t.tv_usec as f64 / 1e3;
    Ok((millis(usage.ru_utime) + millis(usage.ru_stime), start.elapsed().as_secs_f64() * 1e3))
}
