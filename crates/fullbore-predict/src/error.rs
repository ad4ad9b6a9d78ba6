use std::io;
use std::path::PathBuf;

use fullbore_checkpoint::CheckpointError;
use fullbore_data::{DataError, SourceError};
use fullbore_nn::optim::SettingError;
use fullbore_nn::weights::MismatchError;

/// Why a prediction cannot start or cannot go on. A picture that cannot be read is none of these.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PredictError {
    /// The checkpoint file.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its tensors are not those of the model it names.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Mismatch(#[from] MismatchError),
    /// The folder of pictures.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Source(#[from] SourceError),
    /// The decoding threads.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    /// libtorch, memory or the device.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Torch(#[from] fullbore_torch::Error),
    /// The plan inside asks for a loss and classes that do not go together.
    #[error("the plan in {} has {classes} classes, which its loss cannot serve", path.display())]
    #[diagnostic(
        code(data::not_a_training_checkpoint),
        help("give a checkpoint that `fullbore train` wrote")
    )]
    Classes {
        /// The file.
        path: PathBuf,
        /// Classes in it.
        classes: usize,
    },
    /// The plan inside describes a model that cannot be.
    #[error("the plan in {} cannot work: {}: {}: {}", path.display(), wrong.key, wrong.value, wrong.allowed)]
    #[diagnostic(
        code(data::not_a_training_checkpoint),
        help("give a checkpoint that `fullbore train` wrote")
    )]
    Model {
        /// The file.
        path: PathBuf,
        /// The key, and what is wrong with it.
        wrong: SettingError,
    },
    /// Results would overwrite what they are made from.
    #[error("the output folder {} is the input folder: masks would overwrite pictures", path.display())]
    #[diagnostic(code(config::predict::output), help("give --output another folder"))]
    OutputIsInput {
        /// The folder.
        path: PathBuf,
    },
    /// The output folder cannot be made.
    #[error("cannot make the folder {}", path.display())]
    #[diagnostic(
        code(output::folder),
        help(
            "choose a folder that can be made and written as --output; a file of that name may be in the way"
        )
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The disk is full. What is written already is whole.
    #[error("no space left for {}", path.display())]
    #[diagnostic(
        code(limit::disk_full),
        help("free space on that disk or give --output another one; the files written so far are whole")
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be written for another reason.
    #[error("cannot write {}", path.display())]
    #[diagnostic(
        code(output::file),
        help("make the output folder writable or choose another one; the files written so far are whole")
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system gives no more threads.
    #[error("cannot start a writing thread")]
    #[diagnostic(code(limit::threads), help("raise the limit on processes (ulimit -u)"))]
    Thread(#[source] io::Error),
}
