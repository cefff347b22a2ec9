//! How connections are taken and ended: a bounded number of them, each with bounds on how slowly it
//! may send a request and how long it may leave an answer unread.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// Open connections. Each costs a few KiB and a file descriptor; a hundred watchers and a hundred
/// boards that fetch leave room.
const CONNECTIONS_MAX: usize = 512;
/// From the first byte of a request to the end of its headers, and between two requests.
const HEADER_WAIT_MAX: Duration = Duration::from_secs(30);
/// A client that takes no byte for so long is gone or stuck.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Answers in progress when the hub stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors left): what fails at once would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serve until `stop`, then let what is in progress end.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(app);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT_MAX).max_buf_size(64 << 10);
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async { (place.await, listener.accept().await) } => accepted,
        };
        let (Ok(place), Ok((stream, _))) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = http.serve_connection(TokioIo::new(Box::pin(bounded(stream))), service.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // How a client's connection ends is its own affair.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN_MAX, graceful.shutdown()).await;
}

fn bounded(stream: TcpStream) -> TimeoutStream<TcpStream> {
    // Answers and events are small and someone waits for each.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_WAIT_MAX));
    stream
}
