//! What the YAML parser needs help with: JSON's surrogate pairs, and words for its errors that say
//! what would be right.

use std::borrow::Cow;

/// JSON is YAML but for one thing: it writes characters above U+FFFF as two `\u` escapes, which YAML
/// reads as two illegal characters. Rewritten to YAML's `\U` in texts that are strictly JSON.
pub(super) fn json_as_yaml(text: &str) -> Cow<'_, str> {
    let body = text.strip_prefix("---").unwrap_or(text).trim_start();
    let json = body.starts_with(['{', '[']) && has_surrogate(text);
    if !json || serde_json::from_str::<serde::de::IgnoredAny>(body).is_err() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (piece, after) = escape(&rest[at..]);
        out.push_str(&piece);
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn has_surrogate(text: &str) -> bool {
    text.as_bytes()
        .windows(4)
        .any(|w| w[0] == b'\\' && w[1] == b'u' && matches!(w[2], b'd' | b'D') && w[3] >= b'8')
}

/// The escape that `text` begins with, as YAML wants it, and what follows.
fn escape(text: &str) -> (Cow<'_, str>, &str) {
    let unit = |text: &str| -> Option<u32> {
        let hex = text.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(hex, 16).ok()
    };
    let high = unit(text).filter(|u| (0xd800..0xdc00).contains(u));
    let low = text.get(6..).and_then(unit).filter(|u| (0xdc00..0xe000).contains(u));
    if let (Some(high), Some(low)) = (high, low) {
        let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return (Cow::Owned(format!("\\U{code:08X}")), &text[12..]);
    }
    // The backslash and the character it escapes, so that the second of '\\' begins nothing.
    let end = text.char_indices().nth(2).map_or(text.len(), |(n, _)| n);
    (Cow::Borrowed(&text[..end]), &text[end..])
}

/// The line (from 1) and column (from 0) of the last character that is not blank.
pub(super) fn last_place(text: &str) -> (usize, usize) {
    let text = text.trim_end();
    let last = text.rsplit(['\n', '\r']).next().unwrap_or("");
    let breaks = text.matches(['\n', '\r']).count() - text.matches("\r\n").count();
    (breaks + 1, last.chars().count().saturating_sub(1))
}

/// The parser's error at `line` (from 1) of `text`, in an operator's words.
pub(super) fn explain(info: &str, line: usize, text: &str) -> String {
    let there = text.lines().nth(line.saturating_sub(1)).unwrap_or("");
    let indent = &there[..there.len() - there.trim_start().len()];
    let hint = if info.contains(" tab") || (indent.contains('\t') && info.contains("indent")) {
        "indent with spaces, never with tabs"
    } else {
        HINTS.iter().find(|(word, _)| info.contains(word)).map_or("", |(_, hint)| hint)
    };
    match hint {
        "" => format!("is not YAML: {info}"),
        hint => format!("is not YAML: {info}; {hint}"),
    }
}

/// By a word of the parser's text. A word that is gone in a later parser loses a hint, no more.
const HINTS: [(&str, &str); 17] = [
    ("expected ',' or", "close the bracket, or write ',' before the next item"),
    ("illegal placement of ':'", "close the bracket or quote before it, or quote a value that holds ':'"),
    ("invalid Unicode", "write the character itself"),
    ("mapping values are not allowed", "quote a value that holds ': ', and check the indentation"),
    ("did not find expected key", "check that this line is indented like its neighbours"),
    ("did not find expected '-'", "check that this line is indented like its neighbours"),
    ("simple key", "a key and its ':' stand on one line; check the indentation"),
    ("invalid indentation", "indent the lines of one map or list alike"),
    ("block scalar", "indent the lines of a block text by spaces, more than its key"),
    ("unexpected end of stream", "a quote or bracket that was opened here is never closed"),
    ("quoted scalar", "close the quote, and write a backslash within \"…\" as '\\\\'"),
    ("escape", "write a backslash within \"…\" as '\\\\', or use '…'"),
    ("unexpected character", "quote a value that begins with one of @ ` % & * ! | > [ {"),
    ("cannot start any token", "quote a value that begins with one of @ ` % & * ! | > [ {"),
    ("unknown anchor", "'*' begins a reference to an anchor ('&name'); quote the value if it is text"),
    ("alias", "quote a value that begins with '*' or '&'"),
    ("anchor", "quote a value that begins with '*' or '&'"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogate_pairs_become_one_character() {
        let json = r#"{"a": "\ud83d\ude00 \\ud83d \u00fc"}"#;
        assert_eq!(json_as_yaml(json), r#"{"a": "\U0001F600 \\ud83d \u00fc"}"#);
        let yaml = r#"{a: '\ud83d\ude00'}"#;
        assert_eq!(json_as_yaml(yaml), yaml);
    }
}
