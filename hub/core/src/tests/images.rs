//! Container images: which part of one a board is told to run, who waits and for what, and whose ports
//! are whose.

use std::collections::BTreeMap;

use contract::Digest;
use contract::run::ArtifactRef;
use contract::spec::{DeviceMount, Network, Port, Probe, Runtime, Security, Stop, TcpProbe, Workload};

use super::bed::*;
use super::board::*;
use crate::api::*;
use crate::image::{ImagePlatform, ImageRecord, Piece};
use crate::record::ArtifactKind;

pub fn piece(text: &str) -> Piece {
    Piece { digest: Digest::of(text.as_bytes()), size_bytes: 10 }
}

/// Every platform has a layer of its own above one that all share.
pub fn image(name: &str, platforms: &[&str]) -> ImageRecord {
    let one = |platform: &&str| ImagePlatform {
        platform: platform.parse().unwrap(),
        manifest: piece(&format!("{name} {platform}")),
        config: piece(&format!("{name} {platform} config")),
        layers: vec![piece("base"), piece(&format!("{name} {platform} layer"))],
        stop_signal: Some("QUIT".into()),
    };
    let indexes = BTreeMap::from([(Digest::of(name.as_bytes()), 10)]);
    ImageRecord { platforms: platforms.iter().map(one).collect(), indexes, ..ImageRecord::default() }
}

pub fn push(bed: &mut Bed, tag: &str, platforms: &[&str]) -> Digest {
    let digest = Digest::of(tag.as_bytes());
    let image = Some(Box::new(image(tag, platforms)));
    let (kind, tag) = (ArtifactKind::OciImage, Some(tag.to_string()));
    let new = NewArtifact { digest, size_bytes: 1, kind, tag, image };
    assert!(matches!(bed.ask(Request::AddArtifact(new)), Answer::Done { .. }));
    digest
}

pub fn board(bed: &mut Bed, name: &str, arch: &str) -> Board {
    let mut board = Board::new(name);
    board.presence.arch = arch.into();
    board.presence.features.extend(["oci".to_string(), "devices".to_string()]);
    board.connect(bed);
    board
}

fn ports(mut workload: Workload, ports: &[u16]) -> Workload {
    workload.spec.ports = ports.iter().map(|port| Port { name: None, port: *port, host: None }).collect();
    workload
}

pub fn refused(answer: Answer) -> String {
    let Answer::Refused { errors } = answer else { panic!("{answer:?}") };
    let text = |e: &Refusal| format!("{} {}", e.field, e.reason);
    errors.iter().map(text).collect::<Vec<_>>().join("\n")
}

pub fn warnings(answer: Answer) -> String {
    let Answer::Applied { warnings, .. } = answer else { panic!("{answer:?}") };
    warnings.join("\n")
}

fn names(agents: &[contract::AgentId]) -> String {
    agents.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub fn not_here(bed: &Bed, name: &str) -> Vec<String> {
    let list = bed.core.describe(bed.at(), &key(name)).unwrap().not_here;
    list.into_iter().map(|n| format!("{}: {}", names(&n.agents), n.reason)).collect()
}

pub fn run(board: &Board, name: &str) -> contract::run::RunSpec {
    board.desired.as_ref().unwrap().assignments[&key(name)].run.clone()
}

#[test]
fn each_board_is_told_the_manifest_for_its_platform() {
    let mut bed = Bed::new();
    let root = push(&mut bed, "web:1", &["linux/amd64", "linux/arm/v6", "linux/arm/v7"]);
    let mut boards =
        [board(&mut bed, "a", "x86_64"), board(&mut bed, "b", "arm"), board(&mut bed, "c", "armv6")];
    let mut workload = every("w", "web:1");
    workload.spec.runtime = Some(Runtime::Oci);
    workload.spec.command = vec!["nginx".into()];
    workload.spec.security = Some(Security { user: Some("101".into()), ..Security::default() });
    workload.spec.devices = vec![DeviceMount { path: "/dev/x".into(), inside: None, access: None }];
    bed.apply(vec![ports(workload, &[80])]);
    for (board, platform) in boards.iter_mut().zip(["linux/amd64", "linux/arm/v7", "linux/arm/v6"]) {
        board.converse(&mut bed);
        let run = run(board, "ns/w");
        let digest = piece(&format!("web:1 {platform}")).digest;
        let expected = ArtifactRef { source: root, digest, size_bytes: 10, engine: None };
        assert_eq!((run.runtime, run.artifact), (Runtime::Oci, expected));
        assert_eq!(run.stop_signal, "QUIT", "the image's own");
        let container = run.container.unwrap();
        assert_eq!((container.user.as_deref(), container.ports.as_slice()), (Some("101"), &[80][..]));
        let requires = &board.desired.as_ref().unwrap().assignments[&key("ns/w")].requires;
        assert_eq!(requires.iter().collect::<Vec<_>>(), ["devices", "oci"]);
    }
    assert!(bed.core.workload(&key("ns/w")).unwrap().steady);
    assert!(!bed.ops.iter().any(|op| matches!(op, Op::Compile { .. })), "nothing of it is compiled");

    let mut again = every("w", "web:1");
    again.spec.stop = Some(Stop { signal: Some("INT".into()), grace: None });
    bed.apply(vec![again]);
    boards[0].converse(&mut bed);
    assert_eq!(run(&boards[0], "ns/w").stop_signal, "INT", "the manifest's goes before the image's");
}

#[test]
fn a_wasm_document_says_nothing_of_containers() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = board(&mut bed, "a", "x86_64");
    bed.apply(vec![every("w", "app:1")]);
    a.converse(&mut bed);
    let text = serde_json::to_string(a.desired.as_ref().unwrap()).unwrap();
    assert!(!text.contains("container") && !text.contains("oci"), "{text}");
}

