//! `fullbore bench`: parts of a run, measured on their own.

mod data;
mod step;

use clap::Subcommand;

use super::CommandError;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// The training step alone, on one batch that lies on the device already
    Step(step::StepArgs),
    /// Loading alone: files to ready batches, beside a raw loop of the same decoders
    Data(data::DataArgs),
}

/// Runs a benchmark.
pub(super) fn run(command: BenchCommand) -> Result<i32, CommandError> {
    match command {
        BenchCommand::Step(args) => step::run(args),
        BenchCommand::Data(args) => data::run(args),
    }
}
