use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

const N_SHARDS: usize = 16;

/// A map by hashes, in parts with a lock each, so that readers on many threads seldom meet. No lock is held
/// longer than it takes to look up, insert or remove one value.
pub(super) struct Shards<V> {
    shards: [RwLock<HashMap<u128, V>>; N_SHARDS],
}

impl<V: Clone> Shards<V> {
    pub(super) fn new() -> Self {
        Shards { shards: std::array::from_fn(|_| RwLock::default()) }
    }

    pub(super) fn get(&self, key: u128) -> Option<V> {
        self.read(key).get(&key).cloned()
    }

    pub(super) fn contains(&self, key: u128) -> bool {
        self.read(key).contains_key(&key)
    }

    /// Inserts a value; gives back the one that was there.
    pub(super) fn insert(&self, key: u128, value: V) -> Option<V> {
        self.write(key).insert(key, value)
    }

    /// Removes a value when it is the one expected; false when it was not.
    pub(super) fn remove_if(&self, key: u128, expected: impl FnOnce(&V) -> bool) -> bool {
        let mut shard = self.write(key);
        shard.get(&key).is_some_and(expected) && shard.remove(&key).is_some()
    }

    pub(super) fn clear(&self) {
        (0..N_SHARDS as u128).for_each(|low_bits| self.write(low_bits).clear());
    }

    pub(super) fn len(&self) -> u64 {
        (0..N_SHARDS as u128).map(|low_bits| self.read(low_bits).len() as u64).sum()
    }

    // A panic while a lock is held leaves the map whole.
    fn read(&self, key: u128) -> RwLockReadGuard<'_, HashMap<u128, V>> {
        self.shard(key).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: u128) -> RwLockWriteGuard<'_, HashMap<u128, V>> {
        self.shard(key).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, key: u128) -> &RwLock<HashMap<u128, V>> {
        &self.shards[(key % N_SHARDS as u128) as usize]
    }
}
