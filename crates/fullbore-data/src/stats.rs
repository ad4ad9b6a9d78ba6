//! Where a loader's time goes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cache::{CacheCounters, CacheStats};

/// What the loader has done so far. Times are summed over its threads, so a stage may show more time than has
/// passed. A wait is counted when it ends.
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
    /// Time in resampling images and masks to the canvas. High against decode: the sources are far larger than
    /// the canvas; store them smaller, or cache them. Zero: sizes match already, or images are cropped.
    pub resize: Duration,
    /// Time in copying, padding and translating mask values. Should be far below decode; high: the canvas is large
    /// and its files are tiny.
    pub pack: Duration,
    /// Time in the stage between canvas and batch, augmentation. High against decode: move it to the device, or
    /// choose fewer operations.
    pub augment: Duration,
    /// Time that one worker waited for a free slab. High: the loader is ahead of the step, all is well. Near
    /// zero: every slab is refilled at once, the step never lets the loader rest.
    pub wait_for_room: Duration,
    /// Time that workers waited for each other's batches to be opened. High together with `wait_for_room`: there
    /// are more workers than needed.
    pub wait_for_work: Duration,
    /// Time that the consumer waited for its next batch. High: the run is bound by data. Near zero: the loader
    /// hides behind the step. With no workers this is all the loader's time.
    pub wait_for_batch: Duration,
    /// Batches delivered.
    pub batches: u64,
    /// Finished batches that waited behind the one delivered, summed over deliveries; see
    /// [`queue_depth`](Self::queue_depth).
    pub ready_behind: u64,
    /// What the cache does for it.
    pub cache: CacheStats,
}

impl LoaderStats {
    /// Finished batches behind the one delivered, on average. Near the number of batches prepared ahead: the
    /// loader is ahead of the step. Near zero: the consumer takes each batch as soon as it is done, or waits for it.
    /// In between and falling: a buffer that drains.
    pub fn queue_depth(&self) -> f64 {
        self.ready_behind as f64 / self.batches.max(1) as f64
    }

    /// What was done since `earlier`, a reading of the same loader.
    pub fn since(&self, earlier: &LoaderStats) -> LoaderStats {
        LoaderStats {
            samples: self.samples - earlier.samples,
            bytes_read: self.bytes_read - earlier.bytes_read,
            read: self.read - earlier.read,
            decode: self.decode - earlier.decode,
            resize: self.resize - earlier.resize,
            pack: self.pack - earlier.pack,
            augment: self.augment - earlier.augment,
            wait_for_room: self.wait_for_room - earlier.wait_for_room,
            wait_for_work: self.wait_for_work - earlier.wait_for_work,
            wait_for_batch: self.wait_for_batch - earlier.wait_for_batch,
            batches: self.batches - earlier.batches,
            ready_behind: self.ready_behind - earlier.ready_behind,
            cache: self.cache.since(&earlier.cache),
        }
    }
}

/// The live counters behind [`LoaderStats`], times in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) samples: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) decode: AtomicU64,
    pub(crate) resize: AtomicU64,
    pub(crate) pack: AtomicU64,
    pub(crate) augment: AtomicU64,
    pub(crate) wait_for_room: AtomicU64,
    pub(crate) wait_for_work: AtomicU64,
    pub(crate) wait_for_batch: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) ready_behind: AtomicU64,
    pub(crate) cache: CacheCounters,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> LoaderStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |counter: &AtomicU64| Duration::from_nanos(count(counter));
        LoaderStats {
            samples: count(&self.samples),
            bytes_read: count(&self.bytes_read),
            read: time(&self.read),
            decode: time(&self.decode),
            resize: time(&self.resize),
            pack: time(&self.pack),
            augment: time(&self.augment),
            wait_for_room: time(&self.wait_for_room),
            wait_for_work: time(&self.wait_for_work),
            wait_for_batch: time(&self.wait_for_batch),
            batches: count(&self.batches),
            ready_behind: count(&self.ready_behind),
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
