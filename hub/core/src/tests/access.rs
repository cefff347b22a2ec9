//! Quotas and policies of namespaces: at apply, at scale, when boards come, and whatever order they come in.

use contract::quantity::{Bytes, Cpu};
use contract::spec::{Mount, Security, Workload};
use proptest::prelude::*;

use super::bed::*;
use super::board::*;
use crate::access::{AccessRequest, Forbidden, Namespace, Quota};
use crate::api::{Answer, Refusal, Request};

fn set(bed: &mut Bed, namespace: Namespace) -> Answer {
    bed.ask(Request::Access(AccessRequest::PutNamespace { name: "ns".parse().unwrap(), namespace }))
}

fn quota(quota: Quota) -> Namespace {
    Namespace { quota, ..Namespace::default() }
}

fn instances(n: u32) -> Namespace {
    quota(Quota { instances: Some(n), ..Quota::default() })
}

fn refusals(answer: Answer) -> Vec<Refusal> {
    match answer {
        Answer::Refused { errors } => errors,
        other => panic!("{other:?}"),
    }
}

fn scale(bed: &mut Bed, name: &str, replicas: u32) -> Answer {
    bed.ask(Request::Scale { key: key(name), replicas, if_version: None })
}

/// What is placed, which is what boards are told.
fn placed(bed: &Bed) -> usize {
    bed.durable.placements.values().map(|placed| placed.slots.len()).sum()
}

#[test]
fn an_apply_beyond_the_quota_names_field_namespace_and_how_much() {
    let mut bed = Bed::new();
    bed.push("app:1");
    fleet(&mut bed, &["a", "b"]);
    let limits = Quota {
        cpu: Some(Cpu { millis: 1000 }),
        memory: Some(Bytes(100 << 20)),
        instances: Some(3),
        storage: None,
    };
    set(&mut bed, quota(limits));
    assert!(matches!(bed.apply(vec![needs(replicas("w", "app:1", 2), 100, 40)]), Answer::Applied { .. }));
    let errors = refusals(bed.apply(vec![needs(replicas("x", "app:1", 2), 100, 20)]));
    let told: Vec<(&str, &str)> = errors.iter().map(|e| (&*e.field, &*e.reason)).collect();
    assert_eq!(
        told,
        [
            ("spec.resources.memory", "the namespace 'ns' would take 120Mi of memory, of 100Mi by its quota"),
            ("spec.replicas", "the namespace 'ns' would take 4 of instances, of 3 by its quota"),
        ]
    );
    assert!(errors.iter().all(|e| e.workload == Some(key("ns/x"))));
    // Who names no limit counts with the default.
    let errors = refusals(bed.apply(vec![replicas("y", "app:1", 1)]));
    assert!(errors[0].reason.contains("144Mi of memory"), "{errors:?}");
    assert_eq!(refusals(scale(&mut bed, "ns/w", 4))[0].field, "spec.resources.memory");
    assert!(matches!(scale(&mut bed, "ns/w", 1), Answer::Done { .. }));
    // Other namespaces are not concerned; after a restart it still holds.
    bed.restart();
    let mut other = needs(replicas("w", "app:1", 2), 500, 90);
    other.metadata.namespace = "other".parse().unwrap();
    assert!(matches!(bed.apply(vec![other]), Answer::Applied { .. }));
    assert!(!refusals(bed.apply(vec![needs(replicas("x", "app:1", 4), 10, 10)])).is_empty());
}

#[test]
fn boards_that_come_take_what_the_quota_leaves_and_wait_for_the_rest_by_name() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut boards = fleet(&mut bed, &["a", "b"]);
    set(&mut bed, instances(4));
    bed.apply(vec![every("e", "app:1"), replicas("w", "app:1", 1)]);
    boards.extend(fleet(&mut bed, &["c", "d", "e"]));
    assert_eq!(placed(&bed), 4);
    let describe = bed.core.describe(bed.at(), &key("ns/e")).unwrap();
    let waiting = &describe.not_here[0];
    assert_eq!(waiting.agents, [id("d"), id("e")]);
    assert_eq!(waiting.reason, "the namespace 'ns' would take 5 of instances, of 4 by its quota");
    // Nothing that is there may be cut off, and what appears is taken at once.
    assert_eq!(refusals(set(&mut bed, instances(3)))[0].field, "quota.instances");
    bed.ask(Request::Delete { keys: vec![key("ns/w")], if_version: None });
    assert_eq!(placed(&bed), 4);
    set(&mut bed, instances(5));
    assert_eq!(placed(&bed), 5);
    bed.ask(Request::Access(AccessRequest::DropNamespace { name: "ns".parse().unwrap() }));
    assert_eq!(placed(&bed), 5);
}

