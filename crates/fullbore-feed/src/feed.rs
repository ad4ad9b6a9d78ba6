use fullbore_data::Loader;
use fullbore_governor::buffer::BufferPlan;
use fullbore_torch::empty_device_cache;

use crate::{Buffer, Fed, FeedError, Level, Stage, StageConfig};

/// A run's batches on the device, in order. After an error nothing comes.
#[derive(Debug)]
pub enum Feed {
    /// Each is brought when it is asked for: on the CPU, where nothing is copied, the loader's own batches wait.
    Direct(Box<Direct>),
    /// A thread brings them ahead.
    Buffered(Buffer),
}

/// A loader and what brings its batches to the device.
pub struct Direct {
    loader: Loader,
    stage: Stage,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stage.fmt(f)
    }
}

impl Feed {
    /// Takes batches from `loader` through a stage; ahead of their use where `plan` has room for any.
    ///
    /// # Errors
    /// When the device fails or a thread cannot be started.
    pub fn start(loader: Loader, stage: StageConfig, plan: BufferPlan) -> Result<Self, FeedError> {
        Ok(match plan.size {
            0 => Feed::Direct(Box::new(Direct { stage: Stage::new(&stage)?, loader })),
            _ => Feed::Buffered(Buffer::start(loader, stage, plan)?),
        })
    }

    /// What waits on the device; `None` where nothing ever does.
    pub fn level(&self) -> Option<Level> {
        match self {
            Feed::Direct(_) => None,
            Feed::Buffered(buffer) => Some(buffer.level()),
        }
    }
}

impl Iterator for Feed {
    type Item = Result<Fed, FeedError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Feed::Direct(direct) => direct.next(),
            Feed::Buffered(buffer) => buffer.next(),
        }
    }
}

impl Direct {
    fn next(&mut self) -> Option<Result<Fed, FeedError>> {
        let batch = self.loader.next()?;
        Some(batch.map_err(FeedError::Data).and_then(|batch| {
            let next = batch.next_position();
            let batch = std::sync::Arc::new(batch);
            let brought = match self.stage.bring(&batch) {
                Err(error) if error.is_out_of_memory() => {
                    empty_device_cache(self.stage.last_device())?;
                    self.stage.bring(&batch)
                }
                brought => brought,
            };
            Ok(Fed::new(brought?, next, &self.loader))
        }))
    }
}
