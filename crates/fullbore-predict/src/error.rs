use std::io;
use std::path::PathBuf;

use fullbore_checkpoint::CheckpointError;
use fullbore_data::{Crop, DataError, SourceError};
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
    /// The plan inside describes a model or landmarks that cannot be.
    #[error("the plan in {} cannot work: {}: {}: {}", path.display(), wrong.key, wrong.value, wrong.allowed)]
    #[diagnostic(
        code(data::not_a_training_checkpoint),
        help("give a checkpoint that `fullbore train` wrote")
    )]
    Plan {
        /// The file.
        path: PathBuf,
        /// The key, and what is wrong with it.
        wrong: SettingError,
    },
    /// Results could overwrite what they are made from.
    #[error("the output folder {} is the input folder: results would lie among the pictures", path.display())]
    #[diagnostic(code(config::predict::output), help("give --output another folder"))]
    OutputIsInput {
        /// The folder.
        path: PathBuf,
    },
    /// An option for landmarks, where masks are found.
    #[error("{option} is for landmarks, but this model finds masks")]
    #[diagnostic(code(config::predict::task), help("leave {option} out"))]
    ForLandmarks {
        /// The option.
        option: &'static str,
    },
    /// A model that saw crops, and nothing to crop around.
    #[error("the model was trained with data.crop = {crop}: it knows crops, not whole pictures")]
    #[diagnostic(
        code(config::predict::boxes),
        help(
            "give the box of what is looked for in each picture: --boxes FILE.csv with the columns image, box_left, \
             box_top, box_width and box_height"
        )
    )]
    BoxesMissing {
        /// The setting.
        crop: Crop,
    },
    /// Boxes, and a model that never saw crops.
    #[error("--boxes is given, but the model was trained with data.crop = none: it knows whole pictures")]
    #[diagnostic(code(config::predict::boxes), help("leave --boxes out, or train with data.crop=box"))]
    BoxesUnused,
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
