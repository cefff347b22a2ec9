//! Loading code is as good as running it: what the hub did not state is not even fetched, and what is
//! not what it stated is not kept.

use std::collections::BTreeMap;

use contract::codec::{self, Kind};
use contract::message::Compiled;
use e2e::{Broker, Fleet, Impostor, forge, signal, until};

const QUIET: &str = "  args: [--every, \"60000\"]";
const DESIRED: &str = "skerry/v1/agents/board-0/desired";

/// What a board would ask for: its statement's path, its bytes' path, and what the statement says.
struct Wanted {
    statement: String,
    blob: String,
    says: Compiled,
}

fn wanted(broker: &Broker, workload: &str) -> Option<Wanted> {
    let document = forge::document(&broker.retained(DESIRED));
    let artifact = document.assignments.get(&workload.parse().unwrap())?.run.artifact.clone();
    let (digest, source, engine) = (artifact.digest, artifact.source, artifact.engine?);
    let blob = format!("/v1/blobs/{digest}");
    let statement = format!("{blob}/statement?source={source}&engine={engine}");
    Some(Wanted {
        statement,
        blob,
        says: Compiled { source, engine, digest, size_bytes: artifact.size_bytes },
    })
}

#[test]
fn forged_code_is_refused_by_name_and_never_run() {
    let mut broker = Broker::start();
    let mut fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.run("first", "hello", QUIET);
    let before = fleet.boards[0].pids();
    for image in ["misbehave", "netcheck", "sensor"] {
        fleet.hub.push(image);
    }
    // The board holds its breath until the hub is gone and somebody else answers on its port.
    let agent = fleet.boards[0].process.pid();
    signal(agent, libc::SIGSTOP);
    let once = "  restartPolicy: Never\n  args: [exit, \"0\"]";
    for (name, image) in [("stranger", "misbehave"), ("other", "netcheck"), ("changed", "sensor")] {
        fleet.hub.apply(&e2e::manifest(name, image, once));
    }
    let find = |name: &str| wanted(&broker, &format!("default/{name}"));
    until("all is compiled and published", || {
        ["stranger", "other", "changed"].iter().all(|n| find(n).is_some())
    });
    let [stranger, other, changed] = ["stranger", "other", "changed"].map(|n| find(n).unwrap());
    let mut bytes = fleet.hub.bytes(&changed.blob);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let answers = BTreeMap::from([
        // The right bytes, vouched for by a key that is not the hub's.
        (stranger.blob.clone(), fleet.hub.bytes(&stranger.blob)),
        (stranger.statement, codec::seal(Kind::Compiled, &stranger.says, Some(&forge::stranger())).unwrap()),
        // The hub's own word, about other code.
        (other.blob.clone(), fleet.hub.bytes(&other.blob)),
        (other.statement, fleet.hub.bytes(&changed.statement)),
        // The hub's word for it, and a bit of it turned over.
        (changed.blob, bytes),
        (changed.statement.clone(), fleet.hub.bytes(&changed.statement)),
    ]);
    fleet.hub.kill();
    let impostor = Impostor::on(fleet.hub.http, answers, usize::MAX);
    signal(agent, libc::SIGCONT);
    for (name, why) in [
        ("stranger", "the hub's statement about this code is signed by key"),
        ("other", "the hub's statement is about other code"),
        ("changed", "thrown away"),
    ] {
        until(&format!("{name} waits: {why}"), || {
            let status = fleet.boards[0].status().unwrap_or_default();
            let waits = &status["agent"]["workloads"][format!("default/{name}")]["waiting"]["0"];
            waits.as_str().is_some_and(|w| w.contains("artefact refused") && w.contains(why))
        });
    }
    assert_eq!(fleet.boards[0].pids(), before);
    let kept = std::fs::read_dir(fleet.boards[0].state.join("artifacts")).unwrap().flatten();
    let whole = kept.filter(|e| !e.file_name().to_string_lossy().ends_with(".partial")).count();
    assert_eq!(whole, 1, "only the first one's code is on the board");

    drop(impostor);
    fleet.hub.revive();
    fleet.online(0);
    for why in ["is signed by key", "about other code", "thrown away"] {
        fleet.told("fetchFailed", why);
    }
    // What was refused is asked for again with the next document.
    fleet.hub.apply(&e2e::manifest("next", "hello", QUIET));
    fleet.steady("next");
    until("it is fetched from the hub and run", || fleet.instance("stranger", 0)["state"] == "Completed");
    assert_eq!(fleet.boards[0].pid("first"), before["default/first/0"]);
    fleet.finish();
    broker.process.terminate();
}

