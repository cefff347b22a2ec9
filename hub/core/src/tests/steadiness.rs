//! When is a workload steady, and what do its views say before?

use contract::Attempt;
use contract::spec::{Network, Probe, TcpProbe};
use contract::status::{Exit, InstanceState, Rejected};

use super::bed::*;
use super::board::*;
use crate::api::*;
use crate::view::Targets;

fn targets(bed: &Bed) -> Targets {
    bed.core.workload(&key("ns/w")).unwrap().targets
}

#[test]
fn steady_means_a_fresh_report_of_the_new_revision() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut boards = fleet(&mut bed, &["a", "b"]);
    bed.apply(vec![every("w", "app:1")]);
    assert_eq!(targets(&bed).progressing, 2);
    boards.iter_mut().for_each(|b| b.converse(&mut bed));
    assert_eq!(targets(&bed), Targets { total: 2, steady: 2, ready: 2, ..Targets::default() });
    // A new revision: the old one's health says nothing.
    bed.apply(vec![env(every("w", "app:1"), "A", "1")]);
    assert_eq!(targets(&bed).progressing, 2);
    boards[1].leave(&mut bed);
    boards[0].converse(&mut bed);
    assert_eq!(targets(&bed), Targets { total: 2, steady: 1, offline: 1, ready: 1, ..Targets::default() });
    let view = bed.core.workload(&key("ns/w")).unwrap();
    assert_eq!(view.message, "1 of 2 steady, 1 offline, will follow");
    assert!(!view.steady);
    bed.send(Event::Overflow { agent: id("a") });
    assert_eq!(targets(&bed).steady, 0, "not fresh");
    let shown = bed.core.instances(bed.at(), &Default::default());
    assert_eq!(shown[0].state, "unknown (last known Running)");
    assert!(!shown[0].fresh && !shown[0].healthy);
    boards[0].converse(&mut bed);
    boards[1].reconnect(&mut bed);
    assert!(bed.core.workload(&key("ns/w")).unwrap().steady);
}

#[test]
fn a_restart_is_steady_only_after_the_new_document_is_applied() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.apply(vec![every("w", "app:1")]);
    a.converse(&mut bed);
    bed.ask(Request::Restart { key: key("ns/w") });
    assert_eq!(targets(&bed).steady, 0);
    a.converse(&mut bed);
    assert_eq!(targets(&bed).steady, 1);
    assert_eq!(a.desired.unwrap().assignments[&key("ns/w")].restarts, 1);
}

#[test]
fn what_runs_and_is_not_ready_says_why() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.apply(vec![every("w", "app:1")]);
    a.converse(&mut bed);
    let instance = a.workloads.get_mut(&key("ns/w")).unwrap().instances.get_mut(&0).unwrap();
    (instance.healthy, instance.ready, instance.probe_restarts) = (false, false, 2);
    instance.unready = Some("readiness probe: connection refused".into());
    a.full(&mut bed);
    assert_eq!(targets(&bed), Targets { total: 1, progressing: 1, ..Targets::default() });
    let message = bed.core.workload(&key("ns/w")).unwrap().message;
    let why = "running, not ready: readiness probe: connection refused";
    assert_eq!(message, format!("0 of 1 steady; agent a: {why}"));
    let views = bed.core.instances(bed.at(), &Default::default());
    assert_eq!((views[0].ready, views[0].probe_restarts), (false, 2));
    assert_eq!(views[0].unready.as_deref(), Some("readiness probe: connection refused"));
}

#[test]
fn probes_are_composed_and_required() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = Board::new("a");
    a.presence.features.insert("probes".into());
    a.connect(&mut bed);
    let mut probed = every("w", "app:1");
    probed.spec.network = Some(Network { listen: vec![80], ..Network::default() });
    let probe = Probe { tcp: Some(TcpProbe { port: 80, host: None }), ..Probe::default() };
    probed.spec.startup_probe = Some(Probe { failure_threshold: Some(60), ..probe.clone() });
    probed.spec.readiness_probe = Some(probe);
    bed.apply(vec![probed]);
    a.converse(&mut bed);
    let assignment = &a.desired.as_ref().unwrap().assignments[&key("ns/w")];
    assert!(assignment.requires.contains("probes"));
    let probes = assignment.run.probes.as_deref().unwrap();
    assert!(probes.liveness.is_none() && probes.readiness.is_some());
    assert_eq!(probes.startup.as_ref().unwrap().budget_ms(), 601_000);
    assert_eq!(
        assignment.run.health_deadline_ms,
        600_000 + 601_000,
        "a slow start has its time, and then all of it"
    );
}

