use fullbore_types::Position;

use crate::decode::DecodeError;
use crate::mask::MaskError;
use crate::ring::RingError;
use crate::source::SourceError;

/// Why a loader cannot start or cannot go on.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DataError {
    /// A sample's file cannot be found or read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Source(#[from] SourceError),
    /// A sample's file cannot be turned into pixels.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Decode(#[from] DecodeError),
    /// A sample's mask does not fit.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Mask(#[from] MaskError),
    /// The slabs cannot be allocated.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ring(#[from] RingError),
    /// A batch of no samples.
    #[error("batch.size is 0")]
    #[diagnostic(code(config::batch::size), help("batch.size is at least 1"))]
    BatchOfNone,
    /// Every batch would be ragged and left out.
    #[error("batch.size is {batch_size} but there are only {n_samples} samples to train on")]
    #[diagnostic(
        code(config::batch::size),
        help("set batch.size to at most {n_samples}, add data, or set data.drop_last: false")
    )]
    BatchTooLarge {
        /// `batch.size`.
        batch_size: usize,
        /// Samples in the source.
        n_samples: usize,
    },
    /// Masks were asked for where there are none.
    #[error("the samples hold {found}, and masks are asked for")]
    #[diagnostic(code(data::source::no_masks), help("give data with masks, or use a model for {found}"))]
    NoMasks {
        /// What they hold instead.
        found: &'static str,
    },
    /// A source without samples.
    #[error("there are no samples to load")]
    #[diagnostic(code(data::source::none), help("check data.train, data.val and data.holdout"))]
    NoSamples,
    /// A position that this data set does not have.
    #[error(
        "the run stood at batch {} of epoch {}, but an epoch has {n_batches} batches now",
        position.batch, position.epoch
    )]
    #[diagnostic(
        code(data::position),
        help("resume with the data set and batch.size that the run had, or start a new run")
    )]
    PositionBeyondEpoch {
        /// Where to go on.
        position: Position,
        /// Batches in an epoch.
        n_batches: u64,
    },
    /// The system gives no more threads.
    #[error("cannot start loader thread {index}: {source}")]
    #[diagnostic(
        code(limit::threads),
        help("lower data.workers, or raise the limit on processes (ulimit -u)")
    )]
    Thread {
        /// Zero-based number of the thread.
        index: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A defect in a decoder or in this crate, met while a sample was loaded.
    #[error("loading sample `{name}` ({file}) failed unexpectedly: {message}")]
    #[diagnostic(code(bug::data::sample), help("report this with the file; remove the sample to go on"))]
    Panicked {
        /// Name of the sample.
        name: String,
        /// Its image file.
        file: String,
        /// What the panic said.
        message: String,
    },
    /// A loader thread ended outside the loading of a sample.
    #[error("a loader thread ended unexpectedly")]
    #[diagnostic(code(bug::data::thread), help("report this together with the message above"))]
    ThreadLost,
}
