use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may be used, and those that are.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64, used: u64) -> Self {
        Budget { limit, used: AtomicU64::new(used) }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.used().checked_add(bytes).is_some_and(|sum| sum <= self.limit)
    }

    /// Takes bytes where there is room for them.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let within = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }

    /// Counts bytes that are in use already.
    pub(super) fn add(&self, bytes: u64) {
        let more = |used: u64| Some(used.saturating_add(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    pub(super) fn give_back(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn no_more_is_given_than_there_is() {
        let budget = Budget::new(100, 30);
        assert!(budget.take(70) && !budget.take(1) && budget.take(0));
        budget.give_back(10);
        assert!(!budget.take(u64::MAX) && budget.has_room(10) && !budget.has_room(11));
        assert_eq!(budget.used(), 90);
        budget.add(20);
        assert!(!budget.has_room(0));
    }
}
