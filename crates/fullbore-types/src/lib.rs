//! The nouns that every part of fullbore shares. No libtorch, no I/O: plain values only.
//!
//! - [`Size`], [`Affine`], [`Frame`]: where pixels are, and how a canvas maps back to its source image.
//! - [`SampleId`], [`Position`]: which sample, and how far a run has come.
//! - [`Classes`]: what the values in a mask mean.
//! - [`SampleKey`]: randomness as a pure function of (seed, epoch, sample).

mod classes;
mod geometry;
mod sample;
mod seed;

pub use classes::{Classes, IGNORE_INDEX};
pub use geometry::{Affine, Frame, Size};
pub use sample::{Position, SampleId};
pub use seed::{KeyedRng, Purpose, SampleKey};
