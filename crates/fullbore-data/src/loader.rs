//! Training batches: ordered, prefetched, resumable.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use fullbore_types::{Classes, Frame, Position, SampleId, Size};

use crate::DataError;
use crate::assembly::{Assembly, Cursor, Finished};
use crate::cache::{Cache, Recipe};
use crate::config::Resize;
use crate::decode::DecodeLimits;
use crate::order::{EpochPlan, batches_per_epoch};
use crate::ring::{PixelLayout, Ring, Slab, ring_bytes};
use crate::sample::{SampleReader, Scratch};
use crate::source::{Source, SourceError};
use crate::stats::LoaderStats;

/// How batches are made.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Samples per batch.
    pub batch_size: usize,
    /// Size of the canvas.
    pub size: Size,
    /// How an image comes onto the canvas.
    pub resize: Resize,
    /// 3 (RGB) or 1 (gray).
    pub channels: u8,
    /// What mask values mean.
    pub classes: Classes,
    /// Order and crops are pure functions of it.
    pub seed: u64,
    /// Epoch at which the stream ends, itself left out.
    pub epochs: u64,
    /// Leave out the last, smaller batch of an epoch.
    pub drop_last: bool,
    /// Decoding threads; 0 works in the thread that asks.
    pub workers: usize,
    /// Batches prepared ahead of the one in the consumer's hands. Without workers nothing is prepared ahead, but
    /// the consumer may still hold that many batches more.
    pub prefetch: usize,
    /// What one file may ask for.
    pub limits: DecodeLimits,
    /// Where samples are kept from epoch to epoch. Batches are the same with and without.
    pub cache: Option<Arc<Cache>>,
}

impl LoaderConfig {
    /// Shape of a full batch.
    pub fn layout(&self) -> PixelLayout {
        PixelLayout {
            batch: self.batch_size,
            height: self.size.height as usize,
            width: self.size.width as usize,
            channels: usize::from(self.channels),
        }
    }

    /// Host memory that the loader's slabs take: `prefetch` ready ones and one in the consumer's hands. `None`
    /// when it cannot be addressed.
    pub fn ring_bytes(&self) -> Option<usize> {
        ring_bytes(&self.layout(), self.slabs())
    }

    fn slabs(&self) -> usize {
        self.prefetch.saturating_add(1)
    }
}

/// Gives batches in the order of the epochs, while workers prepare the next ones across epoch ends.
///
/// There are `prefetch + 1` slabs. A consumer that keeps all of them makes [`next`](Iterator::next) wait until
/// one is dropped, so keep at most `prefetch`. Dropping the loader ends and joins its threads; batches that are
/// out stay valid.
pub struct Loader {
    assembly: Arc<Assembly>,
    threads: Vec<JoinHandle<()>>,
    /// Present without workers.
    inline: Option<Box<Scratch>>,
    ended: bool,
}

impl Loader {
    /// Starts the workers; the first batch is `from`. The position after an epoch's last batch is the next
    /// epoch's first one.
    ///
    /// # Errors
    /// When no batch could ever come, the position is not in this data set, or memory or threads are lacking.
    ///
    /// # Panics
    /// When `channels` is neither 1 nor 3 or a side of `size` is zero.
    pub fn start(source: Arc<dyn Source>, config: LoaderConfig, from: Position) -> Result<Self, DataError> {
        let LoaderConfig { batch_size, drop_last, seed, .. } = config;
        if batch_size == 0 {
            return Err(DataError::BatchOfNone);
        }
        if source.is_empty() {
            return Err(DataError::NoSamples);
        }
        let n_samples =
            u32::try_from(source.len()).map_err(|_| SourceError::TooMany { n: source.len() as u64 })?;
        let n_batches = batches_per_epoch(n_samples, batch_size, drop_last);
        if n_batches == 0 {
            return Err(DataError::BatchTooLarge { batch_size, n_samples: source.len() });
        }
        if from.batch > n_batches {
            return Err(DataError::PositionBeyondEpoch { position: from, n_batches });
        }
        let ring = Ring::new(config.layout(), config.slabs())?;
        let cursor = Cursor {
            plan: EpochPlan::new(n_samples, batch_size, drop_last, seed, from.epoch),
            next: from,
            end_epoch: config.epochs,
            n_samples,
            batch_size,
            drop_last,
        };
        let LoaderConfig { size, resize, channels, classes, .. } = &config;
        let shelf = |cache: &Arc<Cache>| cache.shelf(Recipe::training(*resize, *size, *channels, classes));
        let reader = SampleReader::new(*channels, Some(classes), config.limits)
            .with_shelf(config.cache.as_ref().and_then(shelf));
        let place = (config.resize, config.size, seed);
        let assembly = Arc::new(Assembly::new(source, reader, place, ring, cursor));
        let inline = (config.workers == 0).then(Box::default);
        let mut loader = Loader { assembly, threads: Vec::new(), inline, ended: false };
        for index in 0..config.workers {
            let assembly = loader.assembly.clone();
            let thread = thread::Builder::new()
                .name(format!("data-{index}"))
                .spawn(move || assembly.work())
                .map_err(|source| DataError::Thread { index, source })?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// What has been done so far.
    pub fn stats(&self) -> LoaderStats {
        self.assembly.reader.stats(&self.assembly.counters)
    }
}

impl Iterator for Loader {
    type Item = Result<HostBatch, DataError>;

    /// The next batch in order, waiting for it. A sample that cannot be loaded is reported in place of its batch
    /// and ends the stream.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match &mut self.inline {
            Some(scratch) => self.assembly.next_inline(scratch),
            None => self.assembly.next(),
        };
        self.ended = !matches!(next, Some(Ok(_)));
        Some(next?.map(|Finished { meta, slab, frames }| HostBatch {
            slab,
            ids: meta.ids,
            frames,
            position: meta.position,
            next: meta.next,
        }))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.assembly.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has raised the alarm already.
            let _ = thread.join();
        }
    }
}

/// One batch in host memory. Its slab returns to the loader's ring on drop.
pub struct HostBatch {
    slab: Slab,
    ids: Vec<SampleId>,
    frames: Vec<Frame>,
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

    /// Images, u8 `[len, height, width, channels]`, contiguous. Padding is 0.
    pub fn images(&self) -> &[u8] {
        self.slab.images(self.len())
    }

    /// Masks, u8 `[len, height, width]`, contiguous: class indices, and `IGNORE_INDEX` for void and padding.
    pub fn masks(&self) -> &[u8] {
        self.slab.masks(self.len())
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
