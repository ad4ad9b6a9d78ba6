//! Training batches: ordered, prefetched, resumable.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use fullbore_types::{Classes, Frame, Position, SampleId, Size};

use crate::DataError;
use crate::assembly::{Assembly, Cursor, Next, Place, Worker};
use crate::cache::{Cache, Recipe};
use crate::config::Resize;
use crate::crew::Crew;
use crate::decode::DecodeLimits;
use crate::faults::{Account, Fault, FaultPolicy, Ledger, Names};
use crate::intake::Intake;
use crate::line::{Finished, Line, Replacing};
use crate::notice::{Hooks, Notice};
use crate::order::{EpochPlan, EpochShape, Shard};
use crate::points::BatchPoints;
use crate::ring::{PixelKind, PixelLayout, Ring, RingError, Slab, ring_bytes, slabs_within};
use crate::sample::{SampleReader, Scratch, names};
use crate::source::{Part, Source, SourceError};
use crate::stage::SampleStage;
use crate::stats::{Counters, LoaderStats};
use crate::workers::{Stretch, Tuner};

/// How batches are made. [`LoaderConfig::new`] has the defaults.
#[derive(Clone)]
pub struct LoaderConfig {
    /// Samples per batch.
    pub batch_size: usize,
    /// Size of the canvas.
    pub size: Size,
    /// How an image comes onto the canvas.
    pub resize: Resize,
    /// 3 (RGB) or 1 (gray).
    pub channels: u8,
    /// What mask values mean; `None` leaves the masks alone.
    pub classes: Option<Classes>,
    /// Order, crops and substitutes are pure functions of it.
    pub seed: u64,
    /// Epoch at which the stream ends, itself left out.
    pub epochs: u64,
    /// Leave out the last, smaller batch of an epoch.
    pub drop_last: bool,
    /// This run's part of each epoch; see [`EpochShape`].
    pub shard: Shard,
    /// Decoding threads at the start; 0 works in the thread that asks.
    pub workers: usize,
    /// Adjust the number of threads to what is measured, within this range. `None`, and 0 `workers`: leave it.
    pub adjust_workers: Option<RangeInclusive<usize>>,
    /// Batches prepared ahead of the one in the consumer's hands. Without workers nothing is prepared ahead, but
    /// the consumer may still hold that many batches more.
    pub prefetch: usize,
    /// Most bytes for all batches together; fewer than `prefetch` are prepared when they would not fit.
    pub max_ring_bytes: usize,
    /// What one file may ask for.
    pub limits: DecodeLimits,
    /// What happens with bad samples.
    pub faults: FaultPolicy,
    /// What workers do with a sample once it lies on its canvas, before it enters the batch.
    pub stage: Option<Arc<dyn SampleStage>>,
    /// Where samples are kept from epoch to epoch. Batches are the same with and without.
    pub cache: Option<Arc<Cache>>,
    /// Code that the caller lends.
    pub hooks: Hooks,
}

impl LoaderConfig {
    /// One endless, shuffled, single stream of stretched RGB images, with two workers and without limits on memory.
    pub fn new(batch_size: usize, size: Size, classes: Option<Classes>) -> Self {
        LoaderConfig {
            batch_size,
            size,
            resize: Resize::Stretch,
            channels: 3,
            classes,
            seed: 0,
            epochs: u64::MAX,
            drop_last: false,
            shard: Shard::default(),
            workers: 2,
            adjust_workers: None,
            prefetch: 2,
            max_ring_bytes: usize::MAX,
            limits: DecodeLimits::default(),
            faults: FaultPolicy::default(),
            stage: None,
            cache: None,
            hooks: Hooks::default(),
        }
    }

    /// Shape of a full batch.
    pub fn layout(&self) -> PixelLayout {
        let (size, kind) = match &self.stage {
            Some(stage) => (stage.size(), stage.kind()),
            None => (self.size, PixelKind::U8),
        };
        PixelLayout {
            batch: self.batch_size,
            height: size.height as usize,
            width: size.width as usize,
            kind,
            channels: usize::from(self.channels),
            masks: self.classes.is_some(),
        }
    }

    /// Host batches there will be: `prefetch` ready ones and one in the consumer's hands, or fewer, at least two,
    /// to obey `max_ring_bytes`.
    ///
    /// # Errors
    /// When not even two fit.
    pub fn slabs(&self) -> Result<usize, RingError> {
        slabs_within(&self.layout(), self.prefetch.saturating_add(1), self.max_ring_bytes)
    }

    /// Host memory that the loader's batches take. `None` when that is more than allowed or can be addressed.
    pub fn ring_bytes(&self) -> Option<usize> {
        ring_bytes(&self.layout(), self.slabs().ok()?)
    }
}

