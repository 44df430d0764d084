//! Limits of requests at once: how many of each key are in flight.

use super::key::{ByKey, Key};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

const SHARDS: usize = 64;

/// The requests in flight of one limit, by key. A key takes memory only while it has some, so there are never more keys
/// than requests in flight.
#[derive(Debug)]
pub struct InFlight {
    most: u32,
    shards: Box<[CachePadded<Mutex<Counts>>]>,
}

/// Requests in flight by key, each at least one.
type Counts = HashMap<Key, u32, ByKey>;

/// A request in flight, counted until this is dropped.
#[derive(Debug)]
pub struct Permit {
    limit: Arc<InFlight>,
    key: Key,
}

impl InFlight {
    /// A limit of so many for each key, 1 or more.
    pub fn new(most: u32) -> Self {
        let shards = (0..SHARDS).map(|_| CachePadded::default()).collect();
        InFlight { most, shards }
    }

    /// A request of this key begins; `None`: it is one too many.
    pub fn begin(self: &Arc<Self>, key: Key) -> Option<Permit> {
        let mut shard = self.shards[key.shard(SHARDS)].lock();
        let count = shard.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Permit { limit: Arc::clone(self), key })
    }

    /// The same where one too many begins, too; true: it is.
    pub fn begin_any(self: &Arc<Self>, key: Key) -> (Permit, bool) {
        let mut shard = self.shards[key.shard(SHARDS)].lock();
        let count = shard.entry(key).or_default();
        *count = count.saturating_add(1);
        (Permit { limit: Arc::clone(self), key }, *count > self.most)
    }

    /// Keys that have requests in flight.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether none is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut shard = self.limit.shards[self.key.shard(SHARDS)].lock();
        let left = shard.get_mut(&self.key).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            shard.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Keys;
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    #[test]
    fn each_key_has_its_own_count_until_permits_are_dropped() {
        let (limit, keys) = (Arc::new(InFlight::new(2)), Keys::default());
        let (a, b) = (keys.of(&[b"a"]), keys.of(&[b"b"]));
        let (first, second) = (limit.begin(a).unwrap(), limit.begin(a).unwrap());
        assert!(limit.begin(a).is_none());
        let other = limit.begin(b).unwrap();
        drop(first);
        let third = limit.begin(a).unwrap();
        assert!(limit.begin(a).is_none());
        assert_eq!(limit.len(), 2);
        let (over, is_over) = limit.begin_any(a);
        assert!(is_over && limit.begin(a).is_none());
        drop((second, third, other, over));
        assert!(limit.is_empty(), "keys without requests take no memory");
    }

    #[test]
    fn the_limit_holds_under_many_threads() {
        let (limit, key) = (Arc::new(InFlight::new(3)), Keys::default().of(&[b"k"]));
        let (now, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let Some(permit) = limit.begin(key) else { continue };
                        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                        now.fetch_sub(1, SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert!(limit.is_empty());
    }
}
