//! Which placements make no sense whatever the fleet looks like: illegal labels, terms that no agent
//! could meet, and preferences beside `everyAgent`. (`spread` is met by it; the hub only says so.)

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, texts};
use crate::field::{self, shown};
use crate::label;
use crate::platform::Platform;
use crate::spec::{Affinity, Expression, Operator, Selector, Toleration, TolerationOperator, WorkloadSpec};

/// Of `spec.priority`, on both sides of 0.
pub const PRIORITY_MAX: i32 = 1000;
/// The most that one preference counts.
const WEIGHT_MAX: u32 = 100;
/// Terms of an affinity, and tolerations: each is looked at for each agent.
const TERMS_MAX: usize = 16;
/// In the words of images.
const ARCHITECTURES: [&str; 8] = ["386", "amd64", "arm", "arm64", "loong64", "ppc64le", "riscv64", "s390x"];

pub(super) fn check(spec: &WorkloadSpec, found: &mut Findings) {
    if let Some(priority) = spec.priority.filter(|p| p.abs_diff(0) > PRIORITY_MAX.unsigned_abs()) {
        found.add("spec.priority", format!("is {priority}; from -{PRIORITY_MAX} to {PRIORITY_MAX}"));
    }
    let Some(placement) = &spec.placement else { return };
    if let Some(selector) = &placement.selector {
        check_selector(selector, "spec.placement.selector", found);
        possible(&[selector], "spec.placement.selector", found);
    }
    if let Some(label) = &placement.spread {
        key(label, "spec.placement.spread", found);
    }
    if let Some(arch) = placement.arch.as_deref().filter(|arch| !is_architecture(arch)) {
        let known = ARCHITECTURES.join(", ");
        found.add("spec.placement.arch", format!("'{}' is not known: write one of {known}", shown(arch)));
    }
    if let Some(affinity) = &placement.affinity {
        check_affinity(affinity, placement.selector.as_ref(), spec.every_agent, found);
    }
    check_tolerations(&placement.tolerations, found);
}

fn is_architecture(arch: &str) -> bool {
    ARCHITECTURES.contains(&Platform::of_board(arch).architecture.as_str())
}

/// A label's key that stands alone.
pub(super) fn key(text: &str, path: &str, found: &mut Findings) {
    if let Err(e) = label::check_key(text) {
        found.add(path, format!("'{}': {e}", shown(text)));
    }
}

fn check_affinity(affinity: &Affinity, selector: Option<&Selector>, every_agent: bool, found: &mut Findings) {
    let (required, preferred) = ("spec.placement.affinity.required", "spec.placement.affinity.preferred");
    for (path, n) in [(required, affinity.required.len()), (preferred, affinity.preferred.len())] {
        if n > TERMS_MAX {
            found.add(path, format!("has {n} terms; at most {TERMS_MAX}"));
        }
    }
    for (n, term) in affinity.required.iter().enumerate() {
        let path = field::item(required, n);
        check_term(term, &path, found);
        let both: Vec<&Selector> = [term].into_iter().chain(selector).collect();
        possible(&both, &path, found);
    }
    if every_agent && !affinity.preferred.is_empty() {
        found.add(preferred, "has no meaning beside everyAgent: remove it, or write it as required");
    }
    for (n, preference) in affinity.preferred.iter().enumerate() {
        let path = field::item(preferred, n);
        check_term(&preference.selector, &field::key(&path, "selector"), found);
        if preference.weight.is_some_and(|w| w == 0 || w > WEIGHT_MAX) {
            found.add(field::key(&path, "weight"), format!("is out of range: 1 to {WEIGHT_MAX}"));
        }
    }
}

fn check_term(term: &Selector, path: &str, found: &mut Findings) {
    check_selector(term, path, found);
    if *term == Selector::default() {
        found.add(
            path,
            "names no label, and would hold for every agent: give matchLabels or matchExpressions",
        );
    }
}