/// Gives batches in the order of the epochs, while workers prepare the next ones across epoch ends.
///
/// There are [`slabs`](LoaderConfig::slabs) host batches. A consumer that keeps all of them makes
/// [`next`](Iterator::next) wait until one is dropped, so keep at least one less. Batches that are out stay valid
/// when the loader is dropped.
///
/// Dropping the loader ends and joins its threads, except for those whose read has not ended after two seconds (or
/// `read_timeout`, if that is shorter): these are left behind. They hold the source and their own buffers, nothing
/// else, and end with their read.
pub struct Loader {
    assembly: Arc<Assembly>,
    crew: Crew,
    /// Decoding threads that are to stay.
    workers: usize,
    /// Present without workers.
    inline: Option<Box<Scratch>>,
    ledger: Ledger,
    hooks: Hooks,
    adjusting: Option<Adjusting>,
    ended: bool,
}

/// What the number of workers is adjusted by.
struct Adjusting {
    tuner: Tuner,
    since: Instant,
    before: LoaderStats,
}

impl Loader {
    /// Starts the workers; the first batch is `from`. The position after an epoch's last batch is the next
    /// epoch's first one.
    ///
    /// # Errors
    /// When no batch could ever come, masks are wanted where there are none, the position is not in this data set, or
    /// memory or threads are lacking.
    ///
    /// # Panics
    /// When `channels` is neither 1 nor 3 or a side of `size` is zero.
    pub fn start(source: Arc<dyn Source>, config: LoaderConfig, from: Position) -> Result<Self, DataError> {
        let plan = EpochPlan::new(shape(&*source, &config, from)?, config.seed, from.epoch);
        let LoaderConfig { size, resize, channels, classes, .. } = &config;
        let recipe = || Recipe::training(*resize, *size, *channels, classes.as_ref());
        let reader = SampleReader::new(*channels, classes.as_ref(), config.limits)
            .with_shelf(config.cache.as_ref().and_then(|cache| cache.shelf(recipe())));
        reader.check(&*source)?;
        let ring = Ring::new(config.layout(), config.slabs()?, config.hooks.pin.as_deref())?;
        if let (Some(reason), Some(bytes)) = (ring.pin_error(), config.ring_bytes()) {
            config.hooks.tell(Notice::NotPinned { bytes, reason: reason.to_owned() });
        }

        let known = known_bad(&*source, &config.faults);
        let so_far = filled_so_far(&*source, &plan, from, &known);
        let ledger = Ledger::new(&config.faults, known.clone(), from.epoch, so_far);
        let rule = Replacing {
            n_samples: plan.shape().n_samples,
            seed: config.seed,
            max_bad: config.faults.max_bad,
        };
        let remembered = known.into_keys().enumerate().map(|(number, names)| {
            let reason = "known to be bad from before".to_owned();
            (names.clone(), Arc::new(Fault { number, names, reason }))
        });
        let line = Line::new(rule, config.faults.read_timeout, remembered.collect());

        let intake = Intake { source, reader, counters: Counters::default() };
        let place = Place {
            resize: config.resize,
            canvas: config.size,
            seed: config.seed,
            stage: config.stage.clone(),
        };
        let cursor = Cursor { plan, next: from, end_epoch: config.epochs };
        let assembly = Arc::new(Assembly::new(intake, place, ring, cursor, line));

        let inline = (config.workers == 0).then(Box::default);
        let adjusting = config.adjust_workers.filter(|_| config.workers > 0).map(|range| Adjusting {
            tuner: Tuner::new(range),
            since: Instant::now(),
            before: LoaderStats::default(),
        });
        let (crew, hooks, workers) = (Crew::default(), config.hooks, config.workers);
        let mut loader = Loader { assembly, crew, workers, inline, ledger, hooks, adjusting, ended: false };
        for _ in 0..workers {
            loader.hire()?;
        }
        Ok(loader)
    }

    /// What has been done so far.
    pub fn stats(&self) -> LoaderStats {
        self.assembly.intake.stats()
    }

    /// Decoding threads at work.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The distinct bad samples that delivered batches were to hold, for [`FaultPolicy::known_bad`]: with them a
    /// resumed run replaces the same samples, whether or not their files can be read by then.
    pub fn bad_samples(&self) -> Vec<SampleId> {
        self.ledger.bad_samples()
    }

    fn hire(&mut self) -> Result<(), DataError> {
        let (assembly, intake) = (Arc::downgrade(&self.assembly), self.assembly.intake.clone());
        self.crew.hire(move |id| Worker { id, assembly, intake }.work())
    }

