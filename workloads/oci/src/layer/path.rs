//! Names in a layer: made harmless before anything is looked up, and told apart from whiteouts.

use super::Stop;

/// Without `.`, empty parts and what would lead above the root; the tar's `/a/../../b` is `b`.
pub fn clean(path: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part.to_vec()),
        }
    }
    parts
}

/// For people.
pub fn show(parts: &[Vec<u8>]) -> String {
    format!("/{}", String::from_utf8_lossy(&parts.join(&b'/')))
}

#[derive(Debug, PartialEq, Eq)]
pub enum Name<'a> {
    Plain,
    /// What is below of this directory is not there any more.
    Opaque,
    /// This name of what is below is not there any more.
    Gone(&'a [u8]),
    /// aufs' own bookkeeping, in old images.
    Bookkeeping,
}

pub fn whiteout(name: &[u8]) -> Result<Name<'_>, Stop> {
    match name.strip_prefix(b".wh.") {
        None => Ok(Name::Plain),
        Some(b".wh..opq") => Ok(Name::Opaque),
        Some(rest) if rest.starts_with(b".wh.") => Ok(Name::Bookkeeping),
        Some(b"" | b"." | b"..") => {
            Err(Stop::Refused(format!("the whiteout '{}' names nothing", String::from_utf8_lossy(name))))
        }
        Some(gone) => Ok(Name::Gone(gone)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out() {
        for (text, clean_text) in [
            ("a/b", "/a/b"),
            ("./a//b/.", "/a/b"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("a/../../b", "/b"),
            ("..", "/"),
            ("./", "/"),
            ("", "/"),
        ] {
            assert_eq!(show(&clean(text.as_bytes())), clean_text, "{text}");
        }
    }

    #[test]
    fn whiteouts_are_told_from_names() {
        assert_eq!(whiteout(b"a.wh.b").unwrap(), Name::Plain);
        assert_eq!(whiteout(b".wh.a").unwrap(), Name::Gone(b"a"));
        assert_eq!(whiteout(b".wh..wh..opq").unwrap(), Name::Opaque);
        assert_eq!(whiteout(b".wh..wh.plnk").unwrap(), Name::Bookkeeping);
        assert!(whiteout(b".wh...").is_err() && whiteout(b".wh..").is_err() && whiteout(b".wh.").is_err());
    }
}
