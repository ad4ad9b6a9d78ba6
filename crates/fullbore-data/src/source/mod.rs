//! Where samples come from.
//!
//! A [`Source`] knows how many samples there are, what each is called, and how to read the bytes of its parts.
//! It keeps one compact index and touches no file until a sample is read.

mod list;
mod listing;
mod names;
mod pairs;
mod pictures;
mod subset;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fullbore_types::SampleId;

pub use list::PairList;
pub use pairs::PairFolders;
pub use pictures::Pictures;
pub use subset::{Repeat, Subset, hold_out};

/// One of the files that make up a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The image.
    Image,
    /// Its mask.
    Mask,
}

/// Where the bytes of a part lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file that they are made from.
    pub file: PathBuf,
    /// Tells apart what is made from one file: an offset, an entry's number. 0 for a whole file.
    pub within: u64,
}

impl Origin {
    /// A whole file.
    pub fn whole(file: PathBuf) -> Self {
        Origin { file, within: 0 }
    }
}

/// An indexed set of samples. Ids run from 0 to `len() - 1` and never change their meaning.
pub trait Source: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// True when there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Short name of a sample, for reports.
    ///
    /// # Panics
    /// This and the other methods panic when `id` is not below `len()`.
    fn name(&self, id: SampleId) -> String;

    /// File that holds a part of a sample.
    fn file(&self, id: SampleId, part: Part) -> PathBuf;

    /// Where a part of a sample lies, for caches: equal origins mean equal bytes, as long as the file does not
    /// change. `None`, the default, keeps the sample out of caches.
    fn origin(&self, _id: SampleId, _part: Part) -> Option<Origin> {
        None
    }

    /// Replaces the content of `bytes` by a part of a sample.
    ///
    /// # Errors
    /// When the file is missing, unreadable, not a regular file, or longer than `max_bytes`.
    fn read(&self, id: SampleId, part: Part, max_bytes: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        read_file(&self.file(id, part), max_bytes, bytes)
    }
}

/// Opens what `data.train` or `data.val` names: a folder of pairs or a CSV list.
///
/// # Errors
/// See [`PairFolders::open`] and [`PairList::open`].
pub fn open(path: &Path) -> Result<Arc<dyn Source>, SourceError> {
    match metadata(path)?.is_dir() {
        true => Ok(Arc::new(PairFolders::open(path)?)),
        false => Ok(Arc::new(PairList::open(path)?)),
    }
}

/// Reads a whole regular file into `bytes`, whose capacity is kept.
fn read_file(path: &Path, max_bytes: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: path.into(), source };
    // Opening a FIFO would wait for its writer, so look first.
    let meta = metadata(path)?;
    if !meta.is_file() {
        return Err(SourceError::NotAFile { path: path.into() });
    }
    let too_long = |length| SourceError::TooLong { path: path.into(), length, limit: max_bytes };
    if meta.len() > max_bytes {
        return Err(too_long(meta.len()));
    }
    bytes.clear();
    bytes.reserve(meta.len() as usize + 1);
    // The file may grow while it is read.
    let mut file = File::open(path).map_err(unreadable)?.take(max_bytes.saturating_add(1));
    file.read_to_end(bytes).map_err(unreadable)?;
    match bytes.len() as u64 > max_bytes {
        true => Err(too_long(bytes.len() as u64)),
        false => Ok(()),
    }
}

fn metadata(path: &Path) -> Result<fs::Metadata, SourceError> {
    fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SourceError::NotFound { path: path.into() },
        _ => SourceError::Unreadable { path: path.into(), source },
    })
}

