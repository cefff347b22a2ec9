//! The records of a pax header: `<length> <key>=<value>\n`, the length counting itself.

use super::stream::TarError;

#[derive(Debug, Default, Clone)]
pub struct Pax(Vec<(String, Vec<u8>)>);

impl Pax {
    pub fn parse(mut bytes: &[u8]) -> Result<Pax, TarError> {
        let mut records = Vec::new();
        // GNU tar pads with NULs in some versions.
        while bytes.first().is_some_and(|b| *b != 0) {
            let (record, rest) = split(bytes).ok_or_else(|| TarError::broken("a pax record is malformed"))?;
            records.push(record);
            bytes = rest;
        }
        Ok(Pax(records))
    }

    pub fn get(&self, key: &str) -> Option<&[u8]> {
        // The last one counts, an empty one says that there is none.
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_slice()).filter(|v| !v.is_empty())
    }

    pub fn number<T: std::str::FromStr>(&self, key: &'static str) -> Result<Option<T>, TarError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        number.map(Some).ok_or_else(|| TarError::broken(&format!("pax {key} is no number")))
    }

    /// Every record in its order, for keys that may come more than once.
    pub fn records(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_slice()))
    }

    /// `name` and value of every extended attribute.
    pub fn xattrs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.records().filter_map(|(k, v)| Some((k.strip_prefix("SCHILY.xattr.")?, v)))
    }

    /// Seconds since 1970 and nanoseconds.
    pub fn time(&self, key: &'static str) -> Result<Option<(i64, u32)>, TarError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let parsed = std::str::from_utf8(value).ok().and_then(decimal);
        parsed.map(Some).ok_or_else(|| TarError::broken(&format!("pax {key} is no time")))
    }
}

type Record = (String, Vec<u8>);

fn split(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    let key = String::from_utf8(record[..equals].to_vec()).ok()?;
    Some(((key, record[equals + 1..].to_vec()), &bytes[length..]))
}

/// `-1.5` is half a second before the last one of 1969 began.
fn decimal(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}")[..9].parse().ok()?;
    match whole.starts_with('-') && nanos > 0 {
        true => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        false => Some((seconds, nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> String {
        let body = key.len() + value.len() + 3;
        let length = (body..).find(|n| n.to_string().len() + body == *n).unwrap();
        format!("{length} {key}={value}\n")
    }

    #[test]
    fn records_are_read_and_the_last_one_counts() {
        let text = record("path", "a=b\nc") + &record("mtime", "-1.5") + &record("path", "d") + "\0\0";
        let pax = Pax::parse(text.as_bytes()).unwrap();
        assert_eq!(pax.get("path"), Some(&b"d"[..]));
        assert_eq!(pax.records().next().unwrap().1, b"a=b\nc");
        assert_eq!(pax.time("mtime").unwrap(), Some((-2, 500_000_000)));
        let emptied = Pax::parse((record("uid", "7") + &record("uid", "")).as_bytes()).unwrap();
        assert_eq!(emptied.number::<u64>("uid").unwrap(), None);
    }

    #[test]
    fn malformed_records_are_refused() {
        for text in ["5 a=b", "9999 a=b\n", "x a=b\n", "6 abc\n", "0 a=b\n", "99999999999999999999999 a=b\n"]
        {
            assert!(Pax::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        for (key, value) in [("mtime", "1.x"), ("mtime", ".5"), ("uid", "-1")] {
            let pax = Pax::parse(record(key, value).as_bytes()).unwrap();
            assert!(pax.time("mtime").is_err() || pax.number::<u64>("uid").is_err(), "{key}={value}");
        }
    }
}
