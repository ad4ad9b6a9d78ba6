use std::path::PathBuf;

use fullbore_types::Position;

use crate::decode::DecodeError;
use crate::mask::MaskError;
use crate::ring::RingError;
use crate::source::{Part, SourceError};

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
    #[error(
        "batch.size is {batch_size}{} but there are only {n_samples} samples to train on",
        if *world == 1 { String::new() } else { format!(" on each of {world} ranks") }
    )]
    #[diagnostic(
        code(config::batch::size),
        help(
            "lower batch.size so that a batch of all ranks has at most {n_samples}, add data, or set data.drop_last: false"
        )
    )]
    BatchTooLarge {
        /// `batch.size`.
        batch_size: usize,
        /// Runs that share the data.
        world: u32,
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
    /// A rank that is not among those that share the data.
    #[error("rank {rank} is not below the number of ranks, {world}")]
    #[diagnostic(code(config::rank), help("ranks run from 0 to the number of ranks less one"))]
    NoSuchRank {
        /// Number of this run.
        rank: u32,
        /// How many there are.
        world: u32,
    },
    /// More bad samples than [`crate::FaultPolicy::max_bad`].
    #[error("{count} bad samples, more than the {limit} allowed: {examples}")]
    #[diagnostic(
        code(data::bad_samples::count),
        help("mend or remove the samples listed in the run folder, or raise data.max_bad")
    )]
    TooManyBad {
        /// How many there are.
        count: usize,
        /// How many may be.
        limit: usize,
        /// The first few with their reasons.
        examples: String,
    },
    /// More of an epoch was bad than [`crate::FaultPolicy::max_bad_share`].
    #[error(
        "{replaced} of {seen} samples of epoch {epoch} were bad, more than a share of {limit}: {examples}"
    )]
    #[diagnostic(
        code(data::bad_samples::share),
        help("mend or remove the samples listed in the run folder, or raise data.max_bad_share")
    )]
    TooLargeShareBad {
        /// Places filled with replacements.
        replaced: u64,
        /// Places filled so far in this epoch.
        seen: u64,
        /// Zero-based epoch.
        epoch: u64,
        /// The share that may be.
        limit: f64,
        /// The first few bad samples with their reasons.
        examples: String,
    },
    /// A place in a batch for which every sample was tried.
    #[error("none of the {n_samples} samples can be loaded: {reason}")]
    #[diagnostic(code(data::bad_samples::all), help("check that data.train names the right files"))]
    NoGoodSample {
        /// Samples in the source.
        n_samples: u32,
        /// What was wrong with the last one.
        reason: String,
    },
    /// A file that was not read in time.
    #[error("reading {} ({part:?} of sample `{name}`) had not ended after {seconds} s", file.display())]
    #[diagnostic(
        code(data::read::stuck),
        help("check the disk or the network mount; for slow storage raise data.read_timeout")
    )]
    StuckRead {
        /// Name of the sample.
        name: String,
        /// The file.
        file: PathBuf,
        /// Which part of the sample it holds.
        part: Part,
        /// How long was waited for it.
        seconds: f64,
    },
    /// Storage that does not answer.
    #[error(
        "{count} files could not be read to their end within {seconds} s each, and all of these reads still \
         wait; the last file is {}",
        file.display()
    )]
    #[diagnostic(
        code(data::read::storage_stuck),
        help("check the disk or the network mount; for slow storage raise data.read_timeout")
    )]
    StorageStuck {
        /// Reads that wait at the same time.
        count: usize,
        /// The file of the last one.
        file: PathBuf,
        /// How long was waited for each.
        seconds: f64,
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
