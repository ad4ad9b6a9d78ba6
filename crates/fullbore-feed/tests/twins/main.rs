//! The device twin of augmentation against the CPU twin, and heat-maps against their formula.
//!
//! Runs on the CPU, and on a GPU when `FULLBORE_TEST_DEVICE` is cuda.

mod cases;
mod heatmaps;
mod hostile;
mod random_policies;
