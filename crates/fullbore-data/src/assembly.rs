//! Workers fill batches, sample by sample and several to a batch, and batches leave in order.
//!
//! One unit of work is one sample. A worker that finds no sample to do opens the next batch; only one opens at a
//! time, and it is the only one that ever waits for a free slab.
//!
//! A sample is first read into buffers of the worker's own, then decoded into its slot. While it reads, a worker
//! holds nothing but its buffers and the [`Intake`]: a read that never ends can be given up without harm. The
//! worker learns of it when it comes back, and leaves; another has its place by then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use fullbore_types::{Frame, Position, SampleId, SampleKey, Size};

use crate::DataError;
use crate::canvas::Placement;
use crate::config::Resize;
use crate::faults::Fault;
use crate::intake::Intake;
use crate::line::{BatchMeta, Finished, Job, Line, OpenBatch};
use crate::order::EpochPlan;
use crate::reads::{MAX_STUCK, wait_at_most, wait_for_end};
use crate::ring::{Ring, Slot};
use crate::sample::{MaskOut, Scratch, contained, points_of};
use crate::source::{Part, TargetKind};
use crate::stage::SampleStage;
use crate::stats::timed;

/// What workers and consumer share.
pub(crate) struct Assembly {
    pub(crate) intake: Arc<Intake>,
    place: Place,
    ring: Ring,
    cursor: Mutex<Cursor>,
    line: Mutex<Line>,
    /// A slot can be claimed, or there is nothing more to do.
    work: Condvar,
    /// The batch at the front is finished, none will come, or a read has ended after the stop.
    delivery: Condvar,
}

/// What decides where the pixels of a sample come to lie.
pub(crate) struct Place {
    pub(crate) resize: Resize,
    pub(crate) canvas: Size,
    pub(crate) seed: u64,
    pub(crate) stage: Option<Arc<dyn SampleStage>>,
}

/// The batch to open next.
pub(crate) struct Cursor {
    pub(crate) plan: EpochPlan,
    pub(crate) next: Position,
    pub(crate) end_epoch: u64,
}

/// What a worker does after reading.
enum Arrival {
    /// Decode into this slot.
    Fill(Slot),
    /// The batch has been given up; go on with another sample.
    GoOn,
    /// The loader has stopped, or the worker was given up.
    Leave,
}

/// What comes after a wait for the next batch.
pub(crate) enum Next {
    Batch(Box<Finished>),
    End,
    /// A worker ended outside the loading of a sample.
    Lost,
    /// The read of this worker was given up; it needs a successor before anything else is waited for.
    GivenUp(u64),
}

impl Assembly {
    pub(crate) fn new(intake: Intake, place: Place, ring: Ring, cursor: Cursor, line: Line) -> Self {
        Assembly {
            intake: Arc::new(intake),
            place,
            ring,
            cursor: Mutex::new(cursor),
            line: Mutex::new(line),
            work: Condvar::new(),
            delivery: Condvar::new(),
        }
    }

    /// Waits for the next batch in order, or for a read that takes too long.
    pub(crate) fn next(&self) -> Next {
        let start = Instant::now();
        let mut line = self.line();
        let next = loop {
            let now = Instant::now();
            if let Some(read) = line.reads.give_up(now) {
                drop(line);
                self.give_up(&read.what, read.part);
                break Next::GivenUp(read.worker);
            }
            if line.front_is_finished() {
                break line.pop().map(Box::new).map_or(Next::End, Next::Batch);
            }
            if line.lost {
                break Next::Lost;
            }
            if line.has_ended() {
                break Next::End;
            }
            let patience = line.reads.until_overdue(now);
            line = wait_at_most(&self.delivery, line, patience);
        };
        self.count(&next, start);
        next
    }

    /// Makes the next batch in the calling thread.
    pub(crate) fn next_inline(&self, scratch: &mut Scratch) -> Next {
        let start = Instant::now();
        let Some(batch) = self.open_batch() else { return Next::End };
        self.line().push(batch);
        loop {
            let Some(job) = self.line().claim() else { break };
            if let Some(fault) = self.known_fault(&job) {
                self.line().failed(&job, None, fault, None);
                continue;
            }
            let read = self.intake.read(job.id(), scratch, |_| ());
            let slot = self.line().slot(&job);
            if let Some(slot) = slot {
                self.settle(&job, slot, read, scratch);
            }
        }
        let next = self.line().pop().map(Box::new).map_or(Next::End, Next::Batch);
        self.count(&next, start);
        next
    }

    /// Makes workers leave as soon as each has finished the sample in its hands.
    pub(crate) fn stop(&self) {
        self.line().stopped = true;
        self.ring.close();
        self.work.notify_all();
        self.delivery.notify_all();
    }

    /// After a stop: waits for reads to end. Gives the workers whose reads do not.
    pub(crate) fn wait_for_reads(&self) -> Vec<u64> {
        wait_for_end(self.line(), &self.delivery, |line| &line.reads)
    }

    /// Makes one worker leave when it has finished its sample.
    pub(crate) fn send_one_away(&self) {
        self.line().leaving += 1;
        self.work.notify_all();
    }

