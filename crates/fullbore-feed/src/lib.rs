//! Host batches to ready micro-batches on the device. Bytes travel as u8 in NHWC order; augmentation, normalisation,
//! heat-maps and layout happen on the device. [`whole_images`] is the way of validation and prediction.

pub mod augment;
mod batch;
mod landmarks;
mod normalize;
mod pin;
pub mod whole_images;

pub use batch::{DeviceBatch, Finish, MicroBatch, MicroTargets, OnDevice, Targets};
pub use landmarks::{HeatmapBatch, Landmarks};
pub use normalize::Normalize;
pub use pin::pin_for;
