//! Do both stores keep what `Kv` promises? One suite, run on each.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::{Chance, bytes, cycles};
use skerry_kv::*;

/// A place where a store can be opened, closed and opened again.
trait Place {
    fn open(&self) -> Result<Box<dyn Kv>, KvError>;
}

struct OnDisk(PathBuf, #[allow(dead_code)] tempfile::TempDir);

impl Place for OnDisk {
    fn open(&self) -> Result<Box<dyn Kv>, KvError> {
        Ok(Box::new(SledKv::open(&self.0, &Options { reserve_bytes: 4096, ..Options::default() })?))
    }
}

impl Place for MemDisk {
    fn open(&self) -> Result<Box<dyn Kv>, KvError> {
        Ok(Box::new(MemDisk::open(self)?))
    }
}

fn on_disk() -> OnDisk {
    let temp = tempfile::tempdir().unwrap();
    OnDisk(temp.path().join("state"), temp)
}

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        mod sled_keeps { $(#[test] fn $name() { super::$name(&super::on_disk()) })* }
        mod memory_keeps { $(#[test] fn $name() { super::$name(&skerry_kv::MemDisk::new()) })* }
    };
}

promises!(
    records_come_back_in_order,
    a_closed_store_has_everything,
    values_of_every_size_come_back,
    sizes_over_the_limit_are_refused_by_name,
    a_refused_batch_writes_nothing,
    expectations_are_judged_before_the_batch,
    each_batch_of_a_group_has_its_own_answer,
    one_handle_at_a_time,
    agrees_with_a_plain_map,
);

fn put(key: &str, value: &str) -> Batch {
    Batch::new().put(key, value).clone()
}

fn text(records: Vec<Record>) -> Vec<String> {
    let show = |(key, value): Record| {
        format!("{}={}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value))
    };
    records.into_iter().map(show).collect()
}

fn records_come_back_in_order(place: &dyn Place) {
    let mut kv = place.open().unwrap();
    assert_eq!(kv.get(b"a").unwrap(), None);
    let mut batch = Batch::new();
    batch.put("b/2", "two").put("a", "x").put("b/1", "one").put("b", "root").put("c", "y").put("c", "z");
    kv.commit(batch).unwrap();
    assert_eq!(text(kv.scan(b"b/").unwrap()), ["b/1=one", "b/2=two"]);
    assert_eq!(text(kv.scan(b"").unwrap()), ["a=x", "b=root", "b/1=one", "b/2=two", "c=z"]);
    kv.commit(Batch::new().delete("b/1").delete("nothing").clone()).unwrap();
    assert_eq!(text(kv.scan(b"b").unwrap()), ["b=root", "b/2=two"]);
    let odd: [&[u8]; 4] = [&[0], &[0, 0], &[255], &[255, 255, 1]];
    let mut batch = Batch::new();
    for key in odd {
        batch.put(key, key);
    }
    kv.commit(batch).unwrap();
    odd.iter().for_each(|key| assert_eq!(kv.get(key).unwrap().as_deref(), Some(*key)));
    assert_eq!(kv.scan(&[255]).unwrap().len(), 2);
    assert_eq!(kv.scan(&[0]).unwrap().len(), 2);
    assert_eq!(kv.scan(b"").unwrap().len(), 8);
}

fn a_closed_store_has_everything(place: &dyn Place) {
    for n in 0..20 {
        let mut kv = place.open().unwrap();
        assert_eq!(kv.scan(b"").unwrap().len(), n, "at open {n}");
        kv.commit(put(&format!("{n:03}"), "value")).unwrap();
    }
}

fn values_of_every_size_come_back(place: &dyn Place) {
    let sizes = [0, 1, 2559, 2560, 2561, 5120, VALUE_BYTES_MAX, 70_000, LARGE_BYTES_MAX, 3, 100_000];
    let mut kv = place.open().unwrap();
    for (n, size) in sizes.into_iter().enumerate() {
        let value = bytes(n as u64, size);
        let mut batch = Batch::new();
        batch.put_large("same", value.clone()).put_large(format!("size/{size}"), value.clone());
        if batch.size() > BATCH_BYTES_MAX {
            batch = Batch::new().put_large("same", value.clone()).clone();
        }
        kv.commit(batch).unwrap();
        assert!(kv.get(b"same").unwrap() == Some(value), "{size} bytes");
    }
    drop(kv);
    let mut kv = place.open().unwrap();
    for (n, size) in sizes.into_iter().enumerate().filter(|(_, size)| *size != LARGE_BYTES_MAX) {
        assert!(kv.get(format!("size/{size}").as_bytes()).unwrap() == Some(bytes(n as u64, size)));
    }
    let records = kv.scan(b"").unwrap();
    assert_eq!(records.len(), sizes.len(), "pieces of large values are not records");
    let mut clear = Batch::new();
    for (key, _) in records {
        clear.delete(key);
    }
    kv.commit(clear).unwrap();
    assert_eq!(kv.scan(b"").unwrap(), []);
}

fn sizes_over_the_limit_are_refused_by_name(place: &dyn Place) {
    let mut kv = place.open().unwrap();
    let long = vec![b'k'; KEY_BYTES_MAX + 1];
    let refused = [
        Batch::new().put("plan", vec![0; VALUE_BYTES_MAX + 1]).clone(),
        Batch::new().put_large("plan", vec![0; LARGE_BYTES_MAX + 1]).clone(),
        Batch::new()
            .put_large("a", vec![0; LARGE_BYTES_MAX])
            .put_large("plan", vec![0; LARGE_BYTES_MAX])
            .clone(),
    ];
    for batch in refused {
        let error = kv.commit(batch).unwrap_err();
        assert!(matches!(error, KvError::TooLarge { .. }) && error.is_refusal(), "{error}");
        assert!(error.to_string().contains("\"plan\""), "{error}");
    }
    assert!(matches!(kv.commit(Batch::new().put(long.clone(), "").clone()), Err(KvError::TooLarge { .. })));
    assert!(matches!(kv.commit(Batch::new().expect(long, None).clone()), Err(KvError::TooLarge { .. })));
    assert!(matches!(kv.commit(put("", "x")), Err(KvError::EmptyKey)));
    kv.commit(Batch::new().put(vec![b'k'; KEY_BYTES_MAX], vec![1; VALUE_BYTES_MAX]).clone()).unwrap();
    assert_eq!(kv.scan(b"").unwrap().len(), 1);
}

fn a_refused_batch_writes_nothing(place: &dyn Place) {
    let mut kv = place.open().unwrap();
    kv.commit(put("a", "1")).unwrap();
    let mut batch = put("b", "2");
    batch.delete("a").put("c", vec![0; VALUE_BYTES_MAX + 1]);
    assert!(kv.commit(batch).is_err());
    let mut batch = put("b", "2");
    batch.delete("a").expect("a", Some(b"other".to_vec()));
    assert!(matches!(kv.commit(batch), Err(KvError::Conflict { key }) if key.to_string() == "\"a\""));
    assert_eq!(text(kv.scan(b"").unwrap()), ["a=1"]);
    drop(kv);
    assert_eq!(text(place.open().unwrap().scan(b"").unwrap()), ["a=1"]);
}

fn expectations_are_judged_before_the_batch(place: &dyn Place) {
    let mut kv = place.open().unwrap();
    kv.commit(put("version", "1").expect("version", None).clone()).unwrap();
    assert!(kv.commit(put("version", "1").expect("version", None).clone()).is_err());
    kv.commit(put("version", "2").expect("version", Some(b"1".to_vec())).clone()).unwrap();
    assert!(kv.commit(put("version", "3").expect("version", Some(b"1".to_vec())).clone()).is_err());
    let large = bytes(1, 50_000);
    kv.commit(Batch::new().put_large("spec", large.clone()).clone()).unwrap();
    let mut other = large.clone();
    other[40_000] ^= 1;
    assert!(kv.commit(Batch::new().expect("spec", Some(other)).clone()).is_err());
    kv.commit(Batch::new().expect("spec", Some(large)).delete("spec").clone()).unwrap();
    assert_eq!(text(kv.scan(b"").unwrap()), ["version=2"]);
}

fn each_batch_of_a_group_has_its_own_answer(place: &dyn Place) {
    let mut kv = place.open().unwrap();
    let one = Some(b"1".to_vec());
    let answers = kv.commit_all(vec![
        put("a", "1").expect("a", None).clone(),
        put("b", "never").expect("a", None).clone(),
        put("a", "2").expect("a", one.clone()).clone(),
        Batch::new().put("c", vec![0; VALUE_BYTES_MAX + 1]).clone(),
        put("d", "4").expect("a", Some(b"2".to_vec())).clone(),
    ]);
    let fine: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [true, false, true, false, true]);
    assert_eq!(text(kv.scan(b"").unwrap()), ["a=2", "d=4"]);
    assert!(kv.commit_all(Vec::new()).is_empty());
}

fn one_handle_at_a_time(place: &dyn Place) {
    let kv = place.open().unwrap();
    assert!(matches!(place.open(), Err(KvError::Locked { .. })));
    drop(kv);
    place.open().unwrap();
}

fn agrees_with_a_plain_map(place: &dyn Place) {
    let mut chance = Chance::of_today("agrees_with_a_plain_map");
    let mut map = BTreeMap::<Vec<u8>, Vec<u8>>::new();
    for round in 0..cycles(8, 60) {
        let mut kv = place.open().unwrap();
        assert!(kv.scan(b"").unwrap().into_iter().eq(map.clone()), "round {round}");
        for _ in 0..60 {
            let group: Vec<Batch> = (0..1 + chance.below(3)).map(|_| change(&mut chance, &mut map)).collect();
            assert!(kv.commit_all(group).iter().all(Result::is_ok));
        }
        let prefix = format!("k{}", chance.below(10));
        let under = map.iter().filter(|(key, _)| key.starts_with(prefix.as_bytes()));
        let under: Vec<Record> = under.map(|(key, value)| (key.clone(), value.clone())).collect();
        assert!(kv.scan(prefix.as_bytes()).unwrap() == under);
    }
}

fn change(chance: &mut Chance, map: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Batch {
    let mut batch = Batch::new();
    let watched = format!("k{}", chance.below(100)).into_bytes();
    batch.expect(watched.clone(), map.get(&watched).cloned());
    for _ in 0..chance.below(8) {
        let mut key = format!("k{}", chance.below(100)).into_bytes();
        if chance.below(3) == 0 {
            key.resize(KEY_BYTES_MAX, b'x');
        }
        if chance.below(4) == 0 {
            map.remove(&key);
            batch.delete(key);
        } else {
            let len = [30, 300, 3_000, 40_000][chance.below(4) as usize];
            let value = bytes(chance.next(), chance.below(len) as usize);
            map.insert(key.clone(), value.clone());
            batch.put_large(key, value);
        }
    }
    batch
}

mod memory_fails_when_told {
    use super::*;

    #[test]
    fn a_refusal_is_given_once_and_the_store_works_on() {
        let disk = MemDisk::new();
        let mut kv = disk.open().unwrap();
        disk.fail_next(KvError::Full { dir: "memory".into(), needed: 2, free: 1 });
        assert!(matches!(kv.commit(put("a", "1")), Err(KvError::Full { .. })));
        assert_eq!(kv.scan(b"").unwrap(), []);
        kv.commit(put("a", "1")).unwrap();
        assert_eq!(disk.commits(), 1);
    }

    #[test]
    fn a_fault_ends_the_handle() {
        let disk = MemDisk::new();
        let mut kv = disk.open().unwrap();
        disk.fail_next(KvError::Broken { dir: "memory".into(), why: "as told".into() });
        assert!(kv.commit(put("a", "1")).unwrap_err().must_exit());
        assert!(kv.get(b"a").unwrap_err().must_exit());
        assert!(kv.commit(put("a", "1")).unwrap_err().must_exit());
    }

    #[test]
    fn a_crash_leaves_all_of_a_batch_or_nothing() {
        for (crash, left) in [(Crash::BeforeCommit, vec!["a=1"]), (Crash::AfterCommit, vec!["a=2", "b=2"])] {
            let disk = MemDisk::new();
            let mut kv = disk.open().unwrap();
            kv.commit(put("a", "1")).unwrap();
            disk.crash_next(crash);
            assert!(kv.commit(put("a", "2").put("b", "2").clone()).unwrap_err().must_exit());
            assert!(kv.get(b"a").unwrap_err().must_exit());
            drop(kv);
            assert_eq!(text(disk.open().unwrap().scan(b"").unwrap()), left);
        }
    }
}