fn check_tolerations(tolerations: &[Toleration], found: &mut Findings) {
    let path = "spec.placement.tolerations";
    if tolerations.len() > TERMS_MAX {
        found.add(path, format!("has {} entries; at most {TERMS_MAX}", tolerations.len()));
    }
    for (n, toleration) in tolerations.iter().enumerate() {
        let path = field::item(path, n);
        let exists = toleration.operator == Some(TolerationOperator::Exists);
        match &toleration.key {
            Some(text) => key(text, &field::key(&path, "key"), found),
            None if exists => {}
            None => found.add(
                field::key(&path, "key"),
                "is missing: name the taint's key, or write operator: Exists for every taint",
            ),
        }
        if let Some(value) = &toleration.value {
            let at = field::key(&path, "value");
            if exists {
                found.add(&at, "has no meaning with Exists, which takes any value: remove one of the two");
            } else if let Err(e) = label::check_value(value) {
                found.add(&at, format!("'{}': {e}", shown(value)));
            }
        }
    }
}

/// What selectors that must hold together leave of one label.
#[derive(Default)]
struct Demand<'a> {
    /// None: any value.
    values: Option<BTreeSet<&'a str>>,
    not: BTreeSet<&'a str>,
    present: bool,
    absent: bool,
}

impl Demand<'_> {
    fn is_possible(&self) -> bool {
        let present = self.present || self.values.is_some();
        let left = self.values.as_ref().is_none_or(|values| !values.is_subset(&self.not));
        left && !(present && self.absent)
    }
}

/// No agent has a label and has it not.
fn possible(selectors: &[&Selector], path: &str, found: &mut Findings) {
    let mut demands: BTreeMap<&str, Demand<'_>> = BTreeMap::new();
    for selector in selectors {
        for (key, value) in &selector.match_labels {
            demands.entry(key).or_default().only(BTreeSet::from([value.as_str()]));
        }
        for expression in &selector.match_expressions {
            let values: BTreeSet<&str> = expression.values.iter().map(String::as_str).collect();
            let demand = demands.entry(&expression.key).or_default();
            match expression.operator {
                // Without a value it is a mistake of its own.
                Operator::In if values.is_empty() => {}
                Operator::In => demand.only(values),
                Operator::NotIn => demand.not.extend(values),
                Operator::Exists => demand.present = true,
                Operator::DoesNotExist => demand.absent = true,
            }
        }
    }
    for (key, _) in demands.iter().filter(|(_, demand)| !demand.is_possible()) {
        let more = if selectors.len() > 1 { " together with spec.placement.selector" } else { "" };
        let reason =
            format!("wants of the label '{}' what no agent could have{more}: these contradict", shown(key));
        found.add(path, reason);
    }
}

impl<'a> Demand<'a> {
    fn only(&mut self, values: BTreeSet<&'a str>) {
        self.values = Some(match &self.values {
            Some(before) => before.intersection(&values).copied().collect(),
            None => values,
        });
    }
}

fn check_selector(selector: &Selector, path: &str, found: &mut Findings) {
    texts::labels(&selector.match_labels, &field::key(path, "matchLabels"), found);
    let expressions = field::key(path, "matchExpressions");
    for (n, expression) in selector.match_expressions.iter().enumerate() {
        check_expression(expression, &field::item(&expressions, n), found);
    }
}

fn check_expression(expression: &Expression, path: &str, found: &mut Findings) {
    if let Err(e) = label::check_key(&expression.key) {
        found.add(field::key(path, "key"), format!("'{}': {e}", field::shown(&expression.key)));
    }
    let values = field::key(path, "values");
    let operator = expression.operator;
    match (operator, expression.values.is_empty()) {
        (Operator::In | Operator::NotIn, true) => {
            found.add(&values, format!("is missing: {operator:?} compares with at least one value"));
        }
        (Operator::Exists | Operator::DoesNotExist, false) => {
            found.add(&values, format!("has no meaning with {operator:?}: remove it, or use In or NotIn"));
        }
        _ => {}
    }
    for (n, value) in expression.values.iter().enumerate() {
        if let Err(e) = label::check_value(value) {
            found.add(field::item(&values, n), format!("'{}': {e}", field::shown(value)));
        }
    }
}
