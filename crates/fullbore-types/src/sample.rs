use serde::{Deserialize, Serialize};

/// Stable index of a sample in its source. A sample is an instance (one crop, one person), not a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SampleId(pub u32);

/// How far a run has come in its data: the next batch to deliver. Enough to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// Zero-based epoch.
    pub epoch: u64,
    /// Zero-based batch within the epoch.
    pub batch: u64,
}
