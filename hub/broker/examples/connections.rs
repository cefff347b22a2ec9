//! What does an agent's connection cost the embedded broker? `connections [agents, default 1000]`
//!
//! The broker runs in a process of its own; this one plays the agents over plain sockets, so that
//! their memory is not counted. Printed: the broker's memory and CPU time before and after all have
//! connected and subscribed, and the time until each has its own desired document.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub_broker::{Access, BrokerConfig, EmbeddedBroker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use transport::bus::BusLimits;
use transport::{BusEvent, Kind, Outgoing};

const DOCUMENT_BYTES: usize = 2048;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let argument = std::env::args().nth(1);
    match argument.as_deref() {
        Some("broker") => runtime.block_on(serve()),
        other => runtime.block_on(measure(other.map_or(Ok(1000), str::parse)?)),
    }
}

/// Tell the port; publish to `n` agents for each line `publish n`; end with standard input.
async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let broker = EmbeddedBroker::start(BrokerConfig::new(bind, Access::OpenOnLoopback)).await?;
    let mut bus = broker.bus(BusLimits::default());
    let sender = bus.sender.clone();
    tokio::spawn(async move { while !matches!(bus.next().await, None | Some(BusEvent::Down { .. })) {} });
    println!("{}", broker.addr().port());
    let (lines, mut asked) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|l| lines.blocking_send(l))
    });
    while let Some(line) = asked.recv().await {
        let agents: usize = line.parse()?;
        for n in 0..agents {
            let payload = Bytes::from(vec![b'x'; DOCUMENT_BYTES]);
            sender
                .publish(Outgoing::to_agent(&format!("a{n}").parse()?, Kind::Desired, payload, "t"))
                .await?;
        }
    }
    broker.stop().await;
    Ok(())
}

async fn measure(agents: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("broker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut first = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut first)?;
    let port: u16 = first.trim().parse()?;
    report("empty", &child, None)?;

    let start = Instant::now();
    let mut sockets = Vec::new();
    for n in 0..agents {
        sockets.push(agent(port, n).await?);
    }
    println!("{agents} connected and subscribed in {:?}", start.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    report("idle", &child, Some(agents))?;

    let start = Instant::now();
    writeln!(child.stdin.as_mut().ok_or("no input")?, "{agents}")?;
    for socket in &mut sockets {
        let mut packet = vec![0; DOCUMENT_BYTES];
        socket.read_exact(&mut packet).await?;
    }
    println!("a document of {DOCUMENT_BYTES} bytes to each in {:?}", start.elapsed());
    report("after documents", &child, Some(agents))?;
    drop(child.stdin.take());
    child.wait()?;
    Ok(())
}

/// CONNECT and SUBSCRIBE to the four topics of an agent, by hand.
async fn agent(port: u16, n: usize) -> Result<TcpStream, Box<dyn std::error::Error>> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let name = format!("a{n}");
    let will = format!("skerry/v1/agents/{name}/presence");
    let mut connect = b"\0\x04MQTT\x05\x2e\x02\x58\0".to_vec();
    connect.extend(text(&name));
    connect.push(0);
    connect.extend(text(&will));
    connect.extend(text("gone"));
    socket.write_all(&packet(0x10, &connect)).await?;
    expect(&mut socket, 0x20).await?;
    let mut subscribe = vec![0, 1, 0];
    for topic in ["hub", "desired", "hello", "command/+"] {
        let below = if topic == "hub" { topic.to_string() } else { format!("agents/{name}/{topic}") };
        subscribe.extend(text(&format!("skerry/v1/{below}")));
        subscribe.push(1);
    }
    socket.write_all(&packet(0x82, &subscribe)).await?;
    expect(&mut socket, 0x90).await?;
    Ok(socket)
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = [(body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8];
    [&[kind][..], &length, body].concat()
}

async fn expect(socket: &mut TcpStream, kind: u8) -> Result<(), Box<dyn std::error::Error>> {
    let mut head = [0; 2];
    socket.read_exact(&mut head).await?;
    let mut body = vec![0; head[1].into()];
    socket.read_exact(&mut body).await?;
    if head[0] != kind {
        return Err(format!("packet {:#x} instead of {kind:#x}", head[0]).into());
    }
    Ok(())
}

fn report(when: &str, child: &Child, per: Option<usize>) -> Result<(), Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: usize = rss.trim().trim_end_matches(" kB").parse()?;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let times: Vec<u64> =
        stat.split_whitespace().skip(13).take(2).map(str::parse).collect::<Result<_, _>>()?;
    let each = per.map(|n| format!(", {} KiB for each agent in all", kib / n.max(1))).unwrap_or_default();
    println!("{when}: {kib} KiB resident{each}; CPU {} ms", times.iter().sum::<u64>() * 10);
    Ok(())
}
