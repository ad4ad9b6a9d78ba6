//! Which slabs of a ring nobody holds: the protocol of taking, giving back and closing.
//!
//! The locks come from the parent module, so that `tests/ring_model.rs` runs this same file on loom's locks,
//! through every way in which threads can interleave.

use std::sync::PoisonError;

use super::sync::{Condvar, Mutex, MutexGuard};

/// The numbers of the free slabs.
pub(super) struct FreeList {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    free: Vec<usize>,
    closed: bool,
}

impl FreeList {
    /// The numbers 0 to `n` - 1, all free.
    pub(super) fn new(n: usize) -> Self {
        let state = Mutex::new(State { free: (0..n).rev().collect(), closed: false });
        FreeList { state, changed: Condvar::new() }
    }

    /// Takes a number, waiting until one is free. `None` once closed.
    pub(super) fn take(&self) -> Option<usize> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(index) = state.free.pop() {
                return Some(index);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives back a number that was taken.
    pub(super) fn give_back(&self, index: usize) {
        self.state().free.push(index);
        self.changed.notify_one();
    }

    /// Ends all waiting: every present and later [`take`](Self::take) gives `None`.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// How many are free now.
    #[cfg(test)]
    pub(super) fn n_free(&self) -> usize {
        self.state().free.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The list is whole between its operations, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
