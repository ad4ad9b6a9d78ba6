//! Where a loader's time goes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cache::{CacheCounters, CacheStats};

/// What the loader has done so far. Times are summed over its threads, so a stage may show more time than has
/// passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoaderStats {
    /// Samples finished.
    pub samples: u64,
    /// Bytes of files read. High per sample: large files; the disk or network may set the pace.
    pub bytes_read: u64,
    /// Time in reading files. High against [`decode`](Self::decode): storage sets the pace, more workers or a
    /// cache help. Low: the files lie in memory already.
    pub read: Duration,
    /// Time in decoders. The usual cost; high means that the cores set the pace: more workers, or smaller files.
    pub decode: Duration,
    /// Time in resizing, padding and translating mask values. High against decode: the sources are far larger
    /// than the canvas.
    pub pack: Duration,
    /// Time that one worker waited for a free slab. High: the loader is ahead of the step, all is well. Near
    /// zero: every slab is refilled at once, the step never lets the loader rest.
    pub wait_for_room: Duration,
    /// Time that workers waited for each other's batches to be opened. High together with `wait_for_room`: there
    /// are more workers than needed.
    pub wait_for_work: Duration,
    /// Time that the consumer waited for its next batch. High: the run is bound by data. Near zero: the loader
    /// hides behind the step. With no workers this is all the loader's time.
    pub wait_for_batch: Duration,
    /// What the cache does for it.
    pub cache: CacheStats,
}

/// The live counters behind [`LoaderStats`], in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) samples: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) decode: AtomicU64,
    pub(crate) pack: AtomicU64,
    pub(crate) wait_for_room: AtomicU64,
    pub(crate) wait_for_work: AtomicU64,
    pub(crate) wait_for_batch: AtomicU64,
    pub(crate) cache: CacheCounters,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> LoaderStats {
        let time = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        LoaderStats {
            samples: self.samples.load(Ordering::Relaxed),
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            read: time(&self.read),
            decode: time(&self.decode),
            pack: time(&self.pack),
            wait_for_room: time(&self.wait_for_room),
            wait_for_work: time(&self.wait_for_work),
            wait_for_batch: time(&self.wait_for_batch),
            cache: self.cache.snapshot(),
        }
    }
}

/// Runs `work` and adds the time it took to `counter`.
pub(crate) fn timed<T>(counter: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    counter.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    result
}
