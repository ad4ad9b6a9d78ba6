//! Scores that are summed on the device and read once.

pub mod confusion;

pub use confusion::{ClassScores, Confusion};
