//! Do the pairs of this crate keep the promises of the suite? (The embedded broker's are tested
//! beside it.)

mod memory {
    skerry_transport::promises! { skerry_transport::suite::Rig::memory();
        a_cut_bus_says_so_and_recovers,
        a_kicked_agent_is_gone,
    }
}

mod mosquitto {
    skerry_transport::promises! { skerry_transport::suite::Rig::mosquitto().await;
        a_cut_bus_says_so_and_recovers,
        a_silent_link_is_given_up,
        a_session_can_be_left_while_it_connects,
    }
}
