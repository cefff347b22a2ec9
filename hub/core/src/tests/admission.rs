//! What is admitted, what is refused, and in which words.

use contract::spec::Runtime;
use contract::{Digest, Version};

use super::bed::*;
use super::board::*;
use crate::access::rights::Many;
use crate::api::*;

fn refused(answer: Answer) -> Vec<String> {
    let Answer::Refused { errors } = answer else { panic!("{answer:?}") };
    let text = |e: &Refusal| {
        let key = e.workload.as_ref().map_or(String::new(), |key| key.to_string());
        format!("{key} {}: {}", e.field, e.reason)
    };
    errors.iter().map(text).collect()
}

fn applied(answer: Answer) -> (Vec<(String, ChangeKind)>, Vec<String>) {
    let Answer::Applied { changes, warnings, .. } = answer else { panic!("{answer:?}") };
    (changes.into_iter().map(|c| (c.workload.to_string(), c.change)).collect(), warnings)
}

#[test]
fn all_or_nothing_and_every_mistake_at_once() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let version = bed.durable.meta.unwrap().version;
    let mut oci = every("c", "app:1");
    oci.spec.runtime = Some(Runtime::Oci);
    let both = replicas("d", "app:1", 99_999);
    let errors =
        refused(bed.apply(vec![every("a", "app:1"), every("a", "app:1"), every("b", "app:2"), oci, both]));
    for wanted in [
        "ns/a metadata.name: stands in the manifest twice",
        "ns/b spec.image: no artefact 'app:2' was pushed to this hub; there is app:1",
        "ns/c spec.runtime: is oci, but the artefact is wasm",
        "ns/d spec.replicas: is 99999; at most 10000",
    ] {
        assert!(errors.iter().any(|e| e.starts_with(wanted)), "{wanted}: {errors:#?}");
    }
    assert!(bed.durable.workloads.is_empty());
    assert_eq!(bed.durable.meta.unwrap().version, version);
}

#[test]
fn spread_beside_every_agent_is_taken_and_said_to_change_nothing() {
    let mut bed = Bed::new();
    bed.push("app:1");
    Board::new("a").connect(&mut bed);
    let mut workload = every("w", "app:1");
    workload.spec.placement =
        Some(contract::spec::Placement { spread: Some("site".into()), ..Default::default() });
    let (changes, warnings) = applied(bed.apply(vec![workload]));
    assert_eq!(changes, [("ns/w".to_string(), ChangeKind::Created)]);
    let text = "ns/w: spec.placement.spread changes nothing beside everyAgent, which is on each agent anyway";
    assert_eq!(warnings, [text]);
}

#[test]
fn a_tag_is_resolved_once_and_shown() {
    let mut bed = Bed::new();
    let digest = bed.push("app:1");
    let Answer::Applied { changes, version, warnings } = bed.apply(vec![every("a", "app:1")]) else {
        panic!()
    };
    assert_eq!(changes[0].resolved, Some(format!("app:1 → {digest}")));
    assert_eq!(warnings, ["ns/a: no agent matches its placement now (0 agents known)"]);
    let record = &bed.durable.workloads[&key("ns/a")];
    assert_eq!((record.image, record.version), (digest, version));
    assert_eq!(record.manifest.spec.image, "app:1");
    let pinned = format!("app@{digest}");
    let (changes, _) = applied(bed.apply(vec![every("b", &pinned)]));
    assert_eq!(changes, [("ns/b".to_string(), ChangeKind::Created)]);
    let unknown = format!("app@{}", Digest::of(b"?"));
    assert!(refused(bed.apply(vec![every("b", &unknown)]))[0].contains("no artefact with the digest"));
    bed.push("plain:latest");
    assert_eq!(applied(bed.apply(vec![every("p", "plain")])).0[0].1, ChangeKind::Created);
}

#[test]
fn the_kinds_of_change() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let kind = |bed: &mut Bed, workload| applied(bed.apply(vec![workload])).0[0].1;
    assert_eq!(kind(&mut bed, replicas("w", "app:1", 1)), ChangeKind::Created);
    let version = bed.durable.meta.unwrap().version;
    assert_eq!(kind(&mut bed, replicas("w", "app:1", 1)), ChangeKind::Unchanged);
    assert_eq!(bed.durable.meta.unwrap().version, version);
    let revision = bed.durable.workloads[&key("ns/w")].revision;
    assert_eq!(kind(&mut bed, replicas("w", "app:1", 3)), ChangeKind::Scaled);
    assert_eq!(bed.durable.workloads[&key("ns/w")].revision, revision);
    assert_eq!(kind(&mut bed, env(replicas("w", "app:1", 3), "A", "b")), ChangeKind::Changed);
    let mut labelled = env(replicas("w", "app:1", 3), "A", "b");
    labelled.metadata.labels = labels(&[("x", "y")]);
    assert_eq!(kind(&mut bed, labelled), ChangeKind::Changed);
    // Back to the first revision: a board may have rejected it, so it is a new attempt.
    assert_eq!(kind(&mut bed, replicas("w", "app:1", 3)), ChangeKind::Changed);
    let record = &bed.durable.workloads[&key("ns/w")];
    assert_eq!((record.revision, record.attempt.0, record.revisions.len()), (revision, 2, 2));
}

