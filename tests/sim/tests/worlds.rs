//! Two thousand worlds; the halves run beside each other.

fn worlds(seeds: std::ops::Range<u64>) {
    if let Err(told) = sim::run_all(seeds) {
        panic!("{told}");
    }
}

#[test]
fn every_promise_holds_in_the_first_thousand_worlds() {
    worlds(0..1_000);
}

#[test]
fn every_promise_holds_in_the_second_thousand_worlds() {
    worlds(1_000..2_000);
}
