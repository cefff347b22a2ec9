//! Where does a workload run? Pure: the same boards and the same ask give the same answer. A slot
//! that is placed stays where it is while its selector allows it, whether its agent is heard of or
//! not: an outage replaces nothing.
//!
//! `mod` asks one board, `pick` chooses among many, `evict` finds who yields to a higher priority.

mod evict;
mod pick;
mod why;

use std::collections::BTreeSet;

use contract::WorkloadKey;
use contract::limits::SLOTS_PER_AGENT_MAX;
use contract::platform::Platform;
use contract::spec::{Placement, Selector, Toleration};
use contract::taint::TaintEffect;

use crate::charge::{Charge, Price};
use crate::image::ImageRecord;
use crate::labels;
use crate::record::AgentRecord;

pub use evict::{Lower, Plan, evict};
pub use pick::{Groups, fill, group, kept, takes_first};
pub use why::{Alike, Grouped, WhyNot};

/// What a workload wants of a board.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub placement: Option<&'a Placement>,
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

/// What this workload has on a board.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    pub slots: &'a BTreeSet<u32>,
    pub charge: Charge,
    /// Slots that have run to their end and reserve nothing any more.
    pub ended: &'a [u32],
}

/// What a board has.
#[derive(Debug, Clone, Copy)]
pub struct Board<'a> {
    pub agent: &'a contract::AgentId,
    pub record: &'a AgentRecord,
    pub limit: Charge,
    /// By all workloads, this one included.
    pub used: Charge,
    /// The fullest of its resources (`World::load`).
    pub load: u32,
    pub own: Option<Own<'a>>,
    /// New slots go to boards that are heard of, if there are any.
    pub reachable: bool,
    /// Whether there is anything of the artefact that it could run.
    pub fits: Result<(), Lack<'a>>,
    /// A port of the ask that another workload has here.
    pub taken: Option<(u16, &'a WorkloadKey)>,
}

impl<'a> Board<'a> {
    fn slots(&self) -> usize {
        self.own.map_or(0, |own| own.slots.len())
    }

    fn ended(&self) -> &'a [u32] {
        self.own.map_or(&[], |own| own.ended)
    }
}

impl<'a> Ask<'a> {
    fn selector(&self) -> Option<&'a Selector> {
        self.placement.and_then(|p| p.selector.as_ref())
    }

    fn tolerations(&self) -> &'a [Toleration] {
        self.placement.map_or(&[], |p| &p.tolerations)
    }

    /// The label over which it is spread.
    pub fn spread(&self) -> Option<&'a str> {
        self.placement.and_then(|p| p.spread.as_deref())
    }

    pub fn tolerates(&self, key: &str, value: &str, effect: TaintEffect) -> bool {
        self.tolerations().iter().any(|t| t.tolerates(key, value, effect))
    }

    /// How much a board is preferred.
    fn weight(&self, record: &AgentRecord) -> u32 {
        let preferred = self.placement.and_then(|p| p.affinity.as_ref()).map_or(&[][..], |a| &a.preferred);
        let holds = preferred.iter().filter(|p| labels::miss(Some(&p.selector), &record.labels).is_none());
        holds.map(|p| p.weight.unwrap_or(1)).sum()
    }

    /// Whether any board is preferred to another, but for what is on it.
    pub fn has_taste(&self) -> bool {
        let affinity = self.placement.and_then(|p| p.affinity.as_ref());
        self.spread().is_some() || affinity.is_some_and(|a| !a.preferred.is_empty())
    }
}

/// Whether the board's labels and architecture are what is wanted. With what the operator does not want
/// to run there (`allows`), that alone keeps a placed slot legal.
pub fn suits<'a>(ask: &Ask<'a>, record: &AgentRecord) -> Result<(), WhyNot<'a>> {
    if let Some(miss) = labels::miss(ask.selector(), &record.labels) {
        return Err(WhyNot::Selector(miss));
    }
    let Some(placement) = ask.placement else { return Ok(()) };
    let required = placement.affinity.as_ref().map_or(&[][..], |a| &a.required);
    if !required.is_empty() && required.iter().all(|t| labels::miss(Some(t), &record.labels).is_some()) {
        return Err(WhyNot::Affinity(required.len()));
    }
    match placement.arch.as_deref() {
        Some(arch) if !Platform::of_board(&record.arch).runs(&Platform::of_board(arch)) => {
            Err(WhyNot::Arch(arch))
        }
        _ => Ok(()),
    }
}

