//! What the joining process may do: never more than the container's own.

use std::collections::BTreeSet;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_thread_gid, set_thread_groups, set_thread_uid,
};

use super::target::{Capabilities, Ids};
use crate::run::capability::bits;

/// In this order: who is no longer root could not take the groups, who has not dropped yet could.
pub fn become_user(ids: &Ids, capabilities: &Capabilities) -> rustix::io::Result<()> {
    let bounding = set(&capabilities.bounding);
    for capability in CapabilitySet::all().iter().filter(|c| !bounding.contains(*c)) {
        // One that this kernel does not know need not be dropped.
        let _ = remove_capability_from_bounding_set(capability);
    }
    set_keep_capabilities(true)?;
    let groups: Vec<_> = ids.additional_gids.iter().map(|g| Gid::from_raw(*g)).collect();
    set_thread_groups(&groups)?;
    set_thread_gid(Gid::from_raw(ids.gid))?;
    set_thread_uid(Uid::from_raw(ids.uid))?;
    set_keep_capabilities(false)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: set(&capabilities.effective),
            permitted: set(&capabilities.permitted),
            inheritable: set(&capabilities.inheritable),
        },
    )?;
    for capability in set(&capabilities.ambient).iter() {
        let _ = configure_capability_in_ambient_set(capability, true);
    }
    Ok(())
}

/// For another user than the container's own. As with Docker root holds all that the container may, others nothing;
/// what the container's own user was given by name is that user's alone.
pub fn of_another(uid: u32, own: &Capabilities) -> Capabilities {
    let held = if uid == 0 { own.bounding.clone() } else { BTreeSet::new() };
    Capabilities {
        bounding: own.bounding.clone(),
        effective: held.clone(),
        permitted: held,
        ..Capabilities::default()
    }
}

fn set(names: &BTreeSet<String>) -> CapabilitySet {
    CapabilitySet::from_bits_retain(bits(names))
}
