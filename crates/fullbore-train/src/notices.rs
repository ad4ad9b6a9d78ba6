//! What the loader tells, as events of the run.

use std::sync::Arc;

use fullbore_data::{Notice, Notify, Source};
use fullbore_events::{Event, Reporter};

/// Emits each notice of a loader over `source`.
pub(crate) fn to_events(source: Arc<dyn Source>, reporter: Reporter) -> Notify {
    Arc::new(move |notice| {
        reporter.emit(match notice {
            Notice::BadSample(bad) => Event::BadSample {
                name: bad.name,
                file: bad.file.display().to_string(),
                reason: bad.reason,
                replaced_by: bad.replaced_by.map(|id| source.name(id)),
                epoch: bad.position.epoch,
                batch: bad.position.batch,
            },
            Notice::Workers(change) => Event::WorkersChanged {
                from: change.from as u64,
                to: change.to as u64,
                reason: change.why.to_string(),
            },
            Notice::NotPinned { bytes, reason } => Event::Warning {
                message: format!(
                    "{} MiB of host batches are not page-locked, copies to the device are slower: {reason}",
                    bytes >> 20
                ),
            },
        });
    })
}
