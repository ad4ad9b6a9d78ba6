//! The batches in the making, from the one to deliver next to the one opened last: who loads what, and what took
//! the place of samples that cannot be loaded. Plain state without threads; [`crate::assembly`] guards it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fullbore_types::{Affine, Frame, Position, SampleId, Size};

use crate::DataError;
use crate::faults::{Encounter, Fault, Names};
use crate::order::substitute;
use crate::points::BatchPoints;
use crate::reads::Reads;
use crate::ring::{Slab, SlabInParts, Slot};

/// The line. Batches are numbered from the start of the loader.
pub(crate) struct Line {
    batches: VecDeque<OpenBatch>,
    /// Number of the batch at the front.
    front: u64,
    /// A worker is about to add a batch.
    pub(crate) opening: bool,
    /// No further batch will be added.
    pub(crate) exhausted: bool,
    pub(crate) stopped: bool,
    /// A worker ended outside the loading of a sample.
    pub(crate) lost: bool,
    /// How many workers have been asked to leave and have not yet.
    pub(crate) leaving: usize,
    pub(crate) reads: Reads<Job>,
    faults: HashMap<Names, Arc<Fault>>,
    rule: Replacing,
}

/// What decides how bad samples are replaced.
#[derive(Clone, Copy)]
pub(crate) struct Replacing {
    pub(crate) n_samples: u32,
    pub(crate) seed: u64,
    pub(crate) max_bad: usize,
}

/// What is known of a batch when it is opened.
pub(crate) struct BatchMeta {
    pub(crate) ids: Vec<SampleId>,
    pub(crate) position: Position,
    /// Where a run goes on after this batch.
    pub(crate) next: Position,
}

/// A batch that is being filled.
pub(crate) struct OpenBatch {
    meta: BatchMeta,
    slab: SlabInParts,
    /// Slots that nobody writes now and that are still to be filled.
    slots: Vec<Option<Slot>>,
    /// Slots below this have been claimed.
    claimed: usize,
    /// Substitutes that nobody has claimed yet.
    retries: Vec<Attempt>,
    frames: Vec<Frame>,
    points: BatchPoints,
    unfinished: usize,
    encounters: Vec<Encounter>,
    /// (slot, fault) of every encounter.
    met: HashSet<(usize, usize)>,
    /// Lowest slot that stays empty. No error: the ledger has it.
    failure: Option<(usize, Option<DataError>)>,
}

/// One sample to load into one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// Number of the batch.
    batch: u64,
    pub(crate) position: Position,
    attempt: Attempt,
    /// Bad samples are known by now, and this may be one of them.
    pub(crate) suspect: bool,
}

/// A sample for a slot.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    slot: usize,
    id: SampleId,
    /// The sample of the order.
    original: SampleId,
    /// 0 for that sample, then its substitutes.
    number: u32,
    /// Different bad samples met by this slot.
    n_bad: usize,
}

impl Job {
    pub(crate) fn id(&self) -> SampleId {
        self.attempt.id
    }
}

/// A batch that leaves the line.
pub(crate) struct Finished {
    pub(crate) meta: BatchMeta,
    pub(crate) frames: Vec<Frame>,
    pub(crate) points: BatchPoints,
    /// By slot, then attempt.
    pub(crate) encounters: Vec<Encounter>,
    /// The slab, or the slot that stays empty and why.
    pub(crate) outcome: Result<Slab, (usize, Option<DataError>)>,
    /// Finished batches that wait behind this one.
    pub(crate) ready_behind: usize,
}

const NO_FRAME: Frame = Frame {
    source_size: Size { width: 0, height: 0 },
    canvas_from_source: Affine::IDENTITY,
    mm_per_px: None,
};

