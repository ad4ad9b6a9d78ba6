//! fullbore: trains dense vision models so that the accelerator never waits for data and never runs out of memory.

use clap::Parser;
use fullbore::{commands, exit_codes, process, render};

fn main() {
    // Before the first allocation of size, and before libtorch reads its environment.
    process::tune_environment();
    let code = match commands::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            render::print_error(&*error);
            exit_codes::code_of(&*error)
        }
    };
    std::process::exit(code);
}
