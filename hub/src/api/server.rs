//! How connections are taken and ended: a bounded number of them, each with bounds on how slowly it
//! may send a request and how long it may leave an answer unread.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

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

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// What HTTP reads and writes, plain or encrypted.
type Timed = Pin<Box<TimeoutStream<Box<dyn Wire>>>>;

/// Serve until `stop`, then let what is in progress end.
pub async fn serve(listener: TcpListener, app: Router, gate: Option<Gate>, stop: CancellationToken) {
    let places = Places::new(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS);
    let (open, gate) = (TaskTracker::new(), gate.map(Arc::new));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places, gate.is_some()) => accepted,
        };
        let Ok((stream, from, place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (app, open, stop) = (app.clone(), open.token(), stop.clone());
        let Some(gate) = gate.clone() else {
            let _ = stream.set_nodelay(true);
            let via = Via { from, encrypted: false, peer: None };
            tokio::spawn(async move { http(stream, app, via, &stop, place, open).await });
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
                        http(stream, app, via, &stop, place, open).await;
                    }
                }
                (Entered::Mqtt(stream, peer), Some(mqtt)) => {
                    // The broker ends its sessions when the hub stops.
                    drop((open, waiting));
                    relay(stream, peer, mqtt, &gate.door, &gate.hub).await;
                }
                _ => {}
            }
        });
    }
    drop(listener);
    open.close();
    let _ = tokio::time::timeout(DRAIN_MAX, open.wait()).await;
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

/// One connection to its end as HTTP. A session's goes on elsewhere (`patient`).
async fn http<S: Wire + 'static>(
    stream: S,
    app: Router,
    via: Via,
    stop: &CancellationToken,
    place: Option<Place>,
    open: TaskTrackerToken,
) {
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(via.clone());
        app.call(request)
    });
    let mut stream = TimeoutStream::new(Box::new(stream) as Box<dyn Wire>);
    stream.set_write_timeout(Some(WRITE_WAIT_MAX));
    let stream: Timed = Box::pin(stream);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT_MAX).max_buf_size(64 << 10);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    // How a client's connection ends is its own affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop((place, open));
}

/// An upgraded connection without our bound on how long its reader takes nothing: whoever reads a session's
/// output with a pager takes his time, and whether he is still there is judged by what he says.
pub fn patient(upgraded: Upgraded) -> std::io::Result<impl AsyncRead + AsyncWrite> {
    let other = |_| std::io::Error::other("the connection is not one that this server took");
    let parts = upgraded.downcast::<TokioIo<Timed>>().map_err(other)?;
    let mut stream = parts.io.into_inner();
    stream.as_mut().set_write_timeout_pinned(None);
    let (reader, writer) = tokio::io::split(stream);
    Ok(tokio::io::join(std::io::Cursor::new(parts.read_buf).chain(reader), writer))
}