#[test]
fn each_policy_names_field_policy_and_namespace() {
    let mut bed = Bed::new();
    bed.push("app:1");
    fleet(&mut bed, &["a"]);
    bed.apply(vec![every("before", "app:1")]);
    set(&mut bed, Namespace { forbid: Forbidden::ALL.into(), ..Namespace::default() });
    let mut workload = every("w", "app:1");
    workload.spec.security = Some(Security {
        privileged: true,
        capabilities: Some(contract::spec::Capabilities { add: vec!["NET_ADMIN".into()], drop: Vec::new() }),
        ..Security::default()
    });
    workload.spec.network = Some(contract::spec::Network { listen: vec![80], ..Default::default() });
    workload.spec.mounts =
        vec![Mount { host_path: Some("/etc".into()), path: "/x".into(), ..Mount::default() }];
    workload.spec.devices =
        vec![contract::spec::DeviceMount { path: "/dev/plc".into(), inside: None, access: None }];
    let errors = refusals(bed.apply(vec![workload]));
    for (field, policy) in [
        ("spec.security.privileged", "privileged"),
        ("spec.security.capabilities.add", "capabilities"),
        ("spec.network", "host-network"),
        ("spec.mounts[0].hostPath", "host-paths"),
        ("spec.devices[0].path", "devices"),
        ("spec.image", "unpinned-images"),
    ] {
        let says = format!("the policy of the namespace 'ns' forbids {policy}");
        let found = errors.iter().any(|e| e.field == field && e.reason.ends_with(&says));
        assert!(found, "{field} {policy}: {errors:?}");
    }
    // What was there before stays, and is told.
    assert_eq!(placed(&bed), 1);
    let view = bed.core.namespaces().remove(0);
    assert_eq!(view.breaches.len(), 1, "{view:?}");
}

#[derive(Debug, Clone)]
enum Deed {
    Apply(Vec<(u8, Option<u32>, u64)>),
    Scale(u8, u32),
    Delete(u8),
    Join(u8),
    Quota(u32, u64),
    Restart,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let workload = (0..4u8, proptest::option::of(0..6u32), 1..5u64);
    let deed = prop_oneof![
        4 => proptest::collection::vec(workload, 1..3).prop_map(Deed::Apply),
        2 => (0..4u8, 0..8u32).prop_map(|(n, replicas)| Deed::Scale(n, replicas)),
        1 => (0..4u8).prop_map(Deed::Delete),
        3 => (0..6u8).prop_map(Deed::Join),
        2 => (0..10u32, 1..40u64).prop_map(|(n, memory)| Deed::Quota(n, memory)),
        1 => Just(Deed::Restart),
    ];
    proptest::collection::vec(deed, 1..25)
}

fn made(n: u8, replicas_wanted: Option<u32>, memory_mib: u64) -> Workload {
    let name = format!("w{n}");
    let workload = match replicas_wanted {
        Some(wanted) => replicas(&name, "app:1", wanted),
        None => every(&name, "app:1"),
    };
    needs(workload, 10, memory_mib * 8)
}

/// What is placed, at what it asks for now.
fn over(bed: &Bed) -> Option<String> {
    let view = bed.core.namespaces().into_iter().find(|view| view.name.as_str() == "ns")?;
    let memory = |(key, placed): (&contract::WorkloadKey, usize)| {
        let resources = bed.durable.workloads[key].manifest.spec.resources.unwrap();
        resources.memory.unwrap().0 * placed as u64
    };
    let placed = bed.durable.placements.iter().map(|((key, _), placed)| (key, placed.slots.len()));
    let (count, memory) =
        placed.fold((0, 0), |(count, sum), (key, n)| (count + n as u64, sum + memory((key, n))));
    let over = view.quota.instances.is_some_and(|max| count > max.into())
        || view.quota.memory.is_some_and(|max| memory > max.0);
    over.then(|| format!("{count} instances, {memory} bytes: {view:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_namespace_is_never_over_its_quota(deeds in deeds()) {
        let mut bed = Bed::new();
        bed.push("app:1");
        let mut boards = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Apply(list) => {
                    let list = list.into_iter().map(|(n, wanted, memory)| made(n, wanted, memory));
                    bed.apply(list.collect());
                }
                Deed::Scale(n, replicas) => drop(scale(&mut bed, &format!("ns/w{n}"), replicas)),
                Deed::Delete(n) => {
                    let keys = vec![key(&format!("ns/w{n}"))];
                    bed.ask(Request::Delete { keys, if_version: None });
                }
                Deed::Join(n) => boards.extend(fleet(&mut bed, &[&format!("b{n}")])),
                Deed::Quota(n, memory) => {
                    let (instances, memory) = (Some(n), Some(Bytes((memory * 8) << 20)));
                    set(&mut bed, quota(Quota { instances, memory, ..Quota::default() }));
                }
                Deed::Restart => bed.restart(),
            }
            bed.pass(1);
            prop_assert_eq!(over(&bed), None);
        }
    }
}
