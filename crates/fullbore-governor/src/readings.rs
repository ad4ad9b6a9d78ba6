//! What memory holds at one moment.

/// What memory holds after an attempt at a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// The device that computes; on a machine without a GPU the tensors' share of the host's memory.
    pub device: DeviceReading,
    /// The host.
    pub host: HostReading,
}

/// Memory of the device that computes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceReading {
    /// Held by tensors now, between two steps: weights, optimizer state and what else does not grow with the
    /// micro-batch.
    pub used: u64,
    /// Most that tensors held during the attempt.
    pub peak: u64,
    /// Held by the allocator: tensors, and blocks kept for reuse.
    pub reserved: u64,
    /// What the device, or the system, could still give to anyone. `None` where it does not tell.
    pub free: Option<u64>,
    /// What the user allows. `None`: all there is.
    pub budget: Option<u64>,
}

impl DeviceReading {
    /// Most that [`reserved`](Self::reserved) can come to: what is there and not held by others, or the budget where
    /// that is less. `None` when neither is known.
    pub fn limit(&self) -> Option<u64> {
        let there = self.free.map(|free| free.saturating_add(self.reserved));
        match (there, self.budget) {
            (Some(there), Some(budget)) => Some(there.min(budget)),
            (there, budget) => there.or(budget),
        }
    }
}

/// Memory of the host, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostReading {
    /// Held by this process.
    pub rss: u64,
    /// Beyond it the kernel ends the process. `None` where it is not known.
    pub limit: Option<u64>,
    /// Part of [`rss`](Self::rss) that batches on their way to the device hold.
    pub slabs: u64,
    /// Part of [`rss`](Self::rss) that decoded samples hold from epoch to epoch.
    pub cache: u64,
}

/// `part` of `whole`, 0 to 1 and beyond. An empty whole is full.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { f64::INFINITY } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_is_left_by_others_and_by_the_user() {
        let reading = |free, budget| DeviceReading { reserved: 30, free, budget, ..DeviceReading::default() };
        assert_eq!(reading(Some(70), None).limit(), Some(100));
        assert_eq!(reading(Some(70), Some(80)).limit(), Some(80));
        assert_eq!(reading(Some(20), Some(80)).limit(), Some(50), "others hold the rest");
        assert_eq!(reading(None, Some(80)).limit(), Some(80));
        assert_eq!(reading(None, None).limit(), None);
    }
}
