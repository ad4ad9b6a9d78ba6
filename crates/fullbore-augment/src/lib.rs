//! Augmentation of training samples: what happens to which sample, and the CPU twin that does it.
//!
//! ```text
//! AugmentConfig (the user's `augment:` section) -> Policy -> draw(seed, epoch, sample) -> AugmentParams
//! AugmentParams + canvas pixels, mask, points -> network input, mask, points
//! ```
//!
//! [`AugmentParams`] says everything about one sample in 48 numbers and defines the arithmetic exactly; the device
//! twin applies the same numbers to a batch. Knows neither libtorch nor where samples come from.

mod config;
pub mod cpu;
mod draw;
mod elastic;
mod heatmap;
pub mod params;
mod policy;
mod stage;

pub use config::{
    AugmentConfig, AugmentDevice, Blur, Border, Chance, Crop, Degrees, Elastic, Erase, Noise, Preset,
    Progressive, Ranged,
};
pub use heatmap::render_heatmaps;
pub use params::{AugmentParams, EraseBox, MAX_ERASE, ROW_LEN, keyed_hash, normal_of, row};
pub use policy::{AugmentError, Policy};
