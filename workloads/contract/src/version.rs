//! Which counters order the world, and which of two is newer.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident: $int:ty) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl $name {
            #[must_use]
            pub fn next(self) -> $name {
                $name(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// A commit of the hub's store.
    Version: u64
}
counter! {
    /// Of an agent's document: the version at which its content last changed.
    Generation: u64
}
counter! {
    /// Grows with each hub that takes the lead (each start of a single hub).
    Term: u64
}
counter! {
    /// How often the hub asked an agent to try one revision; a rejected pair is retried only at a
    /// higher attempt.
    Attempt: u32
}

/// Orders everything one agent says: `boots` is durable and grows with each start of the agent,
/// `session` with each CONNECT. An older pair never beats a newer one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
pub struct Epoch {
    pub boots: u64,
    pub session: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.boots, self.session)
    }
}
