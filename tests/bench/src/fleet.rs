//! What does the hub pay for each agent that is connected?
//!
//! The agents are connections with the packets of a real one (CONNECT with a will, four subscriptions,
//! retained presence, the answer to hello and to a document), each a board that holds no work.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use e2e::{Hub, Value, eventually, json};

use crate::figures::Figures;
use crate::mqtt::{self, Will};
use crate::process::{cpu_ms, memory};
use crate::scene::ms;

/// Hub and bench hold one descriptor each; a common hard limit is 20,000.
const SIZES: [(usize, &str); 2] = [(1000, "1k"), (5000, "5k")];
const PREFIX: &str = "skerry/v1";
/// The digest of an empty list of assignments, `[]`: what an agent without work holds.
const EMPTY: &str = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than the measurement: nobody pings.
const KEEP_ALIVE_SECS: u16 = 3600;
/// How long a fleet may take to be shown online, and its documents to be acknowledged.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);

pub fn measure(figures: &mut Figures) {
    allow_descriptors();
    let dir = tempfile::Builder::new().prefix("skerry-bench-").tempdir().expect("a directory");
    let mut hub = Hub::start(dir.path().join("hub"), &[]);
    e2e::until("the hub has written its files", || {
        hub.data.join("agent-token").exists() && hub.data.join("token").exists()
    });
    let password =
        std::fs::read_to_string(hub.data.join("agent-token")).expect("the agents' token").trim().to_string();
    std::thread::sleep(Duration::from_secs(2));
    let pid = hub.process.pid();
    let base = memory(pid);
    figures.add("fleet.hub.0", base.rss);
    let mut boards: Vec<FakeBoard> = Vec::new();
    for (size, which) in SIZES {
        let (start, cpu, old) = (Instant::now(), cpu_ms(pid), boards.len());
        while boards.len() < size {
            let board = FakeBoard::connect(boards.len(), hub.mqtt, &password);
            boards.push(board.unwrap_or_else(|why| panic!("board {}: {why}", boards.len())));
        }
        let fresh = settle(&hub, &mut boards);
        let (now, agents) = (memory(pid), size as f64);
        figures.add(&format!("fleet.{which}.rss"), (now.rss - base.rss) / agents);
        figures.add(&format!("fleet.{which}.dirty"), (now.dirty - base.dirty) / agents);
        figures.add(&format!("fleet.{which}.cpu"), (cpu_ms(pid) - cpu) / (size - old) as f64);
        figures.note(format!(
            "Fleet of {size}: {fresh} online; {} more took {:.1} s to connect and settle; hub RSS {:.0} KiB. With the embedded broker; kernel socket buffers not included.",
            size - old, ms(start, Instant::now()) / 1e3, now.rss
        ));
    }
    drop(boards);
    hub.process.terminate();
}

/// Everything that comes is answered until all are online and nothing comes any more.
fn settle(hub: &Hub, boards: &mut [FakeBoard]) -> u64 {
    let online = || hub.get("/v1/status")["agents"]["online"].as_u64().unwrap_or(0);
    let wanted = boards.len() as u64;
    let settled = eventually(SETTLED_WITHIN, || {
        let heard: usize = boards
            .iter_mut()
            .map(|board| board.answer_all().unwrap_or_else(|why| panic!("{}: {why}", board.id)))
            .sum();
        heard == 0 && boards.iter().all(|board| board.nonce.is_some()) && online() == wanted
    });
    if !settled {
        let greeted = boards.iter().filter(|b| b.nonce.is_some()).count();
        panic!("{} of {wanted} online, {greeted} greeted within {SETTLED_WITHIN:?}", online());
    }
    std::thread::sleep(Duration::from_secs(2));
    online()
}

/// More than the 1,024 that many systems begin with.
fn allow_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read and write the struct given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

struct FakeBoard {
    id: String,
    board: String,
    stream: TcpStream,
    /// The newest hello's.
    nonce: Option<String>,
    applied: Option<Value>,
    seq: u64,
    packet_id: u16,
}

