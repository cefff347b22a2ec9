//! What travels over MQTT (DESIGN §4, the topic table). One file per topic; the transport carries
//! the bytes, `codec` frames them. Readers ignore fields they do not know.

mod command;
mod compiled;
mod desired;
mod events;
mod hello;
mod observed;
mod presence;

pub use command::{Command, CommandOp, CopyTo, Exec, FileCopy, LogQuery, Reply, ReplyBody};
pub use compiled::Compiled;
pub use desired::{Desired, DesiredHead};
pub use events::{AgentEvent, EventKind, EventPriority, Events};
pub use hello::{Acked, Hello, HubAnnounce, Want};
pub use observed::{Observed, ObservedBody};
pub use presence::{Capacity, Presence};

/// The version of these contracts. A reader refuses a higher major by name.
pub const CONTRACT_VERSION: u32 = 1;

/// What an agent sends.
#[derive(Debug, Clone, PartialEq)]
pub enum FromAgent {
    Presence(Presence),
    Observed(Observed),
    Events(Events),
    Reply(Reply),
}

/// What a hub sends. A `Desired` in here has been verified against the pinned key.
#[derive(Debug, Clone, PartialEq)]
pub enum FromHub {
    Announce(HubAnnounce),
    Hello(Hello),
    Desired(Desired),
    Command(Command),
}
