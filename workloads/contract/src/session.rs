//! What travels in a session (`hub exec`, `hub cp`) once command line and board are joined: frames, in both
//! directions, over one byte stream. Pure: bytes in, frames out.
//!
//! ```text
//! frame = kind (1) · length of the payload (4, big endian, at most PAYLOAD_BYTES_MAX) · payload
//! ```
//!
//! Whoever has nothing to say pings, so that silence means that somebody is gone. Kinds that a reader does not
//! know are skipped: a later version may say more.

/// Of one frame: what a pipe holds at most, so that nobody has to keep more than that.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;
pub const HEAD_BYTES: usize = 5;
/// Said at least so often.
pub const PING_MS: u64 = 15_000;
/// Heard nothing for so long, while listening: the other end is gone.
pub const SILENCE_MS: u64 = 60_000;
/// In `Upgrade:`, by both ends; a later shape of frames has another name.
pub const PROTOCOL: &str = "skerry-session-1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To the board.
    Input(Vec<u8>),
    /// The input has ended.
    InputEnd,
    Resize(Size),
    /// From the board.
    Output(Vec<u8>),
    Error(Vec<u8>),
    /// The last frame: how the command ended, and what is to be said about it.
    Exit {
        code: u8,
        why: String,
    },
    /// From both.
    Ping,
}

/// Of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
pub struct Size {
    pub columns: u16,
    pub rows: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes; at most {PAYLOAD_BYTES_MAX}")]
    TooLong(u32),
    #[error("a frame of kind {kind} with {bytes} bytes cannot be read")]
    Malformed { kind: u8, bytes: usize },
}

mod kind {
    pub const INPUT: u8 = 1;
    pub const INPUT_END: u8 = 2;
    pub const RESIZE: u8 = 3;
    pub const OUTPUT: u8 = 4;
    pub const ERROR: u8 = 5;
    pub const EXIT: u8 = 6;
    pub const PING: u8 = 7;
}

impl Frame {
    /// Appends it; a payload that is too long is cut, for its writer bounds what it reads.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let exit;
        let size;
        let (kind, payload): (u8, &[u8]) = match self {
            Frame::Input(bytes) => (kind::INPUT, bytes),
            Frame::InputEnd => (kind::INPUT_END, &[]),
            Frame::Resize(Size { columns, rows }) => {
                size = [columns.to_be_bytes(), rows.to_be_bytes()].concat();
                (kind::RESIZE, &size)
            }
            Frame::Output(bytes) => (kind::OUTPUT, bytes),
            Frame::Error(bytes) => (kind::ERROR, bytes),
            Frame::Exit { code, why } => {
                exit = [&[*code], why.as_bytes()].concat();
                (kind::EXIT, &exit)
            }
            Frame::Ping => (kind::PING, &[]),
        };
        let payload = &payload[..payload.len().min(PAYLOAD_BYTES_MAX)];
        out.push(kind);
        out.extend((payload.len() as u32).to_be_bytes());
        out.extend(payload);
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// `None` for a kind that is not known here.
    fn decode(kind: u8, payload: &[u8]) -> Result<Option<Frame>, FrameError> {
        let malformed = || FrameError::Malformed { kind, bytes: payload.len() };
        Ok(Some(match kind {
            kind::INPUT => Frame::Input(payload.to_vec()),
            kind::INPUT_END => Frame::InputEnd,
            kind::RESIZE => {
                let [a, b, c, d] = payload.try_into().map_err(|_| malformed())?;
                let (columns, rows) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                Frame::Resize(Size { columns, rows })
            }
            kind::OUTPUT => Frame::Output(payload.to_vec()),
            kind::ERROR => Frame::Error(payload.to_vec()),
            kind::EXIT => {
                let (code, why) = payload.split_first().ok_or_else(malformed)?;
                Frame::Exit { code: *code, why: crate::limits::clip(&String::from_utf8_lossy(why)) }
            }
            kind::PING => Frame::Ping,
            _ => return Ok(None),
        }))
    }
}

/// Holds at most one frame that is not whole.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    read: usize,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.read);
        self.read = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame. After an error nothing more can be read.
    pub fn frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let Some((head, rest)) = self.held[self.read..].split_at_checked(HEAD_BYTES) else {
                return Ok(None);
            };
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            if length as usize > PAYLOAD_BYTES_MAX {
                return Err(FrameError::TooLong(length));
            }
            let Some(payload) = rest.get(..length as usize) else { return Ok(None) };
            let frame = Frame::decode(head[0], payload)?;
            self.read += HEAD_BYTES + payload.len();
            if frame.is_some() {
                return Ok(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Frame> {
        vec![
            Frame::Input(b"ls\n".to_vec()),
            Frame::InputEnd,
            Frame::Resize(Size { columns: 80, rows: 24 }),
            Frame::Output(vec![7; PAYLOAD_BYTES_MAX]),
            Frame::Error(Vec::new()),
            Frame::Ping,
            Frame::Exit { code: 42, why: "größer".into() },
        ]
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(piece.max(1)) {
            decoder.push(piece);
            while let Some(frame) = decoder.frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let bytes: Vec<u8> = all().iter().flat_map(Frame::bytes).collect();
        for piece in [1, 2, 3, 5, 7, 64, 4096, bytes.len()] {
            assert_eq!(read(&bytes, piece).unwrap(), all(), "{piece}");
        }
    }

    #[test]
    fn what_a_later_version_says_is_skipped() {
        let mut bytes = vec![99, 0, 0, 0, 3, 1, 2, 3];
        Frame::Ping.encode(&mut bytes);
        assert_eq!(read(&bytes, 4).unwrap(), [Frame::Ping]);
    }

    #[test]
    fn what_cannot_be_is_refused_before_it_is_kept() {
        let mut decoder = Decoder::default();
        decoder.push(&[4, 0, 1, 0, 1]);
        assert_eq!(decoder.frame(), Err(FrameError::TooLong(PAYLOAD_BYTES_MAX as u32 + 1)));
        assert_eq!(read(&[3, 0, 0, 0, 1, 0], 9), Err(FrameError::Malformed { kind: 3, bytes: 1 }));
        assert_eq!(read(&[6, 0, 0, 0, 0], 9), Err(FrameError::Malformed { kind: 6, bytes: 0 }));
    }

    /// Cut, repeated, overwritten and invented bytes: frames or an error, never more kept than one frame and a piece.
    #[test]
    fn no_bytes_make_it_panic_or_keep_much() {
        let whole: Vec<u8> = all().iter().flat_map(Frame::bytes).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..2_000 {
            let start = random() as usize % whole.len();
            let length = random() as usize % 300;
            let mut bytes = whole[start..(start + length).min(whole.len())].to_vec();
            for _ in 0..random() % 8 {
                if let Some(byte) = bytes.get_mut(random() as usize % (length + 1)) {
                    *byte = random() as u8;
                }
            }
            let mut decoder = Decoder::default();
            for piece in bytes.chunks(1 + random() as usize % 64) {
                decoder.push(piece);
                while let Ok(Some(frame)) = decoder.frame() {
                    assert!(frame.bytes().len() <= HEAD_BYTES + PAYLOAD_BYTES_MAX);
                }
                assert!(decoder.held.len() <= HEAD_BYTES + PAYLOAD_BYTES_MAX + bytes.len());
            }
        }
    }
}
