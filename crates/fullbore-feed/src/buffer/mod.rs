//! Batches made by a thread of their own, some ahead of those that train on them.

mod queue;
/// The locks of the queue.
mod sync {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
}

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use fullbore_data::{DataError, HostBatch, Loader, LoaderStats};
use fullbore_governor::buffer::BufferPlan;
use fullbore_torch::{Device, Mark, empty_device_cache, use_side_stream};
use fullbore_types::{Position, SampleId};

use crate::stage::{Stage, StageConfig};
use crate::{DeviceBatch, FeedError};

pub use queue::Level;
use queue::{Limit, Queue};

/// A batch that is ready, and what the run has to remember once it is trained.
#[derive(Debug)]
pub struct Fed {
    /// The batch.
    pub batch: DeviceBatch,
    /// Where the run goes on after it.
    pub next: Position,
    /// The samples that have been replaced by others so far.
    pub bad_samples: Vec<SampleId>,
    /// What the loader had done when it gave the batch, those that it prepared ahead included.
    pub loading: LoaderStats,
    /// Decoding threads at work then.
    pub workers: usize,
}

impl Fed {
    /// A batch that `loader` gave last.
    pub(crate) fn new(batch: DeviceBatch, next: Position, loader: &Loader) -> Self {
        let (bad_samples, loading, workers) = (loader.bad_samples(), loader.stats(), loader.workers());
        Self { batch, next, bad_samples, loading, workers }
    }
}

/// Batches that wait ready on the device, made by a thread of their own. Dropping it ends the thread.
#[derive(Debug)]
pub struct Buffer {
    queue: Arc<Ready>,
    thread: Option<JoinHandle<()>>,
    model: Device,
}

/// A batch and the point in the data device's work at which it is ready; or why there are no more.
type Made = Result<(Fed, Mark), FeedError>;

struct Ready(Queue<Made>);

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.level().fmt(f)
    }
}

impl Buffer {
    /// Starts making batches from what `loader` gives. The stage is made in the new thread, on a stream of its own.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(loader: Loader, stage: StageConfig, plan: BufferPlan) -> Result<Self, FeedError> {
        let limit = Limit { items: plan.size.max(1), bytes: plan.bytes };
        let queue = Arc::new(Ready(Queue::new(limit)));
        let (shared, model) = (queue.clone(), stage.model);
        let work = move || {
            // A panic in here must not leave the run waiting for ever.
            let ended = catch_unwind(AssertUnwindSafe(|| make_all(loader, &stage, &shared.0)));
            if let Err(error) = ended.unwrap_or(Err(FeedError::ThreadLost)) {
                shared.0.put(Err(error), 0);
            }
            shared.0.end();
        };
        let thread = thread::Builder::new().name("feed".into()).spawn(work).map_err(FeedError::Thread)?;
        Ok(Self { queue, thread: Some(thread), model })
    }

    /// What waits now.
    pub fn level(&self) -> Level {
        self.queue.0.level()
    }
}

/// Waits for the next batch; what this thread asks of the model's device from now on comes after its making. After an
/// error nothing comes.
impl Iterator for Buffer {
    type Item = Result<Fed, FeedError>;

    fn next(&mut self) -> Option<Self::Item> {
        let made = self.queue.0.take()?;
        Some(made.and_then(|(fed, mark)| {
            mark.before_what_follows(self.model)?;
            fed.batch.used_here()?;
            Ok(fed)
        }))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.queue.0.close();
        if let Some(thread) = self.thread.take() {
            // Its panics have been caught; there is nothing else to hear from it.
            let _ = thread.join();
        }
    }
}

/// The thread's life: until the loader ends, something fails, or nobody takes any more.
fn make_all(mut loader: Loader, stage: &StageConfig, queue: &Queue<Made>) -> Result<(), FeedError> {
    // On both devices: a copy between two orders their streams, and the model's own must not wait for it.
    use_side_stream(stage.model)?;
    use_side_stream(stage.data)?;
    let stage = Stage::new(stage)?;
    // As large as the last one: batches of a run differ little.
    let mut bytes = 0;
    while queue.wait_for_room(bytes) {
        let Some(batch) = loader.next() else { return Ok(()) };
        let batch = batch?;
        let next = batch.next_position();
        let Some(batch) = bring(&stage, batch, queue)? else { return Ok(()) };
        let fed = Fed::new(batch, next, &loader);
        bytes = fed.batch.bytes();
        let mark = Mark::here(stage.last_device())?;
        queue.put(Ok((fed, mark)), bytes);
    }
    Ok(())
}

/// Brings a batch to the device. Where memory runs out, fewer batches may wait from now on, and it is tried again when
/// one of them is gone. `None` once nobody takes any more.
fn bring(stage: &Stage, batch: HostBatch, queue: &Queue<Made>) -> Result<Option<DeviceBatch>, FeedError> {
    let batch = Arc::new(batch);
    loop {
        match stage.bring(&batch) {
            Ok(batch) => return Ok(Some(batch)),
            Err(error) if error.is_out_of_memory() && queue.shrink() => {
                empty_device_cache(stage.last_device())?;
                if !queue.wait_for_a_take() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl From<DataError> for FeedError {
    fn from(error: DataError) -> Self {
        FeedError::Data(error)
    }
}
