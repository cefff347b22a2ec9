//! What kind of world does a seed make? Which defects the broker has, how slow and how faulty the
//! disks are, how long chaos lasts. Each world has only some of the ills: with all of them at once
//! nothing would get far enough to break.

use contract::time::Millis;

use crate::rng::Rng;

/// One switch per defect that a real broker was seen to have; chances in a thousand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Broker {
    /// Acknowledged, then dropped.
    pub acks_then_drops: u64,
    /// What is under way when a session is taken over is lost.
    pub loses_on_takeover: bool,
    /// A will is published long after the session that it ends.
    pub late_will: u64,
    pub retained_lost: u64,
    /// An older retained message is handed out.
    pub retained_stale: u64,
    /// What was meant for a session that ended reaches the next one.
    pub stale_queue: bool,
    pub duplicates: u64,
    /// Messages on different topics overtake each other.
    pub reorders: bool,
    pub delay_max_ms: Millis,
    /// A restart forgets what was retained.
    pub forgets: bool,
    /// It runs inside the hub's process and dies with it.
    pub embedded: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub agents: usize,
    pub chaos_ms: Millis,
    /// Between two acts of chaos, at most.
    pub pause_ms: Millis,
    pub heartbeat_ms: Millis,
    pub broker: Broker,
    pub sync_ms: Millis,
    pub sync_faults: u64,
    pub fetch_faults: u64,
    pub start_faults: u64,
    pub stop_faults: u64,
    /// Restored and deleted hub stores.
    pub restores: bool,
    pub agent_store_loss: bool,
    pub duplicates: bool,
    pub bad_revisions: bool,
    /// Operators label, taint, cordon and drain boards.
    pub tended: bool,
    /// Boards are too small for everything.
    pub tight: bool,
    /// After settling, a whole day in which nothing happens.
    pub idle_day: bool,
    /// Workloads have probes, and illnesses that these see.
    pub probes: bool,
    /// Workloads use a Config, which changes.
    pub data: bool,
}

impl Plan {
    pub fn of(seed: u64) -> Plan {
        let rng = &mut Rng::new(seed ^ 0x91a7);
        let some = |rng: &mut Rng, permille: u64| if rng.chance(400) { permille } else { 0 };
        let broker = Broker {
            acks_then_drops: some(rng, 60),
            loses_on_takeover: rng.chance(300),
            late_will: some(rng, 500),
            retained_lost: some(rng, 200),
            retained_stale: some(rng, 200),
            stale_queue: rng.chance(300),
            duplicates: some(rng, 80),
            reorders: rng.chance(400),
            delay_max_ms: [20, 200, 5_000][rng.index(3)],
            forgets: rng.chance(300),
            embedded: rng.chance(500),
        };
        Plan {
            agents: [1, 2, 3, 5, 8, 20][rng.index(6)],
            chaos_ms: rng.range(10, 60) * 60_000,
            pause_ms: [20_000, 60_000, 240_000][rng.index(3)],
            heartbeat_ms: [60_000, 300_000, 900_000][rng.index(3)],
            broker,
            sync_ms: [2, 50, 2_000][rng.index(3)],
            sync_faults: some(rng, 5),
            fetch_faults: some(rng, 200),
            start_faults: some(rng, 50),
            stop_faults: some(rng, 50),
            restores: rng.chance(200),
            agent_store_loss: rng.chance(300),
            duplicates: rng.chance(150),
            bad_revisions: rng.chance(600),
            tended: Rng::new(seed ^ 0x7e4e).chance(300),
            tight: Rng::new(seed ^ 0x717).chance(250),
            idle_day: seed.is_multiple_of(16),
            probes: Rng::new(seed ^ 0x0b0e).chance(500),
            data: false, // not yet run over all seeds
        }
    }

    /// Nothing goes wrong by itself: for stories told step by step.
    pub fn calm(agents: usize) -> Plan {
        Plan {
            agents,
            chaos_ms: 0,
            pause_ms: 60_000,
            heartbeat_ms: 900_000,
            broker: Broker { delay_max_ms: 20, ..Broker::default() },
            sync_ms: 2,
            sync_faults: 0,
            fetch_faults: 0,
            start_faults: 0,
            stop_faults: 0,
            restores: false,
            agent_store_loss: false,
            duplicates: false,
            bad_revisions: false,
            tended: false,
            tight: false,
            idle_day: false,
            probes: false,
            data: false,
        }
    }

    /// The world is healed: what remains is a network with ordinary delays.
    pub fn heal(&mut self) {
        self.broker = Broker { delay_max_ms: 20, embedded: self.broker.embedded, ..Broker::default() };
        (self.sync_ms, self.sync_faults) = (self.sync_ms.min(50), 0);
        (self.fetch_faults, self.start_faults, self.stop_faults) = (0, 0, 0);
    }
}