    /// The next batch as its samples were found, with the error that ends the stream.
    fn wait(&mut self) -> Result<Option<Finished>, DataError> {
        loop {
            let next = match &mut self.inline {
                Some(scratch) => self.assembly.next_inline(scratch),
                None => self.assembly.next(),
            };
            match next {
                Next::Batch(finished) => return Ok(Some(*finished)),
                Next::End => return Ok(None),
                Next::Lost => return Err(DataError::ThreadLost),
                Next::GivenUp(worker) => {
                    self.crew.leave_behind(worker);
                    self.hire()?;
                }
            }
        }
    }

    /// Reports a batch's bad samples. The batch, unless there are too many now.
    fn account(&mut self, finished: Finished) -> Result<HostBatch, DataError> {
        let Finished { meta, frames, points, encounters, outcome, .. } = finished;
        let (bad, too_many) = self.ledger.enter(&Account {
            position: meta.position,
            last: meta.next.epoch != meta.position.epoch,
            ids: &meta.ids,
            encounters: &encounters,
            failed_slot: outcome.as_ref().err().map(|(slot, _)| *slot),
        });
        bad.into_iter().for_each(|bad| self.hooks.tell(Notice::BadSample(bad)));
        match (outcome, too_many) {
            (Err((_, Some(error))), _) | (_, Some(error)) => Err(error),
            (Ok(slab), None) => {
                let (position, next) = (meta.position, meta.next);
                Ok(HostBatch { slab, ids: meta.ids, frames, points, position, next })
            }
            (Err((_, None)), None) => unreachable!("a place stays empty only for more faults than allowed"),
        }
    }

    /// Changes the number of workers if what was measured calls for it.
    fn adjust(&mut self) -> Result<(), DataError> {
        let stats = self.stats();
        let Some(Adjusting { tuner, since, before }) = &mut self.adjusting else { return Ok(()) };
        let Some(stretch) = Stretch::new(since.elapsed(), &stats.since(before)) else { return Ok(()) };
        (*since, *before) = (Instant::now(), stats);
        let Some(change) = tuner.judge(self.workers, &stretch) else { return Ok(()) };
        self.change_workers(change.to)?;
        self.hooks.tell(Notice::Workers(change));
        Ok(())
    }

    /// Comes to one worker more or fewer, or leaves all as it is.
    fn change_workers(&mut self, to: usize) -> Result<(), DataError> {
        if to < self.workers {
            self.assembly.send_one_away();
        } else if to > self.workers && !self.assembly.keep_one() {
            self.hire()?;
        }
        self.workers = to;
        Ok(())
    }
}

impl Iterator for Loader {
    type Item = Result<HostBatch, DataError>;

    /// The next batch in order, waiting for it. Bad samples have been replaced; when there are too many of them, the
    /// error comes in place of the batch and ends the stream.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match self.wait() {
            Ok(None) => None,
            Ok(Some(finished)) => Some(self.account(finished)),
            Err(error) => Some(Err(error)),
        };
        let next = match next {
            Some(Ok(batch)) => Some(self.adjust().map(|()| batch)),
            other => other,
        };
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.assembly.stop();
        let stuck = self.assembly.wait_for_reads();
        stuck.into_iter().for_each(|worker| self.crew.leave_behind(worker));
        self.crew.join();
    }
}

/// The batches of an epoch, if there are any and `from` is one of them.
fn shape(source: &dyn Source, config: &LoaderConfig, from: Position) -> Result<EpochShape, DataError> {
    let LoaderConfig { batch_size, drop_last, shard, .. } = *config;
    if batch_size == 0 {
        return Err(DataError::BatchOfNone);
    }
    if source.is_empty() {
        return Err(DataError::NoSamples);
    }
    let Shard { rank, world } = shard;
    if rank >= world {
        return Err(DataError::NoSuchRank { rank, world });
    }
    let n_samples =
        u32::try_from(source.len()).map_err(|_| SourceError::TooMany { n: source.len() as u64 })?;
    let shape = EpochShape { n_samples, batch_size, drop_last, shard, shuffle: source.shuffle() };
    let n_batches = shape.n_batches();
    if n_batches == 0 {
        return Err(DataError::BatchTooLarge { batch_size, world, n_samples: source.len() });
    }
    match from.batch > n_batches {
        true => Err(DataError::PositionBeyondEpoch { position: from, n_batches }),
        false => Ok(shape),
    }
}

/// By name and file the samples that are known to be bad. Those no longer in the source are passed over.
fn known_bad(source: &dyn Source, policy: &FaultPolicy) -> HashMap<Names, SampleId> {
    let ids = policy.known_bad.iter().filter(|id| (id.0 as usize) < source.len());
    ids.map(|id| (names(source, *id, Part::Image), *id)).collect()
}