    /// Takes that back; false when there is nothing to take back.
    pub(crate) fn keep_one(&self) -> bool {
        let mut line = self.line();
        let kept = line.leaving > 0;
        line.leaving -= usize::from(kept);
        kept
    }

    /// Waits for a sample to load, opening batches as needed. `None` when the worker shall leave.
    fn next_job(&self, worker: u64) -> Option<Job> {
        loop {
            let job = self.claim(worker)?;
            match self.known_fault(&job) {
                None => return Some(job),
                Some(fault) => {
                    let mut line = self.line();
                    if !line.reads.end(worker) {
                        return None;
                    }
                    line.failed(&job, None, fault, None);
                    self.tell_of_failure(&line);
                }
            }
        }
    }

    /// The same without a look at what is known of the sample.
    fn claim(&self, worker: u64) -> Option<Job> {
        let counters = &self.intake.counters;
        let mut line = self.line();
        loop {
            if line.stopped {
                return None;
            }
            // Who met a bad sample stays until its place is filled: the others may be waiting for room.
            if line.leaving > 0 && !line.has_retries() {
                line.leaving -= 1;
                return None;
            }
            if let Some(job) = line.claim() {
                line.reads.begin(worker, job, Part::Image, Instant::now());
                return Some(job);
            }
            if line.exhausted {
                return None;
            }
            if line.opening {
                let start = Instant::now();
                line = self.work.wait(line).unwrap_or_else(PoisonError::into_inner);
                add_since(&counters.wait_for_work, start);
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
                Some(batch) => line.push(batch),
                None => line.exhausted = true,
            }
            self.work.notify_all();
            self.delivery.notify_all();
        }
    }

