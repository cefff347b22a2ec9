//! Debian's mosquitto on a free port, as the external broker of the tests.

use std::net::Ipv4Addr;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::within;

const PATHS: [&str; 3] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];

pub struct Mosquitto {
    port: u16,
    _child: Child,
    _dir: TempDir,
}

impl Mosquitto {
    /// Fails the test, naming what to install, when there is none.
    pub async fn start() -> Mosquitto {
        let program = PATHS.iter().find(|path| std::path::Path::new(path).exists());
        let program = program.expect("these tests need the MQTT broker mosquitto: apt-get install mosquitto");
        // Somebody else may take the free port before mosquitto does; then another is tried.
        for _ in 0..5 {
            if let Some(broker) = Mosquitto::try_start(program).await {
                return broker;
            }
        }
        panic!("mosquitto did not start on any of five free ports");
    }

    async fn try_start(program: &str) -> Option<Mosquitto> {
        let port = free_port().await;
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
        let up = within("mosquitto listens", up).await;
        up.then_some(Mosquitto { port, _child: child, _dir: dir })
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port on loopback");
    listener.local_addr().expect("a bound listener").port()
}
