//! Which board takes which slot? The kept ones stay; the others go where the fewest are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::{Ask, Board, able, allows, is_shunned, room, takes};
use crate::charge::Charge;
use crate::record::AgentRecord;

/// The slots below `replicas` that stay on a board: all of them, unless the workload has grown out
/// of it; then the lowest that fit.
pub fn kept(ask: &Ask<'_>, board: &Board<'_>, replicas: u32) -> BTreeSet<u32> {
    let Some(own) = board.own else { return BTreeSet::new() };
    if allows(ask, board).is_err() {
        return BTreeSet::new();
    }
    let mut kept: BTreeSet<u32> = own.slots.range(..replicas).copied().collect();
    let ended = |kept: &BTreeSet<u32>| own.ended.iter().filter(|slot| kept.contains(slot)).count();
    while !kept.is_empty() && room(ask, board, kept.len(), ended(&kept)).is_err() {
        kept.pop_last();
    }
    kept
}

/// Slots by the value of the label over which they are spread; one count if there is none.
#[derive(Debug, Clone, Default)]
pub struct Groups(BTreeMap<Option<String>, usize>);

pub fn group<'a>(spread: Option<&str>, record: &'a AgentRecord) -> Option<&'a str> {
    record.labels.get(spread?).map(String::as_str)
}

impl Groups {
    pub fn add(&mut self, group: Option<&str>, slots: usize) {
        *self.0.entry(group.map(str::to_string)).or_default() += slots;
    }

    fn of(&self, group: Option<&str>) -> usize {
        self.0.get(&group.map(str::to_string)).copied().unwrap_or(0)
    }
}

/// Which board (by its place in the list) takes which slot, and the slots that none takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placing {
    pub given: Vec<(usize, u32)>,
    pub left: Vec<u32>,
}

/// A board among those of its group; the least goes first. Boards come sorted by id, so that the last
/// part breaks the tie by id.
type Place = (bool, bool, Reverse<u32>, usize, u32, usize);

/// A group's best board, the count of the group between, and which group it is.
type Rank = (bool, bool, usize, Place, usize);

/// Boards with one value of the spread label.
struct Shelf {
    count: usize,
    boards: BinaryHeap<Reverse<Place>>,
}

impl Shelf {
    /// Heard of and not shunned before all else; then the group with the fewest slots, the preferred
    /// boards, those with the fewest slots, the emptiest.
    fn rank(&self, n: usize) -> Option<Reverse<Rank>> {
        let Reverse(place) = *self.boards.peek()?;
        Some(Reverse((place.0, place.1, self.count, place, n)))
    }
}

/// Hand the `wanted` slots out to boards that keep `has` slots each.
pub fn fill(
    ask: &Ask<'_>,
    boards: &[Board<'_>],
    has: &[usize],
    groups: &Groups,
    wanted: Vec<u32>,
) -> Placing {
    let mut placing = Placing::default();
    if wanted.is_empty() {
        return placing;
    }
    let mut has = has.to_vec();
    let mut shelves = shelves(ask, boards, &has, groups);
    let mut top: BinaryHeap<_> = shelves.iter().enumerate().filter_map(|(n, shelf)| shelf.rank(n)).collect();
    for slot in wanted {
        // A board that has no room for this slot has none for the next: all slots cost the same.
        let found = loop {
            let Some(Reverse((.., n))) = top.pop() else { break None };
            let shelf = &mut shelves[n];
            let Some(Reverse((.., board))) = shelf.boards.pop() else { continue };
            let fits = takes(ask, &boards[board], has[board]).is_ok();
            if fits {
                has[board] += 1;
                shelf.count += 1;
                shelf.boards.push(Reverse(place(ask, &boards[board], has[board], board)));
            }
            top.extend(shelf.rank(n));
            if fits {
                break Some(board);
            }
        };
        match found {
            Some(board) => placing.given.push((board, slot)),
            None => placing.left.push(slot),
        }
    }
    placing
}

fn shelves(ask: &Ask<'_>, boards: &[Board<'_>], has: &[usize], groups: &Groups) -> Vec<Shelf> {
    let mut shelves: BTreeMap<Option<&str>, Vec<Reverse<Place>>> = BTreeMap::new();
    for (n, board) in boards.iter().enumerate() {
        if able(ask, board).is_ok() && board.fits.is_ok() {
            let shelf = shelves.entry(group(ask.spread(), board.record)).or_default();
            shelf.push(Reverse(place(ask, board, has[n], n)));
        }
    }
    let shelf =
        |(group, boards): (Option<&str>, Vec<_>)| Shelf { count: groups.of(group), boards: boards.into() };
    shelves.into_iter().map(shelf).collect()
}

fn place(ask: &Ask<'_>, board: &Board<'_>, has: usize, n: usize) -> Place {
    let load = match (board.own, has) {
        (None, 0) => board.load,
        (own, has) => {
            let (before, ended) = own.map_or((Charge::default(), 0), |own| (own.charge, own.ended.len()));
            let used = board.used.minus(before).plus(ask.price.of(has, ended.min(has)));
            used.load(board.limit)
        }
    };
    (!board.reachable, is_shunned(ask, board), Reverse(ask.weight(board.record)), has, load, n)
}

/// Whether a board that has nothing of it takes its first slot as willingly as any other: then the
/// emptiest of these is where `fill` would put one.
pub fn takes_first(ask: &Ask<'_>, board: &Board<'_>) -> bool {
    board.reachable
        && board.own.is_none()
        && able(ask, board).is_ok()
        && !is_shunned(ask, board)
        && takes(ask, board, 0).is_ok()
}
