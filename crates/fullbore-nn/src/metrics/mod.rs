//! Scores: those of masks are summed on the device and read once, those of landmarks are taken on the host.

pub mod confusion;
pub mod landmarks;

pub use confusion::{ClassScores, Confusion};
pub use landmarks::{LandmarkErrors, LandmarkMetrics, LandmarkSample, LandmarkScores, Normalizer};