impl FakeBoard {
    fn connect(n: usize, port: u16, password: &str) -> io::Result<FakeBoard> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (id, board) = (format!("fake-{n:05}"), format!("{n:032x}"));
        let mut new = FakeBoard { id, board, stream, nonce: None, applied: None, seq: 0, packet_id: 1 };
        let (topic, will, presence) = (new.topic("presence"), new.presence(n, false), new.presence(n, true));
        mqtt::send(
            &mut new.stream,
            &mqtt::connect(&new.id, password, KEEP_ALIVE_SECS, &Will { topic: &topic, payload: &will }),
        )?;
        new.expect(2)?;
        let mut filters = ["desired", "hello", "command/+"].map(|kind| new.topic(kind)).to_vec();
        filters.push(format!("{PREFIX}/hub"));
        mqtt::send(&mut new.stream, &mqtt::subscribe(1, &filters))?;
        new.expect(9)?;
        let packet = mqtt::publish(new.next_packet(), &topic, &presence, true);
        mqtt::send(&mut new.stream, &packet)?;
        Ok(new)
    }

    fn topic(&self, kind: &str) -> String {
        format!("{PREFIX}/agents/{}/{kind}", self.id)
    }

    fn next_packet(&mut self) -> u16 {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.packet_id
    }

    fn presence(&self, n: usize, online: bool) -> Vec<u8> {
        let body = json!({
            "board": self.board, "epoch": {"boots": 1, "session": 1}, "online": online,
            "contract_version": 1, "agent_version": "0.1.0", "features": ["wasm"], "engines": [], "arch": "x86_64",
            "labels": {"site": format!("site-{}", n % 100)},
            "capacity": {"cpu_millis": 2000, "memory_bytes": 200 << 20, "storage_bytes": 1u64 << 30},
        });
        json!({"v": 1, "kind": "presence", "body": body}).to_string().into_bytes()
    }

    /// Takes what comes until the answer of that kind; it must be a yes.
    fn expect(&mut self, kind: u8) -> io::Result<()> {
        loop {
            let packet = mqtt::receive(&mut self.stream)?;
            if packet.kind() == kind {
                // CONNACK: flags, reason. SUBACK: id, properties, then a reason for each filter.
                let reasons = if kind == 2 {
                    packet.body.get(1..2)
                } else {
                    packet.body.len().checked_sub(4).and_then(|at| packet.body.get(at..))
                };
                let refused = reasons.is_none_or(|r| r.iter().any(|code| *code >= 0x80));
                return if refused {
                    Err(io::Error::other(format!("refused: {:?}", packet.body)))
                } else {
                    Ok(())
                };
            }
            self.take(&packet)?;
        }
    }

    /// Answers what has arrived, waits for nothing. How much there was.
    fn answer_all(&mut self) -> io::Result<usize> {
        let mut heard = 0;
        loop {
            self.stream.set_nonblocking(true)?;
            let waiting = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            match waiting {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(why) => return Err(why),
            }
            let packet = mqtt::receive(&mut self.stream)?;
            self.take(&packet)?;
            heard += 1;
        }
    }

    fn take(&mut self, packet: &mqtt::Packet) -> io::Result<()> {
        let Some(publish) = (packet.kind() == 3).then(|| packet.as_publish()).flatten() else {
            return Ok(());
        };
        if let Some(id) = publish.packet_id {
            mqtt::send(&mut self.stream, &mqtt::puback(id))?;
        }
        let Ok(message) = serde_json::from_slice::<Value>(publish.payload) else { return Ok(()) };
        let body = &message["body"];
        match publish.topic.rsplit('/').next() {
            Some("hello") => self.nonce = body["nonce"].as_str().map(str::to_string),
            Some("desired") => {
                self.applied = Some(
                    json!({"lineage": body["lineage"], "term": body["term"], "generation": body["generation"], "digest": EMPTY}),
                );
            }
            _ => return Ok(()),
        }
        if self.nonce.is_some() { self.report() } else { Ok(()) }
    }

    fn report(&mut self) -> io::Result<()> {
        self.seq += 1;
        let mut body = json!({
            "board": self.board, "epoch": {"boots": 1, "session": 1}, "seq": self.seq, "nonce": self.nonce,
            "now_ms": 1000, "body": {"full": {"workloads": {}}},
        });
        if let Some(applied) = &self.applied {
            body["applied"] = applied.clone();
        }
        let text = json!({"v": 1, "kind": "observed", "body": body}).to_string();
        let packet = mqtt::publish(self.next_packet(), &self.topic("observed"), text.as_bytes(), false);
        mqtt::send(&mut self.stream, &packet)
    }
}