#[test]
fn boards_without_the_feature_or_platform_are_named() {
    let mut bed = Bed::new();
    push(&mut bed, "web:1", &["linux/amd64", "linux/arm64"]);
    assert_eq!(refused(bed.apply(vec![every("w", "none:1")])).lines().count(), 1);
    board(&mut bed, "arm-1", "arm");
    let error = refused(bed.apply(vec![every("w", "web:1")]));
    assert_eq!(
        error,
        "spec.image has nothing for linux/arm/v7, and the selected agents are all of that: arm-1; it has linux/amd64, linux/arm64"
    );
    let mut plain = Board::new("plain");
    plain.connect(&mut bed);
    let mut a = board(&mut bed, "a", "aarch64");
    let said = warnings(bed.apply(vec![every("w", "web:1"), replicas("r", "web:1", 1)]));
    assert!(said.contains("does not run on agents without the feature 'oci': plain"), "{said}");
    assert!(said.contains("the image has nothing for linux/arm/v7 (arm-1)"), "{said}");
    assert_eq!(
        not_here(&bed, "ns/w"),
        [
            "plain: lacks the feature 'oci'",
            "arm-1: the image has nothing for linux/arm/v7; it has linux/amd64, linux/arm64"
        ]
    );
    a.converse(&mut bed);
    assert_eq!(a.desired.as_ref().unwrap().assignments.len(), 2, "replicas go where they can run");
    let view = bed.core.workload(&key("ns/w")).unwrap();
    assert_eq!((view.targets.steady, view.targets.waiting), (1, 2), "{}", view.message);

    // The same image comes again with the platform that was missing.
    push(&mut bed, "web:1", &["linux/arm/v7"]);
    let names = bed.core.artifact("web:1").unwrap().image.unwrap().names();
    assert_eq!(names, "linux/amd64, linux/arm/v7, linux/arm64");
    assert_eq!(not_here(&bed, "ns/w"), ["plain: lacks the feature 'oci'"]);
}

#[test]
fn a_revision_without_this_platform_leaves_the_one_before() {
    let mut bed = Bed::new();
    push(&mut bed, "web:1", &["linux/amd64", "linux/arm64"]);
    let old = piece("web:1 linux/arm64").digest;
    push(&mut bed, "web:2", &["linux/amd64"]);
    let (mut a, mut b) = (board(&mut bed, "a", "x86_64"), board(&mut bed, "b", "aarch64"));
    bed.apply(vec![every("w", "web:1")]);
    let said = warnings(bed.apply(vec![every("w", "web:2")]));
    assert!(said.contains("nothing for linux/arm64 (b)"), "{said}");
    a.converse(&mut bed);
    b.converse(&mut bed);
    assert_eq!(run(&a, "ns/w").artifact.digest, piece("web:2 linux/amd64").digest);
    assert_eq!(run(&b, "ns/w").artifact.digest, old);
    let view = bed.core.workload(&key("ns/w")).unwrap();
    assert!(view.message.contains("agent b: the image has nothing for linux/arm64"), "{}", view.message);
    bed.restart();
    assert_eq!(bed.core.artifact("web:2").unwrap().image.unwrap().names(), "linux/amd64");
}

