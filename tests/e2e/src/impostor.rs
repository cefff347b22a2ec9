//! Somebody who answers in the hub's place: an HTTP server on its port that hands out what it was told,
//! over a link as bad as wanted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub struct Impostor {
    port: u16,
    over: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Asked>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A request: its path, and from which byte on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub path: String,
    pub from: usize,
}

impl Impostor {
    /// By path and query; anything else is not found. Each answer breaks off after `most` bytes.
    pub fn on(port: u16, answers: BTreeMap<String, Vec<u8>>, most: usize) -> Impostor {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port of a hub that is gone");
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let (ends, notes): (_, Arc<Mutex<Vec<Asked>>>) = (over.clone(), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            while let Ok((mut caller, _)) = listener.accept() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let request = read(&mut caller);
                notes.lock().expect("no panic").push(request.clone());
                let _ = answer(&mut caller, &request, &answers, most);
            }
        });
        Impostor { port, over, asked, thread: Some(thread) }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

impl Drop for Impostor {
    /// The port is free when this returns.
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(caller: &mut TcpStream) -> Asked {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n")
        && request.len() < 8192
        && caller.read(&mut byte).is_ok_and(|n| n == 1)
    {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let range =
        request.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    Asked { path: request.split(' ').nth(1).unwrap_or_default().to_string(), from: range.unwrap_or(0) }
}

fn answer(
    caller: &mut TcpStream,
    asked: &Asked,
    answers: &BTreeMap<String, Vec<u8>>,
    most: usize,
) -> std::io::Result<()> {
    let Some(body) = answers.get(&asked.path).and_then(|body| body.get(asked.from..)) else {
        return caller.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    let status = if asked.from > 0 { "206 Partial Content" } else { "200 OK" };
    write!(caller, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
    caller.write_all(&body[..body.len().min(most)])
}
