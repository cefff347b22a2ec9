//! Who yields to a higher priority? The fewest of the lowest, and only where nothing else helps.

use std::collections::BTreeSet;

use contract::WorkloadKey;

use super::{Ask, Board, able, takes};
use crate::charge::{Charge, Price};

/// A workload of lower priority on a board.
#[derive(Debug, Clone)]
pub struct Lower<'a> {
    pub key: &'a WorkloadKey,
    pub priority: i32,
    pub slots: &'a BTreeSet<u32>,
    /// These reserve nothing any more; to stop them would help nobody.
    pub ended: &'a [u32],
    pub price: Price,
    pub charge: Charge,
    /// It has a port that is wanted.
    pub has_port: bool,
}

/// What has to go from a board so that one slot more fits. The least is the best: the lower the highest
/// priority that yields, the better, then the fewer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plan {
    pub highest: i32,
    pub count: usize,
    pub victims: Vec<(WorkloadKey, u32)>,
}

/// `board.taken` says only what workloads of no lower priority have. None: not even without all of `lower`.
pub fn evict(ask: &Ask<'_>, board: &Board<'_>, has: usize, lower: &[Lower<'_>]) -> Option<Plan> {
    if !board.reachable || able(ask, board).is_err() {
        return None;
    }
    let must: Vec<Unit> = units(lower, |l| l.has_port);
    let may = units(lower, |l| !l.has_port);
    let fits = |gone: &[Unit]| {
        let board = Board { used: left(board.used, lower, gone), ..*board };
        takes(ask, &board, has).is_ok()
    };
    let mut gone = must.clone();
    let mut may = may.into_iter();
    while !fits(&gone) {
        gone.push(may.next()?);
    }
    // What was taken before something larger may be spared; the highest first.
    for n in (must.len()..gone.len()).rev() {
        let unit = gone.remove(n);
        if !fits(&gone) {
            gone.insert(n, unit);
        }
    }
    let victims: Vec<_> = gone.iter().map(|unit| (lower[unit.of].key.clone(), unit.slot)).collect();
    let highest = gone.iter().map(|unit| lower[unit.of].priority).max()?;
    Some(Plan { highest, count: victims.len(), victims })
}

/// One slot of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    of: usize,
    slot: u32,
}

/// In the order in which they yield: the lowest priority first, of one workload the highest slot.
fn units(lower: &[Lower<'_>], wanted: impl Fn(&Lower<'_>) -> bool) -> Vec<Unit> {
    let mut order: Vec<usize> = (0..lower.len()).filter(|n| wanted(&lower[*n])).collect();
    order.sort_by_key(|n| (lower[*n].priority, lower[*n].key));
    let slots = |of: usize| {
        let lower = &lower[of];
        lower
            .slots
            .iter()
            .rev()
            .filter(|slot| !lower.ended.contains(slot))
            .map(move |slot| Unit { of, slot: *slot })
    };
    order.into_iter().flat_map(slots).collect()
}

/// What is used of the board then. Whoever gives anything is priced anew: it may have grown since it was
/// placed, and not have been asked yet.
fn left(used: Charge, lower: &[Lower<'_>], gone: &[Unit]) -> Charge {
    lower.iter().enumerate().fold(used, |used, (n, lower)| match gone.iter().filter(|u| u.of == n).count() {
        0 => used,
        gone => {
            let left = lower.slots.len() - gone;
            used.minus(lower.charge).plus(lower.price.of(left, lower.ended.len().min(left)))
        }
    })
}
