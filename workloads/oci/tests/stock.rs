//! Whether stock images run unchanged: nginx, redis, mosquitto and postgres serve, keep what they were given in a
//! volume over a restart, and end well by their own stop signal, within modest limits. Needs root.

#[path = "fixtures/container.rs"]
mod container;
mod fixtures;
#[path = "fixtures/stock.rs"]
mod stock;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use container::World;
use skerry_oci::run::{Mount, MountSource, Settings};
use stock::Server;

/// What a manifest gets that says nothing about stopping.
const GRACE: Duration = Duration::from_secs(60);

#[track_caller]
fn ends_well(server: Server<'_>) {
    let peak = server.memory_peak();
    let (status, took) = server.stop();
    assert!(status.success() && took < GRACE, "{status} after {took:?}");
    println!("stopped in {took:?}, at most {} MiB", peak >> 20);
}

fn tmpfs(path: &str) -> Mount {
    Mount { from: MountSource::Tmpfs { size_bytes: 4 << 20 }, path: path.into(), read_only: false }
}

/// One request on a connection of its own, to the connection's end.
fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(GRACE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A client out of the same image, as people do it.
#[track_caller]
fn client(world: &World, command: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut settings = stock::settings(world);
    settings.command = command.iter().map(|s| s.to_string()).collect();
    settings.env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let ran = world.run(&settings);
    (ran.code(), ran.stdout(), ran.stderr())
}

#[test]
fn nginx_serves_with_a_read_only_root() {
    let world = stock::world("nginx");
    stock::own_network();
    let conf = world.tmp.path().join("upload.conf");
    fs::write(&conf, "server { listen 81; location / { root /srv; dav_methods PUT; } }").unwrap();
    let settings = |read_only: bool| -> Settings {
        let mut settings = stock::settings(&world);
        settings.mounts = vec![
            stock::volume(&world, "uploads", "/srv"),
            Mount {
                from: MountSource::Bind { host: conf.clone() },
                path: "/etc/nginx/conf.d/upload.conf".into(),
                read_only: true,
            },
        ];
        // As its documentation says.
        if read_only {
            settings.read_only_root = true;
            settings.mounts.extend([tmpfs("/var/cache/nginx"), tmpfs("/run")]);
        }
        settings
    };
    for read_only in [false, true] {
        let mut server = Server::start(&world, settings(read_only));
        server.says("start worker process ");
        let page = ask(80, "GET / HTTP/1.0\r\n\r\n");
        assert!(page.contains("200 OK") && page.contains("Welcome to nginx!"), "{page}");
        server.says("GET / HTTP/1.0");
        assert!(
            server.users().contains(&("nginx".into(), 0)) && server.users().contains(&("nginx".into(), 101))
        );
        if read_only {
            let kept = ask(81, "GET /kept HTTP/1.0\r\n\r\n");
            assert!(kept.ends_with("of the first"), "{kept}");
        } else {
            // The volume is root's; the worker is not.
            std::os::unix::fs::chown(world.tmp.path().join("uploads"), Some(101), Some(101)).unwrap();
            let put = ask(81, "PUT /kept HTTP/1.0\r\nContent-Length: 12\r\n\r\nof the first");
            assert!(put.contains("201 Created"), "{put}");
        }
        ends_well(server);
    }
}

#[test]
fn redis_keeps_what_it_was_told() {
    let world = stock::world("redis");
    stock::own_network();
    let start = || {
        let mut settings = stock::settings(&world);
        settings.mounts = vec![stock::volume(&world, "data", "/data")];
        let mut server = Server::start(&world, settings);
        server.says("Ready to accept connections");
        server
    };
    let server = start();
    assert_eq!(server.users(), [("redis-server".to_string(), 999)]);
    assert_eq!(ask(6379, "PING\r\nSET line a\r\nQUIT\r\n"), "+PONG\r\n+OK\r\n+OK\r\n");
    let told = client(&world, &["redis-cli", "-h", "127.0.0.1", "get", "line"], &[]);
    assert_eq!((told.0, told.1.as_str()), (0, "a"), "{}", told.2);
    ends_well(server);
    let server = start();
    assert_eq!(ask(6379, "GET line\r\nQUIT\r\n"), "$1\r\na\r\n+OK\r\n");
    ends_well(server);
}

#[test]
fn mosquitto_retains_over_a_restart() {
    let world = stock::world("mosquitto");
    stock::own_network();
    let start = || {
        let mut settings = stock::settings(&world);
        settings.mounts = vec![stock::volume(&world, "data", "/mosquitto/data")];
        let mut server = Server::start(&world, settings);
        server.says("running");
        server
    };
    let read = || client(&world, &["mosquitto_sub", "-t", "plant/#", "-C", "1", "-W", "10", "-v"], &[]);
    let server = start();
    assert_eq!(server.users(), [("mosquitto".to_string(), 1883)]);
    let told = client(&world, &["mosquitto_pub", "-r", "-q", "1", "-t", "plant/line", "-m", "runs"], &[]);
    assert_eq!(told.0, 0, "{}", told.2);
    assert_eq!(read().1, "plant/line runs");
    ends_well(server);
    let server = start();
    assert_eq!(read().1, "plant/line runs");
    ends_well(server);
}

#[test]
fn postgres_makes_its_cluster_and_asks_for_a_password() {
    let world = stock::world("postgres");
    stock::own_network();
    let start = || {
        let mut settings = stock::settings(&world);
        settings.limits.memory_bytes = 128 << 20;
        settings.env = [
            ("POSTGRES_PASSWORD", "of a test"),
            ("POSTGRES_DB", "plant"),
            ("POSTGRES_INITDB_ARGS", "--auth-host=scram-sha-256"),
        ]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
        settings.mounts = vec![stock::volume(&world, "data", "/var/lib/postgresql/data")];
        Server::start(&world, settings)
    };
    let sql = |password: &str, line: &str| {
        let command = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-d", "plant", "-Atc", line];
        client(&world, &command, &[("PGPASSWORD", password)])
    };
    let mut server = start();
    server.says("init process complete");
    server.says("database system is ready to accept connections");
    assert!(
        server.users().iter().all(|(name, uid)| name == "postgres" && *uid == 999),
        "{:?}",
        server.users()
    );
    assert_eq!(sql("of a test", "SELECT 1").1, "1");
    assert_eq!(sql("of a test", "CREATE TABLE t (v text); INSERT INTO t VALUES ('kept')").0, 0);
    let refused = sql("another", "SELECT 1");
    assert!(refused.2.contains("password authentication failed"), "{}", refused.2);
    ends_well(server);
    let mut server = start();
    server.says("database system is ready to accept connections");
    assert!(!server.said.iter().any(|l| l.contains("init process")), "{:?}", server.said);
    assert_eq!(sql("of a test", "SELECT v FROM t").1, "kept");
    ends_well(server);
}
