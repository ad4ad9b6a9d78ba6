//! From a checkpoint to predictions. Knows nothing of training: a checkpoint says by itself what model is in it and
//! how pictures come to it.
//!
//! - [`Trained`]: a model read from a checkpoint. [`predict`]: a source of pictures to files in a folder; decoding,
//!   computing and writing overlap.
//! - [`look`]: pictures for people: overlays, contact sheets and curves.

mod answer;
mod desk;
mod error;
mod landmarks;
pub mod look;
mod masks;
mod predict;
mod results;
mod trained;
mod write;

pub use error::PredictError;
pub use landmarks::PointFormat;
pub use masks::MaskValues;
pub use predict::{Failure, Notice, PredictConfig, Predicted, predict};
pub use trained::Trained;
