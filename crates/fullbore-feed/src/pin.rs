//! Page-locks the loader's memory for a GPU.

use std::ptr::NonNull;
use std::sync::Arc;

use fullbore_data::PinHost;
use fullbore_torch::{Device, PinnedHost};

/// What a loader needs so that `device` copies straight from its memory; `None` where nothing is copied.
pub fn pin_for(device: Device) -> Option<Arc<dyn PinHost>> {
    matches!(device, Device::Cuda(_)).then(|| Arc::new(Cuda) as Arc<dyn PinHost>)
}

struct Cuda;

impl PinHost for Cuda {
    #[allow(unsafe_code)]
    fn pin(&self, start: NonNull<u8>, bytes: usize) -> Result<Box<dyn Send + Sync>, String> {
        // SAFETY: the ring drops what it gets before it frees the memory, as `PinHost::pin` promises.
        let pinned = unsafe { PinnedHost::new(start, bytes)? };
        Ok(Box::new(pinned))
    }
}
