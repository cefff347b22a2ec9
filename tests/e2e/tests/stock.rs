//! Stock images as a user runs them: pushed, applied by the manifests of `examples/`, restarted, deleted. They serve,
//! keep their volume over a restart, and end well by their image's own stop signal.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{Fleet, cgroups, eventually, own_network, push_stock, until};

/// A busy machine makes a cluster slowly.
const LONGEST: Duration = Duration::from_secs(60);

/// The manifest of that name, and a board on which it is steady, on a network where every port is free.
fn started(name: &str) -> Fleet {
    own_network();
    let fleet = Fleet::start(1);
    push_stock(&fleet, name);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{name}.yaml"));
    let (code, out, err) = fleet.hub.cli(&["apply", "-f", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}{err}");
    fleet.steady(name);
    fleet
}

/// By `hub restart`; it must have ended by itself and well, on its stop signal.
fn restart(fleet: &Fleet, name: &str) {
    let shim = fleet.boards[0].pid(name);
    let (code, out, err) = fleet.hub.cli(&["restart", name]);
    assert_eq!(code, 0, "{out}{err}");
    until("another run is there", || fleet.boards[0].pids().values().any(|pid| *pid != shim));
    fleet.steady(name);
    let exit = fleet.instance(name, 0)["lastExit"].clone();
    assert_eq!((exit["name"].as_str(), exit["code"].as_i64()), (Some("code"), Some(0)), "{exit}");
}

/// One request on a connection of its own, to the connection's end.
fn ask(port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// In a container's own file system and network, as `hub exec` will.
fn inside(fleet: &Fleet, env: &[(&str, &str)], command: &[&str]) -> (bool, String) {
    let group =
        cgroups(&fleet.boards[0].cgroup).into_iter().find(|dir| dir.ends_with("work")).expect("a payload");
    let pids = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
    let pid = pids.lines().next().expect("a process of it");
    let mut nsenter = Command::new("nsenter");
    nsenter
        .args(["--target", pid, "--mount", "--root", "--", "/bin/sh", "-c", "cd / && exec \"$0\" \"$@\""])
        .args(command);
    let output = nsenter.env_clear().envs(env.iter().copied()).output().expect("nsenter: util-linux");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).trim().to_string())
}

#[test]
fn nginx_serves_with_a_read_only_root() {
    let fleet = started("nginx");
    let get = "GET / HTTP/1.0\r\n\r\n";
    assert!(ask(80, get).unwrap().contains("Welcome to nginx!"));
    until("its log is the container's", || fleet.boards[0].said("nginx").contains("GET / HTTP/1.0"));
    restart(&fleet, "nginx");
    assert!(ask(80, get).unwrap().contains("200 OK"));
    fleet.finish();
}

#[test]
fn redis_keeps_what_it_was_told() {
    let fleet = started("redis");
    assert_eq!(ask(6379, "PING\r\nSET line a\r\nQUIT\r\n").unwrap(), "+PONG\r\n+OK\r\n+OK\r\n");
    restart(&fleet, "redis");
    assert_eq!(ask(6379, "GET line\r\nQUIT\r\n").unwrap(), "$1\r\na\r\n+OK\r\n");
    fleet.finish();
}

#[test]
fn mosquitto_retains_over_a_restart() {
    let fleet = started("mosquitto");
    let client = |command: &str, args: &[&str]| {
        let output = Command::new(command).args(args).output().expect("mosquitto-clients");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    };
    client("mosquitto_pub", &["-r", "-q", "1", "-t", "plant/line", "-m", "runs"]);
    restart(&fleet, "mosquitto");
    assert_eq!(client("mosquitto_sub", &["-t", "plant/#", "-C", "1", "-W", "10", "-v"]), "plant/line runs");
    fleet.finish();
}

#[test]
fn postgres_makes_its_cluster_and_keeps_it() {
    let fleet = started("postgres");
    let sql = |password: &str, line: &str| {
        let psql = ["/usr/lib/postgresql/15/bin/psql", "-h", "127.0.0.1", "-U", "postgres", "-Atc", line];
        inside(&fleet, &[("PGPASSWORD", password)], &psql)
    };
    // Steady is: running for three seconds; making the cluster may take longer.
    let answers = |line: &str, answer: &str| {
        let answered = eventually(LONGEST, || sql("change-me", line) == (true, answer.into()));
        assert!(answered, "{:?}\n{}", sql("change-me", line), fleet.boards[0].said("postgres"));
    };
    answers("SELECT 1", "1");
    let (refused, why) = sql("another", "SELECT 1");
    assert!(!refused && why.contains("password authentication failed"), "{why}");
    assert!(sql("change-me", "CREATE TABLE t (v text); INSERT INTO t VALUES ('kept')").0);
    restart(&fleet, "postgres");
    answers("SELECT v FROM t", "kept");
    fleet.finish();
}
