//! The ring's free list under loom: every interleaving of its threads, on the same source file as the crate.
//!
//! What must hold: no two threads hold one slab, what the last holder wrote is seen by the next one, and everyone
//! who waits is woken by a slab or by the end.

#[path = "../src/ring/free_list.rs"]
mod free_list;

/// The locks of the free list.
mod sync {
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
}

use free_list::FreeList;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// Slabs of one number each. The cells complain when two accesses are not ordered.
struct Slabs {
    free: FreeList,
    memory: Vec<UnsafeCell<u32>>,
}

impl Slabs {
    fn new(n: usize) -> Arc<Self> {
        Arc::new(Slabs { free: FreeList::new(n), memory: (0..n).map(|_| UnsafeCell::new(0)).collect() })
    }

    /// Takes a slab and adds one to it. False once closed.
    fn fill_one(&self) -> bool {
        let Some(index) = self.free.take() else { return false };
        // SAFETY: the slab is out of the free list, so this thread alone may touch it; loom checks just that.
        #[allow(unsafe_code)]
        self.memory[index].with_mut(|value| unsafe { *value += 1 });
        self.free.give_back(index);
        true
    }

    fn sum(&self) -> u32 {
        // SAFETY: as above: the threads that wrote have been joined.
        #[allow(unsafe_code)]
        self.memory.iter().map(|cell| cell.with(|value| unsafe { *value })).sum()
    }
}

fn fill_in_threads(slabs: &Arc<Slabs>, threads: usize, times: usize) -> Vec<thread::JoinHandle<usize>> {
    (0..threads)
        .map(|_| {
            let slabs = slabs.clone();
            thread::spawn(move || (0..times).filter(|_| slabs.fill_one()).count())
        })
        .collect()
}

#[test]
fn one_slab_passes_between_three_threads() {
    loom::model(|| {
        let slabs = Slabs::new(1);
        let threads = fill_in_threads(&slabs, 2, 1);
        assert!(slabs.fill_one());
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 1));
        assert_eq!(slabs.sum(), 3);
    });
}

#[test]
fn two_slabs_serve_two_threads_again_and_again() {
    loom::model(|| {
        let slabs = Slabs::new(2);
        let threads = fill_in_threads(&slabs, 2, 2);
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 2));
        assert_eq!((slabs.sum(), slabs.free.n_free()), (4, 2));
    });
}

#[test]
fn closing_ends_every_wait() {
    loom::model(|| {
        let slabs = Slabs::new(1);
        let held = slabs.free.take().unwrap();
        let threads = fill_in_threads(&slabs, 2, 1);
        slabs.free.close();
        slabs.free.give_back(held);
        let filled: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(filled as u32, slabs.sum());
        assert!(slabs.free.take().is_none());
    });
}
