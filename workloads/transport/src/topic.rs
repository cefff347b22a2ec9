//! Which topics exist (DESIGN §4), and whose they are. Printing and parsing are inverse; nothing
//! else is a topic: no wildcards, no empty or extra levels, no foreign prefix.

use std::fmt;
use std::str::FromStr;

use contract::{AgentId, Name};

/// Longest prefix; with it no topic is longer than 64 + 8 + 63 + 9 + 63 bytes.
pub const PREFIX_BYTES_MAX: usize = 64;

/// Why a text is not one of our topics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error(
        "'{0}' is not a topic prefix: use levels of a-z, A-Z, 0-9, '-', '_' and '.', joined by '/', 64 bytes in all"
    )]
    Prefix(String),
    #[error("'{0}' is not below the prefix")]
    Foreign(String),
    #[error("'{0}' is not one of the topics")]
    Unknown(String),
}

/// What all our topics begin with; `skerry/v1` unless configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(String);

impl Default for Prefix {
    fn default() -> Prefix {
        Prefix("skerry/v1".to_string())
    }
}

impl Prefix {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Prefix {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Prefix, TopicError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let level = |l: &str| !l.is_empty() && l.bytes().all(legal);
        if text.len() > PREFIX_BYTES_MAX || !text.split('/').all(level) {
            return Err(TopicError::Prefix(clip(text)));
        }
        Ok(Prefix(text.to_string()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One topic, prefix apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The hub's announcement to all, retained.
    Hub,
    Agent {
        agent: AgentId,
        kind: Kind,
    },
}

/// What is said to or by one agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Desired,
    Hello,
    Command(Name),
    Observed,
    Presence,
    Events,
    Reply(Name),
}

impl Kind {
    /// Whether the agent says it; the hub says the rest.
    pub fn from_agent(&self) -> bool {
        matches!(self, Kind::Observed | Kind::Presence | Kind::Events | Kind::Reply(_))
    }

    /// Whether a broker may keep it: the latest document and the latest presence.
    pub fn may_retain(&self) -> bool {
        matches!(self, Kind::Desired | Kind::Presence)
    }

    fn parse<'t>(mut levels: impl Iterator<Item = &'t str>) -> Option<Kind> {
        let kind = match levels.next()? {
            "desired" => Kind::Desired,
            "hello" => Kind::Hello,
            "observed" => Kind::Observed,
            "presence" => Kind::Presence,
            "events" => Kind::Events,
            "command" => Kind::Command(levels.next()?.parse().ok()?),
            "reply" => Kind::Reply(levels.next()?.parse().ok()?),
            _ => return None,
        };
        levels.next().is_none().then_some(kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Desired => f.write_str("desired"),
            Kind::Hello => f.write_str("hello"),
            Kind::Command(id) => write!(f, "command/{id}"),
            Kind::Observed => f.write_str("observed"),
            Kind::Presence => f.write_str("presence"),
            Kind::Events => f.write_str("events"),
            Kind::Reply(id) => write!(f, "reply/{id}"),
        }
    }
}

impl Topic {
    pub fn agent(agent: &AgentId, kind: Kind) -> Topic {
        Topic::Agent { agent: agent.clone(), kind }
    }

    pub fn parse(prefix: &Prefix, text: &str) -> Result<Topic, TopicError> {
        let below = text.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let below = below.ok_or_else(|| TopicError::Foreign(clip(text)))?;
        if below == "hub" {
            return Ok(Topic::Hub);
        }
        Topic::parse_agent(below).ok_or_else(|| TopicError::Unknown(clip(text)))
    }

    fn parse_agent(below: &str) -> Option<Topic> {
        let mut levels = below.strip_prefix("agents/")?.split('/');
        let agent = levels.next()?.parse().ok()?;
        Some(Topic::Agent { agent, kind: Kind::parse(levels)? })
    }

