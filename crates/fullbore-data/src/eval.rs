//! Whole images, one by one, in the source's order: for evaluation with their masks on the native pixel grid, for
//! prediction without.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use fullbore_types::{Classes, Frame, SampleId, Size};

use crate::DataError;
use crate::cache::{Cache, Recipe};
use crate::canvas::{Placement, Rect};
use crate::config::Resize;
use crate::crew::Crew;
use crate::decode::DecodeLimits;
use crate::intake::Intake;
use crate::points::Point;
use crate::reads::{MAX_STUCK, Reads, wait_at_most, wait_for_end};
use crate::sample::{MaskOut, SampleReader, Scratch, contained, points_of};
use crate::source::{Part, Source, SourceError};
use crate::stats::{Counters, LoaderStats};

/// How evaluation samples are made.
#[derive(Clone, Debug)]
pub struct EvalConfig {
    /// Size of the canvas; with [`Resize::Crop`] each canvas has its image's own size instead.
    pub size: Size,
    /// How an image comes onto the canvas.
    pub resize: Resize,
    /// With [`Resize::Crop`]: canvases are padded on the right and at the bottom to multiples of this.
    pub pad_multiple: u32,
    /// 3 (RGB) or 1 (gray).
    pub channels: u8,
    /// What mask values mean; `None` leaves the masks alone.
    pub classes: Option<Classes>,
    /// Keep the decoded image at its own size beside the canvas, to draw on it.
    pub keep_native: bool,
    /// Decoding threads; 0 works in the thread that asks.
    pub workers: usize,
    /// Samples prepared ahead; at least 1 is.
    pub prefetch: usize,
    /// What one file may ask for.
    pub limits: DecodeLimits,
    /// How long one file may take to be read; see [`crate::FaultPolicy::read_timeout`].
    pub read_timeout: Duration,
    /// Where samples are kept from one evaluation to the next. Not used with `keep_native`.
    pub cache: Option<Arc<Cache>>,
}

/// One sample for evaluation.
#[derive(Clone, Debug)]
pub struct EvalSample {
    /// Which sample this is.
    pub id: SampleId,
    /// Its name, for reports.
    pub name: String,
    /// The canvas, u8 `[height, width, channels]`. Padding is 0.
    pub image: Vec<u8>,
    /// Size of the canvas.
    pub canvas: Size,
    /// How the canvas maps back to the source image.
    pub frame: Frame,
    /// The part of the canvas that shows the image; the rest is padding.
    pub valid: Rect,
    /// Class indices at the size of the source image, u8 `[height, width]`; `IGNORE_INDEX` where not labelled.
    /// Empty without [`EvalConfig::classes`].
    pub mask: Vec<u8>,
    /// Points in pixels of the source image; [`Point::on_canvas`] takes them to the canvas. Empty where the source has
    /// none.
    pub points: Vec<Point>,
    /// The image at its own size, upright, u8 `[height, width, channels]`. Empty without
    /// [`EvalConfig::keep_native`].
    pub native: Vec<u8>,
}

/// Gives every sample of a source once, in order. A sample that cannot be loaded is an error in its place; the
/// next ones follow, unless storage does not answer at all. Dropping the loader ends and joins its threads, but for
/// those whose reads do not end, as for [`crate::Loader`].
pub struct EvalLoader {
    shared: Arc<Shared>,
    crew: Crew,
    /// Present without workers.
    inline: Option<Box<Scratch>>,
    next: u32,
}

struct Shared {
    intake: Arc<Intake>,
    n_samples: u32,
    config: EvalConfig,
    line: Mutex<Line>,
    /// A sample may be claimed, or there is nothing more to do.
    work: Condvar,
    /// A sample is ready, or a read has ended after the stop.
    delivery: Condvar,
}

struct Line {
    /// Next sample to claim.
    claim: u32,
    /// Samples delivered so far.
    delivered: u32,
    ready: BTreeMap<u32, Result<EvalSample, DataError>>,
    reads: Reads<u32>,
    stopped: bool,
    lost: bool,
}

