//! How a board's MQTT gets from the encrypted port into the embedded broker, which listens on loopback
//! only: its own TLS takes certificates from files, never anew, and tells nobody why it refuses. The
//! broker asks us who is behind a connection (`Inside::who`).

use std::net::SocketAddr;
use std::time::Duration;

use contract::identity::Standing;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use super::door::Door;
use super::peer::Peer;
use crate::serve::handle::Handle;

/// Each way; most messages are smaller, larger ones go in pieces.
const PIECE_BYTES: usize = 2048;
/// Who is refused may still send its CONNECT, and has to hear the answer.
const REFUSAL_WAIT: Duration = Duration::from_secs(5);
/// From the handshake to the broker's answer to a CONNECT.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(30);
/// CONNACK of MQTT 5: no session, 'not authorized', no properties.
const NOT_AUTHORIZED: [u8; 5] = [0x20, 0x03, 0x00, 0x87, 0x00];

/// Until either side ends it, or the board is sent away.
pub async fn relay(
    mut stream: Box<TlsStream<TcpStream>>,
    peer: Peer,
    broker: SocketAddr,
    door: &Door,
    hub: &Handle,
) {
    let Ok(mut inner) = TcpStream::connect(broker).await else { return };
    let _ = inner.set_nodelay(true);
    let Ok(from) = inner.local_addr() else { return };
    // First entered, then asked: whoever is sent away in between is cut.
    let Some(guest) = door.inside().enter(from, peer.agent.clone()) else { return };
    match door.standing(hub, &peer).await {
        Ok(known) if known.standing == Standing::Good => {}
        Ok(_) => {
            drop((guest, inner));
            return refuse(stream).await;
        }
        // A hub that is too busy to look says nothing: the board comes again.
        Err(_) => return,
    }
    tokio::select! {
        connected = connect(&mut stream, &mut inner) => if !connected { return },
        () = guest.end.cancelled() => return,
    }
    let (mut heard, mut said) = tokio::io::split(stream);
    let (mut from_broker, mut to_broker) = inner.split();
    // Whichever ends first ends both: a board that the network lost would else be waited for as long as TCP
    // does, and its places are few.
    tokio::select! {
        _ = pass(&mut heard, &mut to_broker) => {}
        _ = pass(&mut from_broker, &mut said) => {}
        () = guest.end.cancelled() => {}
    }
    // The broker's last word, if there was one, and the end of the encryption.
    let _ = timeout(REFUSAL_WAIT, said.shutdown()).await;
}

async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut piece = [0; PIECE_BYTES];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&piece[..read]).await?;
        // What the encryption holds back for want of room would else wait for the next piece.
        to.flush().await?;
    }
}

/// Until the broker has an answer: it has no bound of its own on a CONNECT that never ends.
async fn connect(stream: &mut TlsStream<TcpStream>, inner: &mut TcpStream) -> bool {
    let (mut heard, mut first) = ([0; PIECE_BYTES], [0]);
    let end = Instant::now() + CONNECT_WAIT_MAX;
    loop {
        let read = tokio::select! {
            answer = inner.peek(&mut first) => return answer.is_ok_and(|n| n > 0),
            read = stream.read(&mut heard) => read,
            () = sleep_until(end) => return false,
        };
        match read {
            Ok(n) if n > 0 && inner.write_all(&heard[..n]).await.is_ok() => {}
            _ => return false,
        }
    }
}

async fn refuse(mut stream: Box<TlsStream<TcpStream>>) {
    let say = async {
        let mut heard = [0; 512];
        if stream.read(&mut heard).await? == 0 {
            return Ok(());
        }
        stream.write_all(&NOT_AUTHORIZED).await?;
        stream.shutdown().await?;
        // Unread bytes would make the close a reset, which may overtake the answer.
        while stream.read(&mut heard).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(REFUSAL_WAIT, say).await;
}