#[test]
fn history_is_bounded() {
    let mut bed = Bed::new();
    bed.push("app:1");
    for n in 0..30 {
        bed.apply(vec![env(every("w", "app:1"), "N", &n.to_string())]);
    }
    assert_eq!(bed.durable.workloads[&key("ns/w")].revisions.len(), crate::record::REVISIONS_KEPT);
}

#[test]
fn who_expects_another_version_is_told() {
    let mut bed = Bed::new();
    bed.push("app:1");
    bed.apply(vec![replicas("w", "app:1", 1)]);
    let version = bed.durable.workloads[&key("ns/w")].version;
    let mut apply = apply_of(vec![replicas("w", "app:1", 2)]);
    apply.if_versions.insert(key("ns/w"), Version(0));
    let Answer::Conflict { errors } = bed.ask(Request::Apply(Box::new(apply.clone()))) else { panic!() };
    assert!(errors[0].reason.contains("exists already"), "{errors:?}");
    apply.if_versions.insert(key("ns/w"), version);
    applied(bed.ask(Request::Apply(Box::new(apply))));
    let stale = Request::Scale { key: key("ns/w"), replicas: 5, if_version: Some(version) };
    assert!(matches!(bed.ask(stale), Answer::Conflict { .. }));
    let stale = Request::Delete { keys: vec![key("ns/w")], if_version: Some(version) };
    assert!(matches!(bed.ask(stale), Answer::Conflict { .. }));
}

#[test]
fn dry_run_says_the_same_and_does_nothing() {
    let mut bed = Bed::new();
    bed.push("app:1");
    bed.apply(vec![every("old", "app:1")]);
    let before = bed.durable.clone();
    let mut apply = apply_of(vec![every("w", "app:1"), every("old", "app:1")]);
    apply.dry_run = true;
    let dry = applied(bed.ask(Request::Apply(Box::new(apply.clone()))));
    assert_eq!(bed.durable, before);
    let plan = bed.core.plan(&apply).unwrap();
    apply.dry_run = false;
    let wet = applied(bed.ask(Request::Apply(Box::new(apply))));
    assert_eq!(dry, wet);
    assert_eq!(plan.records.keys().collect::<Vec<_>>(), [&key("ns/w")]);
}

#[test]
fn prune_deletes_by_label_what_is_not_applied() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut board = Board::new("a");
    board.connect(&mut bed);
    let labelled = |name: &str| {
        let mut workload = every(name, "app:1");
        workload.metadata.labels = labels(&[("app", "x")]);
        workload
    };
    bed.apply(vec![labelled("a"), labelled("b"), every("c", "app:1")]);
    board.converse(&mut bed);
    let mut apply = apply_of(vec![labelled("a")]);
    apply.prune = Some(Prune { labels: labels(&[("app", "x")]), within: Many::All });
    let (changes, _) = applied(bed.ask(Request::Apply(Box::new(apply.clone()))));
    assert_eq!(changes, [("ns/a".into(), ChangeKind::Unchanged), ("ns/b".into(), ChangeKind::Deleted)]);
    board.converse(&mut bed);
    let running: Vec<String> = board.desired.unwrap().assignments.keys().map(|k| k.to_string()).collect();
    assert_eq!(running, ["ns/a", "ns/c"]);
    apply.prune = Some(Prune { labels: labels(&[]), within: Many::All });
    assert!(refused(bed.ask(Request::Apply(Box::new(apply))))[0].contains("names no label"));
}

#[test]
fn labels_that_nobody_has_are_refused_naming_agents() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let workload = env(every("w", "app:1"), "SITE", "${agent.labels.site}");
    let mut a = Board::labelled("a", &[("line", "1")]);
    let mut b = Board::labelled("b", &[("line", "2")]);
    a.connect(&mut bed);
    b.connect(&mut bed);
    let errors = refused(bed.apply(vec![workload.clone()]));
    assert_eq!(
        errors,
        ["ns/w spec.env: refers to the label 'site', which none of the selected agents has: a, b"]
    );
    let mut c = Board::labelled("c", &[("site", "north")]);
    c.connect(&mut bed);
    let (_, warnings) = applied(bed.apply(vec![workload]));
    assert_eq!(warnings, ["ns/w: waits on agents without the label 'site': a, b"]);
    c.converse(&mut bed);
    a.converse(&mut bed);
    assert_eq!(c.desired.unwrap().assignments[&key("ns/w")].run.env["SITE"], "north");
    assert!(a.desired.as_ref().unwrap().assignments.is_empty());
    assert_eq!(bed.core.workload(&key("ns/w")).unwrap().targets.waiting, 2);
    // The label comes: the work follows.
    a.presence.labels = labels(&[("site", "south")]);
    a.reboot(&mut bed);
    assert_eq!(a.desired.unwrap().assignments[&key("ns/w")].run.env["SITE"], "south");
}

