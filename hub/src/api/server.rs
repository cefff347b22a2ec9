//! How connections are taken and ended: a bounded number of them, each with bounds on how slowly it
//! may send a request and how long it may leave an answer unread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use crate::serve::handle::Handle;
use crate::trust::front::Entered;
use crate::trust::places::{Place, Places};
use crate::trust::relay::relay;
use crate::trust::{Door, Front, Via};

/// Open connections. Each costs a few KiB and a file descriptor; a hundred watchers and a hundred
/// boards that fetch leave room.
const CONNECTIONS_MAX: usize = 512;
/// Of these from one address, when encrypted: a proxy with all operators behind it has enough.
const CONNECTIONS_PER_ADDRESS: usize = 256;
/// For a place, after the handshake.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(10);
/// From the first byte of a request to the end of its headers, and between two requests.
const HEADER_WAIT_MAX: Duration = Duration::from_secs(30);
/// A client that takes no byte for so long is gone or stuck.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Answers in progress when the hub stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors left): what fails at once would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What stands before an encrypted port, and behind it.
pub struct Gate {
    pub front: Front,
    pub door: Arc<Door>,
    pub hub: Handle,
    /// The embedded broker.
    pub mqtt: Option<SocketAddr>,
}

/// Serve until `stop`, then let what is in progress end.
pub async fn serve(listener: TcpListener, app: Router, gate: Option<Gate>, stop: CancellationToken) {
    let places = Places::new(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS);
    let (graceful, gate) = (GracefulShutdown::new(), gate.map(Arc::new));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places, gate.is_some()) => accepted,
        };
        let Ok((stream, from, place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (app, watcher, stop) = (app.clone(), graceful.watcher(), stop.clone());
        let Some(gate) = gate.clone() else {
            let _ = stream.set_nodelay(true);
            let via = Via { from, encrypted: false, peer: None };
            tokio::spawn(async move { http(stream, app, via, watcher, place).await });
            continue;
        };
        let places = places.clone();
        tokio::spawn(async move {
            let entered = tokio::select! {
                entered = gate.front.enter(stream, from) => entered,
                () = stop.cancelled() => None,
            };
            let Some((entered, waiting)) = entered else { return };
            match (entered, gate.mqtt) {
                (Entered::Http(stream, via), _) => {
                    let place = places.take_within(from.ip(), PLACE_WAIT_MAX).await;
                    drop(waiting);
                    if place.is_some() {
                        http(stream, app, via, watcher, place).await;
                    }
                }
                (Entered::Mqtt(stream, peer), Some(mqtt)) => {
                    // The broker ends its sessions when the hub stops.
                    drop((watcher, waiting));
                    relay(stream, peer, mqtt, &gate.door, &gate.hub).await;
                }
                _ => {}
            }
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN_MAX, graceful.shutdown()).await;
}

/// In plain a connection is HTTP and takes its place at once; encrypted, it takes one when it has shown
/// that it is, or boards that hold MQTT would leave operators none.
async fn accept(
    listener: &TcpListener,
    places: &Places,
    encrypted: bool,
) -> std::io::Result<(TcpStream, SocketAddr, Option<Place>)> {
    let place = match encrypted {
        true => None,
        false => places.take().await,
    };
    let (stream, from) = listener.accept().await?;
    Ok((stream, from, place))
}

/// One connection to its end.
async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    app: Router,
    via: Via,
    watcher: Watcher,
    place: Option<Place>,
) {
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(via.clone());
        app.call(request)
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_WAIT_MAX));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT_MAX).max_buf_size(64 << 10);
    let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
    // How a client's connection ends is its own affair.
    let _ = watcher.watch(connection).await;
    drop(place);
}
