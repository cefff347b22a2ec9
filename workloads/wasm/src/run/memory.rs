//! How much memory a guest may have, and whether it was ever told no.
//!
//! wasmtime's own `StoreLimits` bounds each memory by itself and forgets what it refused. A component may
//! bring many memories, so here all of them and all tables share one budget, and refusals are counted:
//! a guest that dies of a failed `malloc` traps with "unreachable", and nobody could tell why.

use std::sync::{Arc, Mutex, MutexGuard};

use wasmtime::ResourceLimiter;

use crate::spec::{Mebibytes, MemoryUse};

/// What an element of a table costs the host.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Bounds of the store's own bookkeeping; a component of some size has a dozen instances.
const INSTANCES_MAX: usize = 256;

#[derive(Clone)]
pub(super) struct Meter(Arc<Mutex<Count>>);

struct Count {
    used: MemoryUse,
    now_bytes: u64,
    /// The growth that was allowed last, until the next: wasmtime may still fail it.
    last_bytes: u64,
}

impl Meter {
    pub(super) fn new(limit_bytes: u64) -> Self {
        let used = MemoryUse { limit_bytes, ..MemoryUse::default() };
        Meter(Arc::new(Mutex::new(Count { used, now_bytes: 0, last_bytes: 0 })))
    }

    pub(super) fn limiter(&self) -> Limiter {
        Limiter(self.clone())
    }

    pub(super) fn used(&self) -> MemoryUse {
        self.lock().used
    }

    /// What to say when a start failed for want of memory.
    pub(super) fn denied_text(&self) -> Option<String> {
        let used = self.used();
        (used.denied > 0).then(|| {
            format!(
                "it needs {} of memory at the start, and the limit is {}",
                Mebibytes(used.denied_bytes),
                Mebibytes(used.limit_bytes)
            )
        })
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

pub(super) struct Limiter(Meter);

impl Limiter {
    fn grow(&mut self, more_bytes: u64) -> bool {
        let mut count = self.0.lock();
        let wanted = count.now_bytes.saturating_add(more_bytes);
        if wanted > count.used.limit_bytes {
            count.used.denied += 1;
            count.used.denied_bytes = wanted;
            count.last_bytes = 0;
            return false;
        }
        count.now_bytes = wanted;
        count.last_bytes = more_bytes;
        count.used.peak_bytes = count.used.peak_bytes.max(wanted);
        true
    }

    /// An allowed growth that failed all the same (its own maximum, or no address space) gives back.
    fn give_back(&mut self) {
        let mut count = self.0.lock();
        count.now_bytes -= count.last_bytes;
        count.last_bytes = 0;
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond its own maximum it fails anyway, and that is not our refusal.
        if maximum.is_some_and(|m| desired > m) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current) as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|m| desired > m) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES) as u64))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        INSTANCES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 1 << 16;

    #[test]
    fn all_memories_and_tables_share_one_budget() {
        let meter = Meter::new(4 * PAGE as u64);
        let mut limiter = meter.limiter();
        assert!(limiter.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(limiter.table_growing(0, 16, None).unwrap());
        assert!(!limiter.memory_growing(2 * PAGE, 3 * PAGE, None).unwrap());
        let used = meter.used();
        assert_eq!((used.denied, used.peak_bytes), (1, (3 * PAGE + 16 * TABLE_ELEMENT_BYTES) as u64));
        assert_eq!(used.denied_bytes, (4 * PAGE + 16 * TABLE_ELEMENT_BYTES) as u64);
    }

    #[test]
    fn a_growth_that_failed_later_is_given_back_once() {
        let meter = Meter::new(2 * PAGE as u64);
        let mut limiter = meter.limiter();
        assert!(limiter.memory_growing(0, 2 * PAGE, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no space")).unwrap();
        limiter.memory_grow_failed(wasmtime::Error::msg("no space")).unwrap();
        assert!(limiter.memory_growing(0, 2 * PAGE, None).unwrap());
    }

    #[test]
    fn a_guests_own_maximum_is_not_our_refusal() {
        let meter = Meter::new(8 * PAGE as u64);
        assert!(!meter.limiter().memory_growing(PAGE, 2 * PAGE, Some(PAGE)).unwrap());
        assert_eq!(meter.used().denied, 0);
    }
}