    /// The text on the wire.
    pub fn print(&self, prefix: &Prefix) -> String {
        match self {
            Topic::Hub => format!("{prefix}/hub"),
            Topic::Agent { agent, kind } => format!("{prefix}/agents/{agent}/{kind}"),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Hub => f.write_str("hub"),
            Topic::Agent { agent, kind } => write!(f, "agents/{agent}/{kind}"),
        }
    }
}

/// What an agent subscribes to: its own, and the hub's announcement.
pub fn agent_filters(prefix: &Prefix, agent: &AgentId) -> [String; 4] {
    [
        format!("{prefix}/hub"),
        format!("{prefix}/agents/{agent}/desired"),
        format!("{prefix}/agents/{agent}/hello"),
        format!("{prefix}/agents/{agent}/command/+"),
    ]
}

/// What the hub subscribes to at an external broker: what agents say, and nothing of its own.
pub fn hub_filters(prefix: &Prefix) -> [String; 4] {
    [
        format!("{prefix}/agents/+/presence"),
        format!("{prefix}/agents/+/observed"),
        format!("{prefix}/agents/+/events"),
        format!("{prefix}/agents/+/reply/+"),
    ]
}

/// Where an agent speaks: its own presence (which alone is retained, and is its will), reports, events and
/// replies.
pub fn agent_says(prefix: &Prefix, agent: &AgentId) -> [String; 4] {
    hub_filters(prefix).map(|filter| filter.replacen("/agents/+/", &format!("/agents/{agent}/"), 1))
}

/// Where the hub speaks.
pub fn hub_says(prefix: &Prefix) -> [String; 5] {
    [
        format!("{prefix}/hub"),
        format!("{prefix}/agents/+/desired"),
        format!("{prefix}/agents/+/hello"),
        format!("{prefix}/agents/+/command/+"),
        // Only to clear that of an agent that is gone.
        format!("{prefix}/agents/+/presence"),
    ]
}

/// Whether `agent` may connect as `client_id`: its id, or its id, a dot, and more (a name holds no
/// dot). Two boards with one id thus live side by side and are seen; nobody can push out others.
pub fn owns_client_id(agent: &AgentId, client_id: &str) -> bool {
    match client_id.strip_prefix(agent.as_str()) {
        Some("") => true,
        Some(rest) => rest.starts_with('.') && rest.len() <= 65,
        None => false,
    }
}

/// A foreign text is repeated in errors only so far.
fn clip(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Name> {
        "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?".prop_map(|text| text.parse().unwrap())
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Desired),
            Just(Kind::Hello),
            name().prop_map(Kind::Command),
            Just(Kind::Observed),
            Just(Kind::Presence),
            Just(Kind::Events),
            name().prop_map(Kind::Reply),
        ]
    }

    fn topic() -> impl Strategy<Value = Topic> {
        prop_oneof![
            Just(Topic::Hub),
            (name(), kind()).prop_map(|(agent, kind)| Topic::Agent { agent: AgentId(agent), kind }),
        ]
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        "[a-zA-Z0-9_.-]{1,12}(/[a-zA-Z0-9_.-]{1,12}){0,3}".prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(prefix in prefix(), topic in topic()) {
            prop_assert_eq!(Topic::parse(&prefix, &topic.print(&prefix)), Ok(topic));
        }

        #[test]
        fn what_parses_prints_back(prefix in prefix(), text in "[a-z0-9+#/.-]{0,40}") {
            for text in [text.clone(), format!("{prefix}/{text}"), format!("{prefix}/agents/{text}")] {
                if let Ok(topic) = Topic::parse(&prefix, &text) {
                    prop_assert_eq!(topic.print(&prefix), text);
                }
            }
        }

        #[test]
        fn one_character_more_or_other_is_never_the_same_topic(topic in topic(), at in 0usize..300, c in any::<char>()) {
            let prefix = Prefix::default();
            let mut text: Vec<char> = topic.print(&prefix).chars().collect();
            text.insert(at % (text.len() + 1), c);
            let text: String = text.into_iter().collect();
            prop_assert_ne!(Topic::parse(&prefix, &text), Ok(topic));
        }
    }

    #[test]
    fn wildcards_bad_levels_and_foreign_prefixes_are_refused() {
        let p = Prefix::default();
        let long = format!("skerry/v1/agents/{}/desired", "a".repeat(64));
        for wrong in [
            "",
            "skerry/v1",
            "skerry/v1/",
            "skerry/v1/hub/",
            "skerry/v1/hub/x",
            "/skerry/v1/hub",
            "skerry/v2/hub",
            "skerry/v1hub",
            "skerry/v1/agents",
            "skerry/v1/agents/a",
            "skerry/v1/agents//desired",
            "skerry/v1/agents/+/desired",
            "skerry/v1/agents/#",
            "skerry/v1/#",
            "skerry/v1/agents/a/desired/",
            "skerry/v1/agents/a/desired/b",
            "skerry/v1/agents/a/command",
            "skerry/v1/agents/a/command/",
            "skerry/v1/agents/a/command/+",
            "skerry/v1/agents/a/command/x/y",
            "skerry/v1/agents/A/desired",
            "skerry/v1/agents/-a/desired",
            "skerry/v1/agents/a.b/desired",
            "skerry/v1/agents/a/Desired",
            "skerry/v1/agents/a/desired\0",
            "$SYS/broker",
            "$share/g/skerry/v1/hub",
            &long,
        ] {
            assert!(Topic::parse(&p, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_holds_no_wildcards_and_no_empty_levels() {
        let long = "a".repeat(65);
        for wrong in ["", "/", "a/", "/a", "a//b", "a/+", "#", "$SYS", "a b", "ü", &long] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
        assert_eq!("plant/skerry/v1".parse::<Prefix>().unwrap().as_str(), "plant/skerry/v1");
    }

    #[test]
    fn a_client_id_belongs_to_one_agent() {
        let a: AgentId = "press-1".parse().unwrap();
        assert!(owns_client_id(&a, "press-1"));
        assert!(owns_client_id(&a, "press-1.00ff"));
        let long = format!("press-1.{}", "x".repeat(65));
        for wrong in ["", "press-", "press-10", "press-1-x", "Press-1", "x.press-1", &long] {
            assert!(!owns_client_id(&a, wrong), "{wrong}");
        }
    }
}