impl OpenBatch {
    /// `k` points belong to each sample.
    pub(crate) fn new(meta: BatchMeta, slab: Slab, k: usize) -> Self {
        let n = meta.ids.len();
        let (slab, slots) = slab.into_slots(n);
        OpenBatch {
            meta,
            slab,
            slots: slots.into_iter().map(Some).collect(),
            claimed: 0,
            retries: Vec::new(),
            frames: vec![NO_FRAME; n],
            points: BatchPoints::not_labelled(n, k),
            unfinished: n,
            encounters: Vec::new(),
            met: HashSet::new(),
            failure: None,
        }
    }

    fn claim(&mut self) -> Option<Attempt> {
        if let Some(attempt) = self.retries.pop() {
            return Some(attempt);
        }
        let id = *self.meta.ids.get(self.claimed)?;
        self.claimed += 1;
        Some(Attempt { slot: self.claimed - 1, id, original: id, number: 0, n_bad: 0 })
    }

    /// Leaves `slot` and all behind it empty.
    fn end_at(&mut self, slot: usize, error: Option<DataError>) {
        self.failure = Some((slot, error));
        self.unfinished -= self.meta.ids.len() - self.claimed;
        self.claimed = self.meta.ids.len();
        let n_retries = self.retries.len();
        self.retries.retain(|retry| retry.slot < slot);
        self.unfinished -= n_retries - self.retries.len();
    }
}

impl Line {
    pub(crate) fn new(rule: Replacing, read_timeout: Duration, faults: HashMap<Names, Arc<Fault>>) -> Self {
        Line {
            batches: VecDeque::new(),
            front: 0,
            opening: false,
            exhausted: false,
            stopped: false,
            lost: false,
            leaving: 0,
            reads: Reads::new(read_timeout),
            faults,
            rule,
        }
    }

    pub(crate) fn push(&mut self, batch: OpenBatch) {
        self.batches.push_back(batch);
    }

    /// Takes the first sample that nobody has taken yet.
    pub(crate) fn claim(&mut self) -> Option<Job> {
        let suspect = !self.faults.is_empty();
        self.batches.iter_mut().zip(self.front..).find_map(|(batch, number)| {
            let attempt = batch.claim()?;
            Some(Job { batch: number, position: batch.meta.position, attempt, suspect })
        })
    }

    /// The place of a sample, to be written by the caller alone. `None` when its batch has been given up.
    pub(crate) fn slot(&mut self, job: &Job) -> Option<Slot> {
        self.batch(job)?.slots[job.attempt.slot].take()
    }

    /// Notes that a sample lies in its place, and where its points do.
    pub(crate) fn done(&mut self, job: &Job, slot: Slot, frame: Frame, points: (&[[f32; 2]], &[u8])) {
        // The slab can only be joined once its slots are gone.
        drop(slot);
        let Some(batch) = self.batch(job) else { return };
        batch.meta.ids[job.attempt.slot] = job.id();
        batch.frames[job.attempt.slot] = frame;
        batch.points.put(job.attempt.slot, points);
        batch.unfinished -= 1;
    }

    /// Notes that a sample is bad, and gives its place to a substitute or, when there is none, gives up the batch
    /// and those behind it. The first bad sample of `max_bad: 0` ends the stream with `error`.
    ///
    /// Slots are claimed in order, so when one is given up, all lower ones have been claimed and will report: which
    /// one is the lowest does not depend on timing.
    pub(crate) fn failed(
        &mut self,
        job: &Job,
        slot: Option<Slot>,
        fault: Arc<Fault>,
        error: Option<DataError>,
    ) {
        let Replacing { n_samples, seed, max_bad } = self.rule;
        let Some(attempt) = self.note(job, slot, &fault) else { return };
        if attempt.n_bad > max_bad {
            return self.end_at(job, error.filter(|_| max_bad == 0));
        }
        let number = attempt.number + 1;
        match substitute(n_samples, seed, job.position.epoch, attempt.original, number) {
            Some(id) => {
                let Some(batch) = self.batch(job) else { return };
                batch.retries.push(Attempt { id, number, ..attempt });
            }
            None => {
                let reason = fault.reason.clone();
                self.end_at(job, Some(DataError::NoGoodSample { n_samples, reason }));
            }
        }
    }

