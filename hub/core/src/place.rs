//! Where does a workload run? Pure: the same boards and the same ask give the same answer. A slot
//! that is placed stays where it is while its selector allows it, whether its agent is heard of or
//! not: an outage replaces nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;

use contract::limits::SLOTS_PER_AGENT_MAX;
use contract::spec::Selector;
use contract::{AgentId, WorkloadKey};

use crate::charge::{Charge, Price, Shortage};
use crate::image::{ImageRecord, nothing_for};
use crate::labels::{self, Labels, Miss};

/// What a workload wants of a board.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub selector: Option<&'a Selector>,
    pub requires: &'a BTreeSet<String>,
    pub price: Price,
    /// Ports of the board; one slot at most has them.
    pub ports: &'a [u16],
}

/// Why a board could be given nothing to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lack<'a> {
    /// The engine for which no worker compiles.
    Engine(&'a str),
    /// The image has no part for this architecture.
    Platform { arch: &'a str, image: &'a ImageRecord },
}

/// What a board has.
#[derive(Debug, Clone, Copy)]
pub struct Board<'a> {
    pub agent: &'a AgentId,
    pub labels: &'a Labels,
    pub features: &'a BTreeSet<String>,
    pub limit: Charge,
    /// By all workloads, this one included.
    pub used: Charge,
    /// The slots of this workload that are here, and what they were charged.
    pub own: Option<(&'a BTreeSet<u32>, Charge)>,
    /// New slots go to boards that are heard of, if there are any.
    pub reachable: bool,
    /// Whether there is anything of the artefact that it could run.
    pub fits: Result<(), Lack<'a>>,
    /// A port of the ask that another workload has here.
    pub taken: Option<(u16, &'a WorkloadKey)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum WhyNot<'a> {
    Selector(Miss<'a>),
    Feature(&'a str),
    Lacks(Lack<'a>),
    Port(u16, &'a WorkloadKey),
    /// Another slot of the same workload is here, and has the port.
    OwnPort(u16),
    Short(Shortage),
    Slots,
}

impl fmt::Display for WhyNot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::Selector(miss) => write!(f, "selector wants {miss}"),
            WhyNot::Feature(feature) => write!(f, "lacks the feature '{feature}'"),
            WhyNot::Lacks(Lack::Engine("")) => f.write_str("reports no engine to compile for"),
            WhyNot::Lacks(Lack::Engine(engine)) => {
                write!(f, "its engine {engine} is served by no compile worker")
            }
            WhyNot::Lacks(Lack::Platform { arch, image }) => f.write_str(&nothing_for(arch, image)),
            WhyNot::Port(port, key) => write!(f, "waits for port {port}, which {key} has there"),
            WhyNot::OwnPort(port) => write!(f, "has an instance of it already, which has port {port}"),
            WhyNot::Short(shortage) => shortage.fmt(f),
            WhyNot::Slots => write!(f, "has {SLOTS_PER_AGENT_MAX} instances of it already"),
        }
    }
}

/// Whether the selector allows the board at all. That alone keeps a placed slot legal.
fn allows<'a>(ask: &Ask<'a>, board: &Board<'_>) -> Result<(), WhyNot<'a>> {
    labels::miss(ask.selector, board.labels).map_or(Ok(()), |miss| Err(WhyNot::Selector(miss)))
}

/// Whether a board could take new slots, its free room aside.
fn able<'a>(ask: &Ask<'a>, board: &Board<'a>) -> Result<(), WhyNot<'a>> {
    allows(ask, board)?;
    if let Some(feature) = ask.requires.iter().find(|f| !board.features.contains(*f)) {
        return Err(WhyNot::Feature(feature));
    }
    match board.fits {
        Err(lack @ Lack::Platform { .. }) => Err(WhyNot::Lacks(lack)),
        _ => Ok(()),
    }
}

/// Why a board would not take `n` slots in all, where it has what `board.own` says.
fn room<'a>(ask: &Ask<'a>, board: &Board<'a>, n: usize) -> Result<(), WhyNot<'a>> {
    if let Some((port, key)) = board.taken {
        return Err(WhyNot::Port(port, key));
    }
    if let Some(port) = ask.ports.first().filter(|_| n > 1) {
        return Err(WhyNot::OwnPort(*port));
    }
    let old = board.own.map_or(Charge::default(), |(_, charge)| charge);
    let short = Charge::shortage(board.limit, board.used.minus(old), old, ask.price.of(n));
    short.map_or(Ok(()), |shortage| Err(WhyNot::Short(shortage)))
}

/// Why a new slot would not go to this board; Ok if it would.
pub fn why_not<'a>(ask: &Ask<'a>, board: &Board<'a>, replicas: bool) -> Result<(), WhyNot<'a>> {
    able(ask, board)?;
    let n = board.own.map_or(0, |(slots, _)| slots.len());
    if replicas {
        board.fits.map_err(WhyNot::Lacks)?;
        if n >= SLOTS_PER_AGENT_MAX {
            return Err(WhyNot::Slots);
        }
    }
    room(ask, board, n + 1)
}

/// `everyAgent`: whether slot 0 is on this board. A board whose engine nobody serves is a target
/// all the same: it waits, by name. (A worker may come; an image's platforms do not.)
pub fn every<'a>(ask: &Ask<'a>, board: &Board<'a>) -> Result<(), WhyNot<'a>> {
    match board.own {
        Some(_) => allows(ask, board)?,
        None => able(ask, board)?,
    }
    room(ask, board, 1)
}

/// The slots below `replicas` that stay on a board: all of them, unless the workload has grown out
/// of it; then the lowest that fit.
pub fn kept(ask: &Ask<'_>, board: &Board<'_>, replicas: u32) -> BTreeSet<u32> {
    let Some((slots, _)) = board.own else { return BTreeSet::new() };
    if allows(ask, board).is_err() {
        return BTreeSet::new();
    }
    let mut kept: BTreeSet<u32> = slots.range(..replicas).copied().collect();
    while !kept.is_empty() && room(ask, board, kept.len()).is_err() {
        kept.pop_last();
    }
    kept
}

/// Slots by agent, and those that no board takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placing {
    pub slots: BTreeMap<AgentId, BTreeSet<u32>>,
    pub unplaced: Vec<u32>,
}

/// `replicas`: the kept slots stay, the others go to the boards with the fewest instances of this
/// workload, then the fewest of all, then by id.
pub fn replicas(ask: &Ask<'_>, boards: &[Board<'_>], replicas: u32) -> Placing {
    let mut slots: Vec<BTreeSet<u32>> = boards.iter().map(|board| kept(ask, board, replicas)).collect();
    let mut taken = BTreeSet::new();
    for kept in &mut slots {
        kept.retain(|slot| taken.insert(*slot));
    }
    let wanted: Vec<u32> = (0..replicas).filter(|slot| !taken.contains(slot)).collect();
    let unplaced = fill(ask, boards, &mut slots, wanted);
    let slots = boards.iter().zip(slots).filter(|(_, slots)| !slots.is_empty());
    Placing { slots: slots.map(|(board, slots)| (board.agent.clone(), slots)).collect(), unplaced }
}

/// Hand the `wanted` slots out; what remains fits nowhere.
pub fn fill(ask: &Ask<'_>, boards: &[Board<'_>], slots: &mut [BTreeSet<u32>], wanted: Vec<u32>) -> Vec<u32> {
    if wanted.is_empty() {
        return wanted;
    }
    let mut heap: BinaryHeap<_> = (0..boards.len())
        .filter(|n| able(ask, &boards[*n]).is_ok() && boards[*n].fits.is_ok())
        .map(|n| Reverse(rank(&boards[n], slots[n].len(), n)))
        .collect();
    let mut unplaced = Vec::new();
    for slot in wanted {
        // A board that has no room for this slot has none for the next: all slots cost the same.
        let next = loop {
            match heap.pop() {
                Some(Reverse((.., n))) if takes(ask, &boards[n], slots[n].len()) => break Some(n),
                Some(_) => continue,
                None => break None,
            }
        };
        let Some(n) = next else {
            unplaced.push(slot);
            continue;
        };
        slots[n].insert(slot);
        heap.push(Reverse(rank(&boards[n], slots[n].len(), n)));
    }
    unplaced
}

fn takes(ask: &Ask<'_>, board: &Board<'_>, has: usize) -> bool {
    has < SLOTS_PER_AGENT_MAX && room(ask, board, has + 1).is_ok()
}

/// The least goes first. `boards` come sorted by id, so the index breaks the tie by id.
fn rank(board: &Board<'_>, own: usize, n: usize) -> (bool, usize, usize, usize) {
    let before = board.own.map_or(0, |(slots, _)| slots.len());
    let all = (board.used.instances as usize).saturating_sub(before) + own;
    (!board.reachable, own, all, n)
}
