//! How people name an image or a module: `press-guard:1.4`, `host:5000/team/app:tag`, `…@sha256:…`; all
//! but the repository optional. The one parser of it, for manifests, pushes and registries.
//!
//! A name without a host means the hub's own registry, and nothing else: no name quietly goes to Docker
//! Hub. So that `nginx:1.27` of a Docker user is understood, an error can say [`ImageRef::at_docker_hub`].

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::field::shown;

/// A reference, taken apart. The grammar is the OCI distribution's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// A registry, with its port if one is named; none is the hub's own.
    pub host: Option<String>,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("is empty: write name:tag, host/repo:tag or …@sha256:…")]
    Empty,
    #[error("'{0}' is longer than {LENGTH_MAX} characters, or its repository than {REPOSITORY_BYTES_MAX}")]
    TooLong(String),
    #[error("leave out '{0}': write host/repo:tag")]
    Scheme(String),
    #[error(
        "'{0}' is not a registry: write host or host:port, such as registry.local:5000 or [fe80::1]:5000"
    )]
    Host(String),
    #[error("the port of '{0}' is not a number from 1 to 65535")]
    Port(String),
    #[error("the repository is missing: write host/repo:tag")]
    NoRepository,
    #[error("'{given}' has upper-case letters; repositories are lower case: '{right}'")]
    UpperCase { given: String, right: String },
    #[error("'{0}' is not a name: use a-z and 0-9, with single '.', '_', '__', '-' or '/' between")]
    Repository(String),
    #[error(
        "'{0}' is not a tag: 1 to {TAG_BYTES_MAX} of A-Z, a-z, 0-9, '_', '.' and '-', not beginning with '.' or '-'"
    )]
    Tag(String),
    #[error("{0}")]
    Digest(#[from] crate::digest::DigestError),
}

const LENGTH_MAX: usize = 512;
const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// Docker Hub, as Docker's users write it.
pub const DOCKER_HUB: &str = "docker.io";

impl ImageRef {
    /// The tag, or `latest` when neither tag nor digest says anything else.
    pub fn tag_or_latest(&self) -> Option<&str> {
        self.tag.as_deref().or(self.digest.is_none().then_some("latest"))
    }

    /// The same name as Docker would read it.
    pub fn at_docker_hub(&self) -> ImageRef {
        let image = ImageRef { host: Some(DOCKER_HUB.into()), ..self.clone() };
        ImageRef { repository: image.repository_there(), ..image }
    }

    /// What the registry itself calls the repository: Docker Hub keeps `nginx` under `library/nginx`.
    pub fn repository_there(&self) -> String {
        let short = self.host.as_deref() == Some(DOCKER_HUB) && !self.repository.contains('/');
        if short { format!("library/{}", self.repository) } else { self.repository.clone() }
    }

    /// The same image, whatever its tag means later.
    pub fn pinned(&self, digest: Digest) -> ImageRef {
        ImageRef { digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<ImageRef, ImageError> {
        if text.is_empty() {
            return Err(ImageError::Empty);
        }
        if text.len() > LENGTH_MAX {
            return Err(ImageError::TooLong(shown(text)));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ImageError::Scheme(format!("{}://", shown(scheme))));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (host, rest) = split_host(rest);
        host.map_or(Ok(()), check_host)?;
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        check_repository(repository)?;
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ImageError::Tag(shown(tag)));
        }
        let (host, tag) = (host.map(str::to_ascii_lowercase), tag.map(str::to_string));
        Ok(ImageRef { host, repository: repository.to_string(), tag, digest })
    }
}

/// The first part is a registry if it could not be a folder of a repository: it has a dot or a port, or is
/// `localhost`. Docker's own rule.
fn split_host(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':', '[']) || first == "localhost" => (Some(first), rest),
        _ => (None, text),
    }
}

fn check_host(host: &str) -> Result<(), ImageError> {
    let wrong = || ImageError::Host(shown(host));
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(wrong)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (None, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(wrong)?) })
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    if name.is_some_and(|name| !crate::label::is_dns_name(&name.to_ascii_lowercase())) {
        return Err(wrong());
    }
    let is_port =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0);
    match port.is_none_or(is_port) {
        true => Ok(()),
        false => Err(ImageError::Port(shown(host))),
    }
}

