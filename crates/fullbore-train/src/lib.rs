//! From a validated plan to a trained model.
//!
//! - [`plan`]: every setting of a run, and the checks that span several parts.
//! - [`run`]: the story of a run, in order. [`step`]: one optimizer step that survives running out of memory.
//!   [`step_mode`]: how steps reach the device.
//! - [`evaluate`]: scores on the native pixel grid. [`checkpoint`]: state in and out of files. [`resume`]: a run's newest one.
//! - [`initial_weights`]: what a run begins with instead of fresh weights.
//! - [`schedule`], [`ema`], [`early_stop`]: learning rate, average of the weights, the end before the end.
//! - [`phases`]: smaller images at the beginning. [`feeding`]: from files to the device that trains.
//! - [`metric`]: what decides which evaluation is better.

pub mod augmentation;
mod best;
pub mod caching;
pub mod checkpoint;
mod clock;
pub mod early_stop;
pub mod ema;
mod error;
pub mod evaluate;
pub mod feeding;
mod fine_tune;
mod graphs;
pub mod initial_weights;
mod log_window;
pub mod memory;
pub mod metric;
mod notices;
mod pass;
pub mod phases;
pub mod plan;
mod rehearsal;
pub mod resume;
pub mod run;
pub mod schedule;
pub mod setup;
pub mod step;
pub mod step_mode;

pub use error::TrainError;
pub use plan::{Plan, PlanError};
