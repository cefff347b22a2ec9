//! Whether a container is what its settings say, is held to its limits, and leaves nothing behind: busybox in
//! real containers on this machine's cgroups. Needs root.

#[path = "fixtures/container.rs"]
mod container;
mod fixtures;

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use container::{World, cgroups};
use serde_json::json;
use skerry_oci::run::{Device, Mount, MountSource, Network, Seccomp, Writable};

fn mount(from: MountSource, path: &str, read_only: bool) -> Mount {
    Mount { from, path: path.into(), read_only }
}

#[test]
fn command_arguments_and_exit_code() {
    let world = World::new();
    let mut settings = world.settings("exit 42");
    let ran = world.run(&settings);
    assert_eq!(
        (ran.code(), &ran.ended["code"], &ran.ended["signal"]),
        (42, &json!(42), &json!(0)),
        "{}",
        ran.stderr()
    );
    settings.args.clear();
    assert_eq!(world.says_with(&settings), "from the image");
    settings.command = vec!["echo".into(), "own".into()];
    assert_eq!(world.says_with(&settings), "own", "the image's arguments belong to its entrypoint");
    settings.args = vec!["and".into(), "1.10".into()];
    assert_eq!(world.says_with(&settings), "own and 1.10");
    let ran = world.run(&world.settings("echo out; echo err >&2"));
    assert_eq!((ran.stdout().as_str(), ran.stderr().as_str()), ("out", "err"));
}

#[test]
fn environment_hostname_and_working_directory() {
    let world = World::new();
    let mut settings = world.settings("env; hostname; pwd");
    settings.env = [("FROM", "settings"), ("SITE", "a b=c")].map(|(k, v)| (k.into(), v.into())).into();
    settings.hostname = Some("press-1".into());
    let said = world.says_with(&settings);
    for line in ["FROM=settings", "SITE=a b=c", "PATH=/bin", "HOME=/root", "press-1", "/work"] {
        assert!(said.lines().any(|l| l == line), "{line} in {said}");
    }
    assert!(!said.contains("CARGO"), "the shim's own environment: {said}");
    settings.workdir = Some("/tmp".into());
    assert!(world.says_with(&settings).ends_with("/tmp"));
}

#[test]
fn a_container_knows_its_names_and_its_limits() {
    let world = World::new();
    let mut settings =
        world.settings("cat /etc/hosts /etc/hostname; echo $HOSTNAME; umask; stat -c %a /etc/hosts");
    settings.hostname = Some("press-1".into());
    let said = world.says_with(&settings);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((lines[0], lines[2]), ("127.0.0.1\tlocalhost", "127.0.1.1\tpress-1"));
    assert_eq!(lines[3..], ["press-1", "press-1", "0022", "644"]);
    settings.network = Network::Host;
    let board = fs::read_to_string("/etc/hosts").unwrap();
    assert!(world.says_with(&settings).starts_with(&format!("{}\n127.0.1.1\tpress-1", board.trim_end())));

    let limits = "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes cpu.max cpu/cpu.cfs_quota_us 2>/dev/null
        echo 1 >memory.max || echo 1 >memory/memory.limit_in_bytes || echo kept";
    settings.args = vec![if cgroups("memory").is_empty() {
        limits.into()
    } else {
        limits.replace("echo 1 >memory.max ||", "")
    }];
    let said = world.says_with(&settings);
    assert!(said.starts_with("67108864\n100000") && said.ends_with("kept"), "{said}");
}

#[test]
fn users_are_those_of_the_image() {
    let world = World::new();
    let mut settings = world.settings("id; echo $HOME");
    settings.user = Some("web".into());
    let said = world.says_with(&settings);
    assert!(said.contains("uid=101(web) gid=102(web) groups=4(adm)") && said.ends_with("/srv"), "{said}");
    settings.user = Some("7:8".into());
    assert!(world.says_with(&settings).contains("uid=7 gid=8"));
    settings.user = Some("stranger".into());
    let ran = world.run(&settings);
    assert!(
        ran.code() == 125 && ran.stderr().contains("user: the image's /etc/passwd has no 'stranger'"),
        "{}",
        ran.stderr()
    );
}

