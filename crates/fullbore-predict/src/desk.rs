use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::PredictError;

/// A file to be written, or several.
pub(crate) type Job<'a> = Box<dyn FnOnce() -> Result<(), PredictError> + Send + 'a>;

/// Where the writers work.
#[derive(Default)]
pub(crate) struct Desk {
    /// The first fault; after it nothing more is written.
    fault: Mutex<Option<PredictError>>,
}

impl Desk {
    /// A writer's life: until the last job, or the first fault of any writer.
    pub(crate) fn work(&self, queue: &Mutex<Receiver<Job<'_>>>) {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            if self.fault().is_some() {
                return;
            }
            if let Err(error) = job() {
                self.fault().get_or_insert(error);
                return;
            }
        }
    }

    /// What went wrong.
    pub(crate) fn into_fault(self) -> Option<PredictError> {
        self.fault.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> MutexGuard<'_, Option<PredictError>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
