//! What every pair of a Session and an AgentBus promises, written once and run on each pair. These
//! are the weakest habits seen on real brokers; the cores build on nothing more.
//!
//! Use it by the macro [`promises!`](crate::promises): each promise becomes a test of its own, on a
//! fresh [`Rig`].

mod deliver;
mod fairness;
mod life;
mod mosquitto;
mod proxy;
mod rig;

use std::time::Duration;

pub use deliver::*;
pub use fairness::*;
pub use life::*;
pub use mosquitto::Mosquitto;
pub use proxy::Proxy;
pub use rig::{Rig, agent, bytes, fair_limits};

/// No promise takes longer, on a machine busy with everything else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Wait for `what`, and say so when it does not come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// The tests of one pair: `promises! { rig_expression }` within a module, and below it the promises
/// that hold only where the link of the bus can be cut, or agents can be kicked.
#[macro_export]
macro_rules! promises {
    ($rig:expr; $($extra:ident),* $(,)?) => {
        $crate::promises! { @each $rig;
            at_least_once_and_in_order,
            the_latest_retained_message_is_there_at_connect,
            a_forgotten_agent_leaves_nothing,
            a_command_never_waits_for_an_absent_agent,
            agents_hear_only_their_own,
            a_will_follows_a_cut_and_carries_what_connect_gave,
            a_goodbye_withdraws_the_will,
            a_takeover_ends_the_older_session_only,
            two_client_ids_of_one_agent_live_side_by_side,
            a_cut_session_can_be_followed_by_another,
            oversize_is_refused_and_harms_nothing,
            the_publish_queue_is_bounded,
            a_flood_harms_only_its_sender,
            $($extra),*
        }
    };
    (@each $rig:expr; $($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::suite::$name($rig).await;
            }
        )*
    };
}