#[test]
fn failures_are_shown_with_their_reason_and_applying_again_tries_again() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.apply(vec![every("w", "app:1")]);
    a.converse(&mut bed);
    let status = a.workloads.get_mut(&key("ns/w")).unwrap();
    let instance = status.instances.get_mut(&0).unwrap();
    instance.state = InstanceState::Backoff { until_ms: 9 };
    (instance.healthy, instance.ready) = (false, false);
    instance.last_exit = Some(Exit::Code { code: 3 });
    let revision = instance.revision;
    a.full(&mut bed);
    assert_eq!(targets(&bed).failing, 1);
    let message = bed.core.workload(&key("ns/w")).unwrap().message;
    assert_eq!(message, "0 of 1 steady; agent a: exit code 3");

    let Answer::Applied { changes, version, .. } = bed.apply(vec![every("w", "app:1")]) else { panic!() };
    assert_eq!((changes[0].change, version), (ChangeKind::Unchanged, bed.durable.meta.unwrap().version));
    let rejected = Rejected { revision, attempt: Attempt(1), reason: "3 exits".into() };
    a.workloads.get_mut(&key("ns/w")).unwrap().rejected = Some(rejected);
    a.full(&mut bed);
    assert_eq!(targets(&bed).failing, 1);
    let Answer::Applied { changes, .. } = bed.apply(vec![every("w", "app:1")]) else { panic!() };
    assert_eq!(changes[0].change, ChangeKind::Changed);
    a.converse(&mut bed);
    assert_eq!(a.desired.as_ref().unwrap().assignments[&key("ns/w")].attempt, Attempt(2));
    assert_eq!(targets(&bed).steady, 1);
}

#[test]
fn a_lost_document_is_sent_again() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.apply(vec![every("w", "app:1")]);
    bed.take();
    assert_eq!(targets(&bed).progressing, 1);
    bed.pass(11_000);
    a.converse(&mut bed);
    assert_eq!(targets(&bed).steady, 1);
    bed.take();
    bed.pass(600_000);
    let documents = bed.ops.iter().filter(|op| matches!(op, Op::PublishDesired { .. })).count();
    assert_eq!(documents, 0, "and no more when it is applied");
}

#[test]
fn views_are_camel_case_and_read_back() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.apply(vec![every("w", "app:1")]);
    a.converse(&mut bed);
    let describe = bed.core.describe(bed.at(), &key("ns/w")).unwrap();
    let text = serde_json::to_string(&describe).unwrap();
    assert_eq!(serde_json::from_str::<crate::view::Describe>(&text).unwrap(), describe);
    let snake = |text: &str| text.split('"').skip(1).step_by(2).any(|word| word.contains('_'));
    let agents = serde_json::to_string(&bed.core.agents(bed.at(), &Default::default())).unwrap();
    let artifacts = serde_json::to_string(&bed.core.artifacts()).unwrap();
    let status = serde_json::to_string(&bed.core.status()).unwrap();
    for text in [&text, &agents.replace("x86_64", ""), &artifacts, &status] {
        assert!(!snake(text), "{text}");
    }
}

#[test]
fn an_old_document_told_again_by_the_broker_stops_nothing() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.apply(vec![every("w", "app:1")]);
    bed.take();
    // It refuses the old one; the new one was lost.
    let mut report = a.observed(contract::message::ObservedBody::Changes { workloads: Default::default() });
    report.refused = Some("the document has generation 0".into());
    bed.message(&a.id, contract::message::FromAgent::Observed(report));
    assert_eq!(targets(&bed).failing, 1);
    bed.pass(25_000);
    a.converse(&mut bed);
    assert_eq!(targets(&bed).steady, 1);
}

#[test]
fn what_must_not_be_ignored_is_required() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let mut workload = every("w", "app:1");
    let tmpfs = Some(contract::quantity::Bytes(1 << 20));
    workload.spec.mounts = vec![contract::spec::Mount { tmpfs, path: "/tmp".into(), ..Default::default() }];
    bed.apply(vec![workload]);
    a.converse(&mut bed);
    let why = bed.core.describe(bed.at(), &key("ns/w")).unwrap().not_here;
    assert_eq!(why[0].reason, "lacks the feature 'tmpfs-mounts'");
    assert_eq!(targets(&bed), Targets { total: 1, waiting: 1, ..Targets::default() });
    a.presence.features.insert("tmpfs-mounts".into());
    a.reboot(&mut bed);
    let assignment = &a.desired.unwrap().assignments[&key("ns/w")];
    assert_eq!(assignment.requires.iter().map(String::as_str).collect::<Vec<_>>(), ["tmpfs-mounts", "wasm"]);
}

#[test]
fn why_the_revision_before_stands_in_is_shown() {
    let mut bed = Bed::new();
    bed.push("app:1");
    bed.push("app:2");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.apply(vec![every("w", "app:1")]);
    a.converse(&mut bed);
    let running = a.workloads.clone();
    bed.apply(vec![every("w", "app:2")]);
    a.converse(&mut bed);
    let why = "revision 0a is not here yet: artefact refused";
    a.workloads = running;
    a.workloads.values_mut().for_each(|status| status.waiting = Some(why.into()));
    a.full(&mut bed);
    let shown = bed.core.instances(bed.at(), &Default::default());
    assert_eq!((shown[0].state.as_str(), shown[0].waiting.as_deref()), ("Running", Some(why)));
    let message = bed.core.workload(&key("ns/w")).unwrap().message;
    assert!(message.contains(why), "{message}");
}
