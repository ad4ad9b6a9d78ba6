//! Files to ordered, resumable host batches: formats, decode, canvas, cache, sampler, ring. No libtorch, no device.
//!
//! The way of a sample: a [`Source`] names and reads its files, [`decode::Picture`] turns their bytes into pixels, a
//! [`canvas::Placement`] says where those pixels lie on the canvas, and the [`Loader`]'s workers write them straight
//! into a slot of a pre-allocated slab. Batches come out in an order that is a pure function of (seed, epoch),
//! whatever the number of workers, so a run can be resumed at any [`fullbore_types::Position`].
//!
//! - [`DataConfig`]: the `data:` part of a plan, and its checks.
//! - [`source`]: where samples come from: one file for each format, and subsets and repeats of them.
//! - [`cache`]: samples kept from epoch to epoch, in memory or on disk.
//! - [`points`]: where a point lies.
//! - [`Loader`]: training batches. [`EvalLoader`]: single samples with their native targets.
//! - [`yardstick`]: what the decoders alone can do, to measure loaders against.

mod assembly;
mod bounds;
pub mod cache;
pub mod canvas;
pub mod config;
mod crew;
pub mod decode;
mod error;
pub mod eval;
pub mod faults;
mod intake;
mod line;
pub mod loader;
pub mod mask;
pub mod notice;
pub mod order;
pub mod points;
mod reads;
mod regions;
mod resample;
pub mod ring;
mod sample;
pub mod source;
mod stage;
pub mod stats;
pub mod workers;
pub mod yardstick;

pub use bounds::Bounds;
pub use cache::{Cache, CacheMode, CacheStats, CacheWarning};
pub use config::{CanvasSize, ConfigError, DataConfig, Resize, Workers};
pub use decode::DecodeLimits;
pub use error::DataError;
pub use eval::{EvalConfig, EvalLoader, EvalSample};
pub use faults::{BadSample, FaultPolicy};
pub use loader::{HostBatch, Loader, LoaderConfig};
pub use notice::{Hooks, Notice, Notify};
pub use order::{EpochPlan, EpochShape, Shard, Shuffle};
pub use points::{Point, Visibility};
pub use regions::Regions;
pub use ring::{PinHost, PixelKind, PixelLayout};
pub use source::{About, Annotator, Crop, Format, Part, Source, SourceError, Target, TargetKind};
pub use stage::{SampleStage, StageWorker};
pub use stats::LoaderStats;
pub use workers::{WhyWorkers, WorkerChange};
