//! Tries one thing on the network and says how it went: does `network` in the manifest hold?
//!
//! `netcheck connect HOST:PORT | lookup NAME:PORT | listen PORT | udp HOST:PORT`. Ends with 0 if it
//! was allowed and worked, 1 if not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["connect", address] => connect(address),
        ["lookup", name] => lookup(name),
        ["listen", port] => listen(port),
        ["udp", address] => udp(address),
        _ => Err(std::io::Error::other("netcheck connect | lookup | listen | udp ADDRESS")),
    };
    match done {
        Ok(text) => {
            println!("ok: {text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            println!("no: {:?}: {e}", e.kind());
            ExitCode::FAILURE
        }
    }
}

/// Sends a line and reads the answer.
fn connect(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"ping\n")?;
    read_line(&mut stream)
}

fn lookup(name: &str) -> std::io::Result<String> {
    let found: Vec<String> = name.to_socket_addrs()?.map(|a| a.ip().to_string()).collect();
    Ok(found.join(" "))
}

/// Answers one caller.
fn listen(port: &str) -> std::io::Result<String> {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("listening on {}", listener.local_addr()?);
    let (mut stream, _) = listener.accept()?;
    let line = read_line(&mut stream)?;
    stream.write_all(b"pong\n")?;
    Ok(line)
}

fn udp(address: &str) -> std::io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.send_to(b"ping\n", address)?;
    let mut buffer = [0u8; 64];
    let (length, from) = socket.recv_from(&mut buffer)?;
    Ok(format!("{} from {from}", String::from_utf8_lossy(&buffer[..length]).trim_end()))
}

fn read_line(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0u8];
    while line.len() < 64 && stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
