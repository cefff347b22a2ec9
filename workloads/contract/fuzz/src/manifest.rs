//! Any bytes as a manifest: reading ends without a panic, each problem has a place in the text, and
//! what is read prints to a text that reads as the same.

use skerry_contract::manifest::{Object, data_to_yaml, parse, read, to_yaml};

pub fn fuzz_one(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(problems) = read(&text, Some("fuzz")) {
        let lines = text.split(['\n', '\r']).count();
        assert!(!problems.is_empty());
        for problem in &problems {
            assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem}");
        }
    }
    for object in parse(&text, None).unwrap_or_default() {
        assert!(object.source().locate("spec.image").0 >= object.source().line());
        let printed = match &object {
            Object::Workload(workload, _) => to_yaml(workload),
            Object::Data(kind, data, _) => data_to_yaml(*kind, data),
        };
        match (&object, parse(&printed, None).as_deref()) {
            (Object::Workload(first, _), Ok([Object::Workload(again, _)])) => assert_eq!(again, first),
            (Object::Data(_, first, _), Ok([Object::Data(_, again, _)])) => assert_eq!(again, first),
            other => panic!("{other:?}\n{printed}"),
        }
    }
}
