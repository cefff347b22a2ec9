//! Which shapes messages have on the wire and on disk: golden files, so that none changes by
//! accident. A reader takes fields it does not know, and answers a variant it does not know with an
//! error. With `UPDATE_GOLDEN=1` missing files are written; a file that exists is never changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use contract::id::{AgentId, InstanceId, Name, WorkloadKey};
use contract::message::*;
use contract::run::*;
use contract::spec::{NetworkMode, RestartPolicy, Runtime};
use contract::status::*;
use contract::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use skerry_contract as contract;

fn key() -> WorkloadKey {
    "plant/press-guard".parse().unwrap()
}

fn revision() -> RevisionId {
    RevisionId(Digest::of(b"spec"))
}

fn epoch() -> Epoch {
    Epoch { boots: 3, session: 7 }
}

fn instance() -> InstanceId {
    InstanceId { workload: key(), slot: 1 }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn assignment() -> Assignment {
    let mounts = [
        MountSource::Volume { name: name("data"), size_bytes: 1 << 20 },
        MountSource::HostPath { path: "/sys".into() },
        MountSource::Tmpfs { size_bytes: 4096 },
    ];
    Assignment {
        workload: key(),
        revision: revision(),
        attempt: Attempt(2),
        slots: vec![0, 1],
        run: RunSpec {
            runtime: Runtime::Wasm,
            artifact: ArtifactRef {
                source: Digest::of(b"module"),
                digest: Digest::of(b"code"),
                size_bytes: 1234,
                engine: Some("engine-1".into()),
            },
            command: vec!["c".into()],
            args: vec!["--limit".into(), "80".into()],
            env: BTreeMap::from([("SITE".into(), "north".into())]),
            limits: ResourceLimits::DEFAULT,
            network: NetworkAllowance {
                mode: NetworkMode::Host,
                connect: vec!["broker.local:1883".into()],
                listen: vec![8080],
            },
            mounts: mounts
                .into_iter()
                .map(|from| RunMount { from, path: "/m".into(), read_only: true })
                .collect(),
            restart_policy: RestartPolicy::OnFailure,
            stop_signal: "TERM".into(),
            stop_grace_ms: 10_000,
            healthy_after_ms: 3_000,
            health_deadline_ms: 600_000,
            probes: None,
            container: None,
            data: None,
        },
        requires: BTreeSet::from(["wasm".into()]),
        restarts: 4,
    }
}

fn container() -> Assignment {
    let container = Container {
        user: Some("101:101".into()),
        workdir: Some("/srv".into()),
        hostname: Some("press-1".into()),
        read_only_root: true,
        add_capabilities: vec!["NET_ADMIN".into()],
        drop_capabilities: vec!["ALL".into()],
        devices: vec![RunDevice {
            path: "/dev/serial/by-id/plc0".into(),
            inside: "/dev/plc".into(),
            access: "rw".into(),
        }],
        ports: vec![8080],
    };
    let artifact = ArtifactRef {
        source: Digest::of(b"index"),
        digest: Digest::of(b"manifest"),
        size_bytes: 500,
        engine: None,
    };
    let run = RunSpec {
        runtime: Runtime::Oci,
        artifact,
        network: NetworkAllowance { mode: NetworkMode::Host, ..NetworkAllowance::default() },
        container: Some(container),
        ..assignment().run
    };
    Assignment { run, requires: BTreeSet::from(["devices".into(), "oci".into()]), ..assignment() }
}

fn probed() -> Assignment {
    let probe = |ask| RunProbe {
        ask,
        initial_delay_ms: 5_000,
        period_ms: 10_000,
        timeout_ms: 1_000,
        success_threshold: 1,
        failure_threshold: 3,
    };
    let host = "127.0.0.1".parse().unwrap();
    let probes = Probes {
        startup: Some(probe(ProbeAsk::Exec { command: vec!["ready".into(), "-q".into()] })),
        liveness: Some(probe(ProbeAsk::Http {
            host,
            port: 8080,
            path: "/healthz".into(),
            headers: BTreeMap::from([("Host".into(), "press.local".into())]),
        })),
        readiness: Some(probe(ProbeAsk::Tcp { host: "::1".parse().unwrap(), port: 8080 })),
    };
    let run = RunSpec { probes: Some(Box::new(probes)), ..container().run };
    Assignment { run, requires: BTreeSet::from(["oci".into(), "probes".into()]), ..assignment() }
}

/// One instance in each state, one exit of each kind.
fn status() -> WorkloadStatus {
    let states = [
        InstanceState::Waiting { reason: "for a label".into() },
        InstanceState::Fetching,
        InstanceState::Starting,
        InstanceState::Running,
        InstanceState::Stopping,
        InstanceState::Backoff { until_ms: 99 },
        InstanceState::Completed,
        InstanceState::Failed,
    ];
    let exits = [
        Some(Exit::Code { code: 3 }),
        Some(Exit::Trap { message: "unreachable".into() }),
        Some(Exit::Signal { signal: 9 }),
        Some(Exit::OutOfMemory { limit_bytes: 1 << 20 }),
        Some(Exit::StartFailed { message: "no such file".into() }),
        Some(Exit::Rebooted),
        Some(Exit::Unknown { evidence: "the cgroup is gone".into() }),
        None,
    ];
    let instances = states.into_iter().zip(exits).enumerate().map(|(n, (state, last_exit))| {
        let run = last_exit.is_some().then_some(RunId { boots: 3, number: 5 });
        let status = InstanceStatus {
            revision: revision(),
            attempt: Attempt(1),
            state,
            ready: true,
            unready: None,
            healthy: false,
            since_ms: 1000,
            restarts: 2,
            probe_restarts: 0,
            run,
            pid: run.map(|_| 4242),
            last_exit,
        };
        (n as u32, status)
    });
    WorkloadStatus {
        good: Some(revision()),
        candidate: Some((revision(), Attempt(2))),
        rejected: Some(Rejected { revision: revision(), attempt: Attempt(1), reason: "trap".into() }),
        unsupported: Some("oci".into()),
        waiting: None,
        instances: instances.collect(),
    }
}

fn observed(body: ObservedBody) -> Observed {
    Observed {
        board: BoardId([1; 16]),
        epoch: epoch(),
        seq: 12,
        nonce: Some(Nonce([2; 16])),
        now_ms: 5000,
        applied: Some(desired().head()),
        refused: Some("older generation 3".into()),
        body,
    }
}

fn desired() -> Desired {
    Desired {
        lineage: Lineage([3; 16]),
        term: Term(4),
        agent: "board-1".parse::<AgentId>().unwrap(),
        generation: Generation(17),
        assignments: BTreeMap::from([(key(), assignment())]),
    }
}

/// The value has the golden shape, reads back, and reads with a foreign field at each of `structs`.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(file: &str, value: &T, structs: &[&str]) {
    let path = format!("{}/tests/golden/messages/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let actual = serde_json::to_value(value).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !std::path::Path::new(&path).exists() {
        std::fs::write(&path, serde_json::to_string_pretty(&actual).unwrap() + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let expected: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(actual, expected, "{file} has another shape than its golden file");
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{file}");
    for pointer in structs {
        let mut foreign = expected.clone();
        let place = foreign.pointer_mut(pointer).unwrap_or_else(|| panic!("{file} has no {pointer}"));
        place["fieldOfALaterVersion"] = json!({"a": [1]});
        let read: T = serde_json::from_value(foreign).unwrap_or_else(|e| panic!("{file} {pointer}: {e}"));
        assert_eq!(&read, value, "{file} {pointer}");
    }
}

#[test]
fn desired_keeps_its_shape() {
    let run = "/assignments/0/run";
    let structs = ["", "/assignments/0", run, &format!("{run}/artifact"), &format!("{run}/limits")];
    golden("desired", &desired(), &structs);
    golden("desired-head", &desired().head(), &[""]);
    golden("assignment", &assignment(), &["", "/run", "/run/network", "/run/mounts/0"]);
    golden("assignment-oci", &container(), &["", "/run", "/run/container", "/run/container/devices/0"]);
    golden(
        "assignment-probes",
        &probed(),
        &["/run/probes", "/run/probes/liveness", "/run/probes/liveness/ask/http"],
    );
    let bare = Desired { assignments: BTreeMap::new(), ..desired() };
    golden("desired-empty", &bare, &[""]);
}

#[test]
fn a_statement_about_compiled_code_keeps_its_shape() {
    let statement = Compiled {
        source: Digest::of(b"module"),
        engine: "engine-1".into(),
        digest: Digest::of(b"code"),
        size_bytes: 1234,
    };
    golden("compiled", &statement, &[""]);
}

#[test]
fn observed_keeps_its_shape() {
    let instance = "/body/full/workloads/plant~1press-guard/instances/5";
    let full = ObservedBody::Full { workloads: BTreeMap::from([(key(), status())]) };
    let status_at = "/body/full/workloads/plant~1press-guard";
    golden("observed-full", &observed(full), &["", "/epoch", "/applied", status_at, instance]);
    let gone = BTreeMap::from([(key(), None), ("plant/a".parse().unwrap(), Some(WorkloadStatus::default()))]);
    golden("observed-changes", &observed(ObservedBody::Changes { workloads: gone }), &["", "/body/changes"]);
    let unready = InstanceStatus {
        revision: revision(),
        attempt: Attempt(1),
        state: InstanceState::Running,
        ready: false,
        unready: Some("readiness probe: connection refused".into()),
        healthy: false,
        since_ms: 1000,
        restarts: 2,
        probe_restarts: 1,
        run: None,
        pid: None,
        last_exit: Some(Exit::ProbeFailed { probe: ProbeKind::Liveness, message: "no answer in 1s".into() }),
    };
    let probed = WorkloadStatus { instances: BTreeMap::from([(0, unready)]), ..WorkloadStatus::default() };
    golden("status-probes", &probed, &["/instances/0", "/instances/0/last_exit"]);
    let state = Observed::state_digest(&BTreeMap::from([(key(), status())]));
    let first = Observed {
        nonce: None,
        applied: None,
        refused: None,
        ..observed(ObservedBody::Heartbeat { state, spooled: 3 })
    };
    golden("observed-heartbeat", &first, &["", "/body/heartbeat"]);
}

#[test]
fn hello_presence_and_announce_keep_their_shape() {
    let hello = |want, wall_ms| Hello {
        lineage: Lineage([3; 16]),
        term: Term(4),
        board: BoardId([1; 16]),
        epoch: epoch(),
        nonce: Nonce([2; 16]),
        said: 0,
        epoch_floor: 3,
        acked: Acked { epoch: epoch(), observed_seq: 11, event_seq: 3 << 32 | 5 },
        want,
        heartbeat_ms: 600_000,
        wall_ms,
        artifacts: "http://127.0.0.1:7777".into(),
    };
    golden("hello-full", &hello(Want::Full, Some(1_700_000_000_000)), &["", "/epoch", "/acked"]);
    golden("hello-counted", &Hello { said: 17, ..hello(Want::Nothing, None) }, &[""]);
    golden("hello-nothing", &hello(Want::Nothing, None), &[""]);
    golden("announce", &HubAnnounce { lineage: Lineage([3; 16]), term: Term(4), window_ms: 30_000 }, &[""]);
    let presence = Presence {
        board: BoardId([1; 16]),
        epoch: epoch(),
        online: true,
        contract_version: CONTRACT_VERSION,
        agent_version: "0.1.0".into(),
        features: BTreeSet::from(["wasm".into(), "tmpfs-mounts".into()]),
        engines: vec!["engine-1".into()],
        arch: "aarch64".into(),
        labels: BTreeMap::from([("site".into(), "north".into())]),
        capacity: Capacity { cpu_millis: 4000, memory_bytes: 1 << 30, storage_bytes: 1 << 34 },
    };
    golden("presence", &presence, &["", "/capacity"]);
    let bare = Presence {
        online: false,
        features: BTreeSet::new(),
        engines: Vec::new(),
        labels: BTreeMap::new(),
        ..presence
    };
    golden("presence-will", &bare, &[""]);
}

const EVENT_KINDS: [EventKind; 18] = [
    EventKind::AgentStarted,
    EventKind::Started,
    EventKind::Exited,
    EventKind::OutOfMemory,
    EventKind::BackingOff,
    EventKind::BecameGood,
    EventKind::FellBack,
    EventKind::Refused,
    EventKind::Unsupported,
    EventKind::StartFailed,
    EventKind::FetchFailed,
    EventKind::Stopped,
    EventKind::Adopted,
    EventKind::Stray,
    EventKind::StoreSetAside,
    EventKind::DiskFull,
    EventKind::Duplicate,
    EventKind::Lost,
];

#[test]
fn events_keep_their_shape() {
    let event = |(n, kind): (usize, EventKind)| AgentEvent {
        at_ms: 100 + n as u64,
        boots: 3,
        wall_ms: (n % 2 == 0).then_some(1_700_000_000_000),
        instance: (n % 3 == 0).then(instance),
        kind,
        text: "exit code 1".into(),
    };
    let events = EVENT_KINDS.into_iter().enumerate().map(event).collect();
    let events =
        Events { board: BoardId([1; 16]), epoch: epoch(), first_seq: 3 << 32 | 1, now_ms: 9000, events };
    golden("events", &events, &["", "/events/0", "/epoch"]);
    let probes = [EventKind::ProbeFailed, EventKind::Ready].into_iter().enumerate().map(event).collect();
    golden("events-probes", &Events { events: probes, ..events.clone() }, &["/events/0"]);
    assert_eq!(EventKind::Lost.priority(), EventPriority::High);
}

#[test]
fn commands_and_replies_keep_their_shape() {
    let logs = LogQuery {
        instance: instance(),
        tail: Some(10),
        since_ms: Some(60_000),
        previous: true,
        follow: true,
    };
    let command = |op, ticket: Option<&str>| Command {
        id: name("c-1"),
        nonce: Nonce([2; 16]),
        deadline_ms: 30_000,
        until_ms: None,
        ticket: ticket.map(str::to_string),
        op,
    };
    golden("command-logs", &command(CommandOp::Logs(logs), Some("/v1/tickets/t")), &["", "/op/logs"]);
    let exec = Exec {
        instance: instance(),
        args: vec!["sh".into(), "-c".into(), "echo $A".into()],
        env: [("A".to_string(), "1.10".to_string())].into(),
        user: Some("web".into()),
        workdir: Some("/srv".into()),
        terminal: Some(skerry_contract::session::Size { columns: 80, rows: 24 }),
        input: true,
    };
    let ticket = Some("/v1/sessions/t");
    golden("command-exec", &command(CommandOp::Exec(exec), ticket), &["", "/op/exec", "/op/exec/terminal"]);
    let copy = FileCopy { instance: instance(), path: "/etc/hosts".into(), to: CopyTo::Operator };
    golden("command-copy", &command(CommandOp::Copy(copy), ticket), &["", "/op/copy"]);
    let until =
        Command { until_ms: Some(90_000), ..command(CommandOp::Cancel { command: name("c-0") }, None) };
    golden("command-until", &until, &[""]);
    golden("command-cancel", &command(CommandOp::Cancel { command: name("c-0") }, None), &[""]);
    let bodies = [
        ("accepted", ReplyBody::Accepted),
        ("refused", ReplyBody::Refused { reason: "no such instance".into() }),
        ("progress", ReplyBody::Progress { text: "line\n".into() }),
        ("done", ReplyBody::Done { error: None }),
        ("done-error", ReplyBody::Done { error: Some("the log was removed".into()) }),
    ];
    for (seq, (file, body)) in bodies.into_iter().enumerate() {
        let reply = Reply { id: name("c-1"), nonce: Nonce([2; 16]), seq: seq as u32, body };
        golden(&format!("reply-{file}"), &reply, &[""]);
    }
}

/// `T` from the golden file with `value` at `pointer`.
fn spoilt<T: DeserializeOwned>(file: &str, pointer: &str, value: Value) -> Result<T, String> {
    let path = format!("{}/tests/golden/messages/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{file} has no {pointer}")) = value;
    serde_json::from_value(json).map_err(|e| e.to_string())
}

#[test]
fn what_a_later_version_invents_is_an_error_not_a_panic() {
    let unknown = |result: Result<(), String>, word: &str| {
        let error = result.expect_err(word);
        assert!(error.contains("unknown variant") && error.contains(word), "{error}");
    };
    unknown(spoilt::<Hello>("hello-full", "/want", json!("some")).map(|_| ()), "some");
    unknown(spoilt::<Events>("events", "/events/0/kind", json!("melted")).map(|_| ()), "melted");
    unknown(spoilt::<Observed>("observed-full", "/body", json!({"delta": {}})).map(|_| ()), "delta");
    unknown(spoilt::<Command>("command-logs", "/op", json!({"teleport": {}})).map(|_| ()), "teleport");
    unknown(spoilt::<Reply>("reply-done", "/body", json!("later")).map(|_| ()), "later");
    let run = "/assignments/0/run";
    unknown(spoilt::<Desired>("desired", &format!("{run}/runtime"), json!("vm")).map(|_| ()), "vm");
    unknown(
        spoilt::<Desired>("desired", &format!("{run}/mounts/0/from"), json!({"nfs": {}})).map(|_| ()),
        "nfs",
    );
    let state = "/body/full/workloads/plant~1press-guard/instances/3/state";
    unknown(spoilt::<Observed>("observed-full", state, json!({"name": "paused"})).map(|_| ()), "paused");
}

#[test]
fn what_no_reader_may_take_is_refused() {
    let workloads = json!({"../etc": null});
    assert!(spoilt::<Observed>("observed-changes", "/body/changes/workloads", workloads).is_err());
    assert!(spoilt::<Desired>("desired", "/agent", json!("A B")).is_err());
    assert!(spoilt::<Desired>("desired", "/generation", json!(-1)).is_err());
    assert!(spoilt::<Hello>("hello-full", "/nonce", json!("xyz")).is_err());
    assert!(spoilt::<Command>("command-logs", "/id", json!("../x")).is_err());
    let twice = serde_json::to_value([assignment(), assignment()]).unwrap();
    let error = spoilt::<Desired>("desired", "/assignments", twice).unwrap_err();
    assert!(error.contains("plant/press-guard is assigned twice"), "{error}");
    let lacking = json!({"lineage": Lineage([3; 16])});
    assert!(serde_json::from_value::<Desired>(lacking).unwrap_err().to_string().contains("missing field"));
}

#[test]
fn a_document_is_named_by_its_content_alone() {
    let document = desired();
    let later = Desired { term: Term(9), generation: Generation(18), ..document.clone() };
    assert_eq!(document.digest(), later.digest());
    let mut other = document.clone();
    other.assignments.get_mut(&key()).unwrap().slots = vec![0];
    assert_ne!(document.digest(), other.digest());
    // A board compares this digest with what an earlier hub published.
    let golden: Digest = spoilt::<DesiredHead>("desired-head", "/term", json!(4)).unwrap().digest;
    assert_eq!(document.digest(), golden);
}

/// What a heartbeat costs on its way. Times are printed, never demanded: machines differ.
#[cfg(feature = "codec")]
#[test]
fn a_signed_heartbeat_is_as_small_as_one_without_a_signature_was() {
    use contract::codec::{self, Kind};
    use contract::signature::{BoardKey, Verify};
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

    // As random as identities, nonces and digests are: nothing of it repeats.
    let digest = |n: u8| Digest::of(&[n]);
    let half = |n: u8| -> [u8; 16] { digest(n).as_bytes()[..16].try_into().unwrap() };
    let (lineage, term, generation) = (Lineage(half(1)), Term(4), Generation(17));
    let beat = Observed {
        board: BoardId(half(2)),
        nonce: Some(Nonce(half(3))),
        now_ms: 123_456_789,
        applied: Some(DesiredHead { lineage, term, generation, digest: digest(4) }),
        refused: None,
        ..observed(ObservedBody::Heartbeat { state: digest(5), spooled: 0 })
    };
    let random = ring::rand::SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap();
    let public = contract::identity::PublicKey::of_p256(pair.public_key().as_ref()).unwrap();
    let key = BoardKey::read(made.as_ref()).unwrap();
    let unsigned = codec::seal(Kind::Observed, &beat, None).unwrap().len();
    let sent = codec::encode(Kind::Observed, &beat, Some(&key)).unwrap();
    println!("a heartbeat: {unsigned} bytes unsigned and plain, {} signed and packed", sent.bytes.len());
    assert!(sent.bytes.len() < unsigned);
    let each = |what: &str, mut act: Box<dyn FnMut() + '_>| {
        let begun = std::time::Instant::now();
        (0..2000).for_each(|_| act());
        println!("{what}: {:.1} µs", begun.elapsed().as_secs_f64() * 1e6 / 2000.0);
    };
    let by: &dyn Verify = &public;
    each("signed and packed", Box::new(|| drop(codec::encode(Kind::Observed, &beat, Some(&key)).unwrap())));
    each("packed alone", Box::new(|| drop(codec::encode(Kind::Observed, &beat, None).unwrap())));
    let open = |key| codec::decode::<Observed>(Kind::Observed, &sent.bytes, sent.content_type, key);
    each("unpacked and verified", Box::new(|| assert!(open(Some(by)).is_ok())));
    each("unpacked alone", Box::new(|| assert!(open(None).is_ok())));
}
