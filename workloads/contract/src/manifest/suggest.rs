//! What a field that is not known was probably meant to be.

use super::elsewhere;
use super::node::Entry;
use super::problem::Fault;
use super::shape::{Field, Shape};
use crate::field;

/// An answer for a field that `fields`, at `path`, do not have.
pub(super) fn unknown_field(entry: &Entry, fields: &[Field], path: &str, document: &Shape) -> Fault {
    let at = field::key(path, &entry.key);
    let fault = |reason: String| Fault::at(entry.place, at.clone(), reason);
    if let Some(answer) = elsewhere::field(path, &entry.key) {
        let fault = fault(format!("is unknown here: {}", answer.text));
        return match answer.ours {
            "" => fault,
            ours => fault.suggest(ours),
        };
    }
    let names = || fields.iter().map(|field| field.name.as_str());
    if let Some(near) = nearest(&entry.key, names()) {
        return fault(format!("is unknown: did you mean {near}?")).suggest(near);
    }
    let mut homes = Vec::new();
    find_homes(&entry.key, document, "", &mut homes);
    match &homes[..] {
        [] => {
            let names: Vec<&str> = names().collect();
            fault(format!("is unknown; known here: {}", names.join(", ")))
        }
        homes => {
            let homes = homes[..homes.len().min(3)].to_vec();
            fault(format!("is unknown here: it belongs to {}", super::shape::or_list(&homes)))
                .suggest(&homes[0])
        }
    }
}

/// Every place where the schema has a field of this name.
fn find_homes(name: &str, shape: &Shape, path: &str, homes: &mut Vec<String>) {
    match shape {
        Shape::Object(fields) => {
            for field in fields {
                let at = field::key(path, &field.name);
                if field.name == name {
                    homes.push(at.clone());
                }
                find_homes(name, &field.shape, &at, homes);
            }
        }
        Shape::List(inner) => find_homes(name, inner, &format!("{path}[]"), homes),
        Shape::Map(inner) => find_homes(name, inner, path, homes),
        _ => {}
    }
}

/// The word nearest to `text`, if it is near enough to be a slip: another case or separator, or at
/// most a third of its letters wrong.
pub(super) fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 64 {
        return None;
    }
    let fold = |s: &str| s.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    let folded = fold(text);
    let scored = words.map(|word| {
        let other = fold(word);
        let allowed = other.chars().count().max(folded.chars().count()) / 3;
        (distance(&folded, &other), allowed, word)
    });
    let near = scored.filter(|(distance, allowed, _)| distance <= allowed);
    near.min_by_key(|(distance, ..)| *distance).map(|(_, _, word)| word)
}

/// Letters to insert, remove, replace or swap with the next (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        let words = ["replicas", "everyAgent", "restartPolicy", "path", "env"];
        let near = |text| nearest(text, words.iter().copied());
        assert_eq!(near("replica"), Some("replicas"));
        assert_eq!(near("repilcas"), Some("replicas"));
        assert_eq!(near("every_agent"), Some("everyAgent"));
        assert_eq!(near("RestartPolicy"), Some("restartPolicy"));
        assert_eq!(near("pth"), Some("path"));
        assert_eq!(near("zebra"), None);
        assert_eq!(near("x"), None);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
