//! Frames on one side; whatever gives and takes bytes here on the other. Givers and takers block, each in a thread
//! of its own, and hold one piece each: whoever is slow is waited for by the one at the other end of the world.

use std::io::{Read, Write};
use std::time::Duration;

use contract::session::{Decoder, Frame, PING_MS, SILENCE_MS, Size};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::connect::Stream;
use crate::cli::exit::{Code, Done, Failure};

const PIECE_BYTES: usize = 32 << 10;

/// How it ended at the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub code: u8,
    pub why: String,
}

pub enum Piece {
    Output(Vec<u8>),
    Error(Vec<u8>),
}

/// What is there for the command to read.
pub type Given = mpsc::Receiver<Vec<u8>>;

/// Reads in a thread that may never end: the process does not wait for it.
pub fn give(mut from: impl Read + Send + 'static) -> Given {
    let (send, given) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match from.read(&mut buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(n @ 1..) if send.blocking_send(buffer[..n].to_vec()).is_ok() => {}
                _ => return,
            }
        }
    });
    given
}

/// Writes what comes, to the end; its error is that of the first write that failed.
pub struct Taker {
    pieces: mpsc::Sender<Piece>,
    thread: std::thread::JoinHandle<std::io::Result<()>>,
}

impl Taker {
    pub fn new(mut take: impl FnMut(Piece) -> std::io::Result<()> + Send + 'static) -> Taker {
        let (pieces, mut come) = mpsc::channel(1);
        let thread = std::thread::spawn(move || {
            while let Some(piece) = come.blocking_recv() {
                take(piece)?;
            }
            Ok(())
        });
        Taker { pieces, thread }
    }

    /// To this process's own streams.
    pub fn stdio() -> Taker {
        Taker::new(|piece| match piece {
            Piece::Output(bytes) => {
                let mut out = std::io::stdout().lock();
                out.write_all(&bytes)?;
                out.flush()
            }
            Piece::Error(bytes) => std::io::stderr().lock().write_all(&bytes),
        })
    }

    /// All of it is written.
    pub fn finish(self) -> Done {
        drop(self.pieces);
        let ended = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(ended?)
    }
}

/// To the command's end, or until something else ends it.
pub async fn carry(stream: Stream, given: Option<Given>, taker: &Taker, resizes: bool) -> Done<Ended> {
    let (from, to) = tokio::io::split(stream);
    tokio::select! {
        ended = listen(from, taker) => ended,
        broken = tell(to, given, resizes) => Err(broken),
        stopped = stopped() => Err(stopped),
    }
}

async fn listen(mut from: ReadHalf<Stream>, taker: &Taker) -> Done<Ended> {
    let broke =
        |why: String| Failure::new(Code::Failed, format!("the session ended before the command did: {why}"));
    let (mut decoder, mut buffer) = (Decoder::default(), vec![0; PIECE_BYTES]);
    loop {
        let heard = tokio::time::timeout(Duration::from_millis(SILENCE_MS), from.read(&mut buffer)).await;
        match heard {
            Err(_) => return Err(broke(format!("nothing was heard for {} s", SILENCE_MS / 1000))),
            Ok(Ok(0)) => return Err(broke("the board, or the hub, is gone".into())),
            Ok(Err(e)) => return Err(broke(e.to_string())),
            Ok(Ok(n)) => decoder.push(&buffer[..n]),
        }
        while let Some(frame) = decoder.frame().map_err(|e| broke(e.to_string()))? {
            let piece = match frame {
                Frame::Output(bytes) => Piece::Output(bytes),
                Frame::Error(bytes) => Piece::Error(bytes),
                Frame::Exit { code, why } => return Ok(Ended { code, why }),
                _ => continue,
            };
            if taker.pieces.send(piece).await.is_err() {
                // Nobody reads any more (`| head`), or nothing can be written: `finish` says what.
                return Ok(Ended { code: 0, why: String::new() });
            }
        }
    }
}

/// Returns only when nothing can be said any more.
async fn tell(mut to: WriteHalf<Stream>, mut given: Option<Given>, resizes: bool) -> Failure {
    let broke = |e: &dyn std::fmt::Display| Failure::new(Code::Failed, format!("the connection broke: {e}"));
    let mut ping = tokio::time::interval(Duration::from_millis(PING_MS));
    let mut resized = match signal(SignalKind::window_change()) {
        Ok(signal) => signal,
        Err(e) => return broke(&e),
    };
    loop {
        let frame = tokio::select! {
            piece = next(&mut given) => piece.map_or(Frame::InputEnd, Frame::Input),
            Some(size) = async { resized.recv().await.and_then(|()| size()) }, if resizes => Frame::Resize(size),
            _ = ping.tick() => Frame::Ping,
        };
        if let Err(e) = to.write_all(&frame.bytes()).await {
            // The board hung up; what it said last is read by the other half.
            tokio::time::sleep(Duration::from_secs(5)).await;
            return broke(&e);
        }
    }
}

fn size() -> Option<Size> {
    super::terminal::size()
}

/// `None` once, at the end.
async fn next(given: &mut Option<Given>) -> Option<Vec<u8>> {
    match given {
        Some(pieces) => {
            let piece = pieces.recv().await;
            if piece.is_none() {
                *given = None;
            }
            piece
        }
        None => std::future::pending().await,
    }
}

/// What would end this process ends the command first: with the connection.
async fn stopped() -> Failure {
    let of = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = of(SignalKind::interrupt()) => Failure::new(Code::Interrupted, ""),
        () = of(SignalKind::terminate()) => Failure::new(Code::Interrupted, "terminated"),
        () = of(SignalKind::hangup()) => Failure::new(Code::Interrupted, "hung up"),
    }
}