#[test]
fn capabilities_are_dockers_and_what_is_asked_for() {
    let world = World::new();
    let effective = |settings: &_| {
        let said = world.says_with(settings);
        u64::from_str_radix(said.split_whitespace().last().unwrap(), 16).unwrap()
    };
    let mut settings = world.settings("grep CapEff /proc/self/status");
    let has_filter = !cgroups("devices").is_empty();
    let usual = if has_filter { 0xa804_25fb } else { 0xa004_25fb };
    assert_eq!(effective(&settings), usual);
    settings.capabilities.drop = vec!["ALL".into()];
    assert_eq!(effective(&settings), 0);
    settings.capabilities.drop = vec!["CHOWN".into()];
    settings.capabilities.add = vec!["CAP_NET_ADMIN".into()];
    assert_eq!(effective(&settings), usual & !1 | 1 << 12);
    settings.user = Some("web".into());
    assert_eq!(effective(&settings), 1 << 12, "who is not root holds what was asked for by name");
    assert!(world.says("grep NoNewPrivs /proc/self/status").ends_with('1'));
}

#[test]
fn the_filter_stops_ten_calls_and_lets_ten_through() {
    let world = World::new();
    let mut settings = world.settings("");
    settings.command = vec!["/probe".into()];
    let bind = |host: &str, path: &str| mount(MountSource::Bind { host: host.into() }, path, true);
    settings.mounts = vec![bind(env!("CARGO_BIN_EXE_oci-probe"), "/probe")];
    // Its C library is the board's.
    for dir in ["/lib", "/lib64", "/usr/lib"] {
        if fs::metadata(dir).is_ok() {
            settings.mounts.push(bind(dir, dir));
        }
    }
    let said = world.says_with(&settings);
    let answer = |name: &str| {
        let line = said
            .lines()
            .find(|l| l.split(' ').next() == Some(name))
            .unwrap_or_else(|| panic!("{name}: {said}"));
        line.split(' ').nth(1).unwrap().parse::<i32>().unwrap()
    };
    const EPERM: i32 = 1;
    const ENOSYS: i32 = 38;
    for name in [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "bpf",
        "perf_event_open",
        "keyctl",
        "init_module",
        "kexec_load",
        "reboot",
        "personality",
        "vsock",
    ] {
        assert_eq!(answer(name), EPERM, "{name}");
    }
    for name in [
        "getpid",
        "getuid",
        "getcpu",
        "sched_yield",
        "umask",
        "personality-ask",
        "socket",
        "eventfd2",
        "epoll_create1",
    ] {
        assert_eq!(answer(name), 0, "{name}");
    }
    assert_eq!((answer("clone3"), answer("newer")), (ENOSYS, ENOSYS));
    assert!(world.says("grep Seccomp: /proc/self/status").ends_with('2'));
    let mut open = settings.clone();
    open.seccomp = Seccomp::Off;
    let said = world.says_with(&open);
    assert!(said.contains("keyctl") && !said.contains("clone3 38"), "{said}");
}

#[test]
fn memory_that_runs_out_is_named() {
    let world = World::new();
    let mut settings = world.settings("exec tail /dev/zero");
    settings.limits.memory_bytes = 16 << 20;
    let ran = world.run(&settings);
    assert_eq!((&ran.ended["code"], &ran.ended["signal"]), (&json!(137), &json!(9)));
    assert!(ran.ended["oomKills"].as_u64().unwrap() >= 1);
    // A child's end is counted too, though the container lives on.
    settings.args = vec!["tail /dev/zero; exit 3".into()];
    let ran = world.run(&settings);
    assert!(ran.code() == 3 && ran.ended["oomKills"].as_u64().unwrap() >= 1);
    assert_eq!(world.run(&world.settings("true")).ended["oomKills"], 0);
}

#[test]
fn processes_and_processor_time_are_bounded() {
    let world = World::new();
    let mut settings = world.settings("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 9 & done; echo all");
    settings.limits.pids = 8;
    let ran = world.run(&settings);
    assert!(
        ran.stderr().contains("can't fork") && !ran.stdout().contains("all"),
        "{} {}",
        ran.stdout(),
        ran.stderr()
    );
    settings.args = vec!["echo one".into()];
    settings.limits.pids = 1;
    assert_eq!(world.says_with(&settings), "one", "1 is taken for 2, with which it can be created");

    // Its own accounting, for this machine may be busy.
    let mut settings = world.settings("timeout 2 yes >/dev/null; cat /proc/uptime >/dev/null; times");
    settings.limits.cpu_millis = 200;
    let start = Instant::now();
    let said = world.run(&settings).stdout();
    let children = said.lines().last().unwrap_or_default().to_string();
    let seconds: f64 = children
        .split_whitespace()
        .filter_map(|t| t.strip_prefix("0m")?.strip_suffix('s')?.parse::<f64>().ok())
        .sum();
    assert!(seconds < 0.3 * start.elapsed().as_secs_f64(), "{children} of {:?}", start.elapsed());
}

