//! Debian's Mosquitto with the access rules that `hub broker acl` prints, and certificates of the hub's own
//! CA: a hub and its boards work over it, and a thief with another board's certificate hears and says nothing
//! in their name.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::{Fleet, Process, Value, free_port, until};

const QUIET: &str = "  args: [--every, \"60000\"]";

/// A broker that asks everybody for a certificate.
struct Guarded {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Process>,
}

fn openssl(dir: &Path, line: &str) {
    let output = Command::new("openssl").current_dir(dir).args(line.split_whitespace()).output();
    let output = output.expect("apt-get install openssl");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Guarded {
    /// Its own certificate is of a CA of its own, as with a broker that somebody else runs.
    fn new() -> Guarded {
        let dir = tempfile::Builder::new().prefix("skerry-e2e-mosquitto-").tempdir().expect("a directory");
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(
            dir.path(),
            &format!("req -x509 {new} -keyout ca.key -out ca.crt -days 30 -subj /CN=broker-ca"),
        );
        openssl(dir.path(), &format!("req {new} -keyout own.key -out own.csr -subj /CN=broker"));
        std::fs::write(dir.path().join("names"), "subjectAltName=IP:127.0.0.1\n").expect("a file");
        openssl(
            dir.path(),
            "x509 -req -in own.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile names -out own.crt",
        );
        Guarded { dir, port: free_port(), process: None }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lets in whom the hub's CA knows, by the rules that the hub prints.
    fn start(&mut self, fleet: &Fleet) {
        let (code, rules, err) = fleet.hub.cli(&["broker", "acl", "--format", "mosquitto"]);
        assert_eq!(code, 0, "{err}");
        std::fs::write(self.file("acl"), rules).expect("a file");
        let (dir, port, ca) = (self.dir.path().display(), self.port, fleet.hub.data.join("ca.crt"));
        let conf = format!(
            "user root\npersistence false\nlistener {port} 127.0.0.1\ncafile {}\ncertfile {dir}/own.crt\nkeyfile {dir}/own.key\n\
             require_certificate true\nuse_identity_as_username true\nallow_anonymous false\nacl_file {dir}/acl\nmax_packet_size 249856\n",
            ca.display()
        );
        std::fs::write(self.file("conf"), conf).expect("a file");
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-v").arg("-c").arg(self.file("conf"));
        self.process = Some(Process::spawn(command, &self.file("log")));
        until("the broker listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    /// A client with this certificate, or none.
    fn client(&self, program: &str, own: Option<&(PathBuf, PathBuf)>, more: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["20", program, "-V", "mqttv5", "-h", "127.0.0.1", "-q", "1", "-p"]);
        command.arg(self.port.to_string()).arg("--cafile").arg(self.file("ca.crt"));
        if let Some((certificate, key)) = own {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        command.args(more).output().expect("apt-get install mosquitto-clients")
    }
}

/// What a thief takes from a board.
fn stolen(fleet: &Fleet, n: usize, dir: &Path) -> (PathBuf, PathBuf) {
    let identity = fleet.boards[n].state.join("identity");
    let text = std::fs::read(identity.join("identity.json")).expect("an identity");
    let identity_json: Value = serde_json::from_slice(&text).expect("JSON");
    let certificate = dir.join("stolen.crt");
    std::fs::write(&certificate, identity_json["enrolment"]["certificate"].as_str().expect("PEM"))
        .expect("a file");
    (certificate, identity.join("key.pem"))
}

fn text(output: &Output) -> String {
    let parts = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8_lossy(&parts).into_owned()
}

#[test]
fn boards_work_over_mosquitto_with_the_printed_rules_and_a_thief_does_not() {
    let mut broker = Guarded::new();
    let (url, ca) = (format!("mqtts://127.0.0.1:{}", broker.port), broker.file("ca.crt"));
    let mut fleet =
        Fleet::start_with(0, &["--tls", "--broker", &url, "--broker-ca", &ca.display().to_string()]);
    broker.start(&fleet);
    for n in 0..2 {
        fleet.add_board(&format!("board-{n}"));
        fleet.online(n);
    }
    fleet.run("work", "hello", QUIET);
    let (code, _, err) = fleet.hub.cli(&["logs", "work", "--tail", "1"]);
    assert_eq!(code, 0, "a command and its answer: {err}");
    let pid = fleet.boards[0].pid("work");

    // Its own it hears; another's it does not, nor by a wildcard.
    let thief = stolen(&fleet, 1, broker.dir.path());
    let hears = |topic: &str| {
        let output = broker.client(
            "mosquitto_sub",
            Some(&thief),
            &["-i", "thief", "-t", topic, "-C", "1", "-W", "3", "-F", "%t"],
        );
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    };
    assert_eq!(hears("skerry/v1/agents/board-1/desired"), "skerry/v1/agents/board-1/desired");
    for other in [
        "skerry/v1/agents/board-0/desired",
        "skerry/v1/agents/board-0/presence",
        "skerry/v1/agents/board-0/#",
    ] {
        assert_eq!(hears(other), "");
    }
    assert!(!hears("skerry/v1/#").contains("board-0"));
    // It says nothing in another's name, and not in the hub's.
    for topic in [
        "agents/board-0/observed",
        "agents/board-0/presence",
        "agents/board-0/desired",
        "agents/board-1/desired",
        "hub",
    ] {
        let topic = format!("skerry/v1/{topic}");
        let said =
            broker.client("mosquitto_pub", Some(&thief), &["-i", "thief", "-t", &topic, "-m", "x", "-d"]);
        assert!(
            text(&said).contains("Not authorized") || text(&said).contains("RC:135"),
            "{topic}: {}",
            text(&said)
        );
    }
    // Nobody without a certificate, nobody with one that another CA made.
    let (none, own) = (None, Some((broker.file("own.crt"), broker.file("own.key"))));
    for who in [none, own.as_ref()] {
        let said = broker.client("mosquitto_pub", who, &["-t", "skerry/v1/hub", "-m", "x"]);
        assert!(!said.status.success(), "{}", text(&said));
    }
    let refused = fleet.hub.get("/v1/status")["refused"].to_string();
    let lies = ["forged", "unsigned", "damaged", "misplaced"];
    assert!(
        !lies.iter().any(|lie| refused.contains(lie)),
        "nothing of all that came as far as the hub: {refused}"
    );
    assert_eq!(fleet.boards[0].pid("work"), pid);
    fleet.steady("work");
    fleet.finish();
    broker.process.expect("it was started").terminate();
}
