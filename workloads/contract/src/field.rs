//! How a place within a manifest is written: `spec.mounts[2].path`, `metadata.labels['a.b/c']`.

/// The path of `name` below `parent`.
pub fn key(parent: &str, name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match (parent.is_empty(), !name.is_empty() && name.chars().all(plain)) {
        (true, true) => name.to_string(),
        (false, true) => format!("{parent}.{name}"),
        // A key may hold anything; what is shown of it is short and stays on its line.
        (_, false) => format!("{parent}['{}']", shown(name)),
    }
}

/// The path of item `n` (from 0) of the list `parent`.
pub fn item(parent: &str, n: usize) -> String {
    format!("{parent}[{n}]")
}

/// Whether `path` lies below `parent`.
pub fn is_below(path: &str, parent: &str) -> bool {
    match path.strip_prefix(parent) {
        Some(rest) => !rest.is_empty() && (parent.is_empty() || rest.starts_with(['.', '['])),
        None => false,
    }
}

/// The paths around `path`, from the outermost in. (A key that holds a dot adds prefixes that name
/// nothing.)
pub fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices(['.', '[']).filter(|(at, _)| *at > 0).map(|(at, _)| &path[..at])
}

/// A foreign text within a message: escaped, and cut after 80 characters.
pub fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_keys_are_quoted_and_short() {
        assert_eq!(key("spec", "mounts"), "spec.mounts");
        assert_eq!(key("metadata.labels", "a.b/c"), "metadata.labels['a.b/c']");
        assert_eq!(key("", "a\nb"), "['a\\nb']");
        assert!(key("", &"ü".repeat(5000)).len() < 200);
        assert_eq!(item("spec.args", 3), "spec.args[3]");
    }

    #[test]
    fn parents_go_inwards() {
        assert!(parents("spec.mounts[2].path").eq(["spec", "spec.mounts", "spec.mounts[2]"]));
        assert!(parents("spec").next().is_none() && parents("['a']").next().is_none());
    }

    #[test]
    fn below_stops_at_a_whole_name() {
        assert!(is_below("spec.mounts[0]", "spec.mounts") && is_below("spec", ""));
        assert!(!is_below("spec.mounts", "spec.mount") && !is_below("spec", "spec"));
    }
}
