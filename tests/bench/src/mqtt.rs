//! The few MQTT 5 packets that an agent without a program needs: five thousand of them must fit
//! into one process that costs nothing.

use std::io::{self, Read, Write};

/// Larger than anything a hub sends to an agent without work.
const PACKET_BYTES_MAX: usize = 1 << 20;

pub struct Will<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
}

/// One packet as it came: first byte and body.
pub struct Packet {
    pub head: u8,
    pub body: Vec<u8>,
}

pub struct Publish<'a> {
    pub topic: &'a str,
    pub packet_id: Option<u16>,
    pub payload: &'a [u8],
}

/// Clean start, a retained will at QoS 1, user and password.
pub fn connect(id: &str, password: &str, keep_alive_secs: u16, will: &Will<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend([5, 0b1110_1110]);
    body.extend(keep_alive_secs.to_be_bytes());
    // Session expiry 0, receive maximum 16.
    properties(&mut body, &[0x11, 0, 0, 0, 0, 0x21, 0, 16]);
    text(&mut body, id);
    properties(&mut body, &json_type());
    text(&mut body, will.topic);
    binary(&mut body, will.payload);
    text(&mut body, id);
    text(&mut body, password);
    packet(0x10, &body)
}

pub fn subscribe(packet_id: u16, filters: &[String]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    properties(&mut body, &[]);
    for filter in filters {
        text(&mut body, filter);
        body.push(1);
    }
    packet(0x82, &body)
}

/// At QoS 1.
pub fn publish(packet_id: u16, topic: &str, payload: &[u8], retain: bool) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    body.extend(packet_id.to_be_bytes());
    properties(&mut body, &json_type());
    body.extend(payload);
    packet(0x32 | u8::from(retain), &body)
}

pub fn puback(packet_id: u16) -> Vec<u8> {
    packet(0x40, &packet_id.to_be_bytes())
}

pub fn send(stream: &mut impl Write, packet: &[u8]) -> io::Result<()> {
    stream.write_all(packet)
}

pub fn receive(stream: &mut impl Read) -> io::Result<Packet> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let head = byte[0];
    let (mut length, mut shift) = (0usize, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            return Err(invalid("a length of more than four bytes"));
        }
    }
    if length > PACKET_BYTES_MAX {
        return Err(invalid("a packet that is too large"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Packet { head, body })
}

impl Packet {
    pub fn kind(&self) -> u8 {
        self.head >> 4
    }

    pub fn as_publish(&self) -> Option<Publish<'_>> {
        let length = usize::from(u16::from_be_bytes([*self.body.first()?, *self.body.get(1)?]));
        let topic = std::str::from_utf8(self.body.get(2..2 + length)?).ok()?;
        let mut rest = self.body.get(2 + length..)?;
        let mut packet_id = None;
        if self.head & 0b110 != 0 {
            packet_id = Some(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
            rest = &rest[2..];
        }
        let (mut size, mut shift, mut used) = (0usize, 0, 0);
        loop {
            let byte = *rest.get(used)?;
            size |= usize::from(byte & 0x7f) << shift;
            (shift, used) = (shift + 7, used + 1);
            if byte & 0x80 == 0 || shift > 21 {
                break;
            }
        }
        Some(Publish { topic, packet_id, payload: rest.get(used + size..)? })
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The content type, as a property.
fn json_type() -> Vec<u8> {
    let mut property = vec![0x03];
    text(&mut property, "application/json");
    property
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    length(&mut bytes, body.len());
    bytes.extend(body);
    bytes
}

fn properties(into: &mut Vec<u8>, bytes: &[u8]) {
    length(into, bytes.len());
    into.extend(bytes);
}

fn text(into: &mut Vec<u8>, text: &str) {
    binary(into, text.as_bytes());
}

fn binary(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend(u16::try_from(bytes.len()).expect("short").to_be_bytes());
    into.extend(bytes);
}

fn length(into: &mut Vec<u8>, mut length: usize) {
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        into.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_reads_back() {
        let payload = vec![7; 300];
        let bytes = publish(9, "a/b", &payload, true);
        let packet = receive(&mut &bytes[..]).unwrap();
        let publish = packet.as_publish().unwrap();
        assert_eq!(
            (packet.kind(), publish.topic, publish.packet_id, publish.payload),
            (3, "a/b", Some(9), &payload[..])
        );
        assert!(receive(&mut &[0x30, 0xff, 0xff, 0xff, 0xff, 1][..]).is_err());
    }
}
