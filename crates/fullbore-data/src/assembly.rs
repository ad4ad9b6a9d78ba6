//! Batches in the making: several workers fill one batch, sample by sample, and batches leave in order.
//!
//! One unit of work is one sample. A worker that finds no sample to do opens the next batch; only one opens at a
//! time, and it is the only one that ever waits for a free slab.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use fullbore_types::{Affine, Frame, Position, SampleId, SampleKey, Size};

use crate::DataError;
use crate::canvas::Placement;
use crate::config::Resize;
use crate::order::EpochPlan;
use crate::points::Point;
use crate::ring::{Ring, Slab, SlabInParts, Slot};
use crate::sample::{MaskOut, SampleReader, Scratch, contained, points_of};
use crate::source::{Source, TargetKind};
use crate::stats::Counters;

/// What workers and consumer share.
pub(crate) struct Assembly {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) reader: SampleReader,
    pub(crate) resize: Resize,
    pub(crate) canvas: Size,
    pub(crate) seed: u64,
    pub(crate) ring: Ring,
    pub(crate) counters: Counters,
    cursor: Mutex<Cursor>,
    line: Mutex<Line>,
    /// A slot can be claimed, or there is nothing more to do.
    work: Condvar,
    /// The batch at the front is finished, or none will come.
    delivery: Condvar,
}

/// The batch to open next.
pub(crate) struct Cursor {
    pub(crate) plan: EpochPlan,
    pub(crate) next: Position,
    pub(crate) end_epoch: u64,
    pub(crate) n_samples: u32,
    pub(crate) batch_size: usize,
    pub(crate) drop_last: bool,
}

/// Batches from the one to deliver next to the one opened last.
#[derive(Default)]
struct Line {
    batches: VecDeque<OpenBatch>,
    /// Number of the batch at the front, counted from the start of this loader.
    front: u64,
    opening: bool,
    /// No further batch will be opened.
    exhausted: bool,
    stopped: bool,
    /// A worker ended outside the loading of a sample.
    lost: bool,
}

struct OpenBatch {
    meta: BatchMeta,
    slab: SlabInParts,
    /// Slots not yet claimed, last one first.
    unclaimed: Vec<Slot>,
    frames: Vec<Frame>,
    points: Points,
    unfinished: usize,
    /// Lowest slot that failed.
    failure: Option<(usize, DataError)>,
}

/// What is known of a batch when it is opened.
pub(crate) struct BatchMeta {
    pub(crate) ids: Vec<SampleId>,
    pub(crate) position: Position,
    /// Where a run goes on after this batch.
    pub(crate) next: Position,
}

/// A whole batch.
pub(crate) struct Finished {
    pub(crate) meta: BatchMeta,
    pub(crate) slab: Slab,
    pub(crate) frames: Vec<Frame>,
    pub(crate) points: Points,
}

/// Points of a batch of `n` samples, on their canvases. Both are empty where the source has none. They are so few
/// bytes that they do not live in the slab.
pub(crate) struct Points {
    /// `[n, k, 2]`
    pub(crate) xy: Vec<f32>,
    /// `[n, k]`
    pub(crate) visibility: Vec<u8>,
}

impl Points {
    fn not_labelled(n: usize, k: usize) -> Self {
        Points { xy: vec![0.0; n * k * 2], visibility: vec![0; n * k] }
    }

    /// Writes the points of sample `at`.
    fn put(&mut self, at: usize, points: &[Point], frame: &Frame, canvas: Size) {
        for (i, point) in points.iter().enumerate() {
            let i = at * points.len() + i;
            let Point { x, y, visibility } = point.on_canvas(frame, canvas);
            self.xy[2 * i..][..2].copy_from_slice(&[x, y]);
            self.visibility[i] = visibility as u8;
        }
    }
}

/// One sample to load.
struct Job {
    batch: u64,
    slot_index: usize,
    slot: Slot,
    id: SampleId,
    epoch: u64,
}

const NO_FRAME: Frame = Frame {
    source_size: Size { width: 0, height: 0 },
    canvas_from_source: Affine::IDENTITY,
    mm_per_px: None,
};

