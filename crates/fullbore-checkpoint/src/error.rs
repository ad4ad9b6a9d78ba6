use std::{io, path::PathBuf};

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CheckpointError {
    /// The disk, or the user's quota on it, is full. The previous file is untouched.
    #[error("no space left for checkpoint {path} ({needed_bytes} bytes needed)", path = path.display())]
    #[diagnostic(
        code(limit::disk_full),
        help(
            "free space on that disk or choose another run.dir; the checkpoint saved before is still whole"
        )
    )]
    DiskFull {
        /// The file to be written.
        path: PathBuf,
        /// Size of the whole checkpoint.
        needed_bytes: u64,
        /// What the system said.
        source: io::Error,
    },

    /// The file could not be written for another reason. The previous file is untouched.
    #[error("cannot write checkpoint {path}", path = path.display())]
    #[diagnostic(
        code(output::checkpoint),
        help("make the folder exist and writable, or choose another run.dir")
    )]
    Write {
        /// The file to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The caller's tensors cannot be stored: a name twice, a reserved name, or bytes that do not fit the shape.
    #[error("tensor `{name}` cannot be stored: {reason}")]
    #[diagnostic(code(bug::checkpoint_tensor), help("this is a fault in fullbore: please report it"))]
    InvalidTensor {
        /// The tensor's name.
        name: String,
        /// Expected and got.
        reason: String,
    },

    /// No file at this path.
    #[error("no checkpoint at {path}", path = path.display())]
    #[diagnostic(
        code(data::checkpoint_not_found),
        help(
            "check the path; a run keeps its checkpoints in RUN/checkpoints/, and has none before its first save"
        )
    )]
    NotFound {
        /// The path that was asked for.
        path: PathBuf,
    },

    /// A whole file, but no training checkpoint.
    #[error("{path}: no usable `{what}` inside: not a training checkpoint of fullbore", path = path.display())]
    #[diagnostic(
        code(data::not_a_training_checkpoint),
        help("give the run folder or file that `fullbore train` wrote")
    )]
    NotOfTraining {
        /// The file.
        path: PathBuf,
        /// What is missing or unreadable.
        what: &'static str,
    },

    /// The file is there but cannot be opened or read.
    #[error("cannot read checkpoint {path}", path = path.display())]
    #[diagnostic(
        code(data::checkpoint_unreadable),
        help("give yourself read permission, or use another checkpoint")
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The path leads to a folder, a pipe or a device.
    #[error("{path} is not a file", path = path.display())]
    #[diagnostic(
        code(data::checkpoint_not_a_file),
        help("name a checkpoint file, such as RUN/checkpoints/best.safetensors")
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// The content is not a safetensors file at all.
    #[error("{path} is not a safetensors file: {reason}", path = path.display())]
    #[diagnostic(code(data::checkpoint_format), help("{advice}"))]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What the user can do.
        advice: &'static str,
    },

    /// The file ends too early, as after a copy that was cut off.
    #[error("checkpoint {path} is cut off: expected {expected_bytes} bytes, got {got_bytes}", path = path.display())]
    #[diagnostic(code(data::checkpoint_truncated), help("use another checkpoint, or copy this one again"))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Length that the header promises, or the least that a header needs.
        expected_bytes: u64,
        /// Length of the file.
        got_bytes: u64,
    },

    /// The file has its length but not its content.
    #[error("checkpoint {path} is damaged: {reason}", path = path.display())]
    #[diagnostic(
        code(data::checkpoint_damaged),
        help(
            "use another checkpoint, or copy this one again; if another program changed it on purpose, save it there \
             without the fullbore metadata"
        )
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which promise it breaks.
        reason: String,
    },

    /// Written by a later version of fullbore.
    #[error("checkpoint {path} has format {found}, and this fullbore reads up to {newest}", path = path.display())]
    #[diagnostic(code(data::checkpoint_newer), help("update fullbore, or use another checkpoint"))]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format as written there.
        found: String,
        /// The newest format known here.
        newest: u32,
    },

    /// A tensor has an element type that fullbore does not use.
    #[error("tensor `{name}` in {path} has the unsupported element type {dtype}", path = path.display())]
    #[diagnostic(
        code(data::checkpoint_dtype),
        help("convert it to one of F64, F32, F16, BF16, I64, I32, U8, BOOL, or use another checkpoint")
    )]
    UnsupportedDtype {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Its element type.
        dtype: String,
    },

    /// The machine has no memory for the file's tensors.
    #[error("not enough memory to read checkpoint {path} ({needed_bytes} bytes for `{name}`)", path = path.display())]
    #[diagnostic(code(limit::memory), help("free memory, or use a smaller checkpoint"))]
    Memory {
        /// The file.
        path: PathBuf,
        /// The tensor that did not fit.
        name: String,
        /// Its size.
        needed_bytes: usize,
    },
}
