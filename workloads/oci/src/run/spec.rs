//! From an image's configuration and settings to what the OCI runtime specification wants to know.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use libcontainer::oci_spec::runtime::Spec;
use rustix::fs::{major, minor};
use serde_json::{Value, json};

use super::capability::{self, Granted};
use super::cgroup::Cgroups;
use super::settings::{Device, Mount, MountSource, Network, Seccomp, Settings};
use super::user::{self, User};
use super::{RunError, fault, refused};
use crate::image::Defaults;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SHM_BYTES: u64 = 64 << 20;
/// Whatever this process has.
const UMASK: u32 = 0o022;

/// What of `/proc` and `/sys` tells about the board or changes it: Docker's lists.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub struct Built {
    pub spec: Spec,
    /// With `CAP_`.
    pub capabilities: Granted,
    /// What it may open, as cgroups v1 have it.
    pub devices: Vec<String>,
    /// Whom the first process is, user and group.
    pub user: (u32, u32),
}

/// `root` is mounted already, for users are looked up in it.
pub fn build(
    settings: &Settings,
    image: &Defaults,
    root: &Path,
    cgroups: &Cgroups,
) -> Result<Built, RunError> {
    let asked = settings.user.as_deref().unwrap_or(&image.user);
    let user = user::find(root, asked)?;
    let granted = capability::grant(&settings.capabilities, cgroups.device_filter, capability::own())?;
    let devices = settings.devices.iter().map(device).collect::<Result<Vec<_>, _>>()?;
    let json = json!({
        "ociVersion": "1.0.2",
        "root": {"path": root, "readonly": settings.read_only_root},
        "hostname": settings.hostname(),
        "process": process(settings, image, &user, &granted)?,
        "mounts": mounts(settings, cgroups)?,
        "linux": {
            "namespaces": namespaces(settings.network),
            "devices": devices.iter().map(|d| d.node.clone()).collect::<Vec<_>>(),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    });
    let spec = serde_json::from_value(json).map_err(|e| refused("settings", e.to_string()))?;
    let devices = devices.into_iter().map(|d| d.rule).collect();
    Ok(Built { spec, capabilities: granted, devices, user: (user.uid, user.gid) })
}

fn process(settings: &Settings, image: &Defaults, user: &User, granted: &Granted) -> Result<Value, RunError> {
    let all: Vec<_> = granted.all.iter().collect();
    // As with Docker, a user who is not root holds only what was asked for by name.
    let held: Vec<_> = if user.uid == 0 { all.clone() } else { granted.added.iter().collect() };
    let ambient: Vec<_> = if user.uid == 0 { Vec::new() } else { held.clone() };
    Ok(json!({
        "terminal": false,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups, "umask": UMASK},
        "args": args(settings, image)?,
        "env": env(settings, image, user)?,
        "cwd": workdir(settings, image)?,
        "noNewPrivileges": settings.seccomp == Seccomp::Default,
        "capabilities": {
            "bounding": all, "effective": held, "permitted": held, "inheritable": ambient, "ambient": ambient,
        },
    }))
}