/// Whether what is here may stay.
fn allows<'a>(ask: &Ask<'a>, board: &Board<'a>) -> Result<(), WhyNot<'a>> {
    suits(ask, board.record)?;
    untolerated(ask, board, |effect| effect == TaintEffect::NoExecute, false)
}

/// The first taint with such an effect that is not tolerated; the hub's own marks (cordon, drain) count
/// only for what is new.
fn untolerated<'a>(
    ask: &Ask<'a>,
    board: &Board<'a>,
    effects: impl Fn(TaintEffect) -> bool,
    new: bool,
) -> Result<(), WhyNot<'a>> {
    let Some(operator) = board.record.operator.as_deref() else { return Ok(()) };
    let marks = operator.marks().filter(|_| new);
    let taints = operator.taints.iter().map(|t| (t.key.as_str(), t.value.as_str(), t.effect));
    let mut all = marks.map(|(key, effect)| (key, "", effect)).chain(taints);
    let stands = all.find(|(key, value, effect)| effects(*effect) && !ask.tolerates(key, value, *effect));
    stands.map_or(Ok(()), |(key, value, effect)| Err(WhyNot::Taint { key, value, effect }))
}

/// Something new comes here only when it has no other place.
fn is_shunned(ask: &Ask<'_>, board: &Board<'_>) -> bool {
    untolerated(ask, board, |effect| effect == TaintEffect::PreferNoSchedule, true).is_err()
}

/// Whether a board could take new slots, its free room aside.
fn able<'a>(ask: &Ask<'a>, board: &Board<'a>) -> Result<(), WhyNot<'a>> {
    suits(ask, board.record)?;
    untolerated(ask, board, |effect| effect != TaintEffect::PreferNoSchedule, true)?;
    if let Some(feature) = ask.requires.iter().find(|f| !board.record.features.contains(*f)) {
        return Err(WhyNot::Feature(feature));
    }
    match board.fits {
        Err(lack @ Lack::Platform { .. }) => Err(WhyNot::Lacks(lack)),
        _ => Ok(()),
    }
}

/// Why a board would not take `n` slots in all, `ended` of them at their end, where it has what
/// `board.own` says.
fn room<'a>(ask: &Ask<'a>, board: &Board<'a>, n: usize, ended: usize) -> Result<(), WhyNot<'a>> {
    if let Some((port, key)) = board.taken {
        return Err(WhyNot::Port(port, key));
    }
    if let Some(port) = ask.ports.first().filter(|_| n > 1) {
        return Err(WhyNot::OwnPort(*port));
    }
    let old = board.own.map_or(Charge::default(), |own| own.charge);
    let short = Charge::shortage(board.limit, board.used.minus(old), old, ask.price.of(n, ended));
    short.map_or(Ok(()), |shortage| Err(WhyNot::Short(shortage)))
}

/// Why one slot more would not go to this board; Ok if it would.
pub fn why_not<'a>(ask: &Ask<'a>, board: &Board<'a>, replicas: bool) -> Result<(), WhyNot<'a>> {
    able(ask, board)?;
    let n = board.slots();
    if replicas { takes(ask, board, n) } else { room(ask, board, n + 1, board.ended().len()) }
}

/// Whether a board that has `has` slots takes one more, its labels and taints aside.
fn takes<'a>(ask: &Ask<'a>, board: &Board<'a>, has: usize) -> Result<(), WhyNot<'a>> {
    board.fits.map_err(WhyNot::Lacks)?;
    if has >= SLOTS_PER_AGENT_MAX {
        return Err(WhyNot::Slots);
    }
    room(ask, board, has + 1, board.ended().len())
}

/// `everyAgent`: whether slot 0 is on this board. A board whose engine nobody serves is a target
/// all the same: it waits, by name. (A worker may come; an image's platforms do not.)
pub fn every<'a>(ask: &Ask<'a>, board: &Board<'a>) -> Result<(), WhyNot<'a>> {
    match board.own {
        Some(_) => allows(ask, board)?,
        None => able(ask, board)?,
    }
    room(ask, board, 1, board.ended().len())
}
