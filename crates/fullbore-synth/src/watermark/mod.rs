//! Text watermarks, with masks of their letters.
//!
//! # What the mask says
//! A pixel is 255 exactly when letters cover more than half of its area, else 0. Coverage is computed from the
//! outlines (exact areas in 256 steps), never from colours. The line along the edge of outlined letters counts as
//! letters, and is all there is to hollow ones; a drop shadow does not count. With several marks, coverages `a`
//! and `b` add up to `1 - (1 - a) (1 - b)`. So the mask also marks pixels whose value no blending changes, such as white letters on a white cloud: what
//! is asked for is where the letters are, not where they happen to show. Colours and blends are chosen so that a
//! mark changes the image beneath its letters by at least 20 % of the range on average, before opacity.
//!
//! # What differs between splits
//! No photo and no typeface design of the training split occurs in validation and test.

mod config;
mod faces;
mod manifest;
mod mark;
mod photos;
mod placement;
mod render;
mod set;
mod words;

pub use config::{Blend, ConfigError, Ink, MAX_IMAGES, MAX_SIDE, MIN_SIDE, Split, Style, WatermarkConfig};
pub use manifest::{Counts, MANIFEST_FILE, Manifest};
pub use placement::MIN_CAPITALS;
pub use set::{Report, generate};
