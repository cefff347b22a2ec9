//! Configs and Secrets: pinned, rolled out, refused, and given to nobody but who runs with them.

use contract::spec::{ConfigKey, EnvValue, Metadata, Mount, SecretKey, Workload};
use contract::{DataId, DataKind, Digest};

use super::bed::*;
use super::board::*;
use crate::api::{Answer, Apply, ChangeKind, Op, Request};
use crate::data::NewData;

fn object(kind: DataKind, name: &str, content: &str, keys: &[&str]) -> NewData {
    let metadata = Metadata {
        name: name.parse().unwrap(),
        namespace: "ns".parse().unwrap(),
        labels: Default::default(),
        annotations: Default::default(),
    };
    let keys = keys.iter().map(|key| (key.to_string(), 1)).collect();
    NewData { kind, metadata, content: Digest::of(content.as_bytes()), size_bytes: 9, keys }
}

fn config(content: &str, keys: &[&str]) -> NewData {
    object(DataKind::Config, "tuning", content, keys)
}

fn secret(content: &str) -> NewData {
    object(DataKind::Secret, "api", content, &["token"])
}

fn apply(bed: &mut Bed, workloads: Vec<Workload>, data: Vec<NewData>) -> Answer {
    bed.ask(Request::Apply(Box::new(Apply { data, ..apply_of(workloads) })))
}

fn uses(name: &str) -> Workload {
    let mut workload = every(name, "app:1");
    let config = |key: &str, optional| {
        EnvValue::Config(ConfigKey { config: "tuning".parse().unwrap(), key: key.into(), optional })
    };
    let token = SecretKey { secret: "api".parse().unwrap(), key: "token".into(), optional: false };
    let env = &mut workload.spec.env;
    env.insert("MODE".into(), config("mode", false));
    env.insert("MORE".into(), config("more", true));
    env.insert("TOKEN".into(), EnvValue::Secret(token));
    let mount = Mount { config: "tuning".parse().ok(), path: "/etc/tuning".into(), ..Mount::default() };
    workload.spec.mounts.push(mount);
    workload
}

fn joined(bed: &mut Bed, name: &str) {
    let mut board = Board::new(name);
    board.presence.features.insert("data".into());
    board.connect(bed);
}

