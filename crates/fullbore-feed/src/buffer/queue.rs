//! Batches that wait, bounded by number and by bytes: the protocol between the thread that makes them and the one that
//! trains.
//!
//! The locks come from the parent module, so that `tests/buffer_model.rs` runs this same file on loom's locks, through
//! every way in which the two threads can interleave.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::sync::{Condvar, Mutex, MutexGuard};

/// A bounded queue with one thread on each side.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Something was put or the end has come.
    filled: Condvar,
    /// Something was taken, or nobody takes any more.
    emptied: Condvar,
}

struct State<T> {
    /// With the bytes of each.
    waiting: VecDeque<(T, u64)>,
    bytes: u64,
    limit: Limit,
    /// The maker waits for room.
    full: bool,
    /// Nothing more will be put.
    ended: bool,
    /// Nothing more will be taken.
    closed: bool,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) items: usize,
    pub(super) bytes: u64,
}

/// What a buffer is like at one moment.
#[allow(unreachable_pub)] // seen from the model test, which includes this file
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Batches that wait.
    pub waiting: usize,
    /// No more fit, be it for their number or their bytes.
    pub full: bool,
    /// No more will come.
    pub ended: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(limit: Limit) -> Self {
        let state =
            State { waiting: VecDeque::new(), bytes: 0, limit, full: false, ended: false, closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() }
    }

    /// Waits until one more of `bytes` may be made; the first always may. False once nobody takes any more.
    pub(super) fn wait_for_room(&self, bytes: u64) -> bool {
        let mut state = self.state();
        loop {
            if state.closed {
                return false;
            }
            let Limit { items, bytes: most } = state.limit;
            let fits = state.waiting.len() < items && state.bytes.saturating_add(bytes) <= most;
            if state.waiting.is_empty() || fits {
                state.full = false;
                return true;
            }
            state.full = true;
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds one, whether or not there is room: see [`wait_for_room`](Self::wait_for_room).
    pub(super) fn put(&self, item: T, bytes: u64) {
        let mut state = self.state();
        if !state.closed {
            state.waiting.push_back((item, bytes));
            state.bytes += bytes;
            self.filled.notify_one();
        }
    }

    /// Takes the oldest, waiting for it. `None` after the end.
    pub(super) fn take(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some((item, bytes)) = state.waiting.pop_front() {
                state.bytes -= bytes;
                // Until the maker has found out otherwise.
                state.full = false;
                self.emptied.notify_one();
                return Some(item);
            }
            if state.ended {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more will be put.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.filled.notify_all();
    }

    /// Nothing more will be taken; what waits is dropped.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        state.bytes = 0;
        drop(state);
        self.emptied.notify_all();
        drop(waiting);
    }

    /// Lets no more than half of the items wait from now on, but two. False when nothing waits that could make room.
    pub(super) fn shrink(&self) -> bool {
        let mut state = self.state();
        state.limit.items = (state.limit.items / 2).max(2);
        !state.waiting.is_empty()
    }

    /// Waits until the number of waiting items falls below what it is now. False once nobody takes any more.
    pub(super) fn wait_for_a_take(&self) -> bool {
        let mut state = self.state();
        let before = state.waiting.len();
        while !state.closed && state.waiting.len() >= before.max(1) {
            state.full = true;
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.full = false;
        !state.closed
    }

    /// What it is like now.
    pub(super) fn level(&self) -> Level {
        let state = self.state();
        Level { waiting: state.waiting.len(), full: state.full, ended: state.ended }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // The queue is whole between its operations, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
