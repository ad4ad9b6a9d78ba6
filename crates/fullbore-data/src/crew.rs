//! The threads of a loader.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::DataError;
use crate::assembly::{Assembly, Worker};

/// Threads by the number of their worker.
#[derive(Default)]
pub(crate) struct Crew {
    threads: HashMap<u64, JoinHandle<()>>,
    /// Workers so far, those who left included.
    hired: u64,
    /// Workers that are to stay until the end.
    size: usize,
}

impl Crew {
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Puts one more worker to work.
    pub(crate) fn hire(&mut self, assembly: &Arc<Assembly>) -> Result<(), DataError> {
        self.threads.retain(|_, thread| !thread.is_finished());
        if !assembly.keep_one() {
            let (id, intake) = (self.hired, assembly.intake.clone());
            let worker = Worker { id, assembly: Arc::downgrade(assembly), intake };
            let thread = thread::Builder::new()
                .name(format!("data-{id}"))
                .spawn(move || worker.work())
                .map_err(|source| DataError::Thread { index: id as usize, source })?;
            self.threads.insert(id, thread);
            self.hired += 1;
        }
        self.size += 1;
        Ok(())
    }

    /// Lets one worker end when it has finished its sample.
    pub(crate) fn send_one_away(&mut self, assembly: &Assembly) {
        assembly.send_one_away();
        self.size -= 1;
    }

    /// Forgets a worker whose read does not end.
    pub(crate) fn leave_behind(&mut self, worker: u64) {
        if self.threads.remove(&worker).is_some() {
            self.size -= 1;
        }
    }

    /// Waits for the end of all workers.
    pub(crate) fn join(&mut self) {
        for (_, thread) in self.threads.drain() {
            // A thread that panicked has raised the alarm already.
            let _ = thread.join();
        }
    }
}