#[test]
fn each_runtime_refuses_by_name_what_only_the_other_has() {
    let mut bed = Bed::new();
    push(&mut bed, "web:1", &["linux/amd64"]);
    bed.push("app:1");
    let mut wrong = every("w", "web:1");
    wrong.spec.runtime = Some(Runtime::Wasm);
    wrong.spec.network = Some(Network { listen: vec![80], ..Network::default() });
    let errors = refused(bed.apply(vec![wrong]));
    assert!(errors.contains("spec.runtime is wasm, but the artefact is oci: leave it out"), "{errors}");
    assert!(errors.contains("spec.network.listen binds WebAssembly only"), "{errors}");
    let mut wrong = ports(every("w", "app:1"), &[80]);
    wrong.spec.workdir = Some("/srv".into());
    let errors = refused(bed.apply(vec![wrong]));
    assert!(errors.contains("spec.workdir is for containers (oci)"), "{errors}");
    assert!(errors.contains("spec.ports is for containers (oci)"), "{errors}");
    let mut wrong = every("w", "web:1");
    wrong.spec.security = Some(Security { privileged: true, ..Security::default() });
    wrong.spec.liveness_probe = Some(Default::default());
    let errors = refused(bed.apply(vec![wrong]));
    assert!(errors.contains("spec.security.privileged comes with a later version"), "{errors}");
    assert!(errors.contains("spec.livenessProbe asks nothing"), "{errors}");
    let mut wrong = every("w", "app:1");
    wrong.spec.network = Some(Network { listen: vec![80], ..Network::default() });
    let exec = Some(vec!["true".to_string()]);
    wrong.spec.liveness_probe = Some(Probe { exec, ..Probe::default() });
    wrong.spec.readiness_probe =
        Some(Probe { tcp: Some(TcpProbe { port: 81, host: None }), ..Probe::default() });
    let errors = refused(bed.apply(vec![wrong]));
    assert!(errors.contains("spec.livenessProbe.exec is for containers (oci)"), "{errors}");
    assert!(errors.contains("spec.readinessProbe.tcp.port is 81, where this workload may not"), "{errors}");
}

#[test]
fn a_port_that_could_never_be_free_is_refused() {
    let mut bed = Bed::new();
    push(&mut bed, "web:1", &["linux/amd64", "linux/arm64"]);
    push(&mut bed, "pi:1", &["linux/arm64"]);
    push(&mut bed, "pc:1", &["linux/amd64"]);
    bed.apply(vec![ports(every("a", "web:1"), &[80, 81])]);
    let other = |name: &str| ports(on(every(name, "pi:1"), &[("line", "1")]), &[81]);
    let wanted = "spec.ports wants port 81, which ns/a has on every agent where this could run";
    assert_eq!(refused(bed.apply(vec![other("b")])), wanted);
    assert_eq!(refused(bed.apply(vec![ports(replicas("r", "web:1", 1), &[81])])), wanted);
    // Two new ones that hinder each other are one mistake.
    let both = vec![ports(every("x", "pi:1"), &[9]), ports(every("y", "pi:1"), &[9])];
    assert_eq!(refused(bed.apply(both)).lines().count(), 1);
    // Another port, another selection, or boards of another kind: nothing is certain.
    bed.apply(vec![ports(every("c", "pi:1"), &[82]), ports(every("d", "pc:1"), &[82])]);
    assert_eq!(bed.durable.workloads.len(), 3);
    bed.apply(vec![ports(on(every("a", "web:1"), &[("line", "2")]), &[80, 81]), other("b")]);
    assert_eq!(bed.durable.workloads.len(), 4);
}

#[test]
fn a_port_that_is_taken_on_a_board_is_waited_for_there_by_name() {
    let mut bed = Bed::new();
    push(&mut bed, "web:1", &["linux/amd64"]);
    let mut boards: Vec<Board> = ["a", "b"].iter().map(|name| board(&mut bed, name, "x86_64")).collect();
    bed.apply(vec![ports(replicas("one", "web:1", 1), &[80])]);
    let said = warnings(bed.apply(vec![ports(every("two", "web:1"), &[80, 443])]));
    assert!(said.contains("ns/two: 1 of the selected agents"), "{said}");
    assert_eq!(not_here(&bed, "ns/two"), ["a: waits for port 80, which ns/one has there"]);
    for board in &mut boards {
        board.converse(&mut bed);
    }
    assert_eq!(run(&boards[1], "ns/two").container.unwrap().ports, [80, 443]);
    // One that gives the port up frees it, without being deleted.
    bed.apply(vec![ports(replicas("one", "web:1", 1), &[81])]);
    assert_eq!(not_here(&bed, "ns/two"), Vec::<String>::new());
    bed.restart();
    assert_eq!(bed.durable.placements.len(), 3);
    // A port is there once on a board, so replicas share none.
    bed.apply(vec![ports(replicas("three", "web:1", 3), &[7])]);
    let placed = bed.durable.placements.iter().filter(|((k, _), _)| *k == key("ns/three"));
    assert_eq!(placed.map(|(_, p)| p.slots.len()).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(not_here(&bed, "ns/three")[0], "a b: has an instance of it already, which has port 7");
    bed.ask(Request::Delete { keys: vec![key("ns/two")], if_version: None });
    assert_eq!(warnings(bed.apply(vec![ports(every("four", "web:1"), &[443])])), "");
}

#[test]
fn what_an_image_consists_of_is_counted_once() {
    let mut bed = Bed::new();
    push(&mut bed, "web:1", &["linux/amd64", "linux/arm64"]);
    let view = bed.core.artifact("web:1").unwrap();
    // An index, a shared layer, and for each platform a manifest, a configuration and a layer.
    assert_eq!((view.image.unwrap().pieces().len(), view.size_bytes), (8, 80));
    assert!(view.compiled.is_empty());
    assert_eq!(crate::check_tag("web:1"), Ok(()));
    assert!(crate::check_tag("r.local/web:1").unwrap_err().contains("is not name:tag"));
}
