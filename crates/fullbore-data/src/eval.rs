//! Whole images, one by one, in the source's order: for evaluation with their masks on the native pixel grid, for
//! prediction without.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use fullbore_types::{Classes, Frame, SampleId, Size};

use crate::DataError;
use crate::cache::{Cache, Recipe};
use crate::canvas::{Placement, Rect};
use crate::config::Resize;
use crate::decode::DecodeLimits;
use crate::sample::{MaskOut, SampleReader, Scratch, contained};
use crate::source::{Source, SourceError};
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
    /// The image at its own size, upright, u8 `[height, width, channels]`. Empty without
    /// [`EvalConfig::keep_native`].
    pub native: Vec<u8>,
}

/// Gives every sample of a source once, in order. A sample that cannot be loaded is an error in its place; the
/// next ones follow. Dropping the loader ends and joins its threads.
pub struct EvalLoader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Present without workers.
    inline: Option<Box<Scratch>>,
    next: u32,
}

struct Shared {
    source: Arc<dyn Source>,
    n_samples: u32,
    reader: SampleReader,
    config: EvalConfig,
    counters: Counters,
    line: Mutex<Line>,
    /// A sample may be claimed, or there is nothing more to do.
    work: Condvar,
    /// A sample is ready.
    delivery: Condvar,
}

#[derive(Default)]
struct Line {
    /// Next sample to claim.
    claim: u32,
    /// Samples delivered so far.
    delivered: u32,
    ready: BTreeMap<u32, Result<EvalSample, DataError>>,
    stopped: bool,
    lost: bool,
}

impl EvalLoader {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the source has more samples than ids, or threads are lacking.
    ///
    /// # Panics
    /// When `channels` is neither 1 nor 3, or a side of `size` or `pad_multiple` is zero.
    pub fn start(source: Arc<dyn Source>, config: EvalConfig) -> Result<Self, DataError> {
        assert!(config.pad_multiple > 0 && config.size.area() > 0, "a canvas has pixels");
        let n_samples =
            u32::try_from(source.len()).map_err(|_| SourceError::TooMany { n: source.len() as u64 })?;
        let workers = config.workers;
        let EvalConfig { size, resize, channels, classes, .. } = &config;
        let recipe = || Recipe::evaluation(*resize, *size, *channels, classes.as_ref());
        let cache = config.cache.as_ref().filter(|_| !config.keep_native);
        let shelf = cache.and_then(|cache| cache.shelf(recipe()));
        let shared = Arc::new(Shared {
            source,
            n_samples,
            reader: SampleReader::new(*channels, classes.as_ref(), config.limits).with_shelf(shelf),
            config,
            counters: Counters::default(),
            line: Mutex::default(),
            work: Condvar::new(),
            delivery: Condvar::new(),
        });
        let inline = (workers == 0).then(Box::default);
        let mut loader = EvalLoader { shared, threads: Vec::new(), inline, next: 0 };
        for index in 0..workers {
            let shared = loader.shared.clone();
            let thread = thread::Builder::new()
                .name(format!("eval-{index}"))
                .spawn(move || shared.work())
                .map_err(|source| DataError::Thread { index, source })?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// What has been done so far. Waiting is not measured here.
    pub fn stats(&self) -> LoaderStats {
        self.shared.reader.stats(&self.shared.counters)
    }
}

impl Iterator for EvalLoader {
    type Item = Result<EvalSample, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.shared.n_samples {
            return None;
        }
        let sample = match &mut self.inline {
            Some(scratch) => self.shared.load(self.next, scratch),
            None => self.shared.deliver(self.next),
        };
        self.next += 1;
        Some(sample)
    }
}

impl Drop for EvalLoader {
    fn drop(&mut self) {
        self.shared.line().stopped = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has raised the alarm already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn load(&self, index: u32, scratch: &mut Scratch) -> Result<EvalSample, DataError> {
        let id = SampleId(index);
        let EvalConfig { size, resize, pad_multiple, .. } = self.config;
        contained(&*self.source, id, scratch, |scratch| {
            let (mut image, mut mask) = (Vec::new(), Vec::new());
            let with_mask = self.config.classes.is_some();
            let placement = self.reader.load(
                &*self.source,
                id,
                scratch,
                &self.counters,
                |source| Placement::evaluation(resize, source, size, pad_multiple),
                |placement| {
                    image.resize(placement.canvas.area() as usize * self.reader.channels(), 0);
                    (&mut image, if with_mask { MaskOut::Native(&mut mask) } else { MaskOut::Nowhere })
                },
            )?;
            let native = match self.config.keep_native {
                true if placement.is_identity() => image.clone(),
                true => scratch.take_image(),
                false => Vec::new(),
            };
            let name = self.source.name(id);
            let Placement { canvas, target, .. } = placement;
            Ok(EvalSample { id, name, image, canvas, frame: placement.frame(), valid: target, mask, native })
        })
    }

    fn work(&self) {
        let alarm = Alarm(self);
        let mut scratch = Scratch::default();
        while let Some(index) = self.claim() {
            let sample = self.load(index, &mut scratch);
            let mut line = self.line();
            line.ready.insert(index, sample);
            self.delivery.notify_all();
        }
        std::mem::forget(alarm);
    }

    fn claim(&self) -> Option<u32> {
        let ahead = u32::try_from(self.config.prefetch.max(1)).unwrap_or(u32::MAX);
        let mut line = self.line();
        loop {
            if line.stopped || line.claim >= self.n_samples {
                return None;
            }
            if line.claim.saturating_sub(line.delivered) < ahead {
                line.claim += 1;
                return Some(line.claim - 1);
            }
            line = self.work.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn deliver(&self, index: u32) -> Result<EvalSample, DataError> {
        let mut line = self.line();
        // From here on the consumer holds or awaits this one, so another may be prepared.
        line.delivered = index + 1;
        self.work.notify_all();
        loop {
            if let Some(sample) = line.ready.remove(&index) {
                return sample;
            }
            if line.lost {
                return Err(DataError::ThreadLost);
            }
            line = self.delivery.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while it holds the line; if it did, the alarm would tell.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the consumer when a worker unwinds outside the loading of a sample, so that it does not wait for ever.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.0.line().lost = true;
        self.0.delivery.notify_all();
    }
}
