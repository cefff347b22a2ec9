//! Reconcile alone, as a pure function: each instance in exactly one bucket, and a plan carried out by
//! an ideal runtime leads to an empty plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_core::api::RestartNote;
use agent_core::reconcile::*;
use agent_core::{Instance, Phase, Retry, Run};
use contract::run::Assignment;
use contract::status::Exit;
use contract::{Attempt, RunId, WorkloadKey};
use proptest::prelude::*;

use crate::hub;

type Observed = BTreeMap<WorkloadKey, BTreeMap<u32, Box<Instance>>>;
type Targets = BTreeMap<WorkloadKey, Assignment>;

fn run(revision: u8, restarts: u64, phase: Phase, spec: bool) -> Run {
    let assignment = Assignment { restarts, ..hub::assignment("any", revision, &[0, 1, 2]) };
    Run {
        assignment: spec.then(|| Arc::new(assignment)),
        phase,
        busy: None,
        pid: None,
        started_ms: 0,
        ready_since_ms: Some(0),
        healthy: false,
        proven: false,
        health: None,
        retry: Retry::default(),
        found: true,
        devices: vec![],
        unplugged: false,
    }
}

fn note(revision: u8, not_before_ms: u64, finished: bool) -> RestartNote {
    RestartNote {
        revision: hub::revision(revision),
        attempt: Attempt(1),
        generation: 0,
        started: true,
        restarts: 0,
        by_probe: 0,
        streak: 0,
        counted: None,
        not_before_ms,
        finished: finished.then_some(Exit::Code { code: 0 }),
        last_exit: None,
        probes: None,
    }
}

fn some_instance() -> impl Strategy<Value = Instance> {
    let phase = prop_oneof![Just(Phase::Running), Just(Phase::Stopping), Just(Phase::Ended)];
    let runs = prop::collection::vec((1u8..4, 0u64..2, phase, any::<bool>(), any::<bool>()), 0..3);
    let notes = prop::option::of((1u8..4, 0u64..2000, any::<bool>()));
    (runs, notes).prop_map(|(runs, n)| {
        let mut instance = Instance::new(0);
        for (number, (revision, restarts, phase, spec, busy)) in runs.into_iter().enumerate() {
            let mut run = run(revision, restarts, phase, spec || phase != Phase::Running);
            run.busy = busy.then_some(7);
            instance.runs.insert(RunId { boots: 1, number: number as u64 }, Box::new(run));
        }
        instance.note = n.map(|(revision, at, finished)| note(revision, at, finished));
        instance
    })
}

fn some_world() -> impl Strategy<Value = (Targets, Observed)> {
    let workload = (
        prop::option::of((1u8..4, 0u32..4, 0u64..2)),
        prop::collection::btree_map(0u32..5, some_instance().prop_map(Box::new), 0..4),
    );
    prop::collection::vec(workload, 0..4).prop_map(|workloads| {
        let mut targets = Targets::new();
        let mut observed = Observed::new();
        for (n, (target, mut slots)) in workloads.into_iter().enumerate() {
            let key = hub::key(&format!("w{n}"));
            if let Some((revision, count, restarts)) = target {
                let wanted: Vec<u32> = (0..count).collect();
                let assignment =
                    Assignment { restarts, ..hub::assignment(&format!("w{n}"), revision, &wanted) };
                wanted.iter().for_each(|slot| {
                    slots.entry(*slot).or_insert_with(|| Box::new(Instance::new(0)));
                });
                targets.insert(key.clone(), assignment);
            }
            observed.insert(key, slots);
        }
        (targets, observed)
    })
}

fn view<'a>(targets: &'a Targets, observed: &'a Observed, verified: bool) -> View<'a> {
    let wanted = |assignment| Wanted {
        assignment,
        unsupported: None,
        artifact: Availability::Ready,
        trusted: Some(hub::revision(1)),
        hold: None,
    };
    let workload = |(key, slots): (&'a WorkloadKey, &'a BTreeMap<u32, Box<Instance>>)| WorkloadView {
        key,
        wanted: targets.get(key).map(wanted),
        slots,
    };
    View {
        workloads: observed.iter().map(workload).collect(),
        verified,
        starts_free: 3,
        work_free: 100,
        heals_free: 1,
    }
}

