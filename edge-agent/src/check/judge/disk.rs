//! Is there room for what must be kept, will it survive, and is the clock no older than it?

use contract::quantity::Bytes;

use crate::check::facts::{Dir, Facts};
use crate::check::finding::{Finding, fail, ok, skipped, warn};

/// What one commit, its segments and one fetch need, and the store's reserve twice over.
const FREE_MIN: u64 = 16 << 20;
const FREE_GOOD: u64 = 128 << 20;
const INODES_MIN: u64 = 256;
const INODES_GOOD: u64 = 4096;
/// What runs is noted in it: small files, never more than a few.
const RUN_FREE_MIN: u64 = 1 << 20;
const YEAR_2020_MS: u64 = 1_577_836_800_000;
/// Clocks are set in small steps while records are written.
const STEP_MS: u64 = 5 * 60 * 1000;

pub fn judge(facts: &Facts) -> Vec<Finding> {
    vec![
        state_dir(&facts.state),
        room(&facts.state),
        inodes(&facts.state),
        reserve(facts),
        store(facts),
        run_dir(&facts.run),
        clock(facts),
        floor(facts),
    ]
}

fn state_dir(dir: &Dir) -> Finding {
    let path = dir.path.display();
    if dir.read_only {
        let remedy = "mount it writable, or give another --state-dir";
        return fail("state-dir", format!("{path} is on a read-only file system"), remedy);
    }
    if dir.is_volatile {
        let remedy = "give a --state-dir on a disk or flash";
        return warn("state-dir", format!("{path} lies in memory: a power cut loses all of it"), remedy);
    }
    match dir.exists {
        true => ok("state-dir", format!("{path} is there and survives a power cut")),
        false => ok("state-dir", format!("{path} will be made by the first start")),
    }
}

fn room(dir: &Dir) -> Finding {
    let share = (dir.free_bytes as f64 / dir.total_bytes.max(1) as f64 * 100.0) as u64;
    let found =
        format!("{} MiB free of {} MiB ({share} %)", dir.free_bytes >> 20, dir.total_bytes.div_ceil(1 << 20));
    let remedy = format!(
        "free some on the disk of {}; `edge-agent volumes` lists what deleted workloads left",
        dir.path.display()
    );
    match dir.free_bytes {
        free if free < FREE_MIN => fail("disk-space", found + ": new records and code find no room", remedy),
        free if free < FREE_GOOD => warn("disk-space", found, remedy),
        _ => ok("disk-space", found),
    }
}

fn inodes(dir: &Dir) -> Finding {
    if dir.total_inodes == 0 {
        return ok("disk-inodes", "this file system does not run out of them");
    }
    let found = format!("{} of {} inodes are free", dir.free_inodes, dir.total_inodes);
    let remedy = format!(
        "remove small files on the disk of {}: `du --inodes -x` tells where they are",
        dir.path.display()
    );
    match dir.free_inodes {
        free if free < INODES_MIN => fail("disk-inodes", found + ": no new file can be made", remedy),
        free if free < INODES_GOOD => warn("disk-inodes", found, remedy),
        _ => ok("disk-inodes", found),
    }
}

fn reserve(facts: &Facts) -> Finding {
    match facts.reserve_bytes {
        _ if !facts.has_store => skipped("disk-reserve", "no store here yet"),
        Some(bytes) => ok("disk-reserve", format!("{} kept for the last records", Bytes(bytes))),
        None => warn(
            "disk-reserve",
            "the store's reserve was used up by a full disk",
            "free some space; the agent makes the reserve again at its next record",
        ),
    }
}

fn store(facts: &Facts) -> Finding {
    match facts.set_aside.as_slice() {
        [] if facts.has_store => ok("store", "there; none was ever set aside"),
        [] => skipped("store", "no store here yet"),
        aside => warn(
            "store",
            format!("{} could not be opened once and lies beside: {}", aside.len(), aside.join(", ")),
            "look at the disk (dmesg, smartctl), send them with a report, then delete them",
        ),
    }
}

fn run_dir(dir: &Dir) -> Finding {
    let path = dir.path.display();
    if dir.read_only || dir.free_bytes < RUN_FREE_MIN {
        let why = if dir.read_only { "read-only" } else { "full" };
        return fail("run-dir", format!("{path} is {why}: nothing can be started"), "make room in it");
    }
    if !dir.is_volatile {
        return warn(
            "run-dir",
            format!("{path} is not in memory: each start wears the flash, and old notes survive a reboot"),
            "give a --run-dir below /run",
        );
    }
    ok("run-dir", format!("{path} is in memory"))
}

fn clock(facts: &Facts) -> Finding {
    if facts.wall_ms < YEAR_2020_MS {
        return warn(
            "clock",
            format!(
                "the clock says {} s after 1970: times in logs are wrong, workloads run",
                facts.wall_ms / 1000
            ),
            "set it by NTP or a clock chip (timedatectl set-ntp true); the agent needs none",
        );
    }
    ok("clock", "plausible")
}

fn floor(facts: &Facts) -> Finding {
    let Some(newest) = facts.newest_record_ms else { return skipped("time-floor", "no records here yet") };
    let behind = newest.saturating_sub(facts.wall_ms);
    if behind <= STEP_MS {
        return ok("time-floor", "the clock is not behind this board's own records");
    }
    warn(
        "time-floor",
        format!("the clock is {} s behind this board's newest record", behind / 1000),
        "the clock went back: set it by NTP or replace the clock chip's battery",
    )
}
