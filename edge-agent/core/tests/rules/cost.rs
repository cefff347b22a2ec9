//! What a step costs, printed (`cargo test cost -- --nocapture`); the bounds are generous.

use std::time::{Duration, Instant};

use agent_core::api::Event;

use crate::board::Board;
use crate::hub::{assignment, document};

#[test]
fn cost_of_a_step_with_500_assignments() {
    let assignments = (0..500).map(|n| assignment(&format!("w{n}"), (n % 200) as u8, &[0]));
    let started = Instant::now();
    let mut board = Board::running(document(1, assignments));
    println!("500 workloads from nothing to running: {:?}", started.elapsed());
    board.advance(10_000);
    assert_eq!(board.live().len(), 500);
    let steps = 200;
    let started = Instant::now();
    for _ in 0..steps {
        board.event(Event::Wake);
    }
    let each = started.elapsed() / steps;
    println!("one step with nothing to do: {each:?}");
    assert!(each < Duration::from_millis(20), "{each:?}");
    let started = Instant::now();
    let status = board.core.status(board.clock());
    println!(
        "the whole status: {:?}, {} bytes",
        started.elapsed(),
        serde_json::to_vec(&status).unwrap().len()
    );
}
