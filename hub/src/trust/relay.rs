//! How a board's MQTT gets from the encrypted port into the embedded broker, which listens on loopback
//! only: its own TLS takes certificates from files, never anew, and tells nobody why it refuses. The
//! broker asks us who is behind a connection (`Inside::who`).

use std::net::SocketAddr;
use std::time::Duration;

use contract::identity::Standing;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::door::Door;
use super::peer::Peer;
use crate::serve::handle::Handle;

/// Each way; most messages are smaller, larger ones go in pieces.
const PIECE_BYTES: usize = 2048;
/// Who is refused may still send its CONNECT, and has to hear the answer.
const REFUSAL_WAIT: Duration = Duration::from_secs(5);
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
    let guest = door.inside().enter(from, peer.agent.clone());
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
        _ = copy_bidirectional_with_sizes(&mut stream, &mut inner, PIECE_BYTES, PIECE_BYTES) => {}
        () = guest.end.cancelled() => {}
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
    let _ = tokio::time::timeout(REFUSAL_WAIT, say).await;
}
