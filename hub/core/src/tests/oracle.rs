//! Small fleets, looked at by brute force: what can be placed is placed, whoever has to yield for it; a new
//! agent moves nothing, and the order in which things are told changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use contract::spec::{Affinity, Preference, Selector, Workload};
use proptest::prelude::*;

use super::bed::*;
use super::board::*;
use super::placement::slots;
use crate::api::Request;
use crate::fleet::{AgentChange, Nothing};

#[derive(Debug, Clone)]
struct Host {
    cpu: u32,
    memory: u64,
    storage: u64,
    site: Option<u8>,
    cordoned: bool,
    tainted: bool,
}

#[derive(Debug, Clone)]
struct Want {
    replicas: u32,
    cpu: u32,
    memory: u64,
    storage: u64,
    site: Option<u8>,
    spread: bool,
    prefers: bool,
    tolerates: bool,
    priority: i32,
}

fn host() -> impl Strategy<Value = Host> {
    let site = proptest::option::of(0u8..2);
    (0u32..9, 1u64..9, 0u64..9, site, prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(
        |(cpu, memory, storage, site, cordoned, tainted)| Host {
            cpu: cpu * 100,
            memory: memory * 20,
            storage: storage * 20,
            site,
            cordoned,
            tainted,
        },
    )
}

fn want() -> impl Strategy<Value = Want> {
    let size = (1u32..7, 1u32..6, 1u64..6, 0u64..6);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (size, proptest::option::of(0u8..2), flags, -1i32..2).prop_map(
        |((replicas, cpu, memory, storage), site, (spread, prefers, tolerates), priority)| Want {
            replicas,
            cpu: cpu * 100,
            memory: memory * 20,
            storage: storage * 20,
            site,
            spread,
            prefers,
            tolerates,
            priority,
        },
    )
}

fn site(n: u8) -> Selector {
    Selector { match_labels: labels(&[("site", ["x", "y"][usize::from(n)])]), ..Selector::default() }
}

fn workload(name: &str, want: &Want) -> Workload {
    let mut workload = needs(replicas(name, "app:1", want.replicas), want.cpu, want.memory);
    let resources = workload.spec.resources.as_mut().unwrap();
    resources.storage = (want.storage > 0).then_some(contract::quantity::Bytes(want.storage << 20));
    workload.spec.priority = (want.priority != 0).then_some(want.priority);
    let placement = workload.spec.placement.get_or_insert_default();
    placement.selector = want.site.map(site);
    placement.spread = want.spread.then(|| "site".to_string());
    if want.prefers {
        let preferred = vec![Preference { weight: None, selector: site(0) }];
        placement.affinity = Some(Affinity { required: Vec::new(), preferred });
    }
    if want.tolerates {
        placement.tolerations =
            vec![contract::spec::Toleration { key: Some("old".into()), ..Default::default() }];
    }
    workload
}

/// Whether the host takes an instance of it at all.
fn suits(host: &Host, want: &Want) -> bool {
    !host.cordoned
        && (!host.tainted || want.tolerates)
        && want.site.is_none_or(|site| host.site == Some(site))
}

/// How many instances the host takes beside what is there, found by trying one more.
fn takes(host: &Host, want: &Want, there: &[&Want]) -> u32 {
    let fits = |n: u32| {
        let cpu = n * want.cpu + there.iter().map(|w| w.cpu).sum::<u32>();
        let memory = u64::from(n) * want.memory + there.iter().map(|w| w.memory).sum::<u64>();
        let storage = u64::from(n) * want.storage + there.iter().map(|w| w.storage).sum::<u64>();
        let grows = |needs: u64, limit: u64, each: u64| each == 0 || needs <= limit;
        grows(cpu.into(), host.cpu.into(), want.cpu.into())
            && grows(memory, host.memory, want.memory)
            && grows(storage, host.storage, want.storage)
    };
    (1..=6).take_while(|n| fits(*n)).last().unwrap_or(0)
}

/// All ways to hand `n` instances out: whether one is possible.
fn is_possible(room: &[u32], n: u32) -> bool {
    match room.split_first() {
        None => n == 0,
        Some((first, rest)) => (0..=(*first).min(n)).any(|here| is_possible(rest, n - here)),
    }
}

fn fleet_of(hosts: &[Host], order: &[usize]) -> Bed {
    let mut bed = Bed::new();
    bed.push("app:1");
    for n in order {
        joins(&mut bed, *n, &hosts[*n]);
    }
    bed
}

fn joins(bed: &mut Bed, n: usize, host: &Host) {
    let mut board = Board::new(&format!("h{n}"));
    board.presence.capacity = capacity(host.cpu, host.memory);
    board.presence.capacity.storage_bytes = host.storage << 20;
    if let Some(n) = host.site {
        board.presence.labels = site(n).match_labels;
    }
    board.connect(bed);
    let agents = vec![board.id.clone()];
    if host.cordoned {
        bed.ask(Request::ChangeAgents { agents: agents.clone(), change: AgentChange::Cordon(Nothing {}) });
    }
    if host.tainted {
        let taint = "old:NoSchedule".parse().unwrap();
        bed.ask(Request::ChangeAgents { agents, change: AgentChange::Taint(vec![taint]) });
    }
}

/// What is where: `host → names`.
fn there(bed: &Bed, names: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut there: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names {
        for agent in slots(bed, &format!("ns/{name}")).into_values() {
            there.entry(agent).or_default().push(name.to_string());
        }
    }
    there
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_brute_force_can_place_is_placed(
        hosts in proptest::collection::vec(host(), 1..7),
        (first, second) in (want(), want()),
        newcomer in host(),
    ) {
        let order: Vec<usize> = (0..hosts.len()).collect();
        let mut bed = fleet_of(&hosts, &order);
        bed.apply(vec![workload("one", &first)]);
        let placed = slots(&bed, "ns/one");
        let room: Vec<u32> =
            hosts.iter().map(|h| if suits(h, &first) { takes(h, &first, &[]) } else { 0 }).collect();
        prop_assert_eq!(placed.len() == first.replicas as usize, is_possible(&room, first.replicas));
        // As much of it as is possible.
        prop_assert_eq!(placed.len() as u32, first.replicas.min(room.iter().sum()));

        // A second one finds what is left; what yields to it does not count.
        let before = there(&bed, &["one"]);
        bed.apply(vec![workload("two", &second)]);
        let yields = first.priority < second.priority;
        let room: Vec<u32> = hosts.iter().enumerate().map(|(n, h)| {
            let kept = before.get(&format!("h{n}")).map_or(0, Vec::len);
            let kept = if yields { 0 } else { kept };
            if suits(h, &second) { takes(h, &second, &vec![&first; kept]) } else { 0 }
        }).collect();
        let two = slots(&bed, "ns/two").len() as u32;
        prop_assert_eq!(two, second.replicas.min(room.iter().sum()));
        if !yields {
            prop_assert_eq!(&slots(&bed, "ns/one"), &placed, "equal or higher never yields");
        }
        // Nobody yields for nothing.
        let free: u32 = hosts.iter().enumerate().map(|(n, h)| {
            let kept = before.get(&format!("h{n}")).map_or(0, Vec::len);
            if suits(h, &second) { takes(h, &second, &vec![&first; kept]) } else { 0 }
        }).sum();
        if free >= second.replicas {
            prop_assert_eq!(&slots(&bed, "ns/one"), &placed, "there was room");
        }

        // Never over capacity, and a newcomer moves nothing.
        for agent in bed.core.world.agents.values() {
            let (used, limit) = (agent.used, agent.limit());
            prop_assert!(used.cpu_millis <= limit.cpu_millis && used.memory_bytes <= limit.memory_bytes);
            prop_assert!(used.storage_bytes <= limit.storage_bytes);
        }
        let (one, two) = (slots(&bed, "ns/one"), slots(&bed, "ns/two"));
        joins(&mut bed, hosts.len(), &newcomer);
        let stays = |before: &BTreeMap<u32, String>, after: &BTreeMap<u32, String>| {
            before.iter().all(|(slot, agent)| after.get(slot) == Some(agent))
        };
        prop_assert!(stays(&one, &slots(&bed, "ns/one")) && stays(&two, &slots(&bed, "ns/two")));
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(
        hosts in proptest::collection::vec(host(), 1..7),
        wants in proptest::collection::vec(want(), 1..4),
        seed in any::<u64>(),
    ) {
        let order: Vec<usize> = (0..hosts.len()).collect();
        let mut other = order.clone();
        other.sort_by_key(|n| (seed >> (n * 8)) & 0xff);
        let named = wants.iter().enumerate().map(|(n, want)| workload(&format!("w{n}"), want));
        let workloads: Vec<Workload> = named.collect();
        let mut reversed = workloads.clone();
        reversed.reverse();
        let (mut left, mut right) = (fleet_of(&hosts, &order), fleet_of(&hosts, &other));
        left.apply(workloads);
        right.apply(reversed);
        prop_assert_eq!(&left.durable.placements, &right.durable.placements);
        let everywhere: BTreeSet<_> = left.core.world.by_load.iter().map(|(_, id)| id.clone()).collect();
        prop_assert_eq!(everywhere.len(), hosts.len());
    }
}