fn refusals(answer: Answer) -> Vec<String> {
    match answer {
        Answer::Refused { errors } => {
            errors.into_iter().map(|e| format!("{} {}", e.field, e.reason)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn delete(bed: &mut Bed, id: &str) -> Answer {
    bed.ask(Request::DeleteData { id: id.parse::<DataId>().unwrap(), if_version: None })
}

#[test]
fn what_is_missing_is_named_and_what_is_optional_is_left_out() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let errors = refusals(apply(&mut bed, vec![uses("w")], vec![config("a", &["other"])]));
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].starts_with("spec.env.MODE config ns/tuning has no key 'mode'; it has other"),
        "{errors:?}"
    );
    assert!(errors[1].starts_with("spec.env.TOKEN there is no secret ns/api"), "{errors:?}");
    assert!(bed.core.data(&"config/ns/tuning".parse().unwrap()).is_none(), "all or nothing");

    apply(&mut bed, vec![uses("w")], vec![config("a", &["mode"]), secret("s")]);
    let run = bed.core.world.works[&key("ns/w")].template.run.data.clone().unwrap();
    assert_eq!(run.env.keys().collect::<Vec<_>>(), ["MODE", "TOKEN"]);
    assert_eq!((run.objects.len(), run.mounts.len()), (2, 1));
    // What was left out comes, and is a change like any.
    let before = bed.core.record(&key("ns/w")).unwrap().revision;
    apply(&mut bed, vec![], vec![config("b", &["mode", "more"])]);
    assert_ne!(bed.core.record(&key("ns/w")).unwrap().revision, before);
    let run = bed.core.world.works[&key("ns/w")].template.run.data.clone().unwrap();
    assert!(run.env.contains_key("MORE"));
}

#[test]
fn another_content_rolls_out_whoever_uses_it_and_the_same_one_nobody() {
    let mut bed = Bed::new();
    bed.push("app:1");
    joined(&mut bed, "a1");
    apply(&mut bed, vec![uses("w"), every("other", "app:1")], vec![config("a", &["mode"]), secret("s")]);
    let revision = |bed: &Bed, name: &str| bed.core.record(&key(name)).unwrap().revision;
    let (first, other) = (revision(&bed, "ns/w"), revision(&bed, "ns/other"));
    bed.take();
    let Answer::Applied { changes, .. } = apply(&mut bed, vec![], vec![config("a", &["mode"]), secret("s")])
    else {
        panic!("applied")
    };
    assert!(changes.iter().all(|change| change.change == ChangeKind::Unchanged), "{changes:?}");
    assert!(!bed.take().iter().any(|op| matches!(op, Op::PublishDesired { .. })));

    let Answer::Applied { changes, .. } = apply(&mut bed, vec![], vec![secret("t")]) else {
        panic!("applied")
    };
    assert_eq!(changes.len(), 2, "the secret and its user: {changes:?}");
    assert!(revision(&bed, "ns/w") != first && revision(&bed, "ns/other") == other);
    // Back again is the first revision, in a new attempt; and it is kept over a restart.
    apply(&mut bed, vec![], vec![secret("s")]);
    assert_eq!((revision(&bed, "ns/w"), bed.core.record(&key("ns/w")).unwrap().attempt.0), (first, 2));
    bed.restart();
    assert_eq!(revision(&bed, "ns/w"), first);
    let kept = bed.core.data_contents();
    for content in ["a", "s", "t"] {
        assert!(kept.contains(&Digest::of(content.as_bytes())), "{content} is kept for a way back");
    }
}

#[test]
fn what_is_used_is_neither_deleted_nor_robbed() {
    let mut bed = Bed::new();
    bed.push("app:1");
    apply(&mut bed, vec![uses("w")], vec![config("a", &["mode"]), secret("s")]);
    let errors = refusals(delete(&mut bed, "secret/ns/api"));
    assert!(errors[0].contains("is used by ns/w"), "{errors:?}");
    let errors = refusals(apply(&mut bed, vec![], vec![config("b", &["more"])]));
    assert!(errors[0].contains("has no key 'mode'"), "{errors:?}");
    assert!(matches!(delete(&mut bed, "secret/ns/none"), Answer::NotFound { .. }));
    bed.ask(Request::Delete { keys: vec![key("ns/w")], if_version: None });
    assert!(matches!(delete(&mut bed, "secret/ns/api"), Answer::Done { .. }));
    bed.restart();
    assert!(bed.core.data(&"secret/ns/api".parse().unwrap()).is_none());
    assert!(bed.core.data(&"config/ns/tuning".parse().unwrap()).is_some());
}

#[test]
fn a_secret_is_for_the_boards_that_are_told_to_run_with_it() {
    let mut bed = Bed::new();
    bed.push("app:1");
    for id in ["a1", "a2"] {
        joined(&mut bed, id);
    }
    let mut one = uses("w");
    (one.spec.every_agent, one.spec.replicas) = (false, Some(1));
    apply(&mut bed, vec![one], vec![config("a", &["mode"]), secret("s")]);
    let content = |text: &str| Digest::of(text.as_bytes());
    let placed: Vec<_> = bed.core.world.works[&key("ns/w")].placed.keys().cloned().collect();
    let other = if placed[0] == id("a1") { id("a2") } else { id("a1") };
    assert_eq!(bed.core.secret_for(&placed[0], &content("s")), Some("secret/ns/api".parse().unwrap()));
    assert_eq!(bed.core.secret_for(&other, &content("s")), None);
    assert_eq!(bed.core.secret_for(&placed[0], &content("a")), None, "a Config is no Secret");
}
