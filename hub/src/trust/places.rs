//! How many may be at the door at once, in all and from one address, so that a stranger who opens
//! connections and says nothing leaves room for others. A carrier's NAT brings a whole site from one
//! address: the bound for one is a part of the whole, never small.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Clone)]
pub struct Places {
    all: Arc<Semaphore>,
    from: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_address: usize,
}

/// Given back when dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    _counted: Option<Counted>,
}

impl Places {
    pub fn new(in_all: usize, per_address: usize) -> Places {
        Places { all: Arc::new(Semaphore::new(in_all)), from: Arc::default(), per_address }
    }

    /// None when there is no room, or when this address has its part.
    pub fn try_take(&self, address: IpAddr) -> Option<Place> {
        let _counted = Some(Counted::new(&self.from, address, self.per_address)?);
        let _permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place { _permit, _counted })
    }

    /// The same, but waits for room.
    pub async fn take_within(&self, address: IpAddr, wait: Duration) -> Option<Place> {
        let _counted = Some(Counted::new(&self.from, address, self.per_address)?);
        let permit = tokio::time::timeout(wait, Arc::clone(&self.all).acquire_owned()).await;
        Some(Place { _permit: permit.ok()?.ok()?, _counted })
    }

    /// For whoever comes next, from this machine: waits for room.
    pub async fn take(&self) -> Option<Place> {
        let permit = Arc::clone(&self.all).acquire_owned().await;
        Some(Place { _permit: permit.ok()?, _counted: None })
    }
}

/// One of an address, while it lasts.
struct Counted {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Counted {
    fn new(counts: &Arc<Mutex<HashMap<IpAddr, usize>>>, address: IpAddr, most: usize) -> Option<Counted> {
        let mut all = lock(counts);
        let count = all.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted { counts: Arc::clone(counts), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = lock(&self.counts);
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

fn lock(counts: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_leaves_room_and_what_is_dropped_is_free_again() {
        let places = Places::new(3, 2);
        let (stranger, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let held = [places.try_take(stranger).unwrap(), places.try_take(stranger).unwrap()];
        assert!(
            places.try_take(stranger).is_none()
                && places.take_within(stranger, Duration::MAX).await.is_none()
        );
        let third = places.try_take(other).unwrap();
        assert!(places.try_take(other).is_none(), "no room at all");
        assert!(places.take_within(other, Duration::from_millis(1)).await.is_none());
        drop(held);
        assert!(places.take_within(stranger, Duration::from_secs(60)).await.is_some());
        drop(third);
        assert!(lock(&places.from).is_empty());
    }
}
