//! How people name an image: `host/repository:tag@digest`, all but the repository optional.
//!
//! A name without a host means the hub's own registry, and nothing else: no name quietly goes to
//! Docker Hub. So that `nginx:1.27` of a Docker user is understood, the error of a lookup can say
//! [`Reference::at_docker_hub`].

use std::fmt;
use std::str::FromStr;

use contract::Digest;

const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// With the port, if one is named.
    pub host: Option<String>,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image '{text}': {why}")]
pub struct ReferenceError {
    text: String,
    why: String,
}

impl Reference {
    /// The tag, or `latest` when neither tag nor digest says anything else.
    pub fn tag_or_latest(&self) -> Option<&str> {
        self.tag.as_deref().or(self.digest.is_none().then_some("latest"))
    }

    /// The same name as Docker would read it.
    pub fn at_docker_hub(&self) -> Reference {
        let repository = match self.repository.contains('/') {
            true => self.repository.clone(),
            false => format!("library/{}", self.repository),
        };
        Reference { host: Some("docker.io".into()), repository, ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        parse(text).map_err(|why| ReferenceError { text: text.chars().take(300).collect(), why })
    }
}

impl fmt::Display for Reference {
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

fn parse(text: &str) -> Result<Reference, String> {
    if let Some(scheme) =
        ["https://", "http://", "docker://", "oci://"].iter().find(|s| text.starts_with(**s))
    {
        return Err(format!("leave out '{scheme}': host/repository:tag"));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|e| e.to_string())?)),
        None => (text, None),
    };
    let (host, rest) = split_host(rest);
    let (repository, tag) = match rest.rsplit_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    host.map_or(Ok(()), check_host)?;
    check_repository(repository)?;
    tag.map_or(Ok(()), check_tag)?;
    Ok(Reference {
        host: host.map(str::to_ascii_lowercase),
        repository: repository.into(),
        tag: tag.map(str::to_string),
        digest,
    })
}

/// The first part is a host when it cannot be a folder of a repository: Docker's own rule.
fn split_host(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':', '[']) || first == "localhost" => (Some(first), rest),
        _ => (None, text),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((address, rest)) => {
            address.parse::<std::net::Ipv6Addr>().map_err(|_| format!("'{address}' is no IPv6 address"))?;
            ("", (!rest.is_empty()).then(|| rest.strip_prefix(':').unwrap_or("?")))
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if !host.starts_with('[') && !name.split('.').all(label) {
        return Err(format!("'{name}' is no host name: letters, digits and '-' between dots"));
    }
    match port.map(str::parse::<u16>) {
        Some(Err(_)) | Some(Ok(0)) => Err(format!("the port of '{host}' is not a number from 1 to 65535")),
        _ => Ok(()),
    }
}

fn check_repository(repository: &str) -> Result<(), String> {
    if repository.is_empty() {
        return Err("the repository is missing: host/repository:tag".into());
    }
    if repository.len() > REPOSITORY_BYTES_MAX {
        return Err(format!("the repository is longer than {REPOSITORY_BYTES_MAX} bytes"));
    }
    match repository.split('/').find(|part| !is_component(part)) {
        None => Ok(()),
        Some(part) if part.bytes().any(|b| b.is_ascii_uppercase()) => Err(format!(
            "'{part}' has upper-case letters; repositories are lower case: '{}'",
            part.to_lowercase()
        )),
        Some(part) => Err(format!(
            "'{part}' is no part of a repository: lower-case letters and digits, with single '.', '_', '__' or '-' between"
        )),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators = part.split(|c: char| c.is_ascii() && alphanumeric(c as u8)).filter(|s| !s.is_empty());
    let ends = part.bytes().next().is_some_and(alphanumeric) && part.bytes().last().is_some_and(alphanumeric);
    ends && separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fine = tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    fine.then_some(()).ok_or_else(|| {
        format!("'{tag}' is no tag: 1 to {TAG_BYTES_MAX} letters, digits, '_', '.', '-', not beginning with '.' or '-'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn every_part_is_told_from_the_others_and_prints_as_it_was() {
        let digest = format!("@sha256:{HEX}");
        for host in
            ["", "ghcr.io/", "localhost/", "localhost:5000/", "10.0.0.7:5000/", "[fe80::1]:5000/", "[::1]/"]
        {
            for repository in ["nginx", "plant/press-guard", "a/b__c/d.e/f--g"] {
                for tag in ["", ":1.4", ":_x", ":v1.2-rc.3"] {
                    for digest in ["", digest.as_str()] {
                        let text = format!("{host}{repository}{tag}{digest}");
                        let read: Reference = text.parse().unwrap();
                        assert_eq!(read.to_string(), text);
                        assert_eq!(read.host.as_deref().unwrap_or(""), host.trim_end_matches('/'), "{text}");
                        assert_eq!(read.repository, repository);
                        assert_eq!(read.tag.as_deref().unwrap_or(""), tag.trim_start_matches(':'));
                        assert_eq!(read.digest.is_some(), !digest.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn a_wrong_name_says_what_would_be_right() {
        let upper = format!("a@sha256:{}", HEX.to_uppercase());
        for (text, why) in [
            ("", "repository is missing"),
            ("https://ghcr.io/a", "leave out 'https://'"),
            ("Press-Guard:1", "lower case: 'press-guard'"),
            ("a//b", "no part of a repository"),
            ("a/../b", "no part of a repository"),
            ("a-:1", "no part of a repository"),
            ("a___b", "no part of a repository"),
            ("a:", "is no tag"),
            ("a:.x", "is no tag"),
            ("localhost:99999/a", "not a number from 1 to 65535"),
            ("-x.io/a", "no host name"),
            ("[::g]/a", "no IPv6"),
            ("a@sha256:12", "64 lower-case"),
            (upper.as_str(), "64 lower-case"),
            ("a@sha512:00", "sha256: and 64"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let long = format!("a:{}", "x".repeat(129));
        assert!(long.parse::<Reference>().is_err());
        assert!("a/".repeat(200).trim_end_matches('/').parse::<Reference>().is_err());
    }

    #[test]
    fn nothing_goes_to_docker_hub_unasked() {
        let plain: Reference = "nginx".parse().unwrap();
        assert_eq!((plain.host.as_deref(), plain.tag_or_latest()), (None, Some("latest")));
        assert_eq!(plain.at_docker_hub().to_string(), "docker.io/library/nginx");
        let pinned: Reference = format!("nginx@sha256:{HEX}").parse().unwrap();
        assert_eq!(pinned.tag_or_latest(), None);
    }
}
