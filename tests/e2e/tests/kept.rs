//! What a deleted workload leaves on its board, and how it is given up; and a board's name.

use std::process::Command;

use e2e::{Board, Fleet, binary, until};

const VOLUME: &str = "  args: [--every, \"60000\"]\n  mounts: [{volume: data, path: /data, size: 4Mi}]";

/// Exit code, all that was said.
fn volumes(board: &Board, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(binary("edge-agent"));
    command.arg("volumes").args(args);
    let output = command.env("SKERRY_STATE_DIR", &board.state).env("SKERRY_RUN_DIR", &board.run).output();
    let output = output.expect("the command runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

fn kept(board: &Board) -> usize {
    board.status().expect("the agent answers")["keptVolumes"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_volume_outlives_its_workload_until_somebody_gives_it_up() {
    let fleet = Fleet::start(1);
    let board = &fleet.boards[0];
    fleet.run("store", "hello", VOLUME);
    let (code, said) = volumes(board, &["rm", "store"]);
    assert!(code == 1 && said.contains("is to run on this board"), "{said}");
    let (code, said) = volumes(board, &["rm", "store", "data", "--force"]);
    assert!(code == 1 && said.contains("is mounted"), "{said}");
    assert_eq!(kept(board), 0);

    fleet.hub.delete("/v1/workloads/default/store");
    until("its volume counts as kept", || kept(board) == 1);
    assert!(volumes(board, &[]).1.contains("default/store/0"), "{}", volumes(board, &[]).1);
    assert!(board.log_bytes("store") > 0, "what it said is still there");

    fleet.hub.apply(&e2e::manifest("store", "hello", VOLUME));
    fleet.steady("store");
    assert_eq!(kept(board), 0);
    fleet.hub.delete("/v1/workloads/default/store");
    until("its volume counts as kept again", || kept(board) == 1 && board.runs().is_empty());
    let (code, said) = volumes(board, &["rm", "store"]);
    assert_eq!((code, said.as_str()), (0, "removed default/store/0 data (4Mi)\n"));
    assert_eq!(volumes(board, &[]), (0, "No volumes.\n".to_string()));
    fleet.finish();
}

/// F23: what was said is bounded on a board whose work changes for years.
#[test]
fn f23_logs_of_deleted_workloads_have_an_end() {
    const KEPT: usize = 16;
    let fleet = Fleet::start(1);
    fleet.hub.push("hello");
    let names: Vec<String> = (0..KEPT + 4).map(|n| format!("brief-{n}")).collect();
    let spec = "  args: [--every, \"60000\"]\n  resources: {cpu: 20m, memory: 16Mi}";
    let all: Vec<String> = names.iter().map(|name| e2e::manifest(name, "hello", spec)).collect();
    fleet.hub.apply(&all.join("---\n"));
    names.iter().for_each(|name| fleet.steady(name));
    let board = &fleet.boards[0];
    let heard = || names.iter().filter(|name| board.log_bytes(name) > 0).count();
    assert_eq!(heard(), KEPT + 4);
    names.iter().skip(1).for_each(|name| fleet.hub.delete(&format!("/v1/workloads/default/{name}")));
    until("the logs of the last that went are kept", || heard() == 1 + KEPT);
    assert!(board.log_bytes("brief-0") > 0, "what is here keeps its log");
    fleet.finish();
}

#[test]
fn a_board_may_be_called_operator() {
    let mut fleet = Fleet::start(0);
    let board = fleet.add_board("operator");
    fleet.online(board);
    fleet.run("calm", "hello", "  args: [--every, \"60000\"]");
    fleet.finish();
}
