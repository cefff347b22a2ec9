//! A candidate whose start takes the whole board down leaves nothing behind that could be counted.

use agent_core::api::*;
use contract::Attempt;
use contract::run::Assignment;

use crate::board::Board;
use crate::hub::*;

/// Boot again and again; each time revision 2 is started, the board goes down. So often it was started.
fn fell_until_given_up(board: &mut Board) -> usize {
    let two = |op: &Op| matches!(op, Op::Start { assignment, .. } if assignment.revision == revision(2));
    let before = board.count(two);
    for _ in 0..20 {
        let starts = board.count(two);
        while let Some(n) = board.ready().first().copied() {
            board.perform(n);
            if board.count(two) > starts {
                break;
            }
        }
        if board.count(two) == starts {
            break;
        }
        board.power_cut();
    }
    board.count(two) - before
}

#[test]
fn a_candidate_that_fells_the_board_falls_back_after_three_boots() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    board.desired(document(2, [assignment("a", 2, &[0])]));
    assert_eq!(fell_until_given_up(&mut board), 3);
    assert_eq!(board.live(), [("plant/a/0".to_string(), revision(1))], "offline too");
    let rejected = board.disk.records[&key("a")].rejected.clone().unwrap();
    assert_eq!(rejected.revision, revision(2));
    assert_eq!(rejected.reason, "the board went down 3 times before it was healthy");
    // Another attempt is judged anew.
    board.reconnect(2);
    board.desired(document(3, [Assignment { attempt: Attempt(2), ..assignment("a", 2, &[0]) }]));
    assert_eq!(fell_until_given_up(&mut board), 3);
}

#[test]
fn the_boot_is_counted_before_the_start_and_once() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    board.network = false;
    board.desired(document(2, [assignment("a", 2, &[0])]));
    board.settle();
    assert_eq!(board.disk.records[&key("a")].trials, 0, "what is not here was not tried");
    board.network = true;
    board.advance(1000);
    while board.live()[0].1 != revision(2) {
        assert_eq!(board.live()[0].1, revision(1));
        board.settle_but_disk();
        assert_eq!(board.live()[0].1, revision(1), "the disk stands still: what runs, runs on");
        board.advance(1000);
    }
    assert_eq!(board.disk.records[&key("a")].trials, 1);
    let persists = board.disk.persists;
    for _ in 0..5 {
        board.crash();
        board.settle();
        assert!(board.live_run(&instance("a", 0)).is_some());
    }
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    board.settle_but_disk();
    assert!(board.live_run(&instance("a", 0)).is_some_and(|again| again != run), "nor is a restart");
    assert_eq!(board.disk.records[&key("a")].trials, 1, "an agent's restart is no boot");
    assert_eq!(board.disk.persists, persists + 5, "and writes its counter of starts only");
}

#[test]
fn with_nothing_to_fall_back_to_it_is_started_ever_later_after_the_boot() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    for _ in 0..10 {
        assert!(board.live_run(&instance("a", 0)).is_some());
        board.power_cut();
        board.settle();
        board.greet(9); // The hub is heard before it starts.
        while board.live_run(&instance("a", 0)).is_none() {
            assert!(board.now < 122_000, "it is tried again");
            board.advance(1000);
        }
    }
    board.power_cut();
    board.advance(80_000);
    assert_eq!(board.live(), [], "after many boots it waits long");
    board.desired(document(2, []));
    board.settle();
    assert!(board.disk.records.is_empty(), "and can be taken away meanwhile");
}

/// Seed 1064: the commit that counts the boot failed, and the agent started anew in the same boot.
#[test]
fn a_boot_is_not_taken_as_counted_for_what_it_found_ended() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    board.desired(document(2, [assignment("a", 2, &[0])]));
    board.settle();
    board.power_cut();
    board.settle_but_disk();
    assert!(board.notes.contains_key(&instance("a", 0)), "of the run that the power cut ended");
    board.crash();
    board.settle_but_disk();
    assert_eq!(board.live(), [], "nothing is started before this boot is counted");
    board.settle();
    assert_eq!(board.live()[0].1, revision(2));
    assert_eq!(board.disk.records[&key("a")].trials, 2);
}
