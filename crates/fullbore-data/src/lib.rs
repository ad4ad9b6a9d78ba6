//! Files to ordered, resumable host batches: formats, decode, canvas, cache, sampler, ring. No libtorch, no device.
//!
//! The way of a sample: a [`Source`] names and reads its two files, [`decode::Picture`] turns their bytes into
//! pixels, a [`canvas::Placement`] says where those pixels lie on the canvas, and the [`Loader`]'s workers write
//! them straight into a slot of a pre-allocated slab. Batches come out in an order that is a pure function of
//! (seed, epoch), whatever the number of workers, so a run can be resumed at any [`fullbore_types::Position`].
//!
//! - [`DataConfig`]: the `data:` part of a plan, and its checks.
//! - [`source`]: where samples come from: folders of pairs, a list file, subsets and repeats of these.
//! - [`cache`]: samples kept from epoch to epoch, in memory or on disk.
//! - [`Loader`]: training batches. [`EvalLoader`]: single samples with their native masks.

mod assembly;
pub mod cache;
pub mod canvas;
pub mod config;
pub mod decode;
mod error;
pub mod eval;
pub mod loader;
pub mod mask;
pub mod order;
mod resample;
pub mod ring;
mod sample;
pub mod source;
pub mod stats;
mod workers;

pub use cache::{Cache, CacheMode, CacheStats, CacheWarning};
pub use config::{CanvasSize, ConfigError, DataConfig, Resize, Workers};
pub use decode::DecodeLimits;
pub use error::DataError;
pub use eval::{EvalConfig, EvalLoader, EvalSample};
pub use loader::{HostBatch, Loader, LoaderConfig};
pub use order::EpochPlan;
pub use ring::PixelLayout;
pub use source::{Part, Source, SourceError};
pub use stats::LoaderStats;
pub use workers::auto_workers;
