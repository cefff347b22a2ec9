//! What facts mean. Pure: the same facts give the same findings, in this order.

mod disk;
mod hub;
mod kernel;
mod unit;

#[cfg(test)]
mod tests;

use super::facts::Facts;
use super::finding::Finding;

/// Every check. Names are stable: scripts and people refer to them.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut all = kernel::judge(facts);
    all.extend(disk::judge(facts));
    all.extend(hub::judge(facts));
    all.push(unit::judge(facts));
    all.push(unit::degraded(facts));
    all
}
