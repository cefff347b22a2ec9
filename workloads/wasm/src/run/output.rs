//! Where a guest's output goes: the process's own streams, or a function of the caller.
//!
//! The function is called on the guest's thread, inside the guest's write: a shim needs neither a pipe
//! nor a second process or thread to keep a bounded log.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtxBuilder, async_trait};

/// What a guest may hand over in one call.
const WRITE_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Called with each piece that a guest writes. It cannot fail: a guest is not hurt by a full log.
pub type Sink = Arc<dyn Fn(Stream, &[u8]) + Send + Sync>;

#[derive(Clone, Default)]
pub enum Output {
    /// File descriptors 1 and 2.
    #[default]
    Inherit,
    Sink(Sink),
}

impl Output {
    pub(super) fn add_to(&self, wasi: &mut WasiCtxBuilder) {
        match self {
            Output::Inherit => wasi.inherit_stdout().inherit_stderr(),
            Output::Sink(sink) => wasi
                .stdout(Piece { stream: Stream::Stdout, sink: sink.clone() })
                .stderr(Piece { stream: Stream::Stderr, sink: sink.clone() }),
        };
    }

    /// A line of our own among the guest's errors.
    pub(super) fn note(&self, text: &str) {
        let line = format!("skerry: {text}\n");
        match self {
            // Not eprintln!: that panics where stderr is closed.
            Output::Inherit => drop(io::stderr().write_all(line.as_bytes())),
            Output::Sink(sink) => sink(Stream::Stderr, line.as_bytes()),
        }
    }
}

#[derive(Clone)]
struct Piece {
    stream: Stream,
    sink: Sink,
}

impl IsTerminal for Piece {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Piece {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Piece {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        (self.sink)(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for Piece {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Piece {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        (self.sink)(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
