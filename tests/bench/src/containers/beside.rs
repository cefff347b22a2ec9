//! How much memory stays beside a container as long as it runs? Our shim, podman's conmon, docker's containerd-shim; what
//! daemons take besides (podman has none, docker two) is not in it.

use std::fs;

use crate::figures::Figures;
use crate::process::{Memory, memory};
use crate::scene::{Kind, delete, empty, manifest, settle};

pub fn add(figures: &mut Figures, id: &str, memory: Memory) {
    figures.add(&format!("beside.{id}.pss"), memory.pss);
    figures.add(&format!("beside.{id}.dirty"), memory.dirty);
}

/// On a board with this one container, so that agent and shim alone share their code.
pub fn ours(figures: &mut Figures) {
    let fleet = empty(&[]);
    let (kind, names) = (Kind::Container, vec!["beside".to_string()]);
    e2e::push_stock(&fleet, kind.image());
    fleet.hub.apply(&manifest(kind, &names, 100));
    fleet.steady("beside");
    settle();
    add(figures, "ours", memory(fleet.boards[0].pid("beside")));
    figures.add("memory.agent.oci.pss", memory(fleet.boards[0].process.pid()).pss);
    delete(&fleet, &names, 0);
    fleet.finish();
}

/// Of the container's first process.
pub fn parent(pid: &str) -> Result<u32, String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| format!("{pid}: {e}"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("PPid:")).ok_or("no PPid")?;
    line.trim().parse().map_err(|e| format!("{line}: {e}"))
}
