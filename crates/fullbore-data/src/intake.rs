//! Reading the files of samples: all that a worker may hold while it waits for storage.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fullbore_types::SampleId;

use crate::DataError;
use crate::sample::{SampleReader, Scratch, contained, names};
use crate::source::{Part, Source};
use crate::stats::{Counters, LoaderStats};

/// What reading needs. A thread whose read never ends keeps this alive and nothing else that is shared.
pub(crate) struct Intake {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) reader: SampleReader,
    pub(crate) counters: Counters,
}

impl Intake {
    /// Reads the files of a sample into the scratch. `at` hears of each part before it is read.
    pub(crate) fn read(
        &self,
        id: SampleId,
        scratch: &mut Scratch,
        at: impl FnMut(Part),
    ) -> Result<(), DataError> {
        contained(&*self.source, id, scratch, |scratch| {
            self.reader.read(&*self.source, id, scratch, &self.counters, at)
        })
    }

    /// What has been done so far, and what the cache holds.
    pub(crate) fn stats(&self) -> LoaderStats {
        let mut stats = self.counters.snapshot();
        (stats.cache.held_samples, stats.cache.held_bytes) = self.reader.held();
        stats
    }

    /// Name and file of one part of a sample.
    pub(crate) fn names(&self, id: SampleId, part: Part) -> (String, PathBuf) {
        names(&*self.source, id, part)
    }

    /// The error for a read that has taken longer than `limit`.
    pub(crate) fn stuck_read(&self, id: SampleId, part: Part, limit: Duration) -> DataError {
        let (name, file) = self.names(id, part);
        DataError::StuckRead { name, file, part, seconds: limit.as_secs_f64() }
    }

    /// The error for `count` reads that are stuck at the same time, this one the last.
    pub(crate) fn storage_stuck(&self, id: SampleId, part: Part, limit: Duration, count: usize) -> DataError {
        let file = self.names(id, part).1;
        DataError::StorageStuck { count, file, seconds: limit.as_secs_f64() }
    }
}
