//! How many whole images share a forward pass.

use fullbore_governor::{
    Attempt, Bounds, Change, Decision, DeviceReading, Governor, MemoryConfig, Outcome, Readings,
};
use fullbore_torch::{Device, Result, device_memory, empty_device_cache, reset_device_peak};

/// The memory plan of evaluations or of a prediction: images that share a forward pass, fewer when memory runs short and
/// more when there is room again, by the rules of the [`Governor`]. Kept from one pass over a data set to the next.
#[derive(Clone, Debug)]
pub struct PassPlan {
    governor: Governor,
    /// Most bytes of the device's memory that the user allows.
    budget: Option<u64>,
}

impl PassPlan {
    /// Begins within `bounds`. A single image is always tried, whatever `config` says of the fewest samples.
    pub fn new(config: MemoryConfig, bounds: Bounds, budget: Option<u64>) -> Self {
        Self { governor: Governor::new(MemoryConfig { min_micro: 1, ..config }, bounds), budget }
    }

    /// Images of `bytes` bytes each that share a pass.
    pub fn images(&self, bytes: u64) -> usize {
        self.governor.micro(bytes)
    }

    /// Before a pass.
    pub(crate) fn begin(&self, device: Device) -> Result<()> {
        reset_device_peak(device)
    }

    /// Learns from a pass over `images` of `bytes` bytes each. After running out of memory: `None` when fewer do not
    /// help.
    pub(crate) fn end(
        &mut self,
        images: usize,
        bytes: u64,
        outcome: Outcome,
        device: Device,
    ) -> Result<Option<Change>> {
        if outcome == Outcome::OutOfMemory {
            empty_device_cache(device)?;
        }
        let readings = Readings { device: device_reading(device, self.budget)?, ..Readings::default() };
        let attempt = Attempt { samples: images, sample_bytes: bytes, outcome };
        Ok(match self.governor.observe(attempt, &readings) {
            Decision::Halve(change) | Decision::Grow(change) => Some(change),
            Decision::CleanUp { .. } => {
                empty_device_cache(device)?;
                None
            }
            Decision::Nothing | Decision::Recompute | Decision::GiveUp { .. } => None,
        })
    }
}

/// What a device's memory holds, for a governor. `budget`: what the user allows of a GPU's; the CPU's stands in its
/// allocator. Waits for nothing.
///
/// # Errors
/// When the device fails.
pub fn device_reading(device: Device, budget: Option<u64>) -> Result<DeviceReading> {
    let memory = device_memory(device)?;
    Ok(DeviceReading {
        used: memory.in_use,
        peak: memory.peak,
        reserved: memory.reserved,
        free: memory.free,
        budget: if device == Device::Cpu { memory.total } else { budget },
    })
}
