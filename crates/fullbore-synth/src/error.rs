use std::io;
use std::path::PathBuf;

use crate::watermark::ConfigError;

/// Why a set could not be made. Whatever it is, no part of the set is left behind.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SynthError {
    /// A setting that cannot work.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    /// Something else lies where the set should.
    #[error("{} is taken: {reason}", path.display())]
    #[diagnostic(
        code(config::synth::output_exists),
        help("name another folder, or remove this one first: rm -r '{}'", path.display())
    )]
    OutputExists {
        /// The folder for the set.
        path: PathBuf,
        /// What lies there.
        reason: String,
    },
    /// The set would replace the folder that the user's shell is in.
    #[error("{} is the working folder, which cannot be replaced by the finished set", path.display())]
    #[diagnostic(code(config::synth::output_here), help("name a new folder within it"))]
    OutputIsWorkingFolder {
        /// The folder for the set.
        path: PathBuf,
    },
    /// A folder of photos that cannot be searched.
    #[error("photos in {} cannot be listed: {source}", path.display())]
    #[diagnostic(code(data::synth::photos), help("give a folder that you may read"))]
    PhotosUnreadable {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A folder without pictures.
    #[error("{} and the folders in it hold no photos", folder.display())]
    #[diagnostic(
        code(data::synth::no_photos),
        help("looked for files ending in .png, .jpg, .jpeg, .tif, .tiff, .webp or .bmp")
    )]
    NoPhotos {
        /// The folder.
        folder: PathBuf,
    },
    /// A split would have no photo.
    #[error("{found} photos cannot serve {splits} splits: no photo is used in two of them")]
    #[diagnostic(code(data::synth::few_photos), help("add photos, or set the number of test images to 0"))]
    FewPhotos {
        /// Photos there are.
        found: usize,
        /// Splits with images.
        splits: usize,
    },
    /// Every photo of a split is damaged.
    #[error("none of the {count} photos for {split} in {} can be read; the first: {example}", folder.display())]
    #[diagnostic(code(data::synth::no_readable_photo), help("replace the damaged photos, or add good ones"))]
    NoReadablePhoto {
        /// The folder of photos.
        folder: PathBuf,
        /// `train`, `val` or `test`.
        split: &'static str,
        /// Photos of that split.
        count: usize,
        /// What is wrong with the first.
        example: String,
    },
    /// No space left.
    #[error("the disk is full, or your quota is used up, at {}", path.display())]
    #[diagnostic(
        code(limit::disk),
        help("free some space, ask for fewer or smaller images, or name a folder on another disk")
    )]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refuses to write.
    #[error("cannot write {}: {source}", path.display())]
    #[diagnostic(
        code(output::synth),
        help(
            "name a new folder within one that you may write to; the set is made beside it and then moved there"
        )
    )]
    Write {
        /// What was being written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system gives no thread at all.
    #[error("cannot start a thread: {source}")]
    #[diagnostic(code(limit::threads), help("raise the limit on processes (ulimit -u)"))]
    Thread {
        /// The system's reason.
        source: io::Error,
    },
    /// An encoder refuses an image.
    #[error("encoding a {what} failed: {detail}")]
    #[diagnostic(code(bug::synth::encode), help("report this with the settings"))]
    Encode {
        /// The format.
        what: &'static str,
        /// The encoder's complaint.
        detail: String,
    },
    /// The caller asked to stop.
    #[error("stopped before the set was complete; nothing was kept")]
    #[diagnostic(code(interrupted::synth), help("run the command again to make the set"))]
    Stopped,
}
