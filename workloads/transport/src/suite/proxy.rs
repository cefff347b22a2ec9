//! A cable that can be cut, unplugged, or made to go silent: a TCP proxy on loopback.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Endpoint;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Cable {
    /// Nothing is forwarded, nothing closed: what a dead mobile link looks like.
    stalled: bool,
    /// New connections are closed at once.
    unplugged: bool,
    /// Connections from before a cut are closed.
    cuts: u64,
}

pub struct Proxy {
    port: u16,
    cable: Arc<watch::Sender<Cable>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: u16) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port on loopback");
        let port = listener.local_addr().expect("a bound listener").port();
        let cable = Arc::new(watch::Sender::new(Cable { stalled: false, unplugged: false, cuts: 0 }));
        let task = tokio::spawn(accept(listener, target, Arc::clone(&cable)));
        Proxy { port, cable, task }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::parse(&format!("mqtt://127.0.0.1:{}", self.port), false).expect("an endpoint")
    }

    /// Close all connections; new ones work.
    pub fn cut(&self) {
        self.cable.send_modify(|c| {
            c.cuts += 1;
            c.stalled = false;
        });
    }

    pub fn stall(&self) {
        self.cable.send_modify(|c| c.stalled = true);
    }

    pub fn resume(&self) {
        self.cable.send_modify(|c| c.stalled = false);
    }

    /// Close all connections and let in no new ones.
    pub fn unplug(&self) {
        self.cable.send_modify(|c| c.unplugged = true);
        self.cut();
    }

    pub fn plug(&self) {
        self.cable.send_modify(|c| c.unplugged = false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: u16, cable: Arc<watch::Sender<Cable>>) {
    while let Ok((near, _)) = listener.accept().await {
        if cable.borrow().unplugged {
            continue;
        }
        let watch = cable.subscribe();
        tokio::spawn(async move {
            if let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await {
                carry(near, far, watch).await;
            }
        });
    }
}

async fn carry(near: TcpStream, far: TcpStream, cable: watch::Receiver<Cable>) {
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let born = cable.borrow().cuts;
    let mut watch = cable.clone();
    tokio::select! {
        () = pump(near_read, far_write, cable.clone()) => {}
        () = pump(far_read, near_write, cable) => {}
        _ = watch.wait_for(|c| c.cuts != born) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cable: watch::Receiver<Cable>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        if cable.wait_for(|c| !c.stalled).await.is_err() {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = cable.wait_for(|c| c.stalled) => continue,
        };
        let Ok(size @ 1..) = read else { return };
        if to.write_all(&buffer[..size]).await.is_err() {
            return;
        }
    }
}
