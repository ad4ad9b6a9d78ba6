//! `fullbore bench`: parts of a run, measured on their own.

mod augment;
mod data;
mod step;

use clap::Subcommand;

use super::CommandError;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// The training step: on a batch that lies on the device, with the run's own data, and beside PyTorch
    Step(step::StepArgs),
    /// Loading alone: files to ready batches, beside a raw loop of the same decoders
    Data(data::DataArgs),
    /// Files to batches that are ready for the network, augmented on the CPU and on the device, with several workers
    Augment(augment::AugmentArgs),
}

/// Runs a benchmark.
pub(super) fn run(command: BenchCommand) -> Result<i32, CommandError> {
    match command {
        BenchCommand::Step(args) => step::run(args),
        BenchCommand::Data(args) => data::run(args),
        BenchCommand::Augment(args) => augment::run(args),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0 to 3600".into()),
    }
}
