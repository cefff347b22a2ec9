//! Images of other registries: when one is asked for, what it means from then on, and what is fetched for
//! boards that come late.

use contract::Digest;
use contract::platform::Platform;
use contract::spec::Workload;

use super::bed::*;
use super::images::{board, image, not_here, piece, refused, run, warnings};
use crate::api::*;
use crate::resolve::Found;

const WEB: &str = "r.local/web:1";

/// What a registry says: these platforms are here, those it has besides.
fn found(name: &str, here: &[&str], offered: &[&str]) -> Found {
    let mut record = image(name, here);
    record.offered = offered.iter().map(|p| p.parse().unwrap()).collect();
    record.sources = vec![WEB.into()];
    Found { digest: Digest::of(name.as_bytes()), record }
}

fn apply(bed: &mut Bed, workloads: Vec<Workload>, images: &[(&str, Found)]) -> Answer {
    let images = images.iter().map(|(name, found)| (name.to_string(), found.clone())).collect();
    bed.ask(Request::Apply(Box::new(Apply { images, ..apply_of(workloads) })))
}

fn wanted(bed: &Bed, workloads: &[Workload], again: bool) -> Vec<(String, Vec<String>)> {
    let wanted = bed.core.wanted_images(workloads, again);
    wanted.into_iter().map(|w| (w.image, w.platforms.iter().map(Platform::to_string).collect())).collect()
}

fn changes(answer: &Answer) -> Vec<(ChangeKind, String)> {
    let Answer::Applied { changes, .. } = answer else { panic!("{answer:?}") };
    changes.iter().map(|c| (c.change, c.resolved.clone().unwrap_or_default())).collect()
}

fn fetches(bed: &Bed) -> usize {
    bed.ops.iter().filter(|op| matches!(op, Op::Fetch { .. })).count()
}

#[test]
fn a_registry_is_asked_once_and_then_only_when_told() {
    let mut bed = Bed::new();
    bed.push("app:1");
    board(&mut bed, "a", "x86_64");
    let mut arm = board(&mut bed, "b", "arm");
    arm.presence.labels = labels(&[("line", "1")]);
    arm.reconnect(&mut bed);
    let web = every("w", WEB);
    let both =
        [on(every("v", WEB), &[("line", "1")]), on(web.clone(), &[("line", "1")]), every("x", "app:1")];
    assert_eq!(wanted(&bed, &both, false), [(WEB.to_string(), vec!["linux/arm/v7".to_string()])]);
    let all = vec!["linux/amd64".to_string(), "linux/arm/v7".into()];
    assert_eq!(wanted(&bed, std::slice::from_ref(&web), false), [(WEB.to_string(), all)]);

    let one = found("one", &["linux/amd64", "linux/arm/v7"], &[]);
    let answer = apply(&mut bed, vec![web.clone()], &[(WEB, one.clone())]);
    assert_eq!(changes(&answer), [(ChangeKind::Created, format!("{WEB} → {}", one.digest))]);
    // Neither the same again nor another change asks anew; a workload that is new does.
    assert!(wanted(&bed, &[web.clone(), env(web.clone(), "A", "1")], false).is_empty());
    assert_eq!(wanted(&bed, &[web.clone(), every("y", WEB)], false).len(), 1);
    assert_eq!(wanted(&bed, std::slice::from_ref(&web), true).len(), 1);
    let pinned = format!("q.local/other@{}", one.digest);
    assert!(wanted(&bed, &[every("z", &pinned)], true).is_empty(), "it is here");
    let answer = apply(&mut bed, vec![web.clone()], &[]);
    let (change, said) = changes(&answer).remove(0);
    assert_eq!(change, ChangeKind::Unchanged);
    assert!(said.contains("as before; --resolve asks"), "{said}");

    // The tag moves over there: who asks gets the new one, the others keep theirs.
    let two = found("two", &["linux/amd64"], &["linux/arm/v7"]);
    apply(&mut bed, vec![every("y", WEB)], &[(WEB, two.clone())]);
    let digest = |bed: &Bed, name: &str| bed.core.workload(&key(name)).unwrap().image_digest;
    assert_eq!((digest(&bed, "ns/w"), digest(&bed, "ns/y")), (one.digest, two.digest));
    bed.restart();
    assert_eq!(changes(&apply(&mut bed, vec![web.clone()], &[]))[0].0, ChangeKind::Unchanged);
    let planned = bed
        .core
        .digests(&Apply { images: [(WEB.to_string(), two.clone())].into(), ..apply_of(vec![web.clone()]) });
    assert_eq!(planned[&key("ns/w")], two.digest);
    assert_eq!(changes(&apply(&mut bed, vec![web], &[(WEB, two.clone())]))[0].0, ChangeKind::Changed);
    assert_eq!((digest(&bed, "ns/w"), bed.durable.artifacts.len()), (two.digest, 3));
}

