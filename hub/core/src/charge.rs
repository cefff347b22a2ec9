//! What does a workload take from an agent? Limits are reservations; the document itself is one
//! more thing that can be full, so that it can never outgrow what an agent accepts.

use std::fmt;

use contract::limits::{ASSIGNMENTS_MAX, MESSAGE_BYTES_MAX, WIRE_BYTES_MAX};
use contract::message::Capacity;
use contract::quantity::{Bytes, Cpu};

/// Envelope, signature and head of a document.
const ENVELOPE_BYTES: u64 = 1 << 10;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Charge {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub storage_bytes: u64,
    /// Of the document: uncompressed, and an upper bound of what compression leaves.
    pub plain_bytes: u64,
    pub wire_bytes: u64,
    pub assignments: u32,
    pub instances: u32,
}

/// What one workload costs: a part once for each agent, a part for each slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    /// Only what somebody asked for: a default is a bound, and few come near it.
    pub storage_bytes: u64,
    pub plain_bytes: u32,
    pub wire_bytes: u32,
}

/// A slot number in the document: up to five digits and a comma.
const SLOT_BYTES: u64 = 6;

impl Price {
    /// Of so many slots, of which `ended` have run to their end: these are in the document, and in no
    /// memory.
    pub fn of(&self, slots: usize, ended: usize) -> Charge {
        if slots == 0 {
            return Charge::default();
        }
        let (n, live) = (slots as u64, slots.saturating_sub(ended) as u64);
        Charge {
            cpu_millis: live * u64::from(self.cpu_millis),
            memory_bytes: live.saturating_mul(self.memory_bytes),
            storage_bytes: live.saturating_mul(self.storage_bytes),
            plain_bytes: u64::from(self.plain_bytes) + n * SLOT_BYTES,
            wire_bytes: u64::from(self.wire_bytes) + n * SLOT_BYTES,
            assignments: 1,
            instances: slots as u32,
        }
    }
}

/// Of `Charge::load`.
const FULL: u32 = 1 << 20;

impl Charge {
    /// Everything an agent can take.
    pub fn limit(capacity: &Capacity) -> Charge {
        Charge {
            cpu_millis: u64::from(capacity.cpu_millis),
            memory_bytes: capacity.memory_bytes,
            storage_bytes: capacity.storage_bytes,
            plain_bytes: MESSAGE_BYTES_MAX as u64 - ENVELOPE_BYTES,
            wire_bytes: WIRE_BYTES_MAX as u64 - ENVELOPE_BYTES,
            assignments: ASSIGNMENTS_MAX as u32,
            instances: u32::MAX,
        }
    }

    #[must_use]
    pub fn plus(self, other: Charge) -> Charge {
        self.zip(other, u64::saturating_add)
    }

    #[must_use]
    pub fn minus(self, other: Charge) -> Charge {
        self.zip(other, u64::saturating_sub)
    }

    fn zip(self, other: Charge, op: impl Fn(u64, u64) -> u64) -> Charge {
        let small = |a: u32, b: u32| u32::try_from(op(a.into(), b.into())).unwrap_or(u32::MAX);
        Charge {
            cpu_millis: op(self.cpu_millis, other.cpu_millis),
            memory_bytes: op(self.memory_bytes, other.memory_bytes),
            storage_bytes: op(self.storage_bytes, other.storage_bytes),
            plain_bytes: op(self.plain_bytes, other.plain_bytes),
            wire_bytes: op(self.wire_bytes, other.wire_bytes),
            assignments: small(self.assignments, other.assignments),
            instances: small(self.instances, other.instances),
        }
    }

    /// How full a board is, by the resource that is fullest: 0 is empty, `FULL` is full.
    pub fn load(self, limit: Charge) -> u32 {
        let share = |used: u64, limit: u64| match limit {
            0 if used == 0 => 0,
            0 => u64::from(FULL),
            limit => (u128::from(used) * u128::from(FULL) / u128::from(limit)).min(u128::from(FULL)) as u64,
        };
        let cpu = share(self.cpu_millis, limit.cpu_millis);
        let memory = share(self.memory_bytes, limit.memory_bytes);
        let storage = share(self.storage_bytes, limit.storage_bytes);
        let document = share(self.plain_bytes, limit.plain_bytes);
        cpu.max(memory).max(storage).max(document) as u32
    }

    /// Whether `new` may stand where `old` stood beside `rest`: each part fits, or did not grow (a
    /// board that came back smaller throws nothing out).
    pub fn shortage(limit: Charge, rest: Charge, old: Charge, new: Charge) -> Option<Shortage> {
        let over = |part: fn(&Charge) -> u64| {
            let grew = part(&new) > part(&old);
            let free = part(&limit).saturating_sub(part(&rest));
            (grew && part(&new) > free).then_some((part(&new), free))
        };
        if let Some((needs, free)) = over(|c| c.cpu_millis) {
            return Some(Shortage::Cpu { needs, free });
        }
        if let Some((needs, free)) = over(|c| c.memory_bytes) {
            return Some(Shortage::Memory { needs, free });
        }
        if let Some((needs, free)) = over(|c| c.storage_bytes) {
            return Some(Shortage::Storage { needs, free });
        }
        if over(|c| u64::from(c.assignments)).is_some() {
            return Some(Shortage::Assignments);
        }
        let document = over(|c| c.wire_bytes).map(|(needs, free)| (needs, free, limit.wire_bytes));
        let document = document.or_else(|| over(|c| c.plain_bytes).map(|(n, f)| (n, f, limit.plain_bytes)));
        document.map(|(needs, free, max)| Shortage::Document { bytes: max - free.min(max) + needs, max })
    }
}

