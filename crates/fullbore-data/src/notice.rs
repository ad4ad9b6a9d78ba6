//! What the loader tells and asks its caller beside the batches.

use std::fmt;
use std::sync::Arc;

use crate::faults::BadSample;
use crate::ring::PinHost;
use crate::workers::WorkerChange;

/// Something worth recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A sample cannot be loaded. Comes once for each, before the first batch that should have held it.
    BadSample(BadSample),
    /// The number of decoding threads has been adjusted to what was measured.
    Workers(WorkerChange),
    /// The memory of the batches could not be page-locked; copies to a device take a detour.
    NotPinned {
        /// How much memory.
        bytes: usize,
        /// What [`PinHost::pin`] said.
        reason: String,
    },
}

/// Who hears notices. Called in the thread that starts the loader or asks for a batch, never by two at once.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// Code that the caller lends to a loader.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Hears what happens.
    pub notify: Option<Notify>,
    /// Page-locks the memory of the batches.
    pub pin: Option<Arc<dyn PinHost>>,
}

impl Hooks {
    pub(crate) fn tell(&self, notice: Notice) {
        if let Some(notify) = &self.notify {
            notify(notice);
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hooks { notify, pin } = self;
        f.debug_struct("Hooks").field("notify", &notify.is_some()).field("pin", &pin.is_some()).finish()
    }
}
