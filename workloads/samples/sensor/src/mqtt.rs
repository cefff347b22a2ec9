//! As much of MQTT 3.1.1 as publishing takes: CONNECT, PUBLISH with QoS 0 or 1, DISCONNECT.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a broker may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
}

pub struct Connection {
    stream: TcpStream,
    packet_id: u16,
}

impl Connection {
    pub fn open(broker: &str, client: &str, keep_alive_secs: u16) -> Result<Self> {
        let mut last = Error::new(ErrorKind::NotFound, "the name has no address");
        for address in broker.to_socket_addrs()? {
            match TcpStream::connect(address) {
                Ok(stream) => return Self::greet(stream, client, keep_alive_secs),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    fn greet(stream: TcpStream, client: &str, keep_alive_secs: u16) -> Result<Self> {
        stream.set_read_timeout(Some(ANSWER))?;
        let mut connection = Connection { stream, packet_id: 0 };
        let mut body = string("MQTT");
        body.extend([4, 0b10]); // protocol level, clean session
        body.extend(keep_alive_secs.to_be_bytes());
        body.extend(string(client));
        connection.send(0x10, &body)?;
        match connection.receive()? {
            (0x20, answer) if answer.get(1) == Some(&0) => Ok(connection),
            (0x20, answer) => Err(Error::new(
                ErrorKind::ConnectionRefused,
                format!("the broker refuses with code {:?}", answer.get(1)),
            )),
            (kind, _) => Err(unexpected(kind)),
        }
    }

    /// With QoS 1 returns when the broker has acknowledged.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: Qos) -> Result<()> {
        let mut body = string(topic);
        if qos == Qos::AtMostOnce {
            body.extend(payload);
            return self.send(0x30, &body);
        }
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        body.extend(self.packet_id.to_be_bytes());
        body.extend(payload);
        self.send(0x32, &body)?;
        match self.receive()? {
            (0x40, answer) if answer.get(..2) == Some(&self.packet_id.to_be_bytes()) => Ok(()),
            (kind, _) => Err(unexpected(kind)),
        }
    }

    pub fn close(mut self) {
        // The readings are sent; whether the goodbye arrives changes nothing.
        let _ = self.send(0xe0, &[]);
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        let mut packet = vec![kind];
        let mut length = body.len();
        loop {
            let low = (length % 128) as u8;
            length /= 128;
            packet.push(if length > 0 { low | 0x80 } else { low });
            if length == 0 {
                break;
            }
        }
        packet.extend(body);
        self.stream.write_all(&packet)
    }

    /// Only acknowledgements come to a client that never subscribes, so packets are short.
    fn receive(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0u8; 2];
        self.stream.read_exact(&mut head)?;
        if head[1] > 127 {
            return Err(unexpected(head[0]));
        }
        let mut body = vec![0u8; usize::from(head[1])];
        self.stream.read_exact(&mut body)?;
        Ok((head[0] & 0xf0, body))
    }
}

fn unexpected(kind: u8) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the broker sent a packet of kind {kind:#04x} out of turn"))
}

fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("arguments are far shorter than 64 KiB");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
