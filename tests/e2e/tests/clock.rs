//! A board without a clock: it boots in 1970, and the wall clock jumps while it runs.

use std::process::Command;

use e2e::{Fleet, kill9, until};

const QUIET: &str = "  args: [--every, \"60000\"]";

/// Between the program and the kernel: a wall clock that says what a file says, in seconds since 1970.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    if (id != CLOCK_REALTIME) return syscall(SYS_clock_gettime, id, now);
    FILE *file = fopen(getenv("BOARD_CLOCK"), "r");
    long seconds = 0;
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    now->tv_sec = seconds; now->tv_nsec = 0;
    return 0;
}
"#;

#[test]
fn f09_a_board_in_1970_runs_reports_and_survives_any_jump_of_its_clock() {
    let mut fleet = Fleet::start(0);
    let (source, library) = (fleet.dir.path().join("clock.c"), fleet.dir.path().join("clock.so"));
    std::fs::write(&source, CLOCK).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(built.expect("apt-get install build-essential").success());
    let clock = fleet.dir.path().join("clock");
    std::fs::write(&clock, "12").unwrap();
    fleet.add_board("board-0");
    fleet.boards[0].kill();
    fleet.boards[0].env = vec![
        ("LD_PRELOAD".into(), library.display().to_string()),
        ("BOARD_CLOCK".into(), clock.display().to_string()),
    ];
    fleet.boards[0].revive();
    fleet.online(0);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let dated = |fleet: &Fleet| {
        let events = fleet.hub.events();
        let since = now - 600_000;
        let wrong =
            events.iter().find(|e| e["wallMs"].as_u64().is_some_and(|at| at < since || at > now + 600_000));
        assert_eq!(wrong, None, "an event is dated by a clock that was not right");
    };
    dated(&fleet);

    // It is set, far ahead, and back again: what runs is left alone, and what ends is replaced at once.
    for seconds in ["4000000000", "12", "1000000000"] {
        std::fs::write(&clock, seconds).unwrap();
        let old = fleet.boards[0].pid("work");
        kill9(old);
        until("it is replaced", || fleet.boards[0].pids().values().any(|pid| *pid != old));
        fleet.online(0);
        fleet.steady("work");
        fleet.boards[0].kill();
        fleet.boards[0].forget_restarts();
        fleet.boards[0].revive();
        fleet.online(0);
    }
    assert_ne!(fleet.boards[0].pids(), before);
    fleet.steady("work");
    fleet.finish();
}