impl EvalLoader {
    /// Starts the workers.
    ///
    /// # Errors
    /// When masks are wanted where there are none, the source has more samples than ids, or threads are lacking.
    ///
    /// # Panics
    /// When `channels` is neither 1 nor 3, or a side of `size` or `pad_multiple` is zero.
    pub fn start(source: Arc<dyn Source>, config: EvalConfig) -> Result<Self, DataError> {
        assert!(config.pad_multiple > 0 && config.size.area() > 0, "a canvas has pixels");
        let n_samples =
            u32::try_from(source.len()).map_err(|_| SourceError::TooMany { n: source.len() as u64 })?;
        let EvalConfig { size, resize, channels, classes, .. } = &config;
        let recipe = || Recipe::evaluation(*resize, *size, *channels, classes.as_ref());
        let cache = config.cache.as_ref().filter(|_| !config.keep_native);
        let reader = SampleReader::new(*channels, classes.as_ref(), config.limits)
            .with_shelf(cache.and_then(|cache| cache.shelf(recipe())));
        reader.check(&*source)?;
        let (workers, reads) = (config.workers, Reads::new(config.read_timeout));
        let shared = Arc::new(Shared {
            intake: Arc::new(Intake { source, reader, counters: Counters::default() }),
            n_samples,
            config,
            line: Mutex::new(Line {
                claim: 0,
                delivered: 0,
                ready: BTreeMap::new(),
                reads,
                stopped: false,
                lost: false,
            }),
            work: Condvar::new(),
            delivery: Condvar::new(),
        });
        let inline = (workers == 0).then(Box::default);
        let mut loader = EvalLoader { shared, crew: Crew::default(), inline, next: 0 };
        for _ in 0..workers {
            loader.hire()?;
        }
        Ok(loader)
    }

    /// What has been done so far. Waiting is not measured here.
    pub fn stats(&self) -> LoaderStats {
        self.shared.intake.stats()
    }

    fn hire(&mut self) -> Result<(), DataError> {
        let (shared, intake) = (Arc::downgrade(&self.shared), self.shared.intake.clone());
        self.crew.hire(move |id| Worker { id, shared, intake }.work())
    }

    /// Waits for sample `index`.
    fn deliver(&mut self, index: u32) -> Result<EvalSample, DataError> {
        loop {
            match self.shared.deliver(index) {
                Delivery::Sample(sample) => return *sample,
                Delivery::Lost => return Err(DataError::ThreadLost),
                Delivery::GivenUp(worker) => {
                    self.crew.leave_behind(worker);
                    self.hire()?;
                }
                Delivery::StorageStuck(worker, error) => {
                    self.crew.leave_behind(worker);
                    self.next = self.shared.n_samples;
                    return Err(error);
                }
            }
        }
    }
}

impl Iterator for EvalLoader {
    type Item = Result<EvalSample, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.shared.n_samples {
            return None;
        }
        let index = self.next;
        self.next += 1;
        Some(match &mut self.inline {
            Some(scratch) => {
                let read = self.shared.intake.read(SampleId(index), scratch, |_| ());
                read.and_then(|()| self.shared.decode(index, scratch))
            }
            None => self.deliver(index),
        })
    }
}

impl Drop for EvalLoader {
    fn drop(&mut self) {
        self.shared.line().stopped = true;
        self.shared.work.notify_all();
        let stuck = wait_for_end(self.shared.line(), &self.shared.delivery, |line| &line.reads);
        stuck.into_iter().for_each(|worker| self.crew.leave_behind(worker));
        self.crew.join();
    }
}

/// What comes after a wait for a sample.
enum Delivery {
    Sample(Box<Result<EvalSample, DataError>>),
    /// A worker ended outside the loading of a sample.
    Lost,
    /// The read of this worker was given up; it needs a successor before anything else is waited for.
    GivenUp(u64),
    /// The same, but too many reads do not end for going on.
    StorageStuck(u64, DataError),
}

