//! Frames on one side, pipes or a terminal on the other.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use contract::session::{Decoder, Frame, PAYLOAD_BYTES_MAX, PING_MS, PROTOCOL, SILENCE_MS, Size};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use oci::run::join::JoinError;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::{Ends, Order, Pipes, failed};
use crate::instance::pidfd::readable;
use crate::run::http;

/// After the command's end: how long what it left in the background may still be writing.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How much of a pipe is sent at once.
const PIECE_BYTES: usize = 32 << 10;
const _: () = assert!(PIECE_BYTES <= PAYLOAD_BYTES_MAX);

type FromHub = ReadHalf<TokioIo<Upgraded>>;
type ToHub = WriteHalf<TokioIo<Upgraded>>;

pub async fn talk(order: &Order, begun: Result<Ends, JoinError>) -> Result<(), String> {
    let stream = http::upgrade(&order.base_url, &order.ticket, PROTOCOL).await.map_err(|e| e.to_string())?;
    let (mut from, mut to) = tokio::io::split(stream);
    let exit = match begun {
        Ok(ends) => carry(ends, &mut from, &mut to).await?,
        Err(e) => {
            let (code, why) = failed(&e);
            Frame::Exit { code, why }
        }
    };
    say(&mut to, &exit).await?;
    let _ = to.shutdown().await;
    // Closed with something unread, the kernel would take back what was not delivered yet. Whoever reads the last
    // of it with a pager pings until he has it.
    let mut nowhere = [0; 256];
    let silence = Duration::from_millis(SILENCE_MS);
    while let Ok(Ok(1..)) = tokio::time::timeout(silence, from.read(&mut nowhere)).await {}
    Ok(())
}

/// To the command's end. When the other end goes first, so does the command: it is dropped with `ends`.
async fn carry(ends: Ends, from: &mut FromHub, to: &mut ToHub) -> Result<Frame, String> {
    let Ends { mut joined, pipes } = ends;
    let fault = |e: std::io::Error| format!("the command's streams: {e}");
    let terminal = joined.terminal.take();
    let size = terminal.as_ref().map(|t| t.try_clone()).transpose().map_err(fault)?;
    let Channels { input, output, errors } = channels(terminal, pipes).map_err(fault)?;
    let ended = joined.pidfd().try_clone_to_owned().and_then(readable).map_err(fault)?;
    tokio::select! {
        gone = listen(from, input, size) => return Err(gone),
        broken = tell(to, output, errors, async { drop(ended.readable().await) }) => broken?,
    }
    Ok(Frame::Exit { code: joined.wait(), why: String::new() })
}

struct Channels {
    input: Option<Sender>,
    output: Receiver,
    errors: Option<Receiver>,
}

fn channels(terminal: Option<OwnedFd>, pipes: Option<Pipes>) -> std::io::Result<Channels> {
    let open = |fd: &OwnedFd| rustix::io::ioctl_fionbio(fd.as_fd(), true);
    match (terminal, pipes) {
        (Some(terminal), _) => {
            open(&terminal)?;
            let again = terminal.try_clone()?;
            Ok(Channels {
                input: Some(Sender::from_owned_fd_unchecked(again)?),
                output: Receiver::from_owned_fd_unchecked(terminal)?,
                errors: None,
            })
        }
        (None, Some(Pipes { input, output, errors })) => {
            input.iter().chain([&output, &errors]).try_for_each(open)?;
            Ok(Channels {
                input: input.map(Sender::from_owned_fd_unchecked).transpose()?,
                output: Receiver::from_owned_fd_unchecked(output)?,
                errors: Some(Receiver::from_owned_fd_unchecked(errors)?),
            })
        }
        (None, None) => Err(std::io::ErrorKind::InvalidInput.into()),
    }
}

/// Returns when the other end is gone, and why that is thought.
async fn listen(from: &mut FromHub, mut input: Option<Sender>, terminal: Option<OwnedFd>) -> String {
    let (mut decoder, mut buffer) = (Decoder::default(), vec![0; PIECE_BYTES]);
    loop {
        let heard = tokio::time::timeout(Duration::from_millis(SILENCE_MS), from.read(&mut buffer)).await;
        match heard {
            Err(_) => return format!("nothing was heard for {} s", SILENCE_MS / 1000),
            Ok(Ok(0)) => return "the other end hung up".into(),
            Ok(Err(e)) => return format!("the connection broke: {e}"),
            Ok(Ok(n)) => decoder.push(&buffer[..n]),
        }
        loop {
            match decoder.frame() {
                Ok(Some(frame)) => take(frame, &mut input, terminal.as_ref()).await,
                Ok(None) => break,
                Err(e) => return e.to_string(),
            }
        }
    }
}

async fn take(frame: Frame, input: &mut Option<Sender>, terminal: Option<&OwnedFd>) {
    match frame {
        Frame::Input(bytes) => {
            if let Some(pipe) = input
                && pipe.write_all(&bytes).await.is_err()
            {
                // The command does not read any more; what else comes is not for it.
                *input = None;
            }
        }
        // A terminal has no end of its own: its user types one.
        Frame::InputEnd if terminal.is_none() => *input = None,
        Frame::Resize(Size { columns, rows }) => {
            if let Some(terminal) = terminal {
                let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
                let _ = tcsetwinsize(terminal, size);
            }
        }
        _ => {}
    }
}

/// Returns when the command has ended and all that it said is sent.
async fn tell(
    to: &mut ToHub,
    output: Receiver,
    errors: Option<Receiver>,
    ended: impl Future<Output = ()>,
) -> Result<(), String> {
    let (mut said, mut wrong) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let (mut output, mut errors) = (Some(output), errors);
    let mut ping = tokio::time::interval(Duration::from_millis(PING_MS));
    let mut ended = std::pin::pin!(ended);
    let mut is_over = false;
    while !(is_over && output.is_none() && errors.is_none()) {
        let frame = tokio::select! {
            biased;
            n = read(&mut output, &mut said) => Frame::Output(said[..n].to_vec()),
            n = read(&mut errors, &mut wrong) => Frame::Error(wrong[..n].to_vec()),
            () = &mut ended, if !is_over => {
                is_over = true;
                continue;
            }
            () = tokio::time::sleep(LAST_WORDS), if is_over => break,
            _ = ping.tick() => Frame::Ping,
        };
        say(to, &frame).await?;
    }
    Ok(())
}

/// Some bytes; never returns once there are none any more. (`EIO` is how a terminal says that all have closed it.)
async fn read(from: &mut Option<Receiver>, buffer: &mut [u8]) -> usize {
    if let Some(pipe) = from {
        match pipe.read(buffer).await {
            Ok(n) if n > 0 => return n,
            _ => *from = None,
        }
    }
    std::future::pending().await
}

async fn say(to: &mut ToHub, frame: &Frame) -> Result<(), String> {
    to.write_all(&frame.bytes()).await.map_err(|e| format!("the connection broke: {e}"))
}
