//! What goes over the wire? A proxy between the agent and its broker counts it.
//!
//! Loopback packets are not a carrier's, so the IP bytes are computed: each portion that is read is one
//! segment of 20 (IP) + 20 (TCP) + 12 (timestamps) bytes beside its payload, and is answered by one
//! bare acknowledgement. Real stacks merge some acknowledgements into answers: this is an upper bound.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const HEADERS_BYTES: u64 = 20 + 20 + 12;

#[derive(Default)]
pub struct Count {
    payload: AtomicU64,
    segments: AtomicU64,
    /// Of the segments, those that the agent sent.
    said: AtomicU64,
}

impl Count {
    pub fn payload_bytes(&self) -> u64 {
        self.payload.load(Ordering::Relaxed)
    }

    /// What the agent has sent: of an idle one each is a heartbeat.
    pub fn said(&self) -> u64 {
        self.said.load(Ordering::Relaxed)
    }

    /// Of both directions.
    pub fn ip_bytes(&self) -> u64 {
        self.payload_bytes() + self.segments.load(Ordering::Relaxed) * 2 * HEADERS_BYTES
    }
}

/// A PINGREQ and a PINGRESP, two bytes each.
pub const PING_IP_BYTES: u64 = 2 * (2 + 2 * HEADERS_BYTES);

/// A port that leads to `target`. Its threads live as long as the program and the connections.
pub fn start(target: u16) -> (u16, Arc<Count>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the proxy");
    let port = listener.local_addr().expect("its address").port();
    let count = Arc::new(Count::default());
    let shared = Arc::clone(&count);
    std::thread::spawn(move || {
        for agent in listener.incoming().flatten() {
            if let Ok(broker) = TcpStream::connect(("127.0.0.1", target)) {
                carry(&agent, &broker, &shared, 1);
                carry(&broker, &agent, &shared, 0);
            }
        }
    });
    (port, count)
}

fn carry(from: &TcpStream, to: &TcpStream, count: &Arc<Count>, said: u64) {
    let (mut from, mut to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
    let count = Arc::clone(count);
    let _ = to.set_nodelay(true);
    std::thread::spawn(move || {
        // What a segment holds.
        let mut portion = [0; 1448];
        while let Ok(n @ 1..) = from.read(&mut portion) {
            count.payload.fetch_add(n as u64, Ordering::Relaxed);
            count.segments.fetch_add(1, Ordering::Relaxed);
            count.said.fetch_add(said, Ordering::Relaxed);
            if to.write_all(&portion[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