impl Assembly {
    pub(crate) fn new(
        source: Arc<dyn Source>,
        reader: SampleReader,
        (resize, canvas, seed): (Resize, Size, u64),
        ring: Ring,
        cursor: Cursor,
    ) -> Self {
        Assembly {
            source,
            reader,
            resize,
            canvas,
            seed,
            ring,
            counters: Counters::default(),
            cursor: Mutex::new(cursor),
            line: Mutex::default(),
            work: Condvar::new(),
            delivery: Condvar::new(),
        }
    }

    /// A worker's life: loads samples until there are no more or the loader stops.
    pub(crate) fn work(&self) {
        let alarm = Alarm(self);
        let mut scratch = Scratch::default();
        while let Some(job) = self.next_job() {
            self.run(job, &mut scratch);
        }
        std::mem::forget(alarm);
    }

    /// Waits for the next batch in order. `None` after the last one.
    pub(crate) fn next(&self) -> Option<Result<Finished, DataError>> {
        let start = Instant::now();
        let mut line = self.line();
        let next = loop {
            if line.batches.front().is_some_and(|batch| batch.unfinished == 0) {
                break line.pop();
            }
            if line.lost {
                break Some(Err(DataError::ThreadLost));
            }
            if line.exhausted && line.batches.is_empty() {
                break None;
            }
            line = wait(&self.delivery, line);
        };
        drop(line);
        add_since(&self.counters.wait_for_batch, start);
        next
    }

    /// Makes the next batch in the calling thread. `None` after the last one.
    pub(crate) fn next_inline(&self, scratch: &mut Scratch) -> Option<Result<Finished, DataError>> {
        let start = Instant::now();
        let batch = self.open_batch()?;
        self.line().batches.push_back(batch);
        loop {
            let job = self.line().claim();
            match job {
                Some(job) => self.run(job, scratch),
                None => break,
            }
        }
        add_since(&self.counters.wait_for_batch, start);
        self.line().pop()
    }

    /// Makes workers leave as soon as each has finished the sample in its hands.
    pub(crate) fn stop(&self) {
        self.line().stopped = true;
        self.ring.close();
        self.work.notify_all();
        self.delivery.notify_all();
    }

    fn next_job(&self) -> Option<Job> {
        let mut line = self.line();
        loop {
            if line.stopped {
                return None;
            }
            if let Some(job) = line.claim() {
                return Some(job);
            }
            if line.exhausted {
                return None;
            }
            if line.opening {
                let start = Instant::now();
                line = wait(&self.work, line);
                add_since(&self.counters.wait_for_work, start);
                continue;
            }
            line.opening = true;
            drop(line);
            let opened = self.open_batch();
            line = self.line();
            line.opening = false;
            match opened {
                // A failure meanwhile ends the stream before this batch.
                Some(_) if line.exhausted => {}
                Some(batch) => line.batches.push_back(batch),
                None => line.exhausted = true,
            }
            self.work.notify_all();
            self.delivery.notify_all();
        }
    }

