//! The two clocks that a core is told of.

use contract::time::{Millis, Now};
use rustix::time::{ClockId, clock_gettime};

pub fn now() -> Now {
    Now { boot_ms: read(ClockId::Boottime), wall_ms: wall_ms() }
}

/// None where the clock was never set: no hub runs before 2024.
pub fn wall_ms() -> Option<Millis> {
    const EARLIEST_MS: Millis = 1_704_067_200_000;
    Some(read(ClockId::Realtime)).filter(|ms| *ms >= EARLIEST_MS)
}

fn read(clock: ClockId) -> Millis {
    let time = clock_gettime(clock);
    let (secs, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    secs * 1000 + nanos / 1_000_000
}
