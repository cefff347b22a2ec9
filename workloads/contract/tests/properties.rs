//! What holds for every input: printing and reading are inverse, and no bytes make the reader panic.

mod arbitrary;

use contract::manifest::{Object, parse, read, to_yaml};
use proptest::prelude::*;
use skerry_contract as contract;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_back(workload in arbitrary::workload()) {
        let text = to_yaml(&workload);
        let objects = match parse(&text, None) {
            Ok(objects) => objects,
            Err(problems) => return Err(TestCaseError::fail(format!("{problems:#?}\n{text}"))),
        };
        let [Object::Workload(back, _)] = &objects[..] else { panic!("one document") };
        prop_assert_eq!(&**back, &workload, "{}", text);
        prop_assert_eq!(to_yaml(back), text);
        // The same as JSON, so that one spec has one revision however it was written.
        let json = serde_json::json!({"apiVersion": "skerry/v1", "kind": "Workload",
            "metadata": workload.metadata, "spec": workload.spec});
        let objects = parse(&json.to_string(), None).unwrap();
        let Object::Workload(back, _) = &objects[0] else { panic!("a workload") };
        prop_assert_eq!(back.spec.canonical(), workload.spec.canonical());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        sound(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_yaml_looking_text_panics(text in "([ \\t]{0,4}[-?:,\\[\\]{}#&*!|>'\"%@`a0~<\\\\]{1,6}[ \\n]{0,2}){0,40}") {
        sound(&text);
    }

    /// Near to a legal manifest: one piece of it replaced.
    #[test]
    fn no_spoilt_manifest_panics(at in 0.0..1.0f64, len in 0usize..12, piece in "[ -~\\n\\t]{0,12}") {
        let text = include_str!("golden/manifests/whole.yaml");
        let boundary = |n: usize| (n..=text.len()).find(|n| text.is_char_boundary(*n)).unwrap();
        let start = boundary((text.len() as f64 * at) as usize);
        let end = boundary((start + len).min(text.len()));
        sound(&format!("{}{piece}{}", &text[..start], &text[end..]));
    }
}

/// Reading ends, and every problem has a place within the text.
fn sound(text: &str) {
    let Err(problems) = read(text, None) else { return };
    assert!(!problems.is_empty() && problems.len() <= 51);
    let lines = text.split(['\n', '\r']).count();
    for problem in problems {
        assert!(problem.line >= 1 && problem.line <= lines, "{problem} in {text:?}");
        assert!(problem.column >= 1 && !problem.reason.is_empty() && problem.reason.len() <= 1024);
    }
}
