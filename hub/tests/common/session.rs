//! A board's end of sessions in a few lines: what it does is said by the command it is given.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use contract::session::{Decoder, Frame, PROTOCOL};

/// One connection that is no longer HTTP.
pub struct Frames {
    pub stream: TcpStream,
    decoder: Decoder,
}

impl Frames {
    /// The head of the answer, and the frames after it.
    pub fn open(url: &str, request: &str, body: &str) -> (String, Frames) {
        let host = url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!("{request}\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
            answer.push(byte[0]);
        }
        (String::from_utf8_lossy(&answer).into_owned(), Frames { stream, decoder: Decoder::default() })
    }

    pub fn send(&mut self, frame: Frame) -> std::io::Result<()> {
        self.stream.write_all(&frame.bytes())
    }

    /// `None` when the other end has hung up.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.frame().unwrap() {
                Some(Frame::Ping) => {}
                Some(frame) => return Some(frame),
                None => {
                    let mut buffer = vec![0; 64 << 10];
                    match self.stream.read(&mut buffer) {
                        Ok(n @ 1..) => self.decoder.push(&buffer[..n]),
                        _ => return None,
                    }
                }
            }
        }
    }

    /// The rest of what was sent after the head: an error's body.
    pub fn rest(&mut self) -> String {
        let mut text = String::new();
        let _ = self.stream.set_read_timeout(Some(Duration::from_secs(2)));
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = self.stream.read(&mut buffer) {
            text += &String::from_utf8_lossy(&buffer[..n]);
        }
        text
    }
}

/// As an agent dials in. `echo`: everything comes back, 7 at the end. `die`: gone at the first input.
pub fn board(url: &str, ticket: &str, command: &str) {
    let request = format!("GET {ticket} HTTP/1.1\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}");
    let (head, mut frames) = Frames::open(url, &request, "");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    while let Some(frame) = frames.next() {
        let answered = match frame {
            _ if command == "die" => return,
            Frame::Input(bytes) => frames.send(Frame::Output(bytes)),
            Frame::InputEnd => {
                let said = frames.send(Frame::Exit { code: 7, why: String::new() });
                said.and_then(|()| frames.stream.shutdown(std::net::Shutdown::Write))
            }
            _ => Ok(()),
        };
        if answered.is_err() {
            return;
        }
    }
}
