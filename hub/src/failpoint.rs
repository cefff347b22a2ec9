//! Where a crash test may kill the hub: `SKERRY_FAILPOINT=<name>[:<nth>]` ends it by SIGKILL when it
//! comes by that arrow for the nth time. Without the variable a point costs one comparison.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// An arrow of DESIGN §1's "persist before you publish", by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    BeforePersist,
    /// The disk takes its time: the commit never comes about, and the kill follows a moment later.
    /// Whatever leaves in that moment should have waited.
    DuringCommit,
    AfterPersist,
    BeforeAnswer,
    AfterAnswer,
    BeforePublishDesired,
    AfterPublishDesired,
    BeforePublishHello,
    AfterBlobRename,
    BeforeCompile,
    AfterCompile,
}

impl Point {
    pub const ALL: [Point; 11] = [
        Point::BeforePersist,
        Point::DuringCommit,
        Point::AfterPersist,
        Point::BeforeAnswer,
        Point::AfterAnswer,
        Point::BeforePublishDesired,
        Point::AfterPublishDesired,
        Point::BeforePublishHello,
        Point::AfterBlobRename,
        Point::BeforeCompile,
        Point::AfterCompile,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Point::BeforePersist => "before-persist",
            Point::DuringCommit => "during-commit",
            Point::AfterPersist => "after-persist",
            Point::BeforeAnswer => "before-answer",
            Point::AfterAnswer => "after-answer",
            Point::BeforePublishDesired => "before-publish-desired",
            Point::AfterPublishDesired => "after-publish-desired",
            Point::BeforePublishHello => "before-publish-hello",
            Point::AfterBlobRename => "after-blob-rename",
            Point::BeforeCompile => "before-compile",
            Point::AfterCompile => "after-compile",
        }
    }
}

struct Armed {
    point: Point,
    left: AtomicU32,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Read the variable once, at start; an unknown name is an error, or a crash test would test nothing.
pub fn arm() -> Result<(), String> {
    let armed = match std::env::var("SKERRY_FAILPOINT") {
        Ok(text) => Some(parse(&text)?),
        Err(_) => None,
    };
    let _ = ARMED.set(armed);
    Ok(())
}

fn parse(text: &str) -> Result<Armed, String> {
    let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
    let names = || Point::ALL.map(Point::name).join(", ");
    let point = Point::ALL.into_iter().find(|p| p.name() == name);
    let point = point.ok_or_else(|| format!("SKERRY_FAILPOINT: no point '{name}'; there are {}", names()))?;
    let nth: u32 = nth.parse().map_err(|_| format!("SKERRY_FAILPOINT: '{nth}' is not a number from 1"))?;
    Ok(Armed { point, left: AtomicU32::new(nth.max(1)) })
}

/// Passing an arrow.
pub fn pass(point: Point) {
    if comes_up(point) {
        die();
    }
}

/// Entering a stretch: true when it must not be gone through, because the kill is on its way.
pub fn enter(point: Point) -> bool {
    let dying = comes_up(point);
    if dying {
        std::thread::spawn(|| {
            std::thread::sleep(STRETCH);
            die();
        });
    }
    dying
}

/// How long a stretch lasts: long enough for whatever does not wait to leave.
const STRETCH: std::time::Duration = std::time::Duration::from_millis(300);

fn comes_up(point: Point) -> bool {
    let Some(Some(armed)) = ARMED.get() else { return false };
    armed.point == point && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
}

fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is on its way; nothing more may happen here.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_its_name() {
        for point in Point::ALL {
            let armed = parse(&format!("{}:3", point.name())).unwrap();
            assert_eq!((armed.point, armed.left.into_inner()), (point, 3));
        }
        assert!(parse("before-lunch").is_err());
    }
}
