//! Does somebody accept on this port?

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

/// Closed again at once: nothing is said.
pub async fn connect(host: IpAddr, port: u16) -> Result<(), String> {
    open(host, port).await.map(drop)
}

pub async fn open(host: IpAddr, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect(SocketAddr::new(host, port)).await.map_err(|why| match why.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
        _ => why.to_string(),
    })
}
