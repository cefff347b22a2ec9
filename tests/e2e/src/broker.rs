//! Somebody else's broker: Debian's Mosquitto, which lets anybody say anything; and such an anybody.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::{Process, free_port, until};

pub struct Broker {
    pub process: Process,
    pub port: u16,
    dir: tempfile::TempDir,
}

/// The largest packet that hub and agents take (`transport::mqtt`): a payload of `WIRE_BYTES_MAX`, and 4 KiB.
const PACKET_BYTES_MAX: usize = contract::limits::WIRE_BYTES_MAX + (4 << 10);

/// What is published besides topic and payload.
#[derive(Debug, Clone, Copy, Default)]
pub struct Say<'a> {
    pub content_type: &'a str,
    pub retain: bool,
}

impl Broker {
    pub fn start() -> Broker {
        let dir = tempfile::Builder::new().prefix("skerry-e2e-broker-").tempdir().expect("a directory");
        let port = free_port();
        // The limit as hub/README.md asks for it.
        let conf = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\nmax_packet_size {PACKET_BYTES_MAX}\n"
        );
        std::fs::write(dir.path().join("mosquitto.conf"), conf).expect("a file");
        let process = spawn(dir.path().join("mosquitto.conf"), port);
        Broker { process, port, dir }
    }

    pub fn revive(&mut self) {
        if !self.process.is_alive() {
            self.process = spawn(self.dir.path().join("mosquitto.conf"), self.port);
        }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Says it as anybody could.
    #[track_caller]
    pub fn say(&self, topic: &str, payload: &[u8], say: Say<'_>) {
        let file = self.dir.path().join("payload");
        std::fs::write(&file, payload).expect("a file");
        let mut command = self.client("mosquitto_pub", topic);
        command.args(["-q", "1", "-f"]).arg(&file);
        if !say.content_type.is_empty() {
            command.args(["-D", "publish", "content-type", say.content_type]);
        }
        if say.retain {
            command.arg("-r");
        }
        let output = run(command);
        assert!(output.status.success(), "{topic}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// As a client of the older protocol does, which is not told how much the broker takes: whether it did.
    pub fn takes(&self, topic: &str, payload: &[u8]) -> bool {
        let file = self.dir.path().join("payload");
        std::fs::write(&file, payload).expect("a file");
        let mut command = Command::new("mosquitto_pub");
        command.args(["-V", "mqttv311", "-h", "127.0.0.1", "-q", "1", "-t", topic, "-f"]).arg(&file);
        command.arg("-p").arg(self.port.to_string());
        run(command).status.success()
    }

    /// What is retained there, byte for byte.
    #[track_caller]
    pub fn retained(&self, topic: &str) -> Vec<u8> {
        let mut command = self.client("mosquitto_sub", topic);
        command.args(["-C", "1", "-W", "10", "-F", "%x"]);
        let output = run(command);
        let text = String::from_utf8(output.stdout).expect("hex digits");
        let digits: Vec<u8> =
            text.trim().bytes().map(|b| (b as char).to_digit(16).expect("hex") as u8).collect();
        assert!(!digits.is_empty(), "nothing is retained on {topic}");
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    pub fn client(&self, program: &str, topic: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-V", "mqttv5", "-h", "127.0.0.1", "-t", topic, "-p"]).arg(self.port.to_string());
        command
    }
}

fn spawn(conf: PathBuf, port: u16) -> Process {
    let mut command = Command::new("/usr/sbin/mosquitto");
    command.arg("-c").arg(&conf);
    let process = Process::spawn(command, &conf.with_extension("log"));
    until("the broker listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    process
}

fn run(mut command: Command) -> Output {
    command.output().expect("apt-get install mosquitto-clients")
}
