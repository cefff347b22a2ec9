//! What a step and an instance cost, printed (`cargo test cost -- --nocapture`); the bounds are generous.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use agent_core::api::{Event, FoundRun, FoundState};
use agent_core::{Core, CoreConfig};
use contract::RunId;

use crate::board::Board;
use crate::hub::{assignment, document};

/// Counts the bytes that this thread holds, so that tests beside it do not matter.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = HELD.try_with(|held| held.set(held.get() + layout.size() as isize));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let _ = HELD.try_with(|held| held.set(held.get() - layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> isize {
    HELD.with(Cell::get)
}

#[test]
fn cost_of_a_step_with_500_assignments() {
    let assignments = (0..500).map(|n| assignment(&format!("w{n}"), (n % 200) as u8, &[0]));
    let started = Instant::now();
    let mut board = Board::running(document(1, assignments));
    println!("500 workloads from nothing to running, the fake board included: {:?}", started.elapsed());
    board.advance(10_000);
    assert_eq!(board.live().len(), 500);
    let steps = 200;
    let started = Instant::now();
    for _ in 0..steps {
        board.event(Event::Wake);
    }
    let all = started.elapsed();
    println!("one step with nothing to do: {:?}", all / steps);
    // Far from what it takes, on any machine: only a step that has got out of hand takes that long.
    assert!(all < Duration::from_secs(60), "{all:?}");
    let started = Instant::now();
    let status = board.core.status(board.clock());
    println!(
        "the whole status: {:?}, {} bytes",
        started.elapsed(),
        serde_json::to_vec(&status).unwrap().len()
    );
}

/// Of a core that adopts `workloads` × `slots` runs of one document.
fn bytes_of(workloads: usize, slots: u32) -> isize {
    let list: Vec<u32> = (0..slots).collect();
    let document = document(1, (0..workloads).map(|n| assignment(&format!("w{n}"), (n % 200) as u8, &list)));
    let mut board = Board::new();
    board.now = 10_000_000;
    let mut facts = board.facts();
    let run =
        |(number, (instance, assignment)): (usize, (contract::InstanceId, contract::run::Assignment))| {
            FoundRun {
                instance,
                run: RunId { boots: 1, number: number as u64 },
                assignment: Some(assignment),
                devices: Default::default(),
                state: FoundState::Running { pid: 1, started_ms: 1 },
            }
        };
    let instances = document.assignments.values().flat_map(|a| a.instances().map(|i| (i, a.clone())));
    facts.found = instances.enumerate().map(run).collect();
    facts.desired = Some((Box::new(document), Vec::new().into()));
    let mut core = Core::new(CoreConfig::default());
    let before = held();
    let facts = Event::Boot(Box::new(facts.clone()));
    drop(core.step(board.clock(), facts));
    let bytes = held() - before;
    assert_eq!(core.state().live.len(), workloads * slots as usize);
    bytes
}

#[test]
fn cost_of_an_instance_in_memory() {
    let base = bytes_of(0, 0);
    let (workloads, instances) = (bytes_of(100, 1), bytes_of(100, 11));
    let instance = (instances - workloads) / 1000;
    println!(
        "a core: {base} B; a workload of one slot: {} B; a further slot: {instance} B",
        (workloads - base) / 100
    );
    assert!(instance < 2048, "{instance}");
}
