//! How amounts are written in a manifest: `250m` of a core, `64Mi` of memory, `10s` of time.
//! Each prints in one canonical spelling that parses back to itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("'{0}' is not an amount of cpu: write millicores like 250m, or cores like 1 or 1.5")]
    Cpu(String),
    #[error("'{0}' is not an amount of bytes: write a whole number with Ki, Mi, Gi, k, M or G, like 64Mi")]
    Bytes(String),
    #[error("'{0}' is not a duration: write a whole number with ms, s, m, h or d, like 10s or 1h30m")]
    Duration(String),
    #[error("'{0}' is not a percentage: write 0% to 100%")]
    Percent(String),
}

/// Thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu {
    pub millis: u32,
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    pub ms: u64,
}

/// 0–100 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(pub u8);

impl FromStr for Cpu {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Cpu, QuantityError> {
        let wrong = || QuantityError::Cpu(text.to_string());
        let millis = match text.strip_suffix('m') {
            Some(millis) => whole(millis).ok_or_else(wrong)?,
            None => cores(text).ok_or_else(wrong)?,
        };
        u32::try_from(millis).map(|millis| Cpu { millis }).map_err(|_| wrong())
    }
}

/// `1.5` cores with at most three decimals, in thousandths.
fn cores(text: &str) -> Option<u64> {
    let (cores, part) = text.split_once('.').unwrap_or((text, "0"));
    if part.is_empty() || part.len() > 3 {
        return None;
    }
    let scale = 10u64.pow(3 - part.len() as u32);
    whole(cores)?.checked_mul(1000)?.checked_add(whole(part)? * scale)
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.millis {
            m if m.is_multiple_of(1000) => write!(f, "{}", m / 1000),
            m => write!(f, "{m}m"),
        }
    }
}

const BYTE_UNITS: [(&str, u64); 6] =
    [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10), ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1000)];

impl FromStr for Bytes {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Bytes, QuantityError> {
        let unit = BYTE_UNITS.iter().find_map(|(name, size)| Some((text.strip_suffix(name)?, *size)));
        let (number, size) = unit.unwrap_or((text, 1));
        let bytes = whole(number).and_then(|n| n.checked_mul(size));
        bytes.map(Bytes).ok_or_else(|| QuantityError::Bytes(text.to_string()))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = BYTE_UNITS.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size));
        match unit {
            Some((name, size)) => write!(f, "{}{name}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl FromStr for Duration {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Duration, QuantityError> {
        duration(text).map(|ms| Duration { ms }).ok_or_else(|| QuantityError::Duration(text.to_string()))
    }
}

/// Parts from large to small, each unit at most once: `1h30m`, `10s`, `1500ms`.
fn duration(text: &str) -> Option<u64> {
    let (mut rest, mut total, mut next) = (text, 0u64, 0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        let unit = TIME_UNITS.iter().position(|(name, _)| *name == &rest[digits..unit_end])?;
        if unit < next {
            return None;
        }
        next = unit + 1;
        total = total.checked_add(whole(&rest[..digits])?.checked_mul(TIME_UNITS[unit].1)?)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.ms;
        for (name, size) in TIME_UNITS {
            if rest >= size {
                write!(f, "{}{name}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl FromStr for Percent {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Percent, QuantityError> {
        let number = text.strip_suffix('%').and_then(whole).filter(|n| *n <= 100);
        number.map(|n| Percent(n as u8)).ok_or_else(|| QuantityError::Percent(text.to_string()))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// A plain decimal number: digits only, so no sign, space or exponent.
fn whole(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

crate::id::text_serde!(Cpu, Bytes, Duration, Percent);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!("250m".parse(), Ok(Cpu { millis: 250 }));
        assert_eq!("1.5".parse(), Ok(Cpu { millis: 1500 }));
        assert_eq!("64Mi".parse(), Ok(Bytes(64 << 20)));
        assert_eq!("1h30m".parse(), Ok(Duration { ms: 5_400_000 }));
        assert_eq!("95%".parse(), Ok(Percent(95)));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!("1.2345".parse::<Cpu>().is_err() && "-1".parse::<Cpu>().is_err());
        assert!("64 Mi".parse::<Bytes>().is_err() && "99999999999Gi".parse::<Bytes>().is_err());
        assert!(["10", "", "s", "1m1h", "1s1s", "1.5s"].iter().all(|t| t.parse::<Duration>().is_err()));
        assert!("101%".parse::<Percent>().is_err());
    }
}
