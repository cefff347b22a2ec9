//! Compiling for the fleet, tags, removal.

use contract::Digest;

use super::bed::*;
use super::board::*;
use crate::api::*;
use crate::record::CompiledRecord;
use crate::view::{CompiledView, TargetState};

fn compiles(bed: &Bed) -> Vec<(Digest, String)> {
    let open = bed.open.iter().filter_map(|e| match &e.op {
        Op::Compile { source, engine } => Some((*source, engine.clone())),
        _ => None,
    });
    open.collect()
}

fn end(bed: &mut Bed, outcome: Outcome) {
    let n = bed.open.iter().position(|e| matches!(e.op, Op::Compile { .. })).unwrap();
    let id = bed.open.remove(n).id;
    bed.step(Event::Finished { id, outcome });
}

/// Finish everything but compiles.
fn settle(bed: &mut Bed) {
    loop {
        let compiling = std::mem::take(&mut bed.open);
        let (compiles, others): (Vec<_>, Vec<_>) =
            compiling.into_iter().partition(|e| matches!(e.op, Op::Compile { .. }));
        bed.open = others;
        let done = bed.open.is_empty() && bed.pending.is_empty();
        bed.settle_only();
        bed.open.extend(compiles);
        if done {
            return;
        }
    }
}

impl Bed {
    fn settle_only(&mut self) {
        while let Some((id, writes)) = self.pending.pop_front() {
            self.durable.write(&writes);
            self.step(Event::Finished { id, outcome: Outcome::Done });
        }
        for effect in std::mem::take(&mut self.open) {
            match effect.op {
                Op::Compile { .. } => self.open.push(effect),
                _ => self.step(Event::Finished { id: effect.id, outcome: Outcome::Done }),
            }
        }
    }
}

#[test]
fn the_old_revision_stays_until_the_new_code_is_there() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.apply(vec![every("w", "app:1")]);
    a.converse(&mut bed);
    let first = a.desired.clone().unwrap();
    bed.auto = false;
    bed.push_unfinished("app:2");
    bed.request(Request::Apply(Box::new(apply_of(vec![every("w", "app:2")]))));
    settle(&mut bed);
    assert_eq!(compiles(&bed), [(Digest::of(b"app:2"), ENGINE.to_string())]);
    a.converse(&mut bed);
    settle(&mut bed);
    assert_eq!(a.desired.as_ref().unwrap().assignments, first.assignments, "not told yet");
    let view = bed.core.workload(&key("ns/w")).unwrap();
    assert_eq!((view.targets.waiting, view.steady), (1, false), "{}", view.message);
    assert!(view.message.contains("waiting for code compiled for e1"), "{}", view.message);
    end(&mut bed, Outcome::Compiled { digest: Digest::of(b"code"), size_bytes: 5 });
    settle(&mut bed);
    a.converse(&mut bed);
    let run = &a.desired.unwrap().assignments[&key("ns/w")];
    assert_eq!(
        (run.run.artifact.source, run.run.artifact.digest),
        (Digest::of(b"app:2"), Digest::of(b"code"))
    );
}

#[test]
fn a_failed_compile_is_remembered_and_shown_and_a_fault_is_tried_again() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.auto = false;
    bed.push_unfinished("bad:1");
    settle(&mut bed);
    end(&mut bed, Outcome::Fault("worker died".into()));
    settle(&mut bed);
    assert_eq!(compiles(&bed), []);
    bed.now = bed.core.next_wake().unwrap();
    bed.step(Event::Wake);
    assert_eq!(compiles(&bed).len(), 1, "tried again");
    end(&mut bed, Outcome::Refused("not a module".into()));
    settle(&mut bed);
    bed.request(Request::Apply(Box::new(apply_of(vec![every("w", "bad:1")]))));
    settle(&mut bed);
    a.converse(&mut bed);
    settle(&mut bed);
    assert_eq!(compiles(&bed), []);
    let view = bed.core.workload(&key("ns/w")).unwrap();
    assert!(view.message.contains("compiling for e1 failed: not a module"), "{}", view.message);
    assert_eq!((view.targets.failing, view.targets.waiting), (1, 0), "nothing here will mend itself");
    let shown = bed.core.artifact("bad:1").unwrap();
    assert_eq!(shown.compiled["e1"], CompiledView::Failed { reason: "not a module".into() });
    assert!(matches!(
        bed.durable.artifacts[&Digest::of(b"bad:1")].compiled["e1"],
        CompiledRecord::Failed { .. }
    ));
    // Pushing it again tries again.
    bed.push_unfinished("bad:1");
    settle(&mut bed);
    assert_eq!(compiles(&bed).len(), 1);
}

#[test]
fn few_compiles_at_once_and_only_for_engines_that_are_served() {
    let mut bed = Bed::new();
    let mut odd = Board::new("odd");
    odd.presence.engines = vec!["e9".into()];
    odd.connect(&mut bed);
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.auto = false;
    for n in 0..5 {
        bed.push_unfinished(&format!("app:{n}"));
    }
    settle(&mut bed);
    assert_eq!(compiles(&bed).len(), crate::artifact::COMPILES_MAX);
    assert!(compiles(&bed).iter().all(|(_, engine)| engine == ENGINE));
    bed.auto = true;
    bed.settle();
    let shown = bed.core.artifact("app:4").unwrap();
    assert!(matches!(shown.compiled["e1"], CompiledView::Ready { .. }));
    assert_eq!(shown.compiled["e9"], CompiledView::Unserved);
    let Answer::Applied { warnings, .. } = bed.apply(vec![every("w", "app:1")]) else { panic!() };
    assert!(warnings[0].contains("no compile worker serves the engine of: odd"), "{warnings:?}");
    a.converse(&mut bed);
    odd.converse(&mut bed);
    let view = bed.core.workload(&key("ns/w")).unwrap();
    assert_eq!((view.targets.steady, view.targets.waiting), (1, 1), "{}", view.message);
    assert!(view.message.contains("no compile worker serves the agent's engine e9"), "{}", view.message);
    let describe = bed.core.describe(bed.at(), &key("ns/w")).unwrap();
    assert_eq!(describe.instances.iter().filter(|i| i.waiting.is_some()).count(), 1);
    let _ = TargetState::Waiting;
}

#[test]
fn tags_move_and_what_is_used_stays() {
    let mut bed = Bed::new();
    fleet(&mut bed, &["a"]);
    let first = bed.push("app:1");
    bed.apply(vec![every("w", "app:1")]);
    let digest = Digest::of(b"other");
    bed.ask(Request::AddArtifact(module(digest, "app:1")));
    assert_eq!(bed.core.artifact("app:1").unwrap().digest, digest);
    assert!(bed.durable.artifacts[&first].tags.is_empty());
    let used = bed.ask(Request::RemoveArtifact { reference: first.to_string() });
    let Answer::Refused { errors } = used else { panic!("{used:?}") };
    assert!(errors[0].reason.contains("ns/w"), "{errors:?}");
    // A moved tag is a new revision.
    let Answer::Applied { changes, .. } = bed.apply(vec![every("w", "app:1")]) else { panic!() };
    assert_eq!(changes[0].change, ChangeKind::Changed);
    assert!(matches!(bed.ask(Request::RemoveArtifact { reference: first.to_string() }), Answer::Done { .. }));
    assert!(!bed.durable.artifacts.contains_key(&first));
    assert!(matches!(bed.ask(Request::RemoveArtifact { reference: "no:1".into() }), Answer::NotFound { .. }));
}
