//! What Configs and Secrets are called and how their content is written down: the same bytes on both
//! sides, so that a digest names a content.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::id::{IdError, Name, WorkloadKey};

/// What is kept under a name. Both have keys with values; a Secret is encrypted wherever it lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
pub enum DataKind {
    #[default]
    Config,
    Secret,
}

impl DataKind {
    pub const ALL: [DataKind; 2] = [DataKind::Config, DataKind::Secret];

    /// As in a manifest's `kind`.
    pub fn title(self) -> &'static str {
        match self {
            DataKind::Config => "Config",
            DataKind::Secret => "Secret",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            DataKind::Config => "config",
            DataKind::Secret => "secret",
        }
    }
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Within a namespace, printed `secret/api`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataName {
    pub kind: DataKind,
    pub name: Name,
}

/// Of a hub, printed `secret/plant/api`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataId {
    pub kind: DataKind,
    /// Namespace and name.
    pub key: WorkloadKey,
}

impl DataName {
    pub fn within(&self, namespace: &Name) -> DataId {
        DataId { kind: self.kind, key: WorkloadKey { namespace: namespace.clone(), name: self.name.clone() } }
    }
}

impl DataId {
    pub fn local(&self) -> DataName {
        DataName { kind: self.kind, name: self.key.name.clone() }
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl fmt::Display for DataId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.key)
    }
}

fn kind_and_rest(text: &str) -> Result<(DataKind, &str), IdError> {
    let (word, rest) = text.split_once('/').ok_or_else(|| IdError::NotAKey(text.to_string()))?;
    let kind = DataKind::ALL.into_iter().find(|kind| kind.word() == word);
    Ok((kind.ok_or_else(|| IdError::NotAKey(text.to_string()))?, rest))
}

impl FromStr for DataName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<DataName, IdError> {
        let (kind, name) = kind_and_rest(text)?;
        Ok(DataName { kind, name: name.parse()? })
    }
}

impl FromStr for DataId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<DataId, IdError> {
        let (kind, key) = kind_and_rest(text)?;
        Ok(DataId { kind, key: key.parse()? })
    }
}

crate::id::text_serde!(DataName, DataId);

/// Keys and their values. Forgotten by overwriting.
pub type Content = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Whether a key can be a file's name on any board.
pub fn check_key(key: &str) -> Result<(), String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if key.is_empty() || key.len() > 253 || !key.bytes().all(legal) || key.starts_with("..") || key == "." {
        return Err(
            "is not a key: 1 to 253 of a-z, A-Z, 0-9, '-', '_' and '.', not beginning with '..'".into()
        );
    }
    Ok(())
}

/// The bytes that a content's digest is of: `{"key":"base64",…}`, keys sorted.
#[cfg(feature = "codec")]
pub fn encode(content: &Content) -> Zeroizing<Vec<u8>> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let size: usize = content.iter().map(|(key, value)| key.len() + value.len() * 4 / 3 + 16).sum();
    // Never grown: what a vector leaves behind when it moves is not overwritten.
    let mut out = Zeroizing::new(Vec::with_capacity(size + 2));
    out.push(b'{');
    for (n, (key, value)) in content.iter().enumerate() {
        let text = Zeroizing::new(STANDARD.encode(value.as_slice()));
        out.extend_from_slice(if n > 0 { b",\"" } else { b"\"" });
        out.extend_from_slice(key.as_bytes()); // checked: nothing in it that JSON escapes
        out.extend_from_slice(b"\":\"");
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
    out.push(b'}');
    out
}

/// The inverse of [`encode`].
#[cfg(feature = "codec")]
pub fn decode(bytes: &[u8]) -> Result<Content, String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let texts: BTreeMap<String, &str> =
        serde_json::from_slice(bytes).map_err(|e| format!("is not a content: column {}", e.column()))?;
    let value = |(key, text): (String, &str)| match STANDARD.decode(text) {
        Ok(_) if check_key(&key).is_err() => Err("holds a key that is none".to_string()),
        Ok(value) => Ok((key, Zeroizing::new(value))),
        Err(_) => Err(format!("{key} is not base64")),
    };
    texts.into_iter().map(value).collect()
}

#[cfg(all(test, feature = "codec"))]
mod tests {
    use super::*;

    #[test]
    fn a_content_survives_and_its_bytes_are_json() {
        let value = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        let content: Content = [("b.key".into(), value(b"\0\xff")), ("a".into(), value(b""))].into();
        let bytes = encode(&content);
        assert_eq!(bytes.as_slice(), br#"{"a":"","b.key":"AP8="}"#);
        assert_eq!(decode(&bytes).unwrap(), content);
        for wrong in ["", "[]", r#"{"a":"?"}"#, r#"{"../a":""}"#, r#"{"a":1}"#] {
            assert!(decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_survive_and_keys_are_file_names() {
        let id: DataId = "secret/plant/api".parse().unwrap();
        assert_eq!(
            (id.to_string().as_str(), id.local().to_string().as_str()),
            ("secret/plant/api", "secret/api")
        );
        assert_eq!(id.local().within(&id.key.namespace), id);
        assert!("key/plant/api".parse::<DataId>().is_err() && "secret".parse::<DataName>().is_err());
        for key in ["a", "tls.key", "A_b-9", ".env"] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        for key in ["", ".", "..", "..data", "a/b", "a b", "ü", "a\"b"] {
            assert!(check_key(key).is_err(), "{key}");
        }
    }
}
