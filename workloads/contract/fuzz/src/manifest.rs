//! Any bytes as a manifest: reading ends without a panic, each problem has a place in the text, and
//! what is read prints to a text that reads as the same.

use skerry_contract::manifest::{Object, parse, read, to_yaml};

pub fn fuzz_one(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(problems) = read(&text, Some("fuzz")) {
        let lines = text.split(['\n', '\r']).count();
        assert!(!problems.is_empty());
        for problem in &problems {
            assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem}");
        }
    }
    for Object::Workload(workload, source) in parse(&text, None).unwrap_or_default() {
        assert!(source.locate("spec.image").0 >= source.line());
        let printed = to_yaml(&workload);
        match parse(&printed, None).as_deref() {
            Ok([Object::Workload(again, _)]) => assert_eq!(again, &workload, "{printed}"),
            other => panic!("{other:?}\n{printed}"),
        }
    }
}