    /// Takes a slab, waiting for one, and the next batch's samples. `None` at the end or when stopped.
    fn open_batch(&self) -> Option<OpenBatch> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        cursor.enter_epoch(self.place.seed)?;
        let start = Instant::now();
        let slab = self.ring.acquire()?;
        add_since(&self.intake.counters.wait_for_room, start);
        let meta = cursor.take()?;
        drop(cursor);
        let k = if let TargetKind::Points { k } = self.intake.source.kind() { k } else { 0 };
        Some(OpenBatch::new(meta, slab, k))
    }

    /// A worker comes back from reading.
    fn arrive(&self, worker: u64, job: &Job) -> Arrival {
        let mut line = self.line();
        if !line.reads.end(worker) {
            return Arrival::Leave;
        }
        if line.stopped {
            self.delivery.notify_all();
            return Arrival::Leave;
        }
        line.slot(job).map_or(Arrival::GoOn, Arrival::Fill)
    }

    /// Decodes a sample that was read into its slot, by way of the stage if there is one, and notes the outcome.
    fn settle(&self, job: &Job, mut slot: Slot, read: Result<(), DataError>, scratch: &mut Scratch) {
        let source = &*self.intake.source;
        let id = job.id();
        let key = SampleKey { seed: self.place.seed, epoch: job.position.epoch, sample: id };
        let loaded = read.and_then(|()| {
            contained(source, id, scratch, |scratch| {
                let (image, mask) = slot.parts();
                match &self.place.stage {
                    None => self.decode(id, key, scratch, image, mask),
                    Some(stage) => self.decode_for(&**stage, id, key, scratch, image, mask),
                }
            })
        });
        match loaded {
            Ok(frame) => {
                let mut line = self.line();
                line.done(job, slot, frame, scratch.points());
                self.tell_of_progress(&line);
            }
            Err(error) => {
                let names = self.intake.names(id, Part::Image);
                let mut line = self.line();
                let fault = line.fault(names, || error.to_string());
                line.failed(job, Some(slot), fault, Some(error));
                self.tell_of_failure(&line);
            }
        }
    }

    /// Decodes a sample onto a canvas, and puts its points on it.
    fn decode(
        &self,
        id: SampleId,
        key: SampleKey,
        scratch: &mut Scratch,
        image: &mut [u8],
        mask: &mut [u8],
    ) -> Result<Frame, DataError> {
        let Intake { source, reader, counters } = &*self.intake;
        let Place { resize, canvas, .. } = self.place;
        let training = |size| Placement::training(resize, size, canvas, key);
        let place = |size, window| Placement::of_window(size, window, resize, training);
        let out = |_: &Placement| (image, MaskOut::Canvas(mask));
        let (_, frame) = reader.decode(&**source, id, scratch, counters, place, out)?;
        scratch.place_points(points_of(&**source, id), &frame, canvas);
        Ok(frame)
    }

    /// The same on a canvas of the worker's own, from which the stage makes the sample.
    fn decode_for(
        &self,
        stage: &dyn SampleStage,
        id: SampleId,
        key: SampleKey,
        scratch: &mut Scratch,
        image: &mut [u8],
        mask: &mut [u8],
    ) -> Result<Frame, DataError> {
        let (mut worker, mut canvas) = scratch.lend_stage(|| stage.worker());
        let n_pixels = self.place.canvas.area() as usize;
        canvas.image.resize(n_pixels * self.intake.reader.channels(), 0);
        canvas.mask.resize(if mask.is_empty() { 0 } else { n_pixels }, 0);
        let frame = self.decode(id, key, scratch, &mut canvas.image, &mut canvas.mask)?;
        timed(&self.intake.counters.augment, || {
            worker.image(key, &canvas.image, image);
            if !mask.is_empty() {
                worker.mask(key, &canvas.mask, mask);
            }
            let (places, visibility) = scratch.points_mut();
            worker.points(key, places, visibility);
        });
        scratch.take_back(worker, canvas);
        Ok(frame)
    }

    /// Makes a read that takes too long the fault of its sample.
    fn give_up(&self, job: &Job, part: Part) {
        let names = self.intake.names(job.id(), Part::Image);
        let mut line = self.line();
        let (limit, count) = (line.reads.limit(), line.reads.stuck());
        let error = self.intake.stuck_read(job.id(), part, limit);
        let fault = line.fault(names, || error.to_string());
        match count > MAX_STUCK {
            true => {
                let error = self.intake.storage_stuck(job.id(), part, limit, count);
                line.failed_for_good(job, fault, error);
            }
            false => line.failed(job, None, fault, Some(error)),
        }
        self.tell_of_failure(&line);
    }

    /// What is known already of a sample that is bad.
    fn known_fault(&self, job: &Job) -> Option<Arc<Fault>> {
        if !job.suspect {
            return None;
        }
        let names = self.intake.names(job.id(), Part::Image);
        self.line().known_fault(&names)
    }

    /// There may be a substitute to claim, or the stream may have ended.
    fn tell_of_failure(&self, line: &Line) {
        self.work.notify_all();
        self.tell_of_progress(line);
    }

    fn tell_of_progress(&self, line: &Line) {
        if line.front_is_finished() {
            self.delivery.notify_all();
        }
    }

    fn count(&self, next: &Next, start: Instant) {
        let counters = &self.intake.counters;
        add_since(&counters.wait_for_batch, start);
        if let Next::Batch(finished) = next {
            counters.batches.fetch_add(1, Ordering::Relaxed);
            counters.ready_behind.fetch_add(finished.ready_behind as u64, Ordering::Relaxed);
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while it holds the line; if it did, the alarm would tell.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that loads samples until there are no more, the loader stops, or it is sent away.
pub(crate) struct Worker {
    pub(crate) id: u64,
    /// Weak, so that a read that never ends keeps no slab.
    pub(crate) assembly: Weak<Assembly>,
    pub(crate) intake: Arc<Intake>,
}

impl Worker {
    /// Its whole life.
    pub(crate) fn work(self) {
        let alarm = Alarm(&self.assembly);
        let mut scratch = Scratch::default();
        while let Some(job) = self.next_job() {
            let read = self.intake.read(job.id(), &mut scratch, |part| self.note_part(part));
            let Some(assembly) = self.assembly.upgrade() else { break };
            match assembly.arrive(self.id, &job) {
                Arrival::Fill(slot) => assembly.settle(&job, slot, read, &mut scratch),
                Arrival::GoOn => {}
                Arrival::Leave => break,
            }
        }
        std::mem::forget(alarm);
    }

    fn next_job(&self) -> Option<Job> {
        self.assembly.upgrade()?.next_job(self.id)
    }

    /// Gives each file its own time. The first one's began with the job.
    fn note_part(&self, part: Part) {
        if part != Part::Image
            && let Some(assembly) = self.assembly.upgrade()
        {
            assembly.line().reads.go_on(self.id, part, Instant::now());
        }
    }
}

impl Cursor {
    /// Moves to the next epoch when this one is done. `None` when the last one is.
    fn enter_epoch(&mut self, seed: u64) -> Option<()> {
        if self.next.epoch >= self.end_epoch {
            return None;
        }
        if self.next.batch >= self.plan.shape().n_batches() {
            self.next = Position { epoch: self.next.epoch + 1, batch: 0 };
            if self.next.epoch >= self.end_epoch {
                return None;
            }
            self.plan = EpochPlan::new(*self.plan.shape(), seed, self.next.epoch);
        }
        Some(())
    }

    fn take(&mut self) -> Option<BatchMeta> {
        let position = self.next;
        let ids = self.plan.batch(position.batch)?.collect();
        self.next.batch += 1;
        let next = match self.next.batch < self.plan.shape().n_batches() {
            true => self.next,
            false => Position { epoch: position.epoch + 1, batch: 0 },
        };
        Some(BatchMeta { ids, position, next })
    }
}

/// Tells the consumer when a worker unwinds outside the loading of a sample, so that it does not wait for ever.
struct Alarm<'a>(&'a Weak<Assembly>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        let Some(assembly) = self.0.upgrade() else { return };
        let mut line = assembly.line();
        line.lost = true;
        line.exhausted = true;
        drop(line);
        assembly.work.notify_all();
        assembly.delivery.notify_all();
    }
}

fn add_since(counter: &AtomicU64, start: Instant) {
    counter.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
}