#[test]
fn the_writable_layer_is_bounded_and_thrown_away() {
    let world = World::new();
    let fill = "dd if=/dev/zero of=/big bs=1M count=64 2>&1; echo x > /bin/echo; stat -c %s /big";
    for writable in [
        Writable::Memory { size_bytes: 4 << 20 },
        Writable::Disk { directory: world.tmp.path().into(), size_bytes: 4 << 20 },
    ] {
        let mut settings = world.settings(fill);
        settings.writable = writable;
        let said = world.says_with(&settings);
        assert!(said.contains("No space left on device"), "{said}");
        let bytes: u64 = said.lines().last().unwrap().parse().unwrap();
        assert!(bytes <= 4 << 20 && bytes > 2 << 20, "{bytes}");
        assert_eq!(world.says("ls /big 2>&1 || echo again"), "ls: /big: No such file or directory\nagain");
    }
    assert_eq!(
        fs::read_dir(world.tmp.path())
            .unwrap()
            .flatten()
            .filter(|f| f.file_name().to_string_lossy().starts_with('.'))
            .count(),
        0
    );
}

#[test]
fn mounts_are_as_asked_for() {
    let world = World::new();
    let host = world.tmp.path().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "of the board").unwrap();
    let bind = || MountSource::Bind { host: host.clone() };
    let mut settings = world.settings(
        "cat /ro/file; echo; echo x > /ro/file; echo written > /rw/new; cat /one; echo; dd if=/dev/zero of=/t/x bs=1M count=9 2>&1 | grep -c space; \
         grep ' /t ' /proc/mounts",
    );
    settings.mounts = vec![
        mount(bind(), "/ro", true),
        mount(bind(), "/rw", false),
        mount(MountSource::Bind { host: host.join("file") }, "/one", true),
        mount(MountSource::Tmpfs { size_bytes: 2 << 20 }, "/t", false),
    ];
    let ran = world.run(&settings);
    let said = ran.stdout();
    assert!(said.starts_with("of the board\nof the board\n1\n"), "{said}: {}", ran.stderr());
    assert!(said.contains("size=2048k") && said.contains("noexec"), "{said}");
    assert!(ran.stderr().contains("Read-only file system"), "{}", ran.stderr());
    assert_eq!(fs::read_to_string(host.join("new")).unwrap(), "written\n");

    settings.mounts = vec![mount(MountSource::Bind { host: "/nonexistent".into() }, "/x", true)];
    let ran = world.run(&settings);
    assert!(
        ran.code() == 125 && ran.stderr().contains("mounts: /nonexistent does not exist on this board"),
        "{}",
        ran.stderr()
    );
}

#[test]
fn a_read_only_root_and_hidden_parts_of_proc() {
    let world = World::new();
    let mut settings = world.settings("touch /x; touch /tmp/y && echo written; cat /proc/kcore | head -c 1 | wc -c; echo 1 > /proc/sys/vm/swappiness");
    settings.read_only_root = true;
    settings.mounts = vec![mount(MountSource::Tmpfs { size_bytes: 1 << 20 }, "/tmp", false)];
    let ran = world.run(&settings);
    assert!(ran.stderr().contains("touch: /x: Read-only file system"), "{}", ran.stderr());
    assert_eq!(ran.stdout(), "written\n0");
    assert!(ran.stderr().contains("/proc/sys/vm/swappiness: Read-only"), "{}", ran.stderr());
}

#[test]
fn devices_are_those_that_are_named() {
    let world = World::new();
    let mut settings = world.settings("stat -c %t:%T /dev/plc; head -c 1 /dev/plc | wc -c; ls /dev");
    settings.devices = vec![Device { host: "/dev/zero".into(), path: "/dev/plc".into(), access: "r".into() }];
    let said = world.says_with(&settings);
    assert!(said.starts_with("1:5\n1\n"), "{said}");
    assert!(said.contains("null") && !said.contains("mem"), "{said}");
    if !cgroups("devices").is_empty() {
        // /dev/kmsg: allowed to make, not to open.
        let ran = world.run(&world.settings("mknod /dev/kmsg c 1 11 && head -c 1 /dev/kmsg"));
        assert!(ran.stderr().contains("Operation not permitted"), "{}", ran.stderr());
    }
    let wrong = |host: &str, access: &str| {
        let mut settings = world.settings("true");
        settings.devices = vec![Device { host: host.into(), path: "/dev/x".into(), access: access.into() }];
        world.run(&settings).stderr()
    };
    assert!(wrong("/dev/none", "r").contains("devices: /dev/none does not exist on this board"));
    assert!(wrong("/etc/hostname", "r").contains("is no device"));
    assert!(wrong("/dev/null", "rx").contains("it is some of r"));
}

