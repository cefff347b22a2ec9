//! What a workload may do on the network is what its manifest lists, and nothing else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use e2e::{Fleet, until};

/// Answers whoever calls; its port.
fn answering() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut caller, _)) = listener.accept() {
            let _ = caller.read(&mut [0; 64]);
            let _ = caller.write_all(b"pong\n");
        }
    });
    port
}

#[test]
fn the_network_lists_hold() {
    let fleet = Fleet::start(1);
    fleet.hub.push("netcheck");
    let (allowed, other, own, taken) = (answering(), answering(), e2e::free_port(), e2e::free_port());
    let never = "  restartPolicy: Never\n";
    let apply = |name: &str, args: &str, network: &str| {
        let spec = format!("  args: [{args}]\n{never}{network}");
        fleet.hub.apply(&e2e::manifest(name, "netcheck", &spec));
    };
    let connect = |port: u16| format!("connect, \"127.0.0.1:{port}\"");
    let list = format!("  network: {{mode: host, connect: [\"127.0.0.1:{allowed}\"], listen: [{own}]}}");
    apply("allowed", &connect(allowed), &list);
    apply("other", &connect(other), &list);
    apply("none", &connect(allowed), "  network: {mode: none}");
    apply("unnamed", &connect(allowed), "");
    apply("empty", &connect(allowed), "  network: {mode: host}");
    apply("udp", &format!("udp, \"127.0.0.1:{other}\""), &list);
    apply("lookup", "lookup, \"localhost:80\"", &list);
    apply("deaf", &format!("listen, \"{taken}\""), &list);
    apply("serves", &format!("listen, \"{own}\""), &list);

    let ended = |name: &str| {
        let mut exit = e2e::Value::Null;
        until(&format!("{name} has ended"), || {
            exit = fleet.instance(name, 0)["lastExit"].clone();
            exit.is_object()
        });
        (exit["code"].as_i64(), fleet.boards[0].said(name))
    };
    let (code, said) = ended("allowed");
    assert!(code == Some(0) && said.contains("ok: pong"), "{code:?} {said}");
    for name in ["other", "none", "unnamed", "empty", "udp", "lookup", "deaf"] {
        let (code, said) = ended(name);
        assert!(code == Some(1) && said.contains("no: "), "{name}: {code:?} {said}");
    }
    until("the listed port is listened on", || fleet.boards[0].said("serves").contains("listening"));
    let mut call = TcpStream::connect(("127.0.0.1", own)).unwrap();
    call.write_all(b"who is there\n").unwrap();
    let mut answer = String::new();
    call.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "pong\n");
    let (code, said) = ended("serves");
    assert!(code == Some(0) && said.contains("who is there"), "{code:?} {said}");
    fleet.finish();
}
