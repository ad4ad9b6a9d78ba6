//! Host batches to ready micro-batches on the device. Bytes travel as u8 in NHWC order; augmentation, normalisation,
//! heat-maps and layout happen on the device. [`whole_images`] is the way of validation and prediction.
//!
//! ```text
//! HostBatch -> Stage: upload, augment targets -> Buffer: some ahead -> DeviceBatch::finish -> MicroBatch
//! ```

pub mod augment;
mod batch;
mod buffer;
mod error;
mod feed;
mod landmarks;
mod normalize;
mod pass_plan;
mod pin;
mod stage;
pub mod whole_images;

pub use batch::{DeviceBatch, Finish, MicroBatch, MicroTargets, Targets};
pub use buffer::{Buffer, Fed, Level};
pub use error::FeedError;
pub use feed::{Direct, Feed};
pub use landmarks::{HeatmapBatch, Landmarks};
pub use normalize::Normalize;
pub use pass_plan::{PassPlan, device_reading};
pub use pin::pin_for;
pub use stage::{OnDevice, Stage, StageConfig};
