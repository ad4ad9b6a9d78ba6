//! What is minimised, written as *shares*: the loss of a micro-batch is what it adds to the loss of the whole optimizer
//! step, so that any split of a batch sums to the same value and the same gradient.
//!
//! [`LossConfig`] is the one `loss` section of a plan. [`masks`] holds the losses of segmentation, [`heatmap`] those of
//! landmarks.

mod config;
pub mod heatmap;
pub mod masks;

pub use config::{LossConfig, LossName, Task};
pub use heatmap::{HeatmapLoss, HeatmapLossConfig, HeatmapTargets};
pub use masks::StepTotals;
