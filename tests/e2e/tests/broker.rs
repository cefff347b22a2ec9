//! The same fleet over somebody else's broker: Debian's Mosquitto, killed and back.

use std::fs;
use std::process::Command;

use e2e::{Fleet, Process, until};

fn mosquitto(dir: &std::path::Path, port: u16) -> Process {
    let conf = dir.join("mosquitto.conf");
    fs::write(&conf, format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"))
        .unwrap();
    let mut command = Command::new("/usr/sbin/mosquitto");
    command.arg("-c").arg(&conf);
    let process = Process::spawn(command, &dir.join("mosquitto.log"));
    until("the broker listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    process
}

#[test]
fn a_dead_broker_stops_nothing_and_all_comes_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let port = e2e::free_port();
    let mut broker = mosquitto(dir.path(), port);
    let url = format!("mqtt://127.0.0.1:{port}");
    let mut fleet = Fleet::start_with(0, &["--broker", &url]);
    fleet.hub.mqtt = port;
    fleet.add_board("board-0");
    fleet.online(0);
    fleet.run("work", "hello", "  args: [--every, \"60000\"]");
    let before = fleet.boards[0].pids();
    broker.kill();
    until("the hub knows nothing for sure any more", || fleet.instance("work", 0)["fresh"] == false);
    assert_eq!(fleet.boards[0].pids(), before);
    let mut broker = mosquitto(dir.path(), port);
    fleet.online(0);
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pids(), before);

    // This broker lets anybody publish anything: what the hub did not sign changes nothing.
    let forged = r#"{"v":1,"kind":"desired","body":{"lineage":"00000000000000000000000000000000","term":99,"agent":"board-0","generation":99,"assignments":[]}}"#;
    let mut command = Command::new("mosquitto_pub");
    command.args(["-V", "mqttv5", "-h", "127.0.0.1", "-q", "1", "-t", "skerry/v1/agents/board-0/desired"]);
    command.args(["-m", forged, "-p"]).arg(port.to_string());
    assert!(command.status().expect("mosquitto_pub (apt-get install mosquitto-clients)").success());
    until("the operator is told", || {
        fleet.hub.get("/v1/events?limit=1000").to_string().contains("not signed")
    });
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.finish();
    broker.terminate();
}
