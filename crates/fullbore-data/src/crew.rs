//! The threads of a loader.

use std::collections::HashMap;
use std::thread::{self, JoinHandle};

use crate::DataError;

/// Threads by the number of their worker.
#[derive(Default)]
pub(crate) struct Crew {
    threads: HashMap<u64, JoinHandle<()>>,
    hired: u64,
}

impl Crew {
    /// Puts one more worker to work: `work` is its life and gets its number.
    pub(crate) fn hire(&mut self, work: impl FnOnce(u64) + Send + 'static) -> Result<(), DataError> {
        self.threads.retain(|_, thread| !thread.is_finished());
        let id = self.hired;
        let thread = thread::Builder::new()
            .name(format!("data-{id}"))
            .spawn(move || work(id))
            .map_err(|source| DataError::Thread { index: id as usize, source })?;
        self.threads.insert(id, thread);
        self.hired += 1;
        Ok(())
    }

    /// Forgets a worker whose read does not end.
    pub(crate) fn leave_behind(&mut self, worker: u64) {
        self.threads.remove(&worker);
    }

    /// Waits for the end of all workers.
    pub(crate) fn join(&mut self) {
        for (_, thread) in self.threads.drain() {
            // A thread that panicked has raised the alarm already.
            let _ = thread.join();
        }
    }
}