    /// Notes that a sample is bad, and that the stream ends with it.
    pub(crate) fn failed_for_good(&mut self, job: &Job, fault: Arc<Fault>, error: DataError) {
        if self.note(job, None, &fault).is_some() {
            self.end_at(job, Some(error));
        }
    }

    /// What is known of a bad sample; at first sight it becomes `fault`, with the text of `reason`.
    pub(crate) fn fault(&mut self, names: Names, reason: impl FnOnce() -> String) -> Arc<Fault> {
        let number = self.faults.len();
        let new = |names: &Names| Arc::new(Fault { number, names: names.clone(), reason: reason() });
        self.faults.entry(names).or_insert_with_key(new).clone()
    }

    /// What is known of a sample by now, if it is bad.
    pub(crate) fn known_fault(&self, names: &Names) -> Option<Arc<Fault>> {
        self.faults.get(names).cloned()
    }

    /// True when a substitute waits for somebody to load it.
    pub(crate) fn has_retries(&self) -> bool {
        self.batches.iter().any(|batch| !batch.retries.is_empty())
    }

    /// True when the batch at the front can leave.
    pub(crate) fn front_is_finished(&self) -> bool {
        self.batches.front().is_some_and(|batch| batch.unfinished == 0)
    }

    /// True when no batch is left and none will come.
    pub(crate) fn has_ended(&self) -> bool {
        self.exhausted && self.batches.is_empty()
    }

    /// Removes the finished batch at the front.
    pub(crate) fn pop(&mut self) -> Option<Finished> {
        let batch = self.batches.pop_front()?;
        self.front += 1;
        let OpenBatch { meta, slab, slots, frames, points, mut encounters, failure, .. } = batch;
        drop(slots);
        let outcome = match (failure, slab.join()) {
            (Some(failure), _) => Err(failure),
            (None, Ok(slab)) => Ok(slab),
            (None, Err(_)) => unreachable!("every slot of a finished batch has been dropped"),
        };
        if let Err((lowest, _)) = outcome {
            encounters.retain(|encounter| encounter.slot <= lowest);
        }
        encounters.sort_unstable_by_key(|encounter| (encounter.slot, encounter.attempt));
        let ready_behind = self.batches.iter().filter(|batch| batch.unfinished == 0).count();
        Some(Finished { meta, frames, points, encounters, outcome, ready_behind })
    }

    /// Enters a bad sample into its batch and puts its slot back. `None` when nobody waits for that place any more.
    fn note(&mut self, job: &Job, slot: Option<Slot>, fault: &Arc<Fault>) -> Option<Attempt> {
        let batch = self.batch(job)?;
        let mut attempt = job.attempt;
        if batch.failure.as_ref().is_some_and(|(lowest, _)| *lowest < attempt.slot) {
            batch.unfinished -= 1;
            return None;
        }
        if let Some(slot) = slot {
            batch.slots[attempt.slot] = Some(slot);
        }
        if batch.met.insert((attempt.slot, fault.number)) {
            attempt.n_bad += 1;
            let Attempt { slot, id, number, .. } = attempt;
            batch.encounters.push(Encounter { slot, attempt: number, id, fault: fault.clone() });
        }
        Some(attempt)
    }

    fn end_at(&mut self, job: &Job, error: Option<DataError>) {
        if let Some(batch) = self.batch(job) {
            batch.unfinished -= 1;
            batch.end_at(job.attempt.slot, error);
        }
        self.batches.truncate((job.batch - self.front) as usize + 1);
        self.exhausted = true;
    }

    /// The batch of a job. Batches behind one that was given up are gone while their samples may still be in work.
    fn batch(&mut self, job: &Job) -> Option<&mut OpenBatch> {
        self.batches.get_mut((job.batch - self.front) as usize)
    }
}
