//! The buffer's queue under loom: every interleaving of its two threads, on the same source file as the crate.
//!
//! What must hold: batches come out in order and none is lost, no more wait than may, and whoever waits is woken by a
//! batch, by room, or by the end.

#[path = "../src/buffer/queue.rs"]
mod queue;

/// The locks of the queue.
mod sync {
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
}

use loom::sync::Arc;
use loom::thread;
use queue::{Level, Limit, Queue};

fn with(items: usize, bytes: u64) -> Arc<Queue<u64>> {
    Arc::new(Queue::new(Limit { items, bytes }))
}

/// Makes the numbers up to `n`, each of so many bytes; how many before nobody took any more.
fn make(queue: &Queue<u64>, n: u64, bytes: u64) -> u64 {
    for item in 0..n {
        if !queue.wait_for_room(bytes) {
            return item;
        }
        queue.put(item, bytes);
    }
    queue.end();
    n
}

#[test]
fn everything_comes_through_in_order() {
    for (items, bytes) in [(1, 100), (2, 100), (2, 10)] {
        loom::model(move || {
            let queue = with(items, bytes);
            let maker = thread::spawn({
                let queue = queue.clone();
                move || make(&queue, 3, 10)
            });
            let taken: Vec<u64> = std::iter::from_fn(|| {
                let Level { waiting, full, .. } = queue.level();
                let most = items.min(bytes as usize / 10);
                assert!(waiting <= most);
                assert!(!full || waiting == most, "full with {waiting} of {most}");
                queue.take()
            })
            .collect();
            assert_eq!(taken, [0, 1, 2]);
            assert_eq!(maker.join().unwrap(), 3);
            assert!(queue.level().ended);
        });
    }
}

#[test]
fn a_maker_that_waits_for_room_is_freed_when_nobody_takes() {
    loom::model(|| {
        let queue = with(1, 100);
        let maker = thread::spawn({
            let queue = queue.clone();
            move || make(&queue, 3, 10)
        });
        queue.take();
        queue.close();
        assert!(maker.join().unwrap() <= 3);
        assert_eq!(queue.level().waiting, 0, "what waits is dropped");
    });
}

#[test]
fn a_maker_that_lacks_memory_goes_on_after_a_take() {
    loom::model(|| {
        let queue = with(4, 100);
        queue.put(0, 10);
        queue.put(1, 10);
        let maker = thread::spawn({
            let queue = queue.clone();
            move || {
                assert!(!queue.shrink() || queue.wait_for_a_take());
                queue.put(2, 10);
                queue.end();
            }
        });
        let taken: Vec<u64> = std::iter::from_fn(|| queue.take()).collect();
        assert_eq!(taken, [0, 1, 2]);
        maker.join().unwrap();
    });
}