impl Shared {
    /// Decodes the sample that was read last.
    fn decode(&self, index: u32, scratch: &mut Scratch) -> Result<EvalSample, DataError> {
        let id = SampleId(index);
        let Intake { source, reader, counters } = &*self.intake;
        let source = &**source;
        let EvalConfig { size, resize, pad_multiple, .. } = self.config;
        contained(source, id, scratch, |scratch| {
            let (mut image, mut mask) = (Vec::new(), Vec::new());
            let with_mask = self.config.classes.is_some();
            let (placement, frame) = reader.decode(
                source,
                id,
                scratch,
                counters,
                |image, window| {
                    let place = |part| Placement::evaluation(resize, part, size, pad_multiple);
                    Placement::of_window(image, window, resize, place)
                },
                |placement| {
                    image.resize(placement.canvas.area() as usize * reader.channels(), 0);
                    (&mut image, if with_mask { MaskOut::Native(&mut mask) } else { MaskOut::Nowhere })
                },
            )?;
            let native = match self.config.keep_native {
                true if placement.is_identity() => image.clone(),
                true => scratch.take_image(),
                false => Vec::new(),
            };
            let name = source.name(id);
            let Placement { canvas, target, .. } = placement;
            let points = points_of(source, id).to_vec();
            Ok(EvalSample { id, name, image, canvas, frame, valid: target, mask, points, native })
        })
    }

    fn claim(&self, worker: u64) -> Option<u32> {
        let ahead = u32::try_from(self.config.prefetch.max(1)).unwrap_or(u32::MAX);
        let mut line = self.line();
        loop {
            if line.stopped || line.claim >= self.n_samples {
                return None;
            }
            if line.claim.saturating_sub(line.delivered) < ahead {
                line.claim += 1;
                let index = line.claim - 1;
                line.reads.begin(worker, index, Part::Image, Instant::now());
                return Some(index);
            }
            line = self.work.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A worker comes back from reading. False when it shall leave.
    fn arrive(&self, worker: u64) -> bool {
        let mut line = self.line();
        let wanted = line.reads.end(worker);
        if line.stopped {
            self.delivery.notify_all();
        }
        wanted && !line.stopped
    }

    fn put(&self, index: u32, sample: Result<EvalSample, DataError>) {
        self.line().ready.insert(index, sample);
        self.delivery.notify_all();
    }

    fn deliver(&self, index: u32) -> Delivery {
        let mut line = self.line();
        // From here on the consumer holds or awaits this one, so another may be prepared.
        line.delivered = index + 1;
        self.work.notify_all();
        loop {
            let now = Instant::now();
            if let Some(read) = line.reads.give_up(now) {
                let (limit, stuck) = (line.reads.limit(), line.reads.stuck());
                drop(line);
                let id = SampleId(read.what);
                if stuck > MAX_STUCK {
                    let error = self.intake.storage_stuck(id, read.part, limit, stuck);
                    return Delivery::StorageStuck(read.worker, error);
                }
                self.put(read.what, Err(self.intake.stuck_read(id, read.part, limit)));
                return Delivery::GivenUp(read.worker);
            }
            if let Some(sample) = line.ready.remove(&index) {
                return Delivery::Sample(Box::new(sample));
            }
            if line.lost {
                return Delivery::Lost;
            }
            let patience = line.reads.until_overdue(now);
            line = wait_at_most(&self.delivery, line, patience);
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while it holds the line; if it did, the alarm would tell.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that loads samples until there are no more or the loader stops.
struct Worker {
    id: u64,
    /// Weak, so that a read that never ends keeps no samples.
    shared: Weak<Shared>,
    intake: Arc<Intake>,
}

impl Worker {
    fn work(self) {
        let alarm = Alarm(&self.shared);
        let mut scratch = Scratch::default();
        while let Some(index) = self.claim() {
            let read = self.intake.read(SampleId(index), &mut scratch, |part| self.note_part(part));
            let Some(shared) = self.shared.upgrade().filter(|shared| shared.arrive(self.id)) else { break };
            shared.put(index, read.and_then(|()| shared.decode(index, &mut scratch)));
        }
        std::mem::forget(alarm);
    }

    fn claim(&self) -> Option<u32> {
        self.shared.upgrade()?.claim(self.id)
    }

    /// Gives each file its own time. The first one's began with the claim.
    fn note_part(&self, part: Part) {
        if part != Part::Image
            && let Some(shared) = self.shared.upgrade()
        {
            shared.line().reads.go_on(self.id, part, Instant::now());
        }
    }
}

/// Tells the consumer when a worker unwinds outside the loading of a sample, so that it does not wait for ever.
struct Alarm<'a>(&'a Weak<Shared>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        let Some(shared) = self.0.upgrade() else { return };
        shared.line().lost = true;
        shared.delivery.notify_all();
    }
}
