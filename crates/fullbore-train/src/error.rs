use std::path::PathBuf;

use fullbore_augment::AugmentError;
use fullbore_checkpoint::{CheckpointError, WeightsError};
use fullbore_data::{ConfigError, DataError, SourceError};
use fullbore_events::RunDirError;
use fullbore_feed::FeedError;
use fullbore_governor::placement::PlacementError;
use fullbore_governor::{MicroPlanError, SettingError};
use fullbore_nn::optim::OptimizerError;
use fullbore_nn::weights::{LoadReport, MismatchError};

use crate::initial_weights::InitialWeightsError;
use crate::plan::PlanError;

/// Everything that can end a run early.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TrainError {
    /// A setting of the data part.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    /// A setting of the augmentation.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Augment(#[from] AugmentError),
    /// A setting of the memory part.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Memory(#[from] SettingError),
    /// The model, or one sample, is too large for the device.
    #[error(transparent)]
    #[diagnostic(transparent)]
    MicroPlan(#[from] MicroPlanError),
    /// A setting of the placement, or a device that is not there.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Placement(#[from] PlacementError),
    /// The way of batches to the device.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Feed(#[from] FeedError),
    /// A setting that clashes with another part.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(#[from] PlanError),
    /// The data set's layout.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Source(#[from] SourceError),
    /// A sample.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    /// A checkpoint file.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkpoint(Box<CheckpointError>),
    /// A checkpoint of another model.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Mismatch(#[from] MismatchError),
    /// Settings of a fine-tuning that make another network.
    #[error("the weights in {path} are of another network ({changed}): {report}")]
    #[diagnostic(
        code(config::other_network),
        help("leave these settings as they were, or train from fresh weights without --resume")
    )]
    OtherNetwork {
        /// The checkpoint.
        path: String,
        /// The settings of the network that differ.
        changed: String,
        /// What does not fit.
        report: Box<LoadReport>,
    },
    /// The file of `model.weights`.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Weights(#[from] WeightsError),
    /// Its weights.
    #[error(transparent)]
    #[diagnostic(transparent)]
    InitialWeights(#[from] InitialWeightsError),
    /// A folder as `model.weights`.
    #[error(transparent)]
    #[diagnostic(transparent)]
    RunDir(#[from] RunDirError),
    /// libtorch, memory or the device.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Torch(#[from] fullbore_torch::Error),
    /// The batch can never be filled.
    #[error("batch.size {batch} is larger than the training set: {samples} samples in {path}")]
    #[diagnostic(
        code(config::batch_too_large),
        help(
            "use a smaller batch.size, data.drop_last: false, or (with resize: crop) more data.crops_per_image"
        )
    )]
    BatchTooLarge {
        /// Samples asked for per step.
        batch: usize,
        /// Samples there are.
        samples: usize,
        /// The training set.
        path: PathBuf,
    },
    /// Every step of the run is done.
    #[error("the run in {} is complete: {step} of {steps_total} steps are done", path.display())]
    #[diagnostic(
        code(config::run_complete),
        help(
            "score it with `fullbore eval {0}`, or train its weights further in a new run: fullbore train --resume {0} --set \
             run.epochs=N",
            path.display()
        )
    )]
    Complete {
        /// The run folder.
        path: PathBuf,
        /// Steps done.
        step: u64,
        /// Steps that the plan asks for.
        steps_total: u64,
    },
    /// Not even one sample fits.
    #[error("out of memory with a micro-batch of one sample ({width}x{height}): {message}")]
    #[diagnostic(
        code(limit::out_of_memory),
        help(
            "use a smaller data.size or model.size, or a device with more memory; batch.size need not change"
        )
    )]
    NothingFits {
        /// Canvas columns.
        width: u32,
        /// Canvas rows.
        height: u32,
        /// The allocator's words, and what would fit.
        message: String,
    },
    /// The loss is not a number any more.
    #[error(
        "training diverged at step {step}: loss or gradient is NaN or infinite (steps in a row: {in_row})"
    )]
    #[diagnostic(
        code(config::diverged),
        help(
            "use a smaller optimizer.lr, a longer schedule.warmup_steps or precision: fp32, or let the run go back by \
             run.roll_backs; {}",
            saved.as_ref().map_or("no checkpoint had been saved yet".to_string(), |(path, step)| {
                format!("the last good checkpoint is {} (step {step})", path.display())
            })
        )
    )]
    Diverged {
        /// Steps that changed nothing.
        in_row: u64,
        /// Optimizer steps done.
        step: u64,
        /// The last checkpoint and its step.
        saved: Option<(PathBuf, u64)>,
    },
}

impl From<OptimizerError> for TrainError {
    fn from(error: OptimizerError) -> Self {
        match error {
            OptimizerError::Setting(error) => TrainError::Plan(error.into()),
            OptimizerError::Torch(error) => TrainError::Torch(error),
        }
    }
}
