//! `fullbore show`: pictures of what a run would do, to look at before it does.

mod augment;

use clap::Subcommand;

use super::CommandError;

/// What can be shown.
#[derive(Debug, Subcommand)]
pub(super) enum ShowCommand {
    /// Training samples under the augmentation policy, with their masks or points
    Augment(augment::AugmentArgs),
}

/// Shows something.
pub(super) fn run(command: ShowCommand) -> Result<i32, CommandError> {
    match command {
        ShowCommand::Augment(args) => augment::run(args),
    }
}
