//! What operators say of agents: labels, taints, cordon; which agents are meant, and how many there are.

use contract::spec::{Affinity, Placement, Preference, Selector, Toleration, Workload};

use super::bed::*;
use super::board::*;
use super::placement::{agents, joins};
use crate::api::*;
use crate::fleet::{AgentChange, Nothing, Untaint};
use crate::view::AgentFilter;

pub fn change(bed: &mut Bed, names: &[&str], change: AgentChange) -> Answer {
    let agents = names.iter().map(|name| id(name)).collect();
    bed.ask(Request::ChangeAgents { agents, change })
}

pub fn label(pairs: &[(&str, Option<&str>)]) -> AgentChange {
    AgentChange::Label(pairs.iter().map(|(k, v)| (k.to_string(), v.map(str::to_string))).collect())
}

fn taint(text: &str) -> AgentChange {
    AgentChange::Taint(vec![text.parse().unwrap()])
}

fn placed(mut workload: Workload, placement: Placement) -> Workload {
    workload.spec.placement = Some(placement);
    workload
}

fn warnings(answer: Answer) -> Vec<String> {
    match answer {
        Answer::AgentsChanged { warnings, .. } => warnings,
        other => panic!("{other:?}"),
    }
}

fn errors(answer: Answer) -> Vec<String> {
    match answer {
        Answer::Refused { errors } | Answer::NotFound { errors } => {
            errors.into_iter().map(|e| e.reason).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_operators_label_wins_and_outlives_board_and_hub() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = joins(&mut bed, "a", 1000, 500, &[("line", "1"), ("site", "north")]);
    joins(&mut bed, "b", 1000, 500, &[("line", "2")]);
    bed.apply(vec![on(every("e", "app:1"), &[("line", "2")])]);
    assert_eq!(agents(&bed, "ns/e"), "b");
    change(&mut bed, &["a"], label(&[("line", Some("2")), ("rack", Some("7"))]));
    let on_both = |bed: &Bed| bed.durable.placements.keys().map(|(_, a)| a.to_string()).collect::<Vec<_>>();
    assert_eq!(on_both(&bed), ["a", "b"]);
    // The agent says something else, and the hub starts anew: the operator's word stands.
    a.presence.labels.insert("line".into(), "9".into());
    a.reboot(&mut bed);
    bed.restart();
    let view = bed.core.agent(bed.at(), &id("a")).unwrap();
    assert_eq!(view.labels, labels(&[("line", "2"), ("rack", "7"), ("site", "north")]));
    assert_eq!(view.operator_labels, labels(&[("line", "2"), ("rack", "7")]));
    assert_eq!(view.covered_labels, labels(&[("line", "9")]));
    assert_eq!(on_both(&bed), ["a", "b"]);
    let said = warnings(change(&mut bed, &["a"], label(&[("line", None), ("rack", None)])));
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(on_both(&bed), ["b"], "its own label shows again");
    assert_eq!(bed.durable.agents[&id("a")].operator, None, "nothing is kept of nothing");
    let said = warnings(change(&mut bed, &["a"], label(&[("site", None)])));
    assert_eq!(said, ["a has site=north from itself or from its joining: that can be covered, not removed"]);
}

#[test]
fn everything_wrong_is_told_at_once_and_nothing_is_done() {
    let mut bed = Bed::new();
    fleet(&mut bed, &["a"]);
    let told = errors(change(&mut bed, &["a", "x", "y"], label(&[("k", Some("v"))])));
    assert_eq!(told, ["there is no agent 'x'", "there is no agent 'y'"]);
    let told = errors(change(&mut bed, &["a"], label(&[("a b", Some("v")), ("k", Some("a b"))])));
    assert_eq!(told.len(), 2, "{told:?}");
    let own = contract::Taint {
        effect: contract::TaintEffect::NoExecute,
        key: "skerry/x".into(),
        value: "".into(),
    };
    let told = errors(change(&mut bed, &["a"], AgentChange::Taint(vec![own])));
    assert!(told[0].contains("the hub's own"), "{told:?}");
    assert!(bed.durable.agents[&id("a")].labels.is_empty());
    let many: Vec<_> = (0..33).map(|n| format!("t{n}:NoSchedule").parse().unwrap()).collect();
    let told = errors(change(&mut bed, &["a"], AgentChange::Taint(many)));
    assert_eq!(told, ["a would have 33 taints; at most 32"]);
}

#[test]
fn a_taint_keeps_new_work_away_and_no_execute_sends_it_away() {
    let mut bed = Bed::new();
    bed.push("app:1");
    fleet(&mut bed, &["a", "b"]);
    let tolerates = Toleration { key: Some("old".into()), value: Some("yes".into()), ..Default::default() };
    let tolerant = Placement { tolerations: vec![tolerates], ..Placement::default() };
    bed.apply(vec![replicas("w", "app:1", 2), every("e", "app:1")]);
    bed.apply(vec![placed(every("t", "app:1"), tolerant)]);
    let before = bed.durable.placements.clone();
    change(&mut bed, &["a"], taint("old=yes:NoSchedule"));
    assert_eq!(bed.durable.placements, before, "what is here stays");
    bed.apply(vec![replicas("v", "app:1", 2), every("f", "app:1")]);
    assert_eq!((agents(&bed, "ns/v"), agents(&bed, "ns/f")), ("b b".into(), "b".into()));
    let why = bed.core.describe(bed.at(), &key("ns/f")).unwrap();
    assert_eq!(why.not_here[0].reason, "has the taint old=yes:NoSchedule");
    assert!(why.workload.steady || why.workload.targets.total == 1, "it is not waited for");
    change(&mut bed, &["a"], taint("old=yes:NoExecute"));
    assert_eq!((agents(&bed, "ns/w"), agents(&bed, "ns/e")), ("b b".into(), "b".into()));
    let tolerant: Vec<_> = bed.durable.placements.keys().filter(|(k, _)| *k == key("ns/t")).collect();
    assert_eq!(tolerant.len(), 2, "what tolerates it stays");
    change(&mut bed, &["a"], AgentChange::Untaint(vec![Untaint { key: "old".into(), effect: None }]));
    let every: Vec<_> = bed.durable.placements.keys().filter(|(k, _)| *k == key("ns/e")).collect();
    assert_eq!(every.len(), 2, "everyAgent comes back");
    let gone = AgentChange::Untaint(vec![Untaint { key: "old".into(), effect: None }]);
    assert_eq!(warnings(change(&mut bed, &["a"], gone)), ["a has no taint old"]);
    // Where there is another place, that is taken; else not.
    change(&mut bed, &["b"], taint("hot:PreferNoSchedule"));
    bed.apply(vec![replicas("p", "app:1", 2)]);
    assert_eq!(agents(&bed, "ns/p"), "a a");
    change(&mut bed, &["a"], AgentChange::Cordon(Nothing {}));
    bed.apply(vec![replicas("q", "app:1", 1)]);
    assert_eq!(agents(&bed, "ns/q"), "b");
}

#[test]
fn affinity_arch_and_spread_choose() {
    let mut bed = Bed::new();
    bed.push("app:1");
    for (name, site, gpu) in
        [("a", "n", ""), ("b", "n", "yes"), ("c", "s", ""), ("d", "s", "yes"), ("e", "s", "")]
    {
        joins(&mut bed, name, 4000, 1000, &[("site", site), ("gpu", gpu)]);
    }
    let selector = |k: &str, v: &str| Selector { match_labels: labels(&[(k, v)]), ..Selector::default() };
    let spread = Placement { spread: Some("site".into()), ..Placement::default() };
    bed.apply(vec![placed(replicas("s", "app:1", 6), spread)]);
    assert_eq!(agents(&bed, "ns/s"), "a c b d e a", "three and three");
    let required = vec![selector("gpu", "yes"), selector("site", "x")];
    let either =
        Placement { affinity: Some(Affinity { required, preferred: vec![] }), ..Placement::default() };
    bed.apply(vec![placed(every("r", "app:1"), either)]);
    assert_eq!(agents(&bed, "ns/r"), "d", "slot 0 on b and d");
    let preferred = vec![Preference { weight: Some(3), selector: selector("gpu", "yes") }];
    let better = Affinity { required: vec![], preferred };
    bed.apply(vec![placed(
        replicas("p", "app:1", 2),
        Placement { affinity: Some(better), ..Placement::default() },
    )]);
    assert_eq!(agents(&bed, "ns/p"), "b d");
    let mut arm = Board::new("z");
    arm.presence.arch = "aarch64".into();
    arm.connect(&mut bed);
    let only = Placement { arch: Some("arm64".into()), ..Placement::default() };
    bed.apply(vec![placed(replicas("m", "app:1", 2), only)]);
    assert_eq!(agents(&bed, "ns/m"), "z z");
    let why = bed.core.describe(bed.at(), &key("ns/m")).unwrap().not_here;
    assert_eq!((why[0].count, why[0].reason.as_str()), (5, "is not of the architecture arm64"));
}

#[test]
fn reasons_are_counted_and_say_how_much_is_missing() {
    let mut bed = Bed::new();
    bed.push("app:1");
    for n in 0..12 {
        joins(&mut bed, &format!("a{n:02}"), 300 + 10 * n, 500, &[]);
    }
    bed.apply(vec![needs(replicas("w", "app:1", 1), 500, 10)]);
    let why = bed.core.describe(bed.at(), &key("ns/w")).unwrap().not_here;
    assert_eq!(why.len(), 1);
    assert_eq!((why[0].count, why[0].reason.as_str()), (12, "cpu short by 90m to 200m"));
    assert_eq!(why[0].agents.len(), 5);
}

#[test]
fn the_fleet_is_counted_filtered_and_paged() {
    let mut bed = Bed::new();
    let boards: Vec<Board> =
        (0..7).map(|n| joins(&mut bed, &format!("a{n}"), 100, 100, &[("site", ["n", "s"][n % 2])])).collect();
    boards[0].leave(&mut bed);
    bed.pass(60_000);
    boards[1].leave(&mut bed);
    change(&mut bed, &["a2"], AgentChange::Cordon(Nothing {}));
    let fleet = bed.core.fleet(bed.at(), &AgentFilter::default(), "site");
    let counts: Vec<_> = fleet.groups.iter().map(|g| (g.value.as_deref(), g.total, g.cordoned)).collect();
    assert_eq!((fleet.total, counts), (7, vec![(Some("n"), 4, 1), (Some("s"), 3, 0)]));
    let names = |filter: &AgentFilter| -> Vec<String> {
        bed.core.agents(bed.at(), filter).into_iter().map(|a| a.agent.to_string()).collect()
    };
    let filter = |selector: &str, fields: &str, offline_for_ms| AgentFilter {
        selector: selector.parse().unwrap(),
        fields: fields.parse().unwrap(),
        offline_for_ms,
    };
    assert_eq!(names(&filter("", "state=offline", None)), ["a0", "a1"]);
    assert_eq!(names(&filter("site=n", "state!=offline,cordoned=false", None)), ["a4", "a6"]);
    assert_eq!(names(&filter("", "", Some(30_000))), ["a0"]);
    let error = "colour=red".parse::<crate::view::FieldQuery>().unwrap_err().to_string();
    assert!(error.contains("there are state, arch"), "{error}");
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = bed.core.agent_page(bed.at(), &AgentFilter::default(), after.as_ref(), 3);
        seen.extend(page.items.iter().map(|a| a.agent.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..7).map(|n| format!("a{n}")).collect::<Vec<_>>());
}