/// The board is down while the hub publishes; then hub and board have changed places.
#[test]
fn f24_a_fetch_goes_on_where_it_broke_off() {
    let mut broker = Broker::start();
    let mut fleet = Fleet::start_over(&broker, 1, &[]);
    fleet.hub.push("netcheck");
    let agent = fleet.boards[0].process.pid();
    signal(agent, libc::SIGSTOP);
    fleet.hub.apply(&e2e::manifest("work", "netcheck", "  restartPolicy: Never\n  args: [lookup, \"x:1\"]"));
    until("it is compiled and published", || wanted(&broker, "default/work").is_some());
    let wanted = wanted(&broker, "default/work").unwrap();
    let size = wanted.says.size_bytes as usize;
    let answers = BTreeMap::from([
        (wanted.blob.clone(), fleet.hub.bytes(&wanted.blob)),
        (wanted.statement.clone(), fleet.hub.bytes(&wanted.statement)),
    ]);
    fleet.hub.kill();
    // The link breaks after each third.
    let third = size.div_ceil(3);
    let link = Impostor::on(fleet.hub.http, answers, third);
    signal(agent, libc::SIGCONT);
    until("a first third is here", || link.asked().iter().any(|asked| asked.path == wanted.blob));
    until("it has run", || fleet.boards[0].said("work").contains("no: "));
    let blob: Vec<usize> = link.asked().iter().filter(|a| a.path == wanted.blob).map(|a| a.from).collect();
    assert_eq!(blob, [0, third, 2 * third], "each byte is asked for once");
    drop(link);
    fleet.hub.revive();
    fleet.online(0);
    fleet.finish();
    broker.process.terminate();
}

/// Half of it lies there when the board starts, as a power cut left it; the rest comes from the hub.
#[test]
fn f24_what_was_fetched_before_a_restart_is_kept() {
    let mut fleet = Fleet::start(1);
    fleet.run("first", "hello", QUIET);
    let artifacts = fleet.boards[0].state.join("artifacts");
    let list = || std::fs::read_dir(&artifacts).unwrap().flatten().map(|e| e.path()).collect::<Vec<_>>();
    let whole = list().remove(0);
    let bytes = std::fs::read(&whole).unwrap();
    fleet.boards[0].kill();
    e2e::kill9(fleet.boards[0].pid("first"));
    std::fs::remove_file(&whole).unwrap();
    let partial = whole.with_extension("partial");
    std::fs::write(&partial, &bytes[..bytes.len() / 2]).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&partial).unwrap());
    fleet.boards[0].revive();
    until("it is whole again", || whole.exists());
    assert_eq!(std::fs::read(&whole).unwrap(), bytes);
    assert_eq!(
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&whole).unwrap()),
        inode,
        "the same file"
    );
    fleet.finish();
}

#[test]
fn f29_a_board_loads_what_the_hub_compiled_and_never_compiles() {
    let fleet = Fleet::start(1);
    fleet.hub.push("netcheck");
    fleet.hub.apply(&e2e::manifest("work", "netcheck", "  restartPolicy: Never\n  args: [lookup, \"x:1\"]"));
    until("it has run", || fleet.boards[0].said("work").contains("no: "));
    let on_board = std::fs::read_dir(fleet.boards[0].state.join("artifacts")).unwrap().flatten();
    let on_board: Vec<String> = on_board.map(|e| e.file_name().into_string().unwrap()).collect();
    let (code, out, err) = fleet.hub.cli(&["describe", "artifact", "netcheck:1", "-o", "json"]);
    assert!(code == 0 && on_board.len() == 1 && out.contains(&on_board[0]), "{on_board:?} {out}{err}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", fleet.boards[0].process.pid())).unwrap();
    let peak =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    let peak: u64 = peak.unwrap();
    println!("peak of the agent: {peak} KiB");
    assert!(peak < 24 << 10, "{peak} KiB: a compiler takes hundreds of MiB");
    fleet.finish();
}