/// Text that no compression makes smaller.
fn noise(n: usize, seed: u64) -> String {
    (0..n / 64).map(|i| Digest::of(format!("{seed} {i}").as_bytes()).hex()).collect()
}

#[test]
fn a_document_that_would_be_too_large_is_refused_naming_agent_and_size() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = Board::new("a");
    a.presence.capacity = capacity(1_000_000, 1_000_000);
    a.connect(&mut bed);
    let big = |n: u64| env(every(&format!("w{n}"), "app:1"), "BIG", &noise(60_000, n));
    for n in 0..4 {
        applied(bed.apply(vec![big(n)]));
    }
    let errors = refused(bed.apply(vec![big(4)]));
    let wanted = "ns/w4 spec: does not fit into the document of agent a: its document would have 30";
    assert!(errors[0].starts_with(wanted), "{errors:?}");
    assert!(errors[0].ends_with("bytes; at most 244736 are taken"), "{errors:?}");
    // What is admitted can be sent.
    a.converse(&mut bed);
    let document = a.desired.clone().unwrap();
    let sent = contract::codec::encode(contract::codec::Kind::Desired, &document, None).unwrap();
    assert!(document.assignments.len() == 4 && sent.bytes.len() < contract::limits::WIRE_BYTES_MAX);
}

#[test]
fn the_price_of_a_document_is_never_too_low() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = Board::new("a");
    a.presence.capacity = capacity(u32::MAX, 10_000_000);
    a.connect(&mut bed);
    let many = |from: usize| {
        (from..from + 100).map(|n| env(every(&format!("w{n}"), "app:1"), "N", &noise(128, n as u64)))
    };
    for from in [0, 100, 200, 300, 400] {
        let answer = bed.apply(many(from).collect());
        a.converse(&mut bed);
        let document = a.desired.clone().unwrap();
        let plain = serde_json::to_vec(&document).unwrap().len() as u64;
        let wire =
            contract::codec::encode(contract::codec::Kind::Desired, &document, None).unwrap().bytes.len()
                as u64;
        let used = bed.core.world.agents[&a.id].used;
        assert!(plain <= used.plain_bytes + 1024, "{plain} {used:?}");
        assert!(wire <= used.wire_bytes + 1024, "{wire} {used:?}");
        if let Answer::Refused { errors } = answer {
            assert!(document.assignments.len() >= 300, "{errors:?}");
            return;
        }
    }
    let errors = refused(bed.apply(many(500).collect()));
    assert!(errors[0].contains("has 500 workloads already"), "{errors:?}");
}

#[test]
fn scale_restart_and_delete() {
    let mut bed = Bed::new();
    bed.push("app:1");
    bed.apply(vec![replicas("w", "app:1", 1), every("e", "app:1")]);
    let scale = |name: &str, replicas| Request::Scale { key: key(name), replicas, if_version: None };
    assert!(matches!(bed.ask(scale("ns/w", 4)), Answer::Done { .. }));
    assert_eq!(bed.durable.workloads[&key("ns/w")].manifest.spec.replicas, Some(4));
    let version = bed.durable.meta.unwrap().version;
    assert_eq!(bed.ask(scale("ns/w", 4)), Answer::Done { version });
    assert!(refused(bed.ask(scale("ns/e", 4)))[0].contains("everyAgent"));
    assert!(refused(bed.ask(scale("ns/w", 10_001)))[0].contains("at most 10000"));
    assert!(matches!(bed.ask(scale("ns/x", 4)), Answer::NotFound { .. }));
    let keys = vec![key("ns/w"), key("ns/x"), key("ns/y")];
    let Answer::NotFound { errors } = bed.ask(Request::Delete { keys, if_version: None }) else { panic!() };
    assert_eq!(errors.len(), 2, "all that are missing");
    bed.ask(Request::Delete { keys: vec![key("ns/w")], if_version: None });
    assert_eq!(bed.durable.workloads.keys().collect::<Vec<_>>(), [&key("ns/e")]);
}

#[test]
fn an_agent_that_is_gone_is_forgotten_with_all_it_had() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let boards = fleet(&mut bed, &["a", "b"]);
    bed.apply(vec![replicas("w", "app:1", 2)]);
    assert!(matches!(bed.ask(Request::RemoveAgent { agent: id("a") }), Answer::Refused { .. }));
    boards[0].leave(&mut bed);
    assert_eq!(bed.durable.placements.len(), 2, "an outage replaces nothing");
    bed.take();
    bed.ask(Request::RemoveAgent { agent: id("a") });
    assert!(bed.ops.iter().any(|op| *op == Op::ClearAgent { agent: id("a") }));
    assert!(!bed.durable.agents.contains_key(&id("a")));
    let placed: Vec<_> =
        bed.durable.placements.iter().map(|((_, agent), p)| (agent.to_string(), p.slots.len())).collect();
    assert_eq!(placed, [("b".to_string(), 2)]);
}