/// What an agent has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    Cpu { needs: u64, free: u64 },
    Memory { needs: u64, free: u64 },
    Storage { needs: u64, free: u64 },
    Assignments,
    Document { bytes: u64, max: u64 },
}

impl Shortage {
    pub fn is_of_document(&self) -> bool {
        matches!(self, Shortage::Assignments | Shortage::Document { .. })
    }

    /// What there is too little of.
    pub fn about(&self) -> &'static str {
        match self {
            Shortage::Cpu { .. } => "cpu",
            Shortage::Memory { .. } => "memory",
            Shortage::Storage { .. } => "storage",
            Shortage::Assignments => "the number of workloads",
            Shortage::Document { .. } => "the document",
        }
    }

    /// How much more there would have to be.
    pub fn by(&self) -> u64 {
        match *self {
            Shortage::Cpu { needs, free }
            | Shortage::Memory { needs, free }
            | Shortage::Storage { needs, free } => needs.saturating_sub(free),
            Shortage::Assignments => 1,
            Shortage::Document { bytes, max } => bytes.saturating_sub(max),
        }
    }

    /// The same, for people.
    pub fn amount(&self) -> String {
        match self {
            Shortage::Cpu { .. } => cpu(self.by()).to_string(),
            // Up, so that what is said is enough.
            Shortage::Memory { .. } | Shortage::Storage { .. } => {
                memory(self.by() + ((1 << 20) - 1)).to_string()
            }
            Shortage::Assignments => "1".to_string(),
            Shortage::Document { .. } => format!("{} bytes", self.by()),
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Shortage::Cpu { needs, free } => write!(f, "needs {} of cpu, {} free", cpu(needs), cpu(free)),
            Shortage::Memory { needs, free } => {
                write!(f, "needs {} of memory, {} free", Bytes(needs), memory(free))
            }
            Shortage::Storage { needs, free } => {
                write!(f, "needs {} of storage, {} free", Bytes(needs), memory(free))
            }
            Shortage::Assignments => write!(f, "has {ASSIGNMENTS_MAX} workloads already, no more are taken"),
            Shortage::Document { bytes, max } => {
                write!(f, "its document would have {bytes} bytes; at most {max} are taken")
            }
        }
    }
}

fn cpu(millis: u64) -> Cpu {
    Cpu { millis: u32::try_from(millis).unwrap_or(u32::MAX) }
}

/// Rounded down to whole Mi: nobody reads `13004800`.
fn memory(bytes: u64) -> Bytes {
    Bytes(if bytes < 1 << 20 { bytes } else { bytes >> 20 << 20 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Charge = Charge {
        cpu_millis: 1000,
        memory_bytes: 100 << 20,
        storage_bytes: 1 << 30,
        plain_bytes: 1000,
        wire_bytes: 500,
        assignments: 2,
        instances: u32::MAX,
    };

    #[test]
    fn a_shortage_says_how_much_is_missing() {
        let price = Price {
            cpu_millis: 100,
            memory_bytes: 64 << 20,
            plain_bytes: 10,
            wire_bytes: 10,
            ..Price::default()
        };
        let rest = Charge { memory_bytes: 88 << 20, ..Charge::default() };
        let short = Charge::shortage(LIMIT, rest, Charge::default(), price.of(1, 0)).unwrap();
        assert_eq!(short.to_string(), "needs 64Mi of memory, 12Mi free");
        assert_eq!(Charge::shortage(LIMIT, Charge::default(), Charge::default(), price.of(1, 0)), None);
    }

    #[test]
    fn what_did_not_grow_is_not_thrown_out() {
        let price = Price {
            cpu_millis: 100,
            memory_bytes: 200 << 20,
            plain_bytes: 10,
            wire_bytes: 10,
            ..Price::default()
        };
        let (old, rest) = (price.of(1, 0), Charge::default());
        assert_eq!(Charge::shortage(LIMIT, rest, old, old), None);
        assert!(Charge::shortage(LIMIT, rest, Charge::default(), old).is_some());
    }

    #[test]
    fn a_full_document_names_its_size() {
        let price = Price { wire_bytes: 300, ..Price::default() };
        let rest = price.of(1, 0);
        let short = Charge::shortage(LIMIT, rest, Charge::default(), price.of(1, 0)).unwrap();
        assert_eq!(short, Shortage::Document { bytes: 612, max: 500 });
        assert!(short.is_of_document());
    }
}
