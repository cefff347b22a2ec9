//! How an artefact is named in a manifest: `press-guard:1.4`, `host:5000/team/app:tag`, `…@sha256:…`.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::field::shown;

/// A reference, taken apart. The grammar is the OCI distribution's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// A registry; none is the hub's own.
    pub host: Option<String>,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("is empty: write name:tag, host/repo:tag or …@sha256:…")]
    Empty,
    #[error("'{0}' is longer than 512 characters")]
    TooLong(String),
    #[error("'{0}' has the scheme of a URL: write it without, like host/repo:tag")]
    Scheme(String),
    #[error("'{0}' is not a registry: write host or host:port, such as registry.local:5000")]
    Host(String),
    #[error("'{0}' is not a name: use a-z and 0-9, with single '.', '_', '-' or '/' between")]
    Repository(String),
    #[error("'{0}' is not a tag: 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-', not beginning with '.' or '-'")]
    Tag(String),
    #[error("{0}")]
    Digest(#[from] crate::digest::DigestError),
}

const LENGTH_MAX: usize = 512;

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<ImageRef, ImageError> {
        if text.is_empty() {
            return Err(ImageError::Empty);
        }
        if text.len() > LENGTH_MAX {
            return Err(ImageError::TooLong(shown(text)));
        }
        if text.contains("://") {
            return Err(ImageError::Scheme(shown(text)));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (host, rest) = split_host(rest)?;
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if !repository.split('/').all(is_component) {
            return Err(ImageError::Repository(shown(repository)));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ImageError::Tag(shown(tag)));
        }
        Ok(ImageRef { host, repository: repository.to_string(), tag: tag.map(str::to_string), digest })
    }
}

/// The first component is a registry if it could not be a directory: it has a dot or a port, or is
/// `localhost`.
fn split_host(text: &str) -> Result<(Option<String>, &str), ImageError> {
    let Some((first, rest)) = text.split_once('/') else { return Ok((None, text)) };
    if !first.contains(['.', ':']) && first != "localhost" {
        return Ok((None, text));
    }
    let (name, port) = first.split_once(':').unwrap_or((first, "1"));
    let port_ok = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    if !crate::label::is_dns_name(name) || !port_ok {
        return Err(ImageError::Host(shown(first)));
    }
    Ok((Some(first.to_string()), rest))
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(alnum) && text.bytes().last().is_some_and(alnum);
    let between = |joint: &str| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-');
    ends && text.is_ascii() && text.split(|c: char| alnum(c as u8)).all(between)
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_references_print_as_they_were() {
        let digest = Digest::of(b"x");
        for text in ["press-guard:1.4", "app", "team/a__b:v1", "localhost/a", "r.local:5000/team/app:1"] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
            let pinned = format!("{text}@{digest}");
            let read = pinned.parse::<ImageRef>().unwrap();
            assert_eq!((read.digest, read.to_string()), (Some(digest), pinned));
        }
        let read: ImageRef = "r.local:5000/team/app:1".parse().unwrap();
        assert_eq!((read.host.as_deref(), read.repository.as_str()), (Some("r.local:5000"), "team/app"));
        assert_eq!("team/app".parse::<ImageRef>().unwrap().host, None);
    }

    #[test]
    fn illegal_references_say_which_part() {
        let refused = |text: &str| text.parse::<ImageRef>().unwrap_err();
        assert!(matches!(refused(""), ImageError::Empty));
        assert!(matches!(refused("oci://a/b"), ImageError::Scheme(_)));
        assert!(matches!(refused("Press:1"), ImageError::Repository(_)));
        assert!(matches!(refused("a..b"), ImageError::Repository(_)));
        assert!(matches!(refused("a//b"), ImageError::Repository(_)));
        assert!(matches!(refused("a:"), ImageError::Tag(_)));
        assert!(matches!(refused("a:b:c"), ImageError::Tag(_)));
        assert!(matches!(refused("a.b:0/c"), ImageError::Host(_)));
        assert!(matches!(refused("a@sha256:12"), ImageError::Digest(_)));
        assert!(matches!(refused("ü"), ImageError::Repository(_)));
    }
}
