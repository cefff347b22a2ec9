//! How much memory do the agent and its shims take, and how large are the programs?

use e2e::{Fleet, binary};

use crate::figures::Figures;
use crate::process::{Memory, memory};
use crate::scene::{Kind, delete, empty, fleet, manifest, names, settle};

const STEPS: [usize; 2] = [10, 100];
/// So that a hundred fit two cores.
const CPU_MILLIS: u32 = 20;

pub fn sizes(figures: &mut Figures) {
    for (id, name) in [("size.agent", "edge-agent"), ("size.hub", "hub")] {
        let path = binary(name);
        let bytes = std::fs::metadata(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display())).len();
        figures.add(id, bytes as f64 / 1024.0);
    }
}

pub fn measure(figures: &mut Figures) {
    // A board that has never had work: what a deletion leaves behind is another question.
    let idle = empty(&[]);
    settle();
    let agent = memory(idle.boards[0].process.pid());
    figures.add("memory.agent.0.pss", agent.pss);
    figures.add("memory.agent.0.rss", agent.rss);
    figures.add("memory.agent.0.dirty", agent.dirty);
    idle.finish();

    let (fleet, mut all) = fleet(STEPS[0], CPU_MILLIS, &[]);
    at(figures, &fleet, STEPS[0]);
    let more = names("more", STEPS[1] - STEPS[0]);
    // In portions, as a person would: one apply may hold at most 64 KiB.
    for part in more.chunks(30) {
        fleet.hub.apply(&manifest(Kind::Wasm, part, CPU_MILLIS));
        part.iter().for_each(|name| fleet.steady(name));
    }
    all.extend(more);
    at(figures, &fleet, STEPS[1]);
    delete(&fleet, &all, 0);
    fleet.finish();
}

fn at(figures: &mut Figures, fleet: &Fleet, count: usize) {
    settle();
    let board = &fleet.boards[0];
    let agent = memory(board.process.pid());
    let shims: Vec<Memory> = board.pids().values().map(|pid| memory(*pid)).collect();
    assert_eq!(shims.len(), count, "so many shims");
    let mean = |of: fn(&Memory) -> f64| shims.iter().map(of).sum::<f64>() / count as f64;
    figures.add(&format!("memory.agent.{count}.pss"), agent.pss);
    figures.add(&format!("memory.agent.{count}.rss"), agent.rss);
    figures.add(&format!("memory.agent.{count}.dirty"), agent.dirty);
    figures.add(&format!("memory.shim.{count}.pss"), mean(|m| m.pss));
    figures.add(&format!("memory.shim.{count}.dirty"), mean(|m| m.dirty));
    if count == STEPS[1] {
        figures.add("memory.all.100.pss", agent.pss + shims.iter().map(|m| m.pss).sum::<f64>());
    }
    figures.note("Shims share their code with the agent, so PSS falls as their number grows; a shim's private dirty memory includes its guest's linear memory.".to_string());
}
