//! Makes data sets to learn from, with masks that are exact because they are computed with the image. No libtorch.
//!
//! - [`watermark`]: text watermarks over photos, or over invented scenes that resemble photos.
//!
//! A set is a folder with `images/` and `masks/` for each split, and a manifest. It appears whole or not at all.
//! Every file is a pure function of the settings (and the photos), whatever the number of threads.

mod coverage;
mod draw;
mod error;
mod picture;
mod scene;
pub mod watermark;

pub use error::SynthError;
