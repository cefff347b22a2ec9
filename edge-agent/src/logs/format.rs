//! How one record of a log looks, and how a torn or foreign line is read all the same.

use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Stdout,
    Stderr,
    /// A remark of the shim: why it ended, how much was lost.
    Skerry,
}

impl Origin {
    fn tag(self, goes_on: bool) -> char {
        let tag = match self {
            Origin::Stdout => 'o',
            Origin::Stderr => 'e',
            Origin::Skerry => 's',
        };
        if goes_on { tag.to_ascii_uppercase() } else { tag }
    }

    fn of_tag(tag: u8) -> Option<Origin> {
        match tag {
            b'o' | b'O' => Some(Origin::Stdout),
            b'e' | b'E' => Some(Origin::Stderr),
            b's' => Some(Origin::Skerry),
            _ => None,
        }
    }
}

/// One line as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// None on a line that was torn by a crash.
    pub unix_ms: Option<u64>,
    pub origin: Origin,
    pub text: String,
}

pub fn head(origin: Origin, goes_on: bool, unix_ms: u64) -> String {
    format!("{unix_ms} {} ", origin.tag(goes_on))
}

pub fn parse(line: &[u8]) -> Record {
    let whole = || {
        let space = line.iter().position(|b| *b == b' ')?;
        let unix_ms = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
        let origin = Origin::of_tag(*line.get(space + 1)?)?;
        let text = line.get(space + 2..)?.strip_prefix(b" ")?;
        Some(Record { unix_ms: Some(unix_ms), origin, text: String::from_utf8_lossy(text).into_owned() })
    };
    whole().unwrap_or_else(|| Record {
        unix_ms: None,
        origin: Origin::Skerry,
        text: String::from_utf8_lossy(line).into_owned(),
    })
}

/// The wall clock. A board without one says 1970, and says it consistently.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_a_torn_one_is_shown_as_it_is() {
        let line = format!("{}hello", head(Origin::Stderr, false, 12));
        assert_eq!(
            parse(line.as_bytes()),
            Record { unix_ms: Some(12), origin: Origin::Stderr, text: "hello".into() }
        );
        assert_eq!(parse(b"12 o ").text, "");
        for torn in ["", "llo", "12", "12 ", "12 o", "12 x y", "x o y", "99999999999999999999999 o y"] {
            assert_eq!(
                parse(torn.as_bytes()),
                Record { unix_ms: None, origin: Origin::Skerry, text: torn.into() },
                "{torn}"
            );
        }
    }
}