#[test]
fn an_apply_and_its_images_are_written_together_or_not_at_all() {
    let mut bed = Bed::new();
    board(&mut bed, "a", "x86_64");
    let one = found("one", &["linux/amd64"], &[]);
    let mut wrong = every("w", WEB);
    wrong.spec.security = Some(contract::spec::Security { privileged: true, ..Default::default() });
    let said = refused(apply(&mut bed, vec![wrong, every("v", WEB)], &[(WEB, one.clone())]));
    assert!(said.contains("privileged"), "{said}");
    let dry = Apply {
        images: [(WEB.to_string(), one.clone())].into(),
        dry_run: true,
        ..apply_of(vec![every("w", WEB)])
    };
    bed.ask(Request::Apply(Box::new(dry)));
    assert!(bed.durable.artifacts.is_empty() && bed.core.artifacts().is_empty());
    // What was not asked for cannot be meant.
    assert!(
        refused(bed.apply(vec![every("w", WEB)])).contains("changed while it was asked for: apply again")
    );

    bed.auto = false;
    let workloads = vec![every("w", WEB), every("v", "q.local/web:2")];
    let mut other = one.clone();
    other.record.sources = vec!["q.local/web:2".into()];
    let images = [(WEB.to_string(), one.clone()), ("q.local/web:2".to_string(), other)].into();
    bed.send(Event::Request {
        id: 77,
        request: Request::Apply(Box::new(Apply { images, ..apply_of(workloads) })),
    });
    let (_, writes) = bed.pending.pop_front().unwrap();
    let is_artifact = |w: &&Write| matches!(w, Write::Artifact { .. });
    let is_workload = |w: &&Write| matches!(w, Write::Workload { .. });
    let count = (writes.iter().filter(is_artifact).count(), writes.iter().filter(is_workload).count());
    assert_eq!(count, (1, 2), "one image under two names, in the commit of its workloads");
    let view = bed.core.artifact(&one.digest.to_string()).unwrap();
    assert_eq!(view.image.unwrap().sources.len(), 2);
    assert_eq!(view.used_by.len(), 2);
}

#[test]
fn what_a_late_board_needs_is_fetched_and_waited_for_by_name() {
    let mut bed = Bed::new();
    let mut a = board(&mut bed, "a", "x86_64");
    let one = found("one", &["linux/amd64"], &["linux/arm64", "linux/s390x"]);
    assert_eq!(warnings(apply(&mut bed, vec![every("w", WEB)], &[(WEB, one.clone())])), "");
    assert_eq!(fetches(&bed), 0);
    let mut b = board(&mut bed, "b", "aarch64");
    assert_eq!(fetches(&bed), 1);
    let message = |bed: &Bed| bed.core.workload(&key("ns/w")).unwrap().message;
    let said = message(&bed);
    assert!(
        said.contains(
            "agent b: waiting for linux/arm64 of its image; the last try to fetch it failed: no route"
        ),
        "{said}"
    );
    a.converse(&mut bed);
    assert_eq!(run(&a, "ns/w").artifact.digest, piece("one linux/amd64").digest, "nobody else waits");

    // Tried again by itself, and right after a restart.
    bed.now = bed.core.next_wake().unwrap().max(bed.now + 10_000);
    bed.send(Event::Wake);
    assert_eq!(fetches(&bed), 2);
    bed.registry = Some(found("one", &["linux/arm64"], &["linux/amd64", "linux/s390x"]).record);
    bed.restart();
    b.reconnect(&mut bed);
    b.converse(&mut bed);
    assert_eq!(run(&b, "ns/w").artifact.digest, piece("one linux/arm64").digest);
    let record = bed.durable.artifacts[&one.digest].image.clone().unwrap();
    assert_eq!(record.platforms.len(), 2);
    assert_eq!(record.offered.iter().map(Platform::to_string).collect::<Vec<_>>(), ["linux/s390x"]);
    assert_eq!(record.names(), "linux/amd64, linux/arm64, linux/s390x");

    // A registry that gives something else is not asked without end.
    bed.ops.clear();
    board(&mut bed, "c", "s390x");
    assert_eq!(fetches(&bed), 1);
    assert!(message(&bed).contains("something else came"), "{}", message(&bed));
    board(&mut bed, "d", "riscv64");
    let nothing = "d: the image has nothing for linux/riscv64; it has linux/amd64, linux/arm64, linux/s390x";
    assert_eq!(not_here(&bed, "ns/w"), [nothing]);
}

#[test]
fn an_image_for_no_selected_board_is_refused_with_what_there_is() {
    let mut bed = Bed::new();
    board(&mut bed, "a", "riscv64");
    let one = found("one", &[], &["linux/amd64", "linux/arm64"]);
    let said = refused(apply(&mut bed, vec![every("w", WEB)], &[(WEB, one.clone())]));
    assert!(
        said.contains("nothing for linux/riscv64") && said.contains("it has linux/amd64, linux/arm64"),
        "{said}"
    );
    // With boards still to come, nothing of it has to be here.
    let said = warnings(apply(&mut bed, vec![on(every("w", WEB), &[("line", "1")])], &[(WEB, one)]));
    assert!(said.contains("no agent matches"), "{said}");
    assert_eq!(bed.durable.artifacts.len(), 1);
}
