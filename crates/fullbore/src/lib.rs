//! The `fullbore` command: settings in layers, subcommands, progress, rendered errors, exit codes.

pub mod commands;
pub mod config;
pub mod exit_codes;
mod interrupt;
pub mod process;
pub mod progress;
pub mod render;
mod weights_line;
