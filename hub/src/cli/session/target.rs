//! Which instance is meant: `[namespace/]workload[/slot][@agent]`.

use crate::cli::exit::{Done, Failure};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub workload: String,
    pub slot: Option<u32>,
    pub agent: Option<String>,
}

/// What is only digits behind a slash is a slot.
pub fn parse(text: &str) -> Done<Target> {
    let wrong =
        || Failure::usage(format!("'{text}' is no instance: write [namespace/]workload[/slot][@agent]"));
    let (name, agent) = match text.split_once('@') {
        Some((_, "")) => return Err(wrong()),
        Some((name, agent)) => (name, Some(agent.to_string())),
        None => (text, None),
    };
    let parts: Vec<&str> = name.split('/').collect();
    let slot = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (workload, slot) = match parts[..] {
        [name] => (name.to_string(), None),
        [name, number] if slot(number).is_some() => (name.to_string(), slot(number)),
        [namespace, name] => (format!("{namespace}/{name}"), None),
        [namespace, name, number] => (format!("{namespace}/{name}"), Some(slot(number).ok_or_else(wrong)?)),
        _ => return Err(wrong()),
    };
    match workload.split('/').any(str::is_empty) {
        true => Err(wrong()),
        false => Ok(Target { workload, slot, agent }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_it() {
        let of = |text: &str| {
            let t = parse(text).unwrap();
            (t.workload, t.slot, t.agent)
        };
        assert_eq!(of("web"), ("web".into(), None, None));
        assert_eq!(of("web/1"), ("web".into(), Some(1), None));
        assert_eq!(of("plant/web"), ("plant/web".into(), None, None));
        assert_eq!(of("plant/web/0@board-1"), ("plant/web".into(), Some(0), Some("board-1".into())));
        assert_eq!(of("web@board-1"), ("web".into(), None, Some("board-1".into())));
        for wrong in ["", "/", "web/", "web@", "a/b/c", "a/b/1/2", "/1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