/// The settings' command replaces entrypoint and arguments of the image, its arguments only the latter.
fn args(settings: &Settings, image: &Defaults) -> Result<Vec<String>, RunError> {
    let (command, args) = match (settings.command.is_empty(), settings.args.is_empty()) {
        (false, _) => (&settings.command, &settings.args),
        (true, false) => (&image.entrypoint, &settings.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    let whole: Vec<_> = command.iter().chain(args).cloned().collect();
    if whole.first().is_none_or(String::is_empty) {
        return Err(refused("command", "the image names none; say what to run"));
    }
    match whole.iter().find(|a| a.contains('\0')) {
        Some(_) => Err(refused("args", "an argument holds a NUL character")),
        None => Ok(whole),
    }
}

fn env(settings: &Settings, image: &Defaults, user: &User) -> Result<Vec<String>, RunError> {
    let mut env: BTreeMap<&str, &str> =
        BTreeMap::from([("PATH", PATH), ("HOME", user.home.as_str()), ("HOSTNAME", settings.hostname())]);
    env.extend(image.env.iter().filter_map(|e| e.split_once('=')));
    env.extend(settings.env.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let wrong = |(k, v): &(&&str, &&str)| k.is_empty() || k.contains(['=', '\0']) || v.contains('\0');
    match env.iter().find(wrong) {
        Some((name, _)) => {
            Err(refused("env", format!("'{name}' cannot be set: a name without '=', no NUL characters")))
        }
        None => Ok(env.iter().map(|(k, v)| format!("{k}={v}")).collect()),
    }
}

fn workdir(settings: &Settings, image: &Defaults) -> Result<String, RunError> {
    let named = settings.workdir.as_deref().unwrap_or(&image.working_dir);
    match named {
        "" => Ok("/".into()),
        path => absolute("workdir", path),
    }
}

fn absolute(field: &'static str, path: &str) -> Result<String, RunError> {
    match path.starts_with('/') && !path.split('/').any(|p| p == "..") && !path.contains('\0') {
        true => Ok(path.into()),
        false => Err(refused(field, format!("'{path}' must be absolute and without '..'"))),
    }
}

fn namespaces(network: Network) -> Vec<Value> {
    let mut kinds = vec!["mount", "pid", "ipc", "uts", "cgroup"];
    if network == Network::None {
        kinds.push("network");
    }
    kinds.into_iter().map(|kind| json!({"type": kind})).collect()
}

struct Opened {
    node: Value,
    rule: String,
}

fn device(device: &Device) -> Result<Opened, RunError> {
    let refuse = |why: &str| Err(refused("devices", format!("{} {why}", device.host.display())));
    let data = match fs::metadata(&device.host) {
        Ok(data) => data,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return refuse("does not exist on this board"),
        Err(e) => return Err(fault(format!("device {}", device.host.display()))(e)),
    };
    let kind = match data.file_type() {
        t if t.is_char_device() => "c",
        t if t.is_block_device() => "b",
        _ => return refuse("is no device; files and directories are mounts"),
    };
    let access = &device.access;
    if access.is_empty() || access.chars().any(|c| !"rwm".contains(c)) {
        return refuse(&format!("with access '{access}'; it is some of r (read), w (write), m (make)"));
    }
    let (major, minor) = (major(data.rdev()), minor(data.rdev()));
    Ok(Opened {
        node: json!({"path": absolute("devices", &device.path)?, "type": kind, "major": major, "minor": minor,
            "fileMode": data.mode() & 0o777, "uid": data.uid(), "gid": data.gid()}),
        rule: format!("{kind} {major}:{minor} {access}"),
    })
}

fn mounts(settings: &Settings, cgroups: &Cgroups) -> Result<Vec<Value>, RunError> {
    let of = |path: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": path, "type": kind, "source": source, "options": options});
    let shm = format!("size={}", SHM_BYTES.min(settings.limits.memory_bytes));
    let mut mounts = vec![
        of("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        of("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        of(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        of("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
        of("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        of("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    mounts.extend(own_cgroups(cgroups));
    if settings.network == Network::Host {
        mounts.extend(resolver(settings));
    }
    for mount in &settings.mounts {
        mounts.push(one_mount(mount)?);
    }
    Ok(mounts)
}

/// Its own limits, to be read: a JVM without them takes the board's memory for its own.
fn own_cgroups(cgroups: &Cgroups) -> Vec<Value> {
    const AT: &str = "/sys/fs/cgroup";
    let of = |path: &str, kind: &str, source: &Path, options: &[&str]| json!({"destination": path, "type": kind, "source": source, "options": options});
    let read_only = ["nosuid", "noexec", "nodev", "ro"];
    if cgroups.v1.is_empty() {
        return vec![of(AT, "cgroup", Path::new("cgroup"), &read_only)];
    }
    // libcontainer would mount all hierarchies, a dozen; these two are what programs read.
    let room = ["nosuid", "noexec", "nodev", "mode=755", "size=4k"];
    let mut mounts = vec![of(AT, "tmpfs", Path::new("tmpfs"), &room)];
    let bind = ["bind", "nosuid", "noexec", "nodev", "ro"];
    mounts.extend(cgroups.v1.iter().map(|(name, dir)| of(&format!("{AT}/{name}"), "bind", dir, &bind)));
    mounts
}

/// Who uses the board's network asks whom the board asks, unless a mount says otherwise.
fn resolver(settings: &Settings) -> Option<Value> {
    const AT: &str = "/etc/resolv.conf";
    let source = fs::canonicalize(AT).ok()?;
    let taken = settings.mounts.iter().any(|m| m.path == AT);
    (!taken).then(|| json!({"destination": AT, "type": "bind", "source": source, "options": ["bind", "ro", "nosuid", "nodev"]}))
}

fn one_mount(mount: &Mount) -> Result<Value, RunError> {
    let destination = absolute("mounts", &mount.path)?;
    let given = matches!(mount.from, MountSource::Given { .. });
    let access = if mount.read_only || given { "ro" } else { "rw" };
    Ok(match &mount.from {
        MountSource::Tmpfs { size_bytes } => {
            let (size, inodes) =
                (format!("size={size_bytes}"), format!("nr_inodes={}", size_bytes / 4096 + 64));
            json!({"destination": destination, "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "nodev", "noexec", "mode=1777", access, size, inodes]})
        }
        MountSource::Bind { host } | MountSource::Volume { host } | MountSource::Given { host } => {
            if !host.exists() {
                return Err(refused("mounts", format!("{} does not exist on this board", host.display())));
            }
            json!({"destination": destination, "type": "bind", "source": host,
                "options": ["bind", "rprivate", "nosuid", "nodev", access]})
        }
    })
}
