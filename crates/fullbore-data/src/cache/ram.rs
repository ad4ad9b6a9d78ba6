use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::Budget;
use super::shape::Shape;
use super::shards::Shards;

/// What an entry takes beside its pixels: its place in a table at its emptiest, and the counts before its bytes.
const ENTRY_BYTES: u64 = 128;

// Tables hold 7 entries for each 8 places before they double, and a byte of their own for each place.
const _: () = assert!(
    ENTRY_BYTES as usize >= (size_of::<(u128, (Shape, Arc<[u8]>))>() + 1) * 16 / 7 + 2 * size_of::<usize>()
);

/// The first samples that fit into memory. Nothing is ever pushed out: every sample is used once an epoch in an
/// order that is drawn anew, so the one least recently used is as likely to be next as any other.
pub(super) struct Ram {
    entries: Shards<(Shape, Arc<[u8]>)>,
    budget: Arc<Budget>,
    /// What these entries take of it.
    bytes: AtomicU64,
}

impl Ram {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Ram { entries: Shards::new(), budget, bytes: AtomicU64::new(0) }
    }

    pub(super) fn get(&self, place: u128) -> Option<(Shape, Arc<[u8]>)> {
        self.entries.get(place)
    }

    /// True when a sample of at least that many bytes would be kept.
    pub(super) fn wants(&self, place: u128, bytes: u64) -> bool {
        self.budget.has_room(bytes.saturating_add(ENTRY_BYTES)) && !self.entries.contains(place)
    }

    /// Keeps a sample, where there is room.
    pub(super) fn keep(&self, place: u128, shape: Shape, payload: &[u8]) {
        let cost = |payload: &[u8]| payload.len() as u64 + ENTRY_BYTES;
        if !self.budget.take(cost(payload)) {
            return;
        }
        self.bytes.fetch_add(cost(payload), Ordering::Relaxed);
        // Another worker may have read the same files meanwhile.
        if let Some((_, other)) = self.entries.insert(place, (shape, payload.into())) {
            self.budget.give_back(cost(&other));
            self.bytes.fetch_sub(cost(&other), Ordering::Relaxed);
        }
    }

    /// Samples, and bytes of memory.
    pub(super) fn held(&self) -> (u64, u64) {
        (self.entries.len(), self.bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes.load(Ordering::Relaxed));
    }
}
