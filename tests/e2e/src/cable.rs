//! The cable between a board and its broker: a TCP proxy that can be pulled out, and that can go silent
//! without a word, as a dead mobile link does.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

const STEP: Duration = Duration::from_millis(10);

#[derive(Default)]
struct State {
    /// Nothing is forwarded, nothing closed.
    silent: AtomicBool,
    /// Whoever comes is let go at once.
    pulled: AtomicBool,
    /// Connections from before a cut are over.
    cuts: AtomicU32,
    over: AtomicBool,
    dialled: AtomicU32,
    bytes: AtomicU64,
}

pub struct Cable {
    pub port: u16,
    state: Arc<State>,
}

impl Cable {
    pub fn to(target: u16) -> Cable {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound listener").port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || accept(&listener, target, &shared));
        Cable { port, state }
    }

    /// How often somebody tried to connect.
    pub fn dialled(&self) -> u32 {
        self.state.dialled.load(Ordering::SeqCst)
    }

    /// Carried so far, both ways.
    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::SeqCst)
    }

    pub fn silence(&self, on: bool) {
        self.state.silent.store(on, Ordering::SeqCst);
    }

    pub fn pull(&self) {
        self.state.pulled.store(true, Ordering::SeqCst);
        self.state.cuts.fetch_add(1, Ordering::SeqCst);
    }

    pub fn plug(&self) {
        self.state.pulled.store(false, Ordering::SeqCst);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn accept(listener: &TcpListener, target: u16, state: &Arc<State>) {
    while let Ok((near, _)) = listener.accept() {
        if state.over.load(Ordering::SeqCst) {
            return;
        }
        state.dialled.fetch_add(1, Ordering::SeqCst);
        if state.pulled.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
        carry(&near, &far, state);
        carry(&far, &near, state);
    }
}

fn carry(from: &TcpStream, to: &TcpStream, state: &Arc<State>) {
    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
    let (state, born) = (state.clone(), state.cuts.load(Ordering::SeqCst));
    let _ = (from.set_read_timeout(Some(STEP)), to.set_nodelay(true));
    std::thread::spawn(move || {
        pump(&from, &to, &state, born);
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

fn pump(mut from: &TcpStream, mut to: &TcpStream, state: &State, born: u32) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if state.over.load(Ordering::SeqCst) || state.cuts.load(Ordering::SeqCst) != born {
            return;
        }
        if state.silent.load(Ordering::SeqCst) {
            std::thread::sleep(STEP);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) if to.write_all(&buffer[..n]).is_ok() => {
                state.bytes.fetch_add(n as u64, Ordering::SeqCst);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => return,
        }
    }
}
