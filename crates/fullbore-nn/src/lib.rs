//! Layers, models and their measures: one idea per file. Every `forward` returns a `Result`; out of memory is a
//! value that the training step can act on.
//!
//! - [`Params`] holds a model's weights by name; a [`Scope`] is the place in it where a layer puts its own.
//! - [`models`]: the networks and their registry. [`layers`]: what they are built from.
//! - [`losses`]: what is minimised, as shares of an effective batch. [`metrics`]: scores of masks and landmarks.
//! - [`decode`]: heat-maps to points. [`landmarks`]: which points are trained, and how they are read and judged.
//! - [`optim`]: optimizers. [`compute`]: device and arithmetic. [`weights`]: weights in and out, with a report.

pub mod compute;
pub mod decode;
pub mod heads;
pub mod landmarks;
pub mod layers;
pub mod losses;
pub mod metrics;
pub mod mirror;
pub mod models;
pub mod optim;
pub mod params;
pub mod weights;

pub use layers::norm::{NormConfig, NormKind, NormMode};
pub use params::{Params, Scope};
