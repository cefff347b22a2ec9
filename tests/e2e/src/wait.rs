//! Waiting for something to become so, with an end. Nothing in these tests is asserted by a clock.

use std::time::{Duration, Instant};

/// Generous: a test that has to wait so long has failed, on any machine.
pub const LONGEST: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);

#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(eventually(LONGEST, &mut holds), "not within {LONGEST:?}: {what}");
}

/// Whether it became so in that time.
pub fn eventually(longest: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + longest;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(STEP);
    }
}