/// An ideal runtime: everything works at once.
fn carry_out(
    targets: &Targets,
    observed: &mut Observed,
    plan: Vec<(WorkloadKey, u32, Bucket)>,
    next: &mut u64,
) {
    for (key, slot, bucket) in plan {
        let slots = observed.get_mut(&key).unwrap();
        let instance = slots.get_mut(&slot).unwrap();
        match bucket {
            Bucket::Start => {
                *next += 1;
                let mut run = run(1, 0, Phase::Running, true);
                run.assignment = Some(Arc::new(targets[&key].clone()));
                assert!(instance.runs.is_empty(), "started beside something else");
                instance.runs.insert(RunId { boots: 2, number: *next }, Box::new(run));
            }
            Bucket::Stop(id) | Bucket::Replace(id) => {
                let run = instance.runs.get_mut(&id).unwrap();
                assert!(run.busy.is_none() && run.phase != Phase::Ended);
                run.phase = Phase::Ended;
            }
            Bucket::Clear(id) => {
                let run = instance.runs.remove(&id).unwrap();
                assert!(run.busy.is_none() && run.phase == Phase::Ended);
            }
            Bucket::Forget => {
                assert!(instance.runs.is_empty());
                slots.remove(&slot);
            }
            Bucket::Busy(id) => {
                // What was under way ends well.
                let run = instance.runs.get_mut(&id).unwrap();
                run.busy = None;
                match run.phase {
                    Phase::Ended => drop(instance.runs.remove(&id)),
                    Phase::Stopping => run.phase = Phase::Ended,
                    _ => run.phase = Phase::Running,
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn each_instance_falls_into_exactly_one_bucket((targets, observed) in some_world(), verified: bool, now in 0u64..3000) {
        let view = view(&targets, &observed, verified);
        let plan = reconcile(&view, now);
        let named: BTreeSet<(&WorkloadKey, u32)> = plan.entries.iter().map(|e| (e.workload, e.slot)).collect();
        let there: BTreeSet<(&WorkloadKey, u32)> =
            observed.iter().flat_map(|(key, slots)| slots.keys().map(move |slot| (key, *slot))).collect();
        prop_assert_eq!(named.len(), plan.entries.len());
        prop_assert_eq!(named, there);
        prop_assert!(plan.entries.iter().filter(|e| e.bucket == Bucket::Start).count() <= 3);
        for entry in &plan.entries {
            let stops = matches!(entry.bucket, Bucket::Stop(_) | Bucket::Replace(_));
            let running = |run: &RunId| observed[entry.workload][&entry.slot].runs[run].phase == Phase::Running;
            if let (true, Bucket::Stop(run) | Bucket::Replace(run)) = (stops && !verified, &entry.bucket) {
                let wanted = targets.get(entry.workload);
                let beside = wanted.and_then(|w| observed[entry.workload][&entry.slot].keeper(w));
                prop_assert!(!running(run) || beside.is_some(), "stopped without a verified document");
            }
            prop_assert!(entry.bucket.wait().is_none_or(|wait| !wait.reason().is_empty()));
        }
        prop_assert_eq!(&reconcile(&view, now), &plan);
    }

    #[test]
    fn a_plan_carried_out_leads_to_an_empty_plan((targets, mut observed) in some_world()) {
        let mut next = 0;
        // Past every back-off. Each instance takes at most: end, clear (twice), start.
        for _ in 0..200 {
            let plan = reconcile(&view(&targets, &observed, true), 10_000);
            let idle = plan.entries.iter().all(|e| !e.bucket.is_action() && !matches!(e.bucket, Bucket::Busy(_)));
            let plan: Vec<_> = plan.entries.into_iter().map(|e| (e.workload.clone(), e.slot, e.bucket)).collect();
            if idle {
                for (key, slot, bucket) in plan {
                    let wanted = targets.get(&key).is_some_and(|t| t.slots.contains(&slot));
                    prop_assert!(wanted, "{key}/{slot} is left: {bucket:?}");
                    prop_assert!(matches!(bucket, Bucket::Running(_) | Bucket::Finished), "{key}/{slot}: {bucket:?}");
                }
                return Ok(());
            }
            carry_out(&targets, &mut observed, plan, &mut next);
        }
        prop_assert!(false, "no fixpoint");
    }
}
