//! Somebody else's broker: Debian's Mosquitto, which lets anybody say anything; and such an anybody.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

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

    /// Hears all that is said from now on, and what is retained.
    pub fn listen(&self) -> Ear {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-V", "mqttv5", "-h", "127.0.0.1", "-t", "skerry/v1/#"]);
        command.args(["-q", "1", "-F", "%t %x", "-p"]).arg(self.port.to_string());
        Ear(Process::spawn(command, &self.dir.path().join("heard")))
    }

    /// The same message so many times, as fast as one client can: short, and without a line's end in it.
    pub fn flood(&self, topic: &str, payload: &str, times: usize) {
        let mut command = self.client("mosquitto_pub", topic);
        let mut child = command.args(["-q", "0", "-l"]).stdin(Stdio::piped()).spawn().expect("mosquitto_pub");
        let mut input = child.stdin.take().expect("a pipe");
        for _ in 0..times {
            writeln!(input, "{payload}").expect("it reads");
        }
        drop(input);
        assert!(child.wait().expect("a child of ours").success());
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
        assert!(!text.trim().is_empty(), "nothing is retained on {topic}");
        bytes(&text).expect("hex digits")
    }

    pub fn client(&self, program: &str, topic: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-V", "mqttv5", "-h", "127.0.0.1", "-t", topic, "-p"]).arg(self.port.to_string());
        command
    }
}

/// Somebody who writes down what the broker hands out.
pub struct Ear(Process);

impl Ear {
    /// (topic below the prefix, payload), in the order in which they came.
    pub fn heard(&self) -> Vec<(String, Vec<u8>)> {
        let line = |line: &str| {
            let (topic, digits) = line.split_once(' ')?;
            Some((topic.strip_prefix("skerry/v1/")?.to_string(), bytes(digits)?))
        };
        self.0.text().lines().filter_map(line).collect()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.kill();
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.trim().as_bytes().chunks(2).map(pair).collect()
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
