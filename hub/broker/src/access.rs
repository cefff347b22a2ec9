//! Who may connect, subscribe and publish. Pure rules: strings in, a verdict out.
//!
//! | who | user name | hears | says |
//! |---|---|---|---|
//! | an agent | its id | its own desired, hello, commands, and `hub` | its own presence (the only one retained), observed, events, replies |
//! | an operator | `$operator` | anything below the prefix | nothing |
//! | a hub in another process | `$hub` | what agents say | what a hub says |

use bytes::Bytes;
use contract::AgentId;
use contract::limits::WIRE_BYTES_MAX;
use transport::fair::PRESENCE_BYTES_MAX;
use transport::topic::{agent_filters, hub_filters, owns_client_id};
use transport::{Kind, Prefix, Topic};

use crate::{HUB, OPERATOR};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    Agent(AgentId),
    Operator,
    Hub,
}

/// Why something is refused, for the log and for clients that ask.
pub type Refusal = &'static str;

/// Who a session is, by the names it connected with. Where no user name is asked for, an agent is
/// who its client id says, and everything else may look.
pub fn role(username: Option<&str>, client_id: &str, open: bool) -> Result<Role, Refusal> {
    match username {
        Some(OPERATOR) => Ok(Role::Operator),
        Some(HUB) => Ok(Role::Hub),
        Some(name) => agent(name, client_id),
        None if open => {
            let first = client_id.split('.').next().unwrap_or_default();
            Ok(agent(first, client_id).unwrap_or(Role::Operator))
        }
        None => Err("a user name is needed"),
    }
}

fn agent(name: &str, client_id: &str) -> Result<Role, Refusal> {
    let agent: AgentId = name.parse().map_err(|_| "the user name is not an agent's id")?;
    if !owns_client_id(&agent, client_id) {
        return Err("the client id is not the agent's id, nor begins with it and a dot");
    }
    Ok(Role::Agent(agent))
}

/// The will as CONNECT gave it.
pub struct WillSeen<'a> {
    pub topic: &'a str,
    pub retain: bool,
    pub payload: &'a Bytes,
}

/// rmqtt publishes a will without asking again, so this is the only place.
pub fn may_leave(prefix: &Prefix, role: &Role, will: &WillSeen<'_>) -> Result<(), Refusal> {
    let Role::Agent(agent) = role else { return Err("only an agent leaves a will") };
    if will.topic != Topic::agent(agent, Kind::Presence).print(prefix) {
        return Err("a will goes to the agent's own presence");
    }
    if !will.retain {
        return Err("a will is retained, as the presence it replaces");
    }
    if will.payload.is_empty() || will.payload.len() > PRESENCE_BYTES_MAX {
        return Err("the will is empty or too large");
    }
    Ok(())
}

pub fn may_subscribe(prefix: &Prefix, role: &Role, filter: &str) -> Result<(), Refusal> {
    let ours = |filters: &[String]| filters.iter().any(|own| own == filter);
    let allowed = match role {
        Role::Agent(agent) => ours(&agent_filters(prefix, agent)),
        Role::Hub => ours(&hub_filters(prefix)),
        Role::Operator => filter.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/')),
    };
    if allowed { Ok(()) } else { Err("not this client's to hear") }
}

/// What a client wants to say.
pub struct Said<'a> {
    pub topic: &'a str,
    pub retain: bool,
    pub size: usize,
}

/// The topic, if the client may say this on it.
pub fn may_publish(prefix: &Prefix, role: &Role, said: &Said<'_>) -> Result<Topic, Refusal> {
    let topic = Topic::parse(prefix, said.topic).map_err(|_| "not one of the topics")?;
    if said.size > WIRE_BYTES_MAX {
        return Err("too large");
    }
    match role {
        Role::Agent(own) => agent_says(own, &topic, said)?,
        Role::Hub => hub_says(&topic, said)?,
        Role::Operator => return Err("an operator only listens"),
    }
    Ok(topic)
}

fn agent_says(own: &AgentId, topic: &Topic, said: &Said<'_>) -> Result<(), Refusal> {
    match topic {
        Topic::Agent { agent, kind } if agent == own && kind.from_agent() => {
            if said.retain && *kind != Kind::Presence {
                return Err("only the presence is retained");
            }
            if *kind == Kind::Presence && said.size > PRESENCE_BYTES_MAX {
                return Err("the presence is too large");
            }
            Ok(())
        }
        _ => Err("not this agent's to say"),
    }
}

fn hub_says(topic: &Topic, said: &Said<'_>) -> Result<(), Refusal> {
    let clears = said.retain && said.size == 0;
    match topic {
        Topic::Hub => Ok(()),
        Topic::Agent { kind, .. } if said.retain && !kind.may_retain() => Err("never retained"),
        Topic::Agent { kind, .. } if !kind.from_agent() || clears => Ok(()),
        Topic::Agent { .. } => Err("the agent's to say"),
    }
}

/// Compare secrets without telling by the time taken how far they agree.
pub fn same_secret(given: &[u8], right: &[u8]) -> bool {
    let differ = given.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == right.len() && std::hint::black_box(differ) == 0
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