#[test]
fn the_network_is_its_own_or_the_boards() {
    let world = World::new();
    let said = world.says(
        "ls /sys/class/net; ifconfig lo | grep -c 'UP LOOPBACK RUNNING'; timeout 5 nc -l -p 7 >/tmp/got & \
        sleep 0.5; echo hello | timeout 5 nc 127.0.0.1 7; wait; cat /tmp/got",
    );
    assert_eq!(said, "lo\n1\nhello");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let mut settings = world.settings("readlink /proc/self/ns/net; cat /etc/resolv.conf | wc -c");
    let of_none = world.says_with(&settings);
    assert!(!of_none.contains(&own.display().to_string()));
    settings.network = Network::Host;
    let said = world.says_with(&settings);
    assert!(said.contains(&own.display().to_string()), "{said}");
    let bytes = fs::metadata("/etc/resolv.conf").map(|d| d.len()).unwrap_or(0);
    assert!(said.ends_with(&bytes.to_string()), "{said}");
}

#[test]
fn signals_reach_the_process() {
    let world = World::new();
    let settings = world.settings("trap 'exit 7' TERM; while true; do sleep 0.05; done");
    let mut job = world.job(&settings);
    job["signals"] = json!([[300, 15]]);
    let ran = world.run_job(&settings, job);
    assert_eq!((ran.code(), &ran.ended["signal"]), (7, &json!(0)), "{}", ran.stderr());

    let settings = world.settings("sleep 60 & sleep 60");
    let mut job = world.job(&settings);
    job["signals"] = json!([[200, 15], [200, 9]]);
    let ran = world.run_job(&settings, job);
    assert_eq!((&ran.ended["code"], &ran.ended["signal"]), (&json!(137), &json!(9)));
}

#[test]
fn what_cannot_be_run_is_said() {
    let world = World::new();
    let refusal = |command: &str| {
        let mut settings = world.settings("");
        (settings.command, settings.user) = (vec![command.into()], Some("web".into()));
        let ran = world.run(&settings);
        assert_eq!(ran.code(), 125, "{}", ran.stderr());
        ran.stderr()
    };
    assert!(
        refusal("/bin/nothing").contains("'/bin/nothing' is not in the image"),
        "{}",
        refusal("/bin/nothing")
    );
    assert!(refusal("nothing").contains("'nothing' is not in the image's PATH (/bin)"));
    assert!(refusal("private").contains("/bin/private may not be executed"), "{}", refusal("private"));
    let mut settings = world.settings("true");
    settings.cgroups_path = "relative".into();
    assert!(
        world
            .command(&settings, &world.job(&settings))
            .output()
            .unwrap()
            .stderr
            .starts_with(b"cgroupsPath: 'relative'")
    );
    let settings = world.settings("true");
    let mut job = world.job(&settings);
    job["secondThread"] = json!(true);
    let ran = world.run_job(&settings, job);
    assert!(ran.stderr().contains("2 threads"), "{}", ran.stderr());
}

/// The shim is killed, its container lives; the next one of that place clears it away, even frozen.
#[test]
fn what_a_killed_shim_left_is_cleared() {
    let world = World::new();
    let settings = world.settings("echo up; sleep 60");
    let job = world.job(&settings);
    let mut shim = world.command(&settings, &job).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 2];
    std::io::Read::read_exact(shim.stdout.as_mut().unwrap(), &mut up).unwrap();
    shim.kill().unwrap();
    shim.wait().unwrap();
    world.no_mounts();
    let left = cgroups(&settings.cgroups_path);
    assert!(!left.is_empty(), "the container outlives its shim");
    for dir in &left {
        let _ = fs::write(dir.join("freezer.state"), "FROZEN");
        let _ = fs::write(dir.join("cgroup.freeze"), "1");
    }
    assert!(world.tmp.path().join(&settings.id).join("state").exists());
    let mut again = settings.clone();
    again.args = vec!["echo again".into()];
    assert_eq!(world.says_with(&again), "again");
}
