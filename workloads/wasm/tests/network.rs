//! Whether a guest reaches what its `network` lists allow, and nothing else; and the sensor sample.
//!
//! Loopback only. Runs what `tests/compile.rs` left (`./test.sh` runs both).
#![cfg(all(feature = "run", feature = "tools"))]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::channel;
use std::thread;

use skerry_wasm::spec::{Exit, NetworkMode, Preopen, Stage};

mod guests;
mod process;

use process::{DEADLINE, Guest, guest};

/// Answers `pong` to each caller.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let _ = (&stream).write_all(b"pong\n");
        }
    });
    port
}

fn netcheck(what: &str, address: &str) -> Guest {
    guest("netcheck").args(&[what, address])
}

/// The one line that `netcheck` ends with.
fn says(guest: Guest) -> String {
    let ran = guest.run();
    let line = ran.stdout.lines().last().unwrap_or_default().to_string();
    let expected = if line.starts_with("ok: ") { 0 } else { 1 };
    assert_eq!(ran.ended.exit, Exit::Code(expected), "{} {}", ran.stdout, ran.stderr);
    line
}

fn denied(guest: Guest) {
    let line = says(guest);
    assert!(line.starts_with("no: PermissionDenied"), "{line}");
}

#[test]
fn connect_reaches_what_is_listed() {
    let (port, other) = (server(), server());
    let here = format!("127.0.0.1:{port}");
    let there = format!("127.0.0.1:{other}");
    assert_eq!(says(netcheck("connect", &here).connect(&[&here])), "ok: pong");
    denied(netcheck("connect", &there).connect(&[&here]));
    denied(netcheck("connect", &here).connect(&[&here]).mode(NetworkMode::None));
    denied(netcheck("connect", &here).mode(NetworkMode::Host));
}

#[test]
fn names_stand_for_their_addresses() {
    let (port, other) = (server(), server());
    let name = format!("localhost:{port}");
    assert_eq!(says(netcheck("connect", &name).connect(&[&name])), "ok: pong");
    let by_number = format!("127.0.0.1:{port}");
    assert_eq!(says(netcheck("connect", &by_number).connect(&[&name])), "ok: pong");
    denied(netcheck("connect", &format!("127.0.0.1:{other}")).connect(&[&name]));
}

#[test]
fn only_listed_names_are_looked_up() {
    let found = says(netcheck("lookup", "localhost:1").connect(&["localhost:1"]));
    assert!(found.starts_with("ok: ") && found.contains("127.0.0.1"), "{found}");
    for guest in [
        // A name that every machine knows, while lookups as such are allowed.
        netcheck("lookup", "localhost:1").connect(&["broker.test:1"]),
        netcheck("lookup", "localhost:1").connect(&["127.0.0.1:1"]),
        netcheck("lookup", "localhost:1").connect(&["localhost:1"]).mode(NetworkMode::None),
    ] {
        let line = says(guest);
        assert!(line.starts_with("no: "), "{line}");
    }
}

#[test]
fn listen_opens_what_is_listed() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = free.to_string();
    denied(netcheck("listen", &port).connect(&["127.0.0.1:1"]));
    denied(netcheck("listen", "0").listen(&[free]));

    let running = netcheck("listen", &port).listen(&[free]).spawn();
    running.line(|l| l.starts_with("listening"));
    let mut stream = TcpStream::connect(("127.0.0.1", free)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"knock\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "pong\n");
    assert_eq!(running.line(|l| l.starts_with("ok")), "ok: knock");
}

#[test]
fn datagrams_go_where_it_is_listed() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let here = socket.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut buffer = [0u8; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(b"pong\n", from);
        }
    });
    assert_eq!(says(netcheck("udp", &here).connect(&[&here])), format!("ok: pong from {here}"));
    denied(netcheck("udp", &here).connect(&["127.0.0.1:1"]));
}

#[test]
fn a_bad_rule_is_named_before_anything_starts() {
    match netcheck("lookup", "x:1").connect(&["broker.local"]).run().ended.exit {
        Exit::Failed { stage: Stage::Config, message } => {
            assert!(message.contains("`broker.local`") && message.contains("host:port"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_preview_1_module_is_told_that_it_has_no_sockets() {
    let ran = guest("empty").connect(&["127.0.0.1:1"]).run();
    assert_eq!(ran.ended.exit, Exit::Code(0));
    assert!(ran.stderr.contains("cannot open sockets"), "{}", ran.stderr);
    assert_eq!(guest("empty").run().stderr, "");
}

/// Waits for a caller, but not for ever, nor for what it says.
fn accept(listener: &TcpListener) -> TcpStream {
    let listener = listener.try_clone().unwrap();
    let (sender, accepted) = channel();
    thread::spawn(move || sender.send(listener.accept()));
    let (stream, _) = accepted.recv_timeout(DEADLINE).expect("somebody calls").unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Reads one MQTT packet with a short length: kind and body.
fn packet(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0u8; 2];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0u8; usize::from(head[1])];
    stream.read_exact(&mut body).unwrap();
    (head[0], body)
}

/// Greets a client and acknowledges `count` readings.
fn serve_readings(stream: &mut TcpStream, count: usize) -> Vec<String> {
    let (kind, body) = packet(stream);
    assert!(kind == 0x10 && body.starts_with(b"\0\x04MQTT\x04"), "{body:?}");
    stream.write_all(&[0x20, 2, 0, 0]).unwrap();
    (0..count)
        .map(|_| {
            let (kind, body) = packet(stream);
            assert_eq!(kind, 0x32, "PUBLISH with QoS 1");
            let topic_end = 2 + usize::from(body[1]);
            stream.write_all(&[0x40, 2, body[topic_end], body[topic_end + 1]]).unwrap();
            let topic = std::str::from_utf8(&body[2..topic_end]).unwrap();
            format!("{topic}={}", std::str::from_utf8(&body[topic_end + 2..]).unwrap())
        })
        .collect()
}

#[test]
fn the_sensor_publishes_and_survives_its_broker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = listener.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("value"), "21.5\n").unwrap();
    let preopen = Preopen { host_dir: dir.path().into(), guest_path: "/sensor".into(), read_only: true };
    let args =
        ["--broker", &broker, "--file", "/sensor/value", "--topic", "t", "--qos", "1", "--interval", "10"];
    let sensor =
        guest("sensor").args(&args).args(&["--count", "4"]).connect(&[&broker]).preopen(preopen).spawn();

    let mut first = accept(&listener);
    assert_eq!(serve_readings(&mut first, 2), ["t=21.5", "t=21.5"]);
    drop(first);
    std::fs::write(dir.path().join("value"), "-3").unwrap();
    let mut second = accept(&listener);
    assert_eq!(sensor.status("Threads:"), "1");
    assert_eq!(serve_readings(&mut second, 2), ["t=-3", "t=-3"]);
    assert_eq!(packet(&mut second), (0xe0, vec![]), "DISCONNECT");
    sensor.line(|l| l.contains("again in 500 ms"));
    assert_eq!(sensor.finish().ended.exit, Exit::Code(0));
}
