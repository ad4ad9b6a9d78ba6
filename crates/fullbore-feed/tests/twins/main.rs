//! The device twin of augmentation against the CPU twin and PyTorch.
//!
//! Runs on the CPU, and on a GPU when `FULLBORE_TEST_DEVICE` is cuda.

mod cases;
mod heatmaps;
mod hostile;
mod parity;
mod random_policies;