/// Samples that cannot be found, paired or read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SourceError {
    /// No such path.
    #[error("{} does not exist", path.display())]
    #[diagnostic(
        code(data::source::not_found),
        help("check the spelling; a relative path starts at the working folder, in a list at the list file")
    )]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{} cannot be read: {source}", path.display())]
    #[diagnostic(code(data::source::unreadable), help("check its permissions and the disk"))]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A folder, FIFO, socket or device where a file was expected.
    #[error("{} is not a regular file", path.display())]
    #[diagnostic(code(data::source::not_a_file), help("replace it by the picture itself"))]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Longer than [`crate::DecodeLimits::max_bytes`].
    #[error("{} has {length} bytes, more than the limit of {limit}", path.display())]
    #[diagnostic(code(data::source::too_long), help("cut the picture into tiles, or store it compressed"))]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length, at least.
        length: u64,
        /// Most bytes allowed.
        limit: u64,
    },
    /// A file name that is not text.
    #[error("{} has a name that is not valid UTF-8", path.display())]
    #[diagnostic(code(data::source::name), help("rename the file"))]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// A folder without any of the known layouts.
    #[error("{} holds no image/mask pairs; it holds {found}", path.display())]
    #[diagnostic(
        code(data::source::layout),
        help("expected images/ (or imgs/) and masks/ below it, or X.jpg beside X_mask.png, or a CSV list")
    )]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What lies there instead.
        found: String,
    },
    /// The folder of images was given instead of the one above.
    #[error("{} is the folder of images; the masks lie beside it", path.display())]
    #[diagnostic(code(data::source::inside), help("give the folder above: {}", parent.display()))]
    InsideFolder {
        /// The folder as given.
        path: PathBuf,
        /// The folder that holds images and masks.
        parent: PathBuf,
    },
    /// A folder without any picture.
    #[error("{} holds no pictures; it holds {found}", folder.display())]
    #[diagnostic(
        code(data::source::empty),
        help("looked for files ending in .png, .jpg, .jpeg, .tif, .tiff, .webp or .bmp")
    )]
    Empty {
        /// The folder.
        folder: PathBuf,
        /// What lies there instead.
        found: String,
    },
    /// Two files that would be the same part of one sample.
    #[error("`{stem}` has two {what}: {} and {}", first.display(), second.display())]
    #[diagnostic(code(data::source::twins), help("keep one of the two"))]
    Twins {
        /// Stem of the sample.
        stem: String,
        /// `images` or `masks`.
        what: &'static str,
        /// One file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
    /// Images without a mask.
    #[error("{count} of {of} images have no mask in {}: {}", folder.display(), examples.join(", "))]
    #[diagnostic(
        code(data::source::no_mask),
        help(
            "a mask has its image's name, or that name with _mask: X.jpg, X.png or X_mask.png; add the missing \
              masks or remove the images"
        )
    )]
    NoMask {
        /// Where masks were looked for.
        folder: PathBuf,
        /// Names of the first few images.
        examples: Vec<String>,
        /// Images without a mask.
        count: usize,
        /// All images.
        of: usize,
    },
    /// A list without the two columns.
    #[error("list {} has no columns `image` and `mask`; its first line is `{found}`", path.display())]
    #[diagnostic(code(data::list::header), help("the first line of a list is: image,mask"))]
    ListHeader {
        /// The list file.
        path: PathBuf,
        /// Its first line.
        found: String,
    },
    /// A line that cannot be used.
    #[error("list {}, line {line}: {detail}", path.display())]
    #[diagnostic(code(data::list::line), help("each line after the first holds two paths: image,mask"))]
    ListLine {
        /// The list file.
        path: PathBuf,
        /// One-based line.
        line: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// A list with a header and nothing else.
    #[error("list {} names no samples", path.display())]
    #[diagnostic(code(data::list::empty), help("add a line image,mask for each sample"))]
    ListEmpty {
        /// The list file.
        path: PathBuf,
    },
    /// Too few samples to split.
    #[error("{n} samples cannot be split by holding out every {every}th: one side would be empty")]
    #[diagnostic(
        code(data::source::split),
        help("add samples, name a validation set as data.val, or lower data.holdout (at least 2)")
    )]
    SplitTooSmall {
        /// Samples there are.
        n: usize,
        /// `data.holdout`.
        every: u32,
    },
    /// More samples than ids.
    #[error("{n} samples are more than the {} that can be numbered", u32::MAX)]
    #[diagnostic(code(data::source::too_many), help("split the set, or lower data.crops_per_image"))]
    TooMany {
        /// Samples there would be.
        n: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_keeps_the_buffer_and_checks_the_length() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, b"12345").unwrap();
        let mut bytes = b"old content".to_vec();
        read_file(&file, 5, &mut bytes).unwrap();
        assert_eq!(bytes, b"12345");
        let too_long = read_file(&file, 4, &mut bytes).unwrap_err();
        assert!(matches!(too_long, SourceError::TooLong { length: 5, limit: 4, .. }));
        let folder = read_file(dir.path(), 4, &mut bytes).unwrap_err();
        assert!(matches!(folder, SourceError::NotAFile { .. }));
        let gone = read_file(&dir.path().join("b"), 4, &mut bytes).unwrap_err();
        assert!(matches!(gone, SourceError::NotFound { .. }));
    }

    #[test]
    fn a_fifo_is_refused_instead_of_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("pipe.png");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        assert!(matches!(read_file(&fifo, 9, &mut Vec::new()), Err(SourceError::NotAFile { .. })));
    }

    #[test]
    fn open_tells_folders_from_lists() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(open(dir.path()), Err(SourceError::Layout { .. })));
        fs::write(dir.path().join("l.csv"), "image,mask\na.png,b.png\n").unwrap();
        assert_eq!(open(&dir.path().join("l.csv")).unwrap().len(), 1);
        assert!(matches!(open(&dir.path().join("x")), Err(SourceError::NotFound { .. })));
    }
}
