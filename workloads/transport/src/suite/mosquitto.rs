//! Debian's mosquitto on a free port, as the external broker of the tests.

use std::net::Ipv4Addr;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};

use super::within;

const PATHS: [&str; 3] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];

pub struct Mosquitto {
    port: u16,
    _child: Child,
    _dir: TempDir,
    _port: TcpSocket,
}

impl Mosquitto {
    /// Fails the test, naming what to install, when there is none.
    pub async fn start() -> Mosquitto {
        let program = PATHS.iter().find(|path| std::path::Path::new(path).exists());
        let program = program.expect("these tests need the MQTT broker mosquitto: apt-get install mosquitto");
        let (held, port) = hold_port();
        let dir = TempDir::new().expect("a temporary directory");
        let file = dir.path().join("mosquitto.conf");
        let conf = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
             max_queued_messages 0\nlog_dest none\nuser root\n"
        );
        std::fs::write(&file, conf).expect("the configuration is written");
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::null()).spawn().expect("mosquitto is started");
        let up = async {
            loop {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                    return true;
                }
                if child.try_wait().ok().flatten().is_some() {
                    return false;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        assert!(within("mosquitto listens", up).await, "mosquitto ended at once");
        Mosquitto { port, _child: child, _dir: dir, _port: held }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A port that nobody else gets, neither another test nor a connection's near end: a socket of ours
/// stays bound to it without listening. Having asked for reuse only after that, it lets in a
/// listener that asks for reuse too, as mosquitto does.
fn hold_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port on loopback");
    socket.set_reuseaddr(true).expect("reuse is allowed");
    let port = socket.local_addr().expect("a bound socket").port();
    (socket, port)
}
