//! `hub exec` and `hub cp` on real processes: what they pass on, what ends them, and that nothing is left.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::{Fleet, binary, busybox, cgroups, until};

const LIVES: &str = r#"  args: ["exec sleep 100000"]
  env: {MODE: as-told}
  resources: {memory: 64Mi, storage: 256Mi, pids: 16}"#;

fn fleet(boards: usize, spec: &str) -> Fleet {
    let fleet = Fleet::start(boards);
    let layout = busybox(&fleet.dir.path().join("image"), "");
    let (code, out, err) = fleet.hub.cli(&["push", layout.to_str().unwrap(), "--tag", "box:1"]);
    assert_eq!(code, 0, "{out}{err}");
    fleet.hub.apply(&e2e::manifest("work", "box", spec));
    fleet.steady("work");
    fleet
}

fn hub(fleet: &Fleet, args: &[&str]) -> Command {
    let mut command = fleet.hub.operator(&binary("hub"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(fleet: &Fleet, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = hub(fleet, args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap_or(-1), text(&stdout), text(&stderr))
}

/// In the container's cgroups, what joined it included.
fn processes(fleet: &Fleet) -> usize {
    let dirs = cgroups(&fleet.boards[0].cgroup).into_iter();
    let payload = dirs.filter(|dir| dir.components().any(|c| c.as_os_str() == "work"));
    let files = payload.filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
    let pids: std::collections::BTreeSet<String> =
        files.flat_map(|text| text.lines().map(str::to_string).collect::<Vec<_>>()).collect();
    pids.len()
}

/// Most of memory that the process ever had, in KiB.
fn high_water(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Of the only board's sessions.
fn session_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let is_session = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(b"shim\0session\0")
    };
    pids.filter(is_session).collect()
}

#[test]
fn a_command_is_as_if_it_ran_here() {
    let fleet = fleet(1, LIVES);
    let line = "echo out $MODE; echo err >&2; exit 42";
    assert_eq!(
        run(&fleet, &["exec", "work", "--", "sh", "-c", line]),
        (42, "out as-told\n".into(), "err\n".into())
    );
    let (code, _, err) = run(&fleet, &["exec", "work/0@board-0", "--", "nothing"]);
    assert!(code == 127 && err.contains("'nothing' is not in the container's PATH (/bin)"), "{code} {err}");
    let (code, _, err) = run(&fleet, &["exec", "work", "--", "/etc/salt"]);
    assert!(code == 126 && err.contains("may not be executed"), "{code} {err}");
    let args = [
        "exec",
        "-u",
        "7:8",
        "-w",
        "/etc",
        "-e",
        "A=1.10",
        "work",
        "--",
        "sh",
        "-c",
        "id -u; cat /etc/salt; pwd; echo $A",
    ];
    assert_eq!(run(&fleet, &args), (0, "7\n/etc\n1.10\n".into(), String::new()));

    let mut child = hub(&fleet, &["exec", "-i", "work", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through");
    // Nobody reads to the end.
    let mut child = hub(&fleet, &["exec", "work", "--", "yes"]).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 1024]).unwrap();
    drop(child.stdout.take());
    child.wait().unwrap();
    until("yes has ended", || processes(&fleet) == 1);

    for (args, why) in [
        (&["exec", "work", "ls", "/"][..], "the command comes after '--': hub exec work -- ls /"),
        (&["exec", "work"], "which command? hub exec -it work -- sh"),
        (&["exec", "-o", "json", "work", "--", "ls"], "exec has no -o"),
        (&["exec", "-it", "work", "--", "sh"], "-t needs a terminal"),
        (&["exec", "work@", "--", "ls"], "write [namespace/]workload[/slot][@agent]"),
        (&["cp", "a", "b"], "neither side names a container"),
        (&["cp", "work:etc", "b"], "such as work:/etc"),
    ] {
        let (code, _, err) = run(&fleet, args);
        assert!(code == 2 && err.contains(why), "{code} {err}");
    }
    fleet.finish();
}

/// `script` gives the command line a terminal of its own.
#[test]
fn a_terminal_is_handed_on_and_given_back() {
    let fleet = fleet(1, LIVES);
    let grown = fleet.dir.path().join("grown");
    let hub_line = format!(
        "stty rows 31 cols 117; (until test -e {}; do sleep 0.1; done; stty rows 40 cols 90) <&1 & \
         {} exec -it work -- sh -c 'test -t 0 && test -t 1 && busybox stty size; echo $TERM; read a; echo got $a; \
         until busybox stty size | busybox grep -q \"40 90\"; do busybox sleep 0.1; done; echo followed; exit 9'; \
         echo code $?; stty -a",
        grown.display(),
        binary("hub").display()
    );
    let mut command = fleet.hub.operator(Path::new("script"));
    command.args(["-qefc", &hub_line, "/dev/null"]).env("TERM", "vt220");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is missing: run tests/run");
    let mut stdin = child.stdin.take().unwrap();
    let (mut stdout, mut said) = (child.stdout.take().unwrap(), String::new());
    let mut until_said = |part: &str| {
        let mut buffer = [0; 4096];
        while !said.contains(part) {
            let n = stdout.read(&mut buffer).unwrap();
            assert!(n > 0, "{part} in {said}");
            said += &String::from_utf8_lossy(&buffer[..n]);
        }
    };
    until_said("vt220");
    stdin.write_all(b"typed\r").unwrap();
    until_said("got typed");
    fs::write(grown, "").unwrap();
    stdout.read_to_string(&mut said).unwrap();
    drop(stdin);
    child.wait().unwrap();
    for part in ["31 117", "vt220", "got typed", "followed", "code 9", " icanon", " echo "] {
        assert!(said.contains(part), "{part} in {said}");
    }
    fleet.finish();
}

/// 100 MB there and back, unchanged; nobody on the way holds more than a few pieces, also when nobody reads.
#[test]
fn much_passes_through_little_memory() {
    let fleet = fleet(1, LIVES);
    let mut child = hub(&fleet, &["exec", "-i", "work", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    const PIECES: u64 = 1600;
    let piece = |n: u64| -> Vec<u8> {
        let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..8192)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect()
    };
    let hub_before = high_water(fleet.hub.process.pid());
    let start = Instant::now();
    // Its end is that of `cat`: it stays open until all have been measured.
    let writing = std::thread::spawn(move || {
        (0..PIECES).for_each(|n| stdin.write_all(&piece(n)).unwrap());
        stdin
    });
    let mut buffer = vec![0; 64 << 10];
    for n in 0..PIECES {
        stdout.read_exact(&mut buffer).unwrap();
        assert!(buffer == piece(n), "piece {n}");
    }
    let took = start.elapsed();
    let session = session_pids().into_iter().map(high_water).max().unwrap_or(0);
    let own = high_water(child.id());
    drop(writing.join().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let hub_grew = high_water(fleet.hub.process.pid()) - hub_before;
    println!("100 MB in {took:?}; hub +{hub_grew} KiB, session {session} KiB, command line {own} KiB");
    assert!(session > 0 && own > 0, "nothing was measured");
    assert!(session < 24 << 10 && own < 40 << 10 && hub_grew < 16 << 10, "{session} {own} {hub_grew}");

    until("the first session is gone", || session_pids().is_empty());
    let mut child = hub(&fleet, &["exec", "work", "--", "yes"]).spawn().unwrap();
    until("its session is there", || !session_pids().is_empty());
    // Nobody reads: by then all pipes are full.
    std::thread::sleep(Duration::from_secs(2));
    let session = session_pids().into_iter().map(high_water).max().unwrap_or(0);
    let own = high_water(child.id());
    assert!(session > 0 && own > 0, "nothing was measured");
    assert!(session < 24 << 10 && own < 40 << 10, "{session} {own}");
    child.kill().unwrap();
    child.wait().unwrap();
    until("yes has ended", || processes(&fleet) == 1);
    fleet.finish();
}

#[test]
fn it_ends_with_whoever_goes_first() {
    let mut fleet = fleet(1, LIVES);
    let line = "trap '' TERM HUP; echo up; sleep 1000 & sleep 1000 & sleep 1000";
    let begin = |fleet: &Fleet| {
        let mut child = hub(fleet, &["exec", "work", "--", "sh", "-c", line]).spawn().unwrap();
        // It runs before the board has dialled in: what ends then is refused, not broken off.
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        until("it runs", || processes(fleet) == 4);
        child
    };
    // The command line, by a signal and by force.
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let mut child = begin(&fleet);
        e2e::signal(child.id(), signal);
        child.wait().unwrap();
        until("nothing is left of it", || processes(&fleet) == 1);
    }
    // The session's process on the board.
    let child = begin(&fleet);
    // Not its keeper: that one has another parent, and ends what is left.
    let agent = fleet.boards[0].process.pid();
    let of_agent = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|l| l == format!("PPid:\t{agent}"))
    };
    session_pids().into_iter().filter(of_agent).for_each(e2e::kill9);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the session ended before the command did"));
    until("nothing is left of it", || processes(&fleet) == 1);
    // The agent; the container itself runs on.
    let (child, shim) = (begin(&fleet), fleet.boards[0].pid("work"));
    fleet.boards[0].kill();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
    until("nothing is left of it", || processes(&fleet) == 1);
    let (code, _, err) = run(&fleet, &["exec", "work", "--", "true"]);
    assert!(code == 3 && err.contains("not online"), "at once, for a board that is away: {code} {err}");
    fleet.boards[0].revive();
    fleet.online(0);
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pid("work"), shim);
    // The hub.
    let child = begin(&fleet);
    fleet.hub.kill();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
    until("nothing is left of it", || processes(&fleet) == 1);
    fleet.hub.revive();
    fleet.online(0);
    // The container.
    let child = begin(&fleet);
    fleet.hub.delete("/v1/workloads/default/work");
    assert_ne!(child.wait_with_output().unwrap().status.code(), Some(0));
    fleet.finish();
}

