//! A busybox image, unpacked, and what a container's assignment looks like.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use contract::InstanceId;
use contract::run::{Assignment, Container};
use contract::spec::Runtime as Kind;
use edge_agent::instance::Image;

use super::{Board, assignment, until};

const APPLETS: [&str; 24] = [
    "sh", "echo", "cat", "id", "sleep", "true", "yes", "tail", "dd", "mkdir", "touch", "ls", "grep",
    "hostname", "env", "pwd", "kill", "df", "stat", "head", "wc", "ps", "usleep", "mknod",
];

fn busybox() -> PathBuf {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let found = places.into_iter().find(|p| p.exists());
    found.expect("busybox is missing: run tests/run, or apt-get install busybox-static")
}

/// Two layers, as an agent would have unpacked them.
pub fn image(board: &Board) -> Image {
    image_at(board.path())
}

pub fn image_at(board: &Path) -> Image {
    let (lower, upper) = (board.join("layers/lower"), board.join("layers/upper"));
    if !upper.exists() {
        fs::create_dir_all(lower.join("bin")).unwrap();
        fs::copy(busybox(), lower.join("bin/busybox")).unwrap();
        fs::set_permissions(lower.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        APPLETS.iter().for_each(|name| symlink("busybox", lower.join("bin").join(name)).unwrap());
        for dir in ["etc", "data", "work"] {
            fs::create_dir_all(upper.join(dir)).unwrap();
        }
        fs::write(upper.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/data:/bin/sh\n")
            .unwrap();
        fs::write(upper.join("etc/group"), "root:x:0:\nweb:x:102:\n").unwrap();
    }
    let text = r#"{"Env":["FROM=image","PATH=/bin"],"Entrypoint":["/bin/sh","-c"],"Cmd":["echo from the image"],"WorkingDir":"/work"}"#;
    Image {
        manifest: board.join("manifest"),
        defaults: serde_json::from_str(text).unwrap(),
        layers: vec![lower, upper],
    }
}

/// A shell line in the image.
pub fn container(instance: &InstanceId, line: &str) -> Assignment {
    let mut made = assignment(instance, &[line]);
    made.run.runtime = Kind::Oci;
    made.run.container = Some(Container::default());
    made
}

/// Processes of the payload of this run, the container's first among them.
pub fn payload(board: &Board, instance: &InstanceId) -> Vec<u32> {
    let run = fs::read_dir(board.settings().places.instance(instance)).ok().and_then(|mut runs| runs.next());
    let Some(Ok(run)) = run else { return Vec::new() };
    let dir = edge_agent::instance::record::RunDir(run.path());
    dir.read_spec().ok().flatten().map(|spec| spec.cgroup.payload()).unwrap_or_default()
}

/// All cgroups of this board, in any hierarchy.
pub fn cgroups(board: &Board) -> Vec<PathBuf> {
    let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|d| d.path());
    let roots = roots.chain([PathBuf::from("/sys/fs/cgroup")]);
    let parents = roots.map(|root| root.join(board.cgroup_parent.trim_start_matches('/')));
    let below = parents.flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Besides what every board's test looks for: all hierarchies, loop devices.
pub fn assert_no_container_left(board: &Board) {
    board.assert_nothing_left();
    assert_eq!(cgroups(board), Vec::<PathBuf>::new());
    until("no loop device is left", || loops(board.path()).is_empty());
}

fn loops(below: &Path) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let backing = devices.filter_map(|d| fs::read_to_string(d.path().join("loop/backing_file")).ok());
    backing.filter(|file| Path::new(file).starts_with(below)).collect()
}
