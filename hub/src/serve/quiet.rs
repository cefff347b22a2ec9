//! How often the log says the same kind of thing: strangers can make a hub complain, but not fill its
//! disk. What is left out is counted and said with the next line.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
const LINES_MAX: u32 = 10;

#[derive(Debug)]
pub struct Quiet {
    begun: Instant,
    said: u32,
    left_out: u64,
}

impl Quiet {
    pub fn new(now: Instant) -> Quiet {
        Quiet { begun: now, said: 0, left_out: 0 }
    }

    /// Whether to say it now; with it, how many were left out since the last that was said.
    pub fn may_say(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.begun) >= WINDOW {
            (self.begun, self.said) = (now, 0);
        }
        if self.said >= LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_count() {
        let start = Instant::now();
        let mut quiet = Quiet::new(start);
        let said = (0..1000).filter(|_| quiet.may_say(start).is_some()).count();
        assert_eq!(said, LINES_MAX as usize);
        assert_eq!(quiet.may_say(start + WINDOW), Some(990));
        assert_eq!(quiet.may_say(start + WINDOW), Some(0));
    }
}
