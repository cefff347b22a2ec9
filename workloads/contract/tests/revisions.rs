//! Which names revisions have. A digest that changes here makes every hub roll its whole fleet after
//! an upgrade: a new *field* must leave the digests of specs without it alone, and no default may
//! reach the canonical form. Never change an expected digest; add specs.

use std::collections::BTreeSet;
use std::path::Path;

use contract::Digest;
use contract::manifest::{Object, parse};
use contract::spec::WorkloadSpec;
use skerry_contract as contract;

fn spec(file: &Path) -> WorkloadSpec {
    let text = std::fs::read_to_string(file).unwrap();
    let objects = parse(&text, file.to_str()).unwrap_or_else(|p| panic!("{p:#?}"));
    let Object::Workload(workload, _) = &objects[0] else { panic!("a workload") };
    workload.spec.clone()
}

#[test]
fn revisions_keep_their_names() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/revisions");
    let expected = std::fs::read_to_string(folder.join("digests.txt")).unwrap();
    let image = Digest::of(b"the artefact");
    let mut actual = String::new();
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for file in names.iter().filter(|file| file.extension().is_some_and(|e| e == "yaml")) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        actual += &format!("{name} {}\n", spec(file).revision(&image, []));
    }
    assert_eq!(actual, expected, "actual:\n{actual}");
    let digests: BTreeSet<&str> = expected.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    // scaled.yaml is minimal.yaml with another number of replicas.
    assert_eq!(digests.len() + 1, expected.lines().count(), "two specs share a digest");
}

#[test]
fn scaling_is_no_new_revision_and_all_else_is() {
    let minimal = WorkloadSpec { image: "a:1".into(), replicas: Some(1), ..WorkloadSpec::default() };
    let image = Digest::of(b"x");
    let revision = |spec: &WorkloadSpec| spec.revision(&image, []);
    assert_eq!(revision(&minimal), revision(&WorkloadSpec { replicas: Some(9), ..minimal.clone() }));
    assert_eq!(revision(&minimal), revision(&WorkloadSpec { image: "a:2".into(), ..minimal.clone() }));
    assert_ne!(revision(&minimal), minimal.revision(&Digest::of(b"y"), []));
    assert_ne!(revision(&minimal), revision(&WorkloadSpec { args: vec!["a".into()], ..minimal.clone() }));
}
