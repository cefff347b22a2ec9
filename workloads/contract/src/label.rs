//! What a legal label is: the same as in Kubernetes, so that existing schemes can be kept.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error(
        "a label's key is 1 to 63 of A-Z, a-z, 0-9, '-', '_' and '.', beginning and ending with a letter or digit"
    )]
    Key,
    #[error(
        "what stands before '/' in a label's key is a DNS name: up to 253 of a-z, 0-9, '-' and '.', such as example.com"
    )]
    Prefix,
    #[error(
        "a label's value is at most 63 of A-Z, a-z, 0-9, '-', '_' and '.', beginning and ending with a letter or digit"
    )]
    Value,
}

/// `name` or `prefix/name`.
pub fn check_key(key: &str) -> Result<(), LabelError> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| !is_dns_name(prefix)) {
        return Err(LabelError::Prefix);
    }
    if is_word(name) { Ok(()) } else { Err(LabelError::Key) }
}

/// May be empty.
pub fn check_value(value: &str) -> Result<(), LabelError> {
    if value.is_empty() || is_word(value) { Ok(()) } else { Err(LabelError::Value) }
}

fn is_word(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inner)
}

/// Lower-case DNS labels with dots between.
pub fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| label.parse::<crate::id::Name>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_as_kubernetes_has_them() {
        for key in ["app", "example.com/app.kubernetes_io", "A-1"] {
            assert!(check_key(key).is_ok(), "{key}");
        }
        for key in ["", "-a", "a/", "/a", "a/b/c", "Example.com/a", "a b", &"a".repeat(64)] {
            assert!(check_key(key).is_err(), "{key}");
        }
        assert!(check_value("").is_ok() && check_value("1.10").is_ok());
        assert!(check_value("a b").is_err() && check_value("a/b").is_err());
    }
}
