//! `fullbore init`: a settings file to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use crate::config::commented_template;
use crate::exit_codes;

/// Arguments of `fullbore init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Where to write it; `-` for standard output
    #[arg(value_name = "FILE", default_value = "fullbore.yaml")]
    file: PathBuf,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum InitError {
    #[error("{} is there already", .0.display())]
    #[diagnostic(code(config::file_exists), help("name another file: fullbore init OTHER.yaml"))]
    Exists(PathBuf),
    #[error("{} cannot be written", .path.display())]
    #[diagnostic(code(output::settings_file), help("choose a folder that you may write to"))]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Writes the template; never over an existing file.
pub(super) fn run(args: InitArgs) -> Result<i32, CommandError> {
    let path = args.file;
    let write_error = |source| InitError::Write { path: path.clone(), source };
    if path.as_os_str() == "-" {
        std::io::stdout().write_all(commented_template().as_bytes()).map_err(write_error)?;
        return Ok(exit_codes::OK);
    }
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => file.write_all(commented_template().as_bytes()).map_err(write_error)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(InitError::Exists(path).into()),
        Err(error) => return Err(write_error(error).into()),
    }
    eprintln!("wrote {}; set data.train in it, then: fullbore train {}", path.display(), path.display());
    Ok(exit_codes::OK)
}