fn check_repository(repository: &str) -> Result<(), ImageError> {
    if repository.is_empty() {
        return Err(ImageError::NoRepository);
    }
    if repository.len() > REPOSITORY_BYTES_MAX {
        return Err(ImageError::TooLong(shown(repository)));
    }
    match repository.split('/').find(|part| !is_component(part)) {
        None => Ok(()),
        Some(part) if is_component(&part.to_ascii_lowercase()) => {
            Err(ImageError::UpperCase { given: shown(part), right: part.to_ascii_lowercase() })
        }
        Some(_) => Err(ImageError::Repository(shown(repository))),
    }
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
    text.len() <= TAG_BYTES_MAX
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

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn every_part_is_told_from_the_others_and_prints_as_it_was() {
        let digest = format!("@sha256:{HEX}");
        let hosts =
            ["", "ghcr.io/", "localhost/", "localhost:5000/", "10.0.0.7:5000/", "[fe80::1]:5000/", "[::1]/"];
        for host in hosts {
            for repository in ["nginx", "plant/press-guard", "a/b__c/d.e/f--g"] {
                for tag in ["", ":1.4", ":_x", ":v1.2-rc.3"] {
                    for digest in ["", digest.as_str()] {
                        let text = format!("{host}{repository}{tag}{digest}");
                        let read: ImageRef = text.parse().unwrap();
                        assert_eq!(read.to_string(), text);
                        assert_eq!(read.host.as_deref().unwrap_or(""), host.trim_end_matches('/'), "{text}");
                        assert_eq!(read.repository, repository);
                        assert_eq!(read.tag.as_deref().unwrap_or(""), tag.trim_start_matches(':'));
                        assert_eq!(read.digest.is_some(), !digest.is_empty());
                    }
                }
            }
        }
        assert_eq!("GHCR.io/a".parse::<ImageRef>().unwrap().host.as_deref(), Some("ghcr.io"));
        assert_eq!("team/app".parse::<ImageRef>().unwrap().host, None);
    }

    #[test]
    fn illegal_references_say_which_part() {
        let refused = |text: &str| text.parse::<ImageRef>().unwrap_err();
        assert!(matches!(refused(""), ImageError::Empty));
        assert!(matches!(refused("oci://a/b"), ImageError::Scheme(_)));
        assert!(matches!(refused("Press:1"), ImageError::UpperCase { .. }));
        assert!(matches!(refused("a..b"), ImageError::Repository(_)));
        assert!(matches!(refused("a//b"), ImageError::Repository(_)));
        assert!(matches!(refused("a:"), ImageError::Tag(_)));
        assert!(matches!(refused("a:b:c"), ImageError::Tag(_)));
        assert!(matches!(refused("a.b:0/c"), ImageError::Port(_)));
        assert!(matches!(refused("a@sha256:12"), ImageError::Digest(_)));
        assert!(matches!(refused("ü"), ImageError::Repository(_)));
    }

    #[test]
    fn a_wrong_name_says_what_would_be_right() {
        let upper = format!("a@sha256:{}", HEX.to_uppercase());
        for (text, why) in [
            ("", "write name:tag"),
            ("@sha256:", "64 lower-case"),
            ("https://ghcr.io/a", "leave out 'https://'"),
            ("ghcr.io/", "repository is missing"),
            ("Press-Guard:1", "lower case: 'press-guard'"),
            ("a/../b", "is not a name"),
            ("a-:1", "is not a name"),
            ("a___b", "is not a name"),
            ("a:.x", "is not a tag"),
            ("localhost:99999/a", "not a number from 1 to 65535"),
            ("[::1]:/a", "not a number from 1 to 65535"),
            ("-x.io/a", "is not a registry"),
            ("[::g]/a", "is not a registry"),
            ("[::1/a", "is not a registry"),
            (upper.as_str(), "64 lower-case"),
            ("a@sha512:00", "sha256: and 64"),
        ] {
            let error = text.parse::<ImageRef>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let long = format!("a:{}", "x".repeat(129));
        assert!(matches!(long.parse::<ImageRef>(), Err(ImageError::Tag(_))));
        let long = "a/".repeat(200);
        assert!(matches!(long.trim_end_matches('/').parse::<ImageRef>(), Err(ImageError::TooLong(_))));
    }

    #[test]
    fn nothing_goes_to_docker_hub_unasked() {
        let plain: ImageRef = "nginx".parse().unwrap();
        assert_eq!((plain.host.as_deref(), plain.tag_or_latest()), (None, Some("latest")));
        assert_eq!(plain.at_docker_hub().to_string(), "docker.io/library/nginx");
        assert_eq!(plain.repository_there(), "nginx", "at the hub's own");
        let short: ImageRef = "docker.io/nginx".parse().unwrap();
        assert_eq!(
            (short.repository_there().as_str(), short.to_string().as_str()),
            ("library/nginx", "docker.io/nginx")
        );
        let pinned = plain.pinned(Digest::of(b"x"));
        assert_eq!((pinned.tag_or_latest(), pinned.digest), (None, Some(Digest::of(b"x"))));
    }
}
