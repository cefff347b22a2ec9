//! How to listen on "any free port" and know which, with a broker that does not tell.
//!
//! A socket of ours takes the port without listening; the broker binds beside it, which the kernel
//! allows only to sockets that all ask for it and belong to one user. Only then is ours closed. For
//! a given port nothing of this happens: two hubs on one port must fail, not share.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

pub struct Place {
    pub addr: SocketAddr,
    /// The listener must ask to share the port.
    pub shared: bool,
    _held: Option<TcpSocket>,
}

pub fn reserve(bind: SocketAddr) -> io::Result<Place> {
    if bind.port() != 0 {
        return Ok(Place { addr: bind, shared: false, _held: None });
    }
    let socket = if bind.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseport(true)?;
    socket.bind(bind)?;
    Ok(Place { addr: socket.local_addr()?, shared: true, _held: Some(socket) })
}