/// The places of an epoch that were filled before `from`, and those among them that known bad samples left to
/// others.
fn filled_so_far(
    source: &dyn Source,
    plan: &EpochPlan,
    from: Position,
    known: &HashMap<Names, SampleId>,
) -> (u64, u64) {
    let ids = || (0..from.batch).filter_map(|batch| plan.batch(batch)).flatten();
    let is_bad = |id: &SampleId| known.contains_key(&names(source, *id, Part::Image));
    let replaced = if known.is_empty() { 0 } else { ids().filter(is_bad).count() };
    (ids().count() as u64, replaced as u64)
}

/// One batch in host memory. Its slab returns to the loader's ring on drop.
pub struct HostBatch {
    slab: Slab,
    ids: Vec<SampleId>,
    frames: Vec<Frame>,
    points: BatchPoints,
    position: Position,
    next: Position,
}

impl HostBatch {
    /// Samples in this batch: `batch_size`, or fewer in the last one of an epoch.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Never true: a batch holds at least one sample.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Images, `[len, height, width, channels]` of the layout's kind, contiguous. Padding is 0 on the canvas.
    pub fn images(&self) -> &[u8] {
        self.slab.images(self.len())
    }

    /// Masks, u8 `[len, height, width]`, contiguous: class indices, and `IGNORE_INDEX` for void and padding. Empty
    /// without [`LoaderConfig::classes`].
    pub fn masks(&self) -> &[u8] {
        self.slab.masks(self.len())
    }

    /// Points on the canvas, f32 `[len, k, 2]` (x and y in pixels, (0, 0) the centre of the first), contiguous. Points
    /// outside of the canvas keep their coordinates. Empty where the source has no points.
    pub fn points(&self) -> &[f32] {
        &self.points.xy
    }

    /// What is known of the points, u8 `[len, k]`: 0 not labelled (and at (0, 0)), 1 hidden or outside of the canvas,
    /// 2 visible. See [`Visibility`](crate::Visibility).
    pub fn visibility(&self) -> &[u8] {
        &self.points.visibility
    }

    /// Which samples these are.
    pub fn ids(&self) -> &[SampleId] {
        &self.ids
    }

    /// How each canvas maps back to its source image.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Where in the run this batch stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Where a run goes on once this batch has been used.
    pub fn next_position(&self) -> Position {
        self.next
    }

    /// Shape of a full batch.
    pub fn layout(&self) -> PixelLayout {
        self.slab.layout()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageEncoder;
    use proptest::prelude::*;
    use std::path::PathBuf;

    /// Pictures of 2x2 pixels, all of the sample's number. Every fifth is torn.
    struct Tiny(usize);

    impl Source for Tiny {
        fn len(&self) -> usize {
            self.0
        }

        fn name(&self, id: SampleId) -> String {
            id.0.to_string()
        }

        fn file(&self, id: SampleId, _: Part) -> PathBuf {
            id.0.to_string().into()
        }

        fn read(&self, id: SampleId, part: Part, _: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
            bytes.clear();
            if !id.0.is_multiple_of(5) {
                let value = if part == Part::Image { id.0 as u8 } else { 0 };
                let encoder = image::codecs::png::PngEncoder::new(bytes);
                encoder.write_image(&[value; 4], 2, 2, image::ExtendedColorType::L8).unwrap();
            }
            Ok(())
        }
    }

    fn start(workers: usize) -> Loader {
        let classes = Classes { names: vec!["a".into()], values: vec![0], void_value: None };
        let faults = FaultPolicy { max_bad_share: 1.0, ..FaultPolicy::default() };
        let size = Size::new(2, 2);
        let config = LoaderConfig { workers, faults, epochs: 3, ..LoaderConfig::new(3, size, Some(classes)) };
        Loader::start(Arc::new(Tiny(17)), config, Position::default()).unwrap()
    }

    fn contents(batch: &HostBatch) -> (Position, Vec<SampleId>, Vec<u8>) {
        (batch.position(), batch.ids().to_vec(), batch.images().to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn workers_that_come_and_go_change_nothing(more in proptest::collection::vec(any::<bool>(), 18)) {
            let expected: Vec<_> = start(0).map(|batch| contents(&batch.unwrap())).collect();
            prop_assert_eq!(expected.len(), 18);
            let mut loader = start(2);
            for (expected, more) in expected.iter().zip(more) {
                let batch = loader.next().unwrap().unwrap();
                prop_assert_eq!(&contents(&batch), expected);
                let to = if more { loader.workers() + 1 } else { (loader.workers() - 1).max(1) };
                loader.change_workers(to).unwrap();
            }
            prop_assert!(loader.next().is_none());
        }
    }
}