#[test]
fn which_one_is_meant_must_be_said() {
    let fleet = fleet(2, LIVES);
    fleet.run("module", "hello", "  args: [--after, \"1000000\"]");
    let (code, _, err) = run(&fleet, &["exec", "work", "--", "true"]);
    assert!(code == 3 && err.contains("2 instances run") && err.contains("work/0 @board-1"), "{code} {err}");
    assert_eq!(run(&fleet, &["exec", "work@board-1", "--", "true"]).0, 0);
    let (code, _, err) = run(&fleet, &["exec", "module@board-0", "--", "true"]);
    assert!(code == 3 && err.contains("is WebAssembly"), "{code} {err}");
    let (code, _, err) = run(&fleet, &["exec", "nobody", "--", "true"]);
    assert!(code == 4 && err.contains("no instance of nobody"), "{code} {err}");
    fleet.finish();
}

/// `name mode kind content` of all below, in order.
fn digest(root: &Path) -> String {
    let script = "cd \"$0\" && find . -printf '%P %m %y %l %TY%Tm%Td%TH%TM\\n' | sort && find . -type f | sort | xargs -d '\\n' sha256sum";
    let output = Command::new("sh").args(["-c", script]).arg(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn files_go_there_and_back_and_nowhere_else() {
    let fleet = fleet(1, LIVES);
    let dir = fleet.dir.path().join("files");
    let tree = dir.join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/big"), (0..20_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>()).unwrap();
    fs::write(tree.join("a/b/ümlaut \" x"), "text").unwrap();
    fs::set_permissions(tree.join("a/b/ümlaut \" x"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("b", tree.join("a/link")).unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    let cp = |from: &str, to: &str| run(&fleet, &["cp", from, to]);
    assert_eq!(cp(&at("tree"), "work:/there"), (0, String::new(), String::new()));
    assert_eq!(cp("work:/there", &at("back")), (0, String::new(), String::new()));
    assert_eq!(digest(&dir.join("back")), digest(&tree));
    // Into directories that are there; one file; over a file.
    assert_eq!(cp(&at("tree/a/b/ümlaut \" x"), "work:/there/").0, 0);
    assert_eq!(run(&fleet, &["exec", "work", "--", "cat", "/there/ümlaut \" x"]).1, "text");
    assert_eq!(cp("work:/etc/salt", &at("")).0, 0);
    assert_eq!(fs::read(dir.join("salt")).unwrap(), b"");
    for (from, to, why) in [
        ("work:/none", at("x"), "No such file"),
        ("work:/etc/salt", at("none/x"), "is not there"),
        ("work:/etc", at("salt"), "something else"),
    ] {
        let (code, _, err) = cp(from, &to);
        assert!(code != 0 && err.contains(why), "{code} {err}");
    }
    let (code, _, err) = cp(&at("salt"), "work:/none/x");
    assert!(code == 1 && err.contains("No such file"), "{code} {err}");

    // Links that lead out, planted by the container.
    let plant = format!(
        "busybox mkdir -p /evil/sub; busybox ln -s {} /evil/out; busybox ln -s ../../.. /evil/sub/up; \
        busybox ln -s /etc /evil/etc; busybox mkfifo /evil/pipe; echo x > /evil/file",
        dir.display()
    );
    assert_eq!(run(&fleet, &["exec", "work", "--", "sh", "-c", &plant]).0, 0);
    let (code, _, err) = cp("work:/evil", &at("evil"));
    assert_eq!(code, 1, "{err}");
    for name in ["evil/out: a link out", "evil/sub/up: a link out", "evil/etc: a link out", "evil/pipe: pipe"]
    {
        assert!(err.contains(name), "{name}: {err}");
    }
    // Its /etc, not the board's.
    fs::write(dir.join("mark"), "mine").unwrap();
    assert_eq!(cp(&at("mark"), "work:/evil/etc/").0, 0);
    assert_eq!(run(&fleet, &["exec", "work", "--", "cat", "/etc/mark"]).1, "mine");
    assert!(!Path::new("/etc/mark").exists());
    // A board may not fill the disk over here.
    let (code, _, err) = run(&fleet, &["cp", "--limit", "10Mi", "work:/there", &at("less")]);
    assert!(code == 1 && err.contains("--limit allows more"), "{code} {err}");
    assert!(!dir.join("less/a/big").exists(), "it claims more than is left, and is not begun");
    // More than there is room for is an error, and hurts nobody.
    fs::write(dir.join("huge"), vec![1; 300 << 20]).unwrap();
    let (code, _, err) = cp(&at("huge"), "work:/huge");
    assert!(code == 1 && err.contains("No space left"), "{code} {err}");
    assert_eq!(fleet.instance("work", 0)["restarts"], 0);
    until("nothing is left of it", || processes(&fleet) == 1);
    fleet.finish();
}