    /// Takes a slab, waiting for one, and the next batch's samples. `None` at the end or when stopped.
    fn open_batch(&self) -> Option<OpenBatch> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        cursor.enter_epoch(self.seed)?;
        let start = Instant::now();
        let slab = self.ring.acquire()?;
        add_since(&self.counters.wait_for_room, start);
        let meta = cursor.take()?;
        drop(cursor);
        let n = meta.ids.len();
        let (slab, mut unclaimed) = slab.into_slots(n);
        unclaimed.reverse();
        let k = if let TargetKind::Points { k } = self.source.kind() { k } else { 0 };
        let (frames, points) = (vec![NO_FRAME; n], Points::not_labelled(n, k));
        Some(OpenBatch { meta, slab, unclaimed, frames, points, unfinished: n, failure: None })
    }

    fn run(&self, job: Job, scratch: &mut Scratch) {
        let Job { batch, slot_index, mut slot, id, epoch } = job;
        let key = SampleKey { seed: self.seed, epoch, sample: id };
        let loaded = contained(&*self.source, id, scratch, |scratch| {
            let (image, mask) = slot.parts();
            let place = |size| Placement::training(self.resize, size, self.canvas, key);
            let out = |_: &Placement| (image, MaskOut::Canvas(mask));
            let (_, frame) = self.reader.load(&*self.source, id, scratch, &self.counters, place, out)?;
            Ok((frame, points_of(&*self.source, id)))
        });
        // The slab can only be joined once its slots are gone.
        drop(slot);
        let mut line = self.line();
        if line.finish(batch, slot_index, loaded, self.canvas) {
            self.work.notify_all();
        }
        if line.batches.front().is_some_and(|front| front.unfinished == 0) {
            self.delivery.notify_all();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while it holds the line; if it did, the alarm would tell.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cursor {
    /// Moves to the next epoch when this one is done. `None` when the last one is.
    fn enter_epoch(&mut self, seed: u64) -> Option<()> {
        if self.next.epoch >= self.end_epoch {
            return None;
        }
        if self.next.batch >= self.plan.n_batches() {
            self.next = Position { epoch: self.next.epoch + 1, batch: 0 };
            if self.next.epoch >= self.end_epoch {
                return None;
            }
            self.plan =
                EpochPlan::new(self.n_samples, self.batch_size, self.drop_last, seed, self.next.epoch);
        }
        Some(())
    }

    fn take(&mut self) -> Option<BatchMeta> {
        let position = self.next;
        let ids = self.plan.batch(position.batch)?.collect();
        self.next.batch += 1;
        let next = match self.next.batch < self.plan.n_batches() {
            true => self.next,
            false => Position { epoch: position.epoch + 1, batch: 0 },
        };
        Some(BatchMeta { ids, position, next })
    }
}

impl Line {
    /// Takes the first sample that nobody has taken yet.
    fn claim(&mut self) -> Option<Job> {
        let at = self.batches.iter().position(|batch| !batch.unclaimed.is_empty())?;
        let batch = &mut self.batches[at];
        let slot = batch.unclaimed.pop()?;
        let slot_index = batch.meta.ids.len() - batch.unclaimed.len() - 1;
        let (id, epoch) = (batch.meta.ids[slot_index], batch.meta.position.epoch);
        Some(Job { batch: self.front + at as u64, slot_index, slot, id, epoch })
    }

    /// Notes the outcome of a sample. True when that changed what can be claimed.
    ///
    /// Slots are claimed in order, so when one fails, all lower ones have been claimed and will report: which
    /// failure is the first does not depend on timing.
    fn finish(
        &mut self,
        batch: u64,
        slot: usize,
        outcome: Result<(Frame, &[Point]), DataError>,
        canvas: Size,
    ) -> bool {
        let at = (batch - self.front) as usize;
        // Batches after a failed one are given up while their samples may still be in work.
        let Some(batch) = self.batches.get_mut(at) else { return false };
        batch.unfinished -= 1;
        match outcome {
            Ok((frame, points)) => {
                batch.frames[slot] = frame;
                batch.points.put(slot, points, &frame, canvas);
                false
            }
            Err(error) => {
                if batch.failure.as_ref().is_none_or(|(lowest, _)| slot < *lowest) {
                    batch.failure = Some((slot, error));
                }
                batch.unfinished -= batch.unclaimed.len();
                batch.unclaimed.clear();
                self.batches.truncate(at + 1);
                self.exhausted = true;
                true
            }
        }
    }

    /// Removes the finished batch at the front.
    fn pop(&mut self) -> Option<Result<Finished, DataError>> {
        let batch = self.batches.pop_front()?;
        self.front += 1;
        let OpenBatch { meta, slab, frames, points, failure, .. } = batch;
        if let Some((_, error)) = failure {
            return Some(Err(error));
        }
        match slab.join() {
            Ok(slab) => Some(Ok(Finished { meta, slab, frames, points })),
            Err(_) => unreachable!("every slot of a finished batch has been dropped"),
        }
    }
}

/// Tells the consumer when a worker unwinds outside the loading of a sample, so that it does not wait for ever.
struct Alarm<'a>(&'a Assembly);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.lost = true;
        line.exhausted = true;
        drop(line);
        self.0.work.notify_all();
        self.0.delivery.notify_all();
    }
}

fn wait<'a>(condvar: &Condvar, line: MutexGuard<'a, Line>) -> MutexGuard<'a, Line> {
    condvar.wait(line).unwrap_or_else(PoisonError::into_inner)
}

fn add_since(counter: &AtomicU64, start: Instant) {
    counter.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
}
