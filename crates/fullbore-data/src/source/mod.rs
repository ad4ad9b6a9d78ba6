//! Where samples come from.
//!
//! A [`Source`] knows how many samples there are, what each is called, how to read the bytes of its pictures, and what
//! stands beside them: a mask to decode, regions to draw, or points. It keeps one compact index and touches no
//! picture until a sample is read. Each format is one file here; [`open`] finds the right one.
//!
//! Annotations hold for the upright picture, after EXIF orientation; [`crate::points`] says where a point lies.

mod aariz;
mod annotator;
mod bounded;
mod boxed;
mod coco;
mod cropped;
mod dlib;
mod error;
mod faces;
mod format;
mod isbi;
mod jsonl;
mod labelme;
mod list;
mod listing;
mod names;
mod pairs;
mod pictures;
mod pts;
mod renumbered;
mod shards;
mod tar;
mod text;
mod wflw;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fullbore_types::{SampleId, Size};
use serde::de::DeserializeOwned;

use crate::bounds::Bounds;
use crate::canvas::Window;
use crate::order::Shuffle;
use crate::points::Point;
use crate::regions::Regions;

pub use aariz::Aariz;
pub use annotator::Annotator;
pub use boxed::BoxedPictures;
#[cfg(test)]
pub(crate) use coco::decompress;
pub use coco::{CocoMasks, CocoPoints};
pub use cropped::{Crop, Cropped};
pub use error::SourceError;
pub use faces::Faces;
pub use format::{Format, Reading, open, open_read_as};
pub use isbi::Isbi;
pub use labelme::{LabelMeMasks, LabelMePoints};
pub use list::List;
pub use names::ends_like_picture;
pub use pairs::PairFolders;
pub use pictures::Pictures;
pub use pts::PtsFolder;
pub use renumbered::{Renumbered, hold_out};
pub use shards::Shards;

/// Longest annotation file of a single image. LabelMe's may hold the image itself.
const MAX_JSON_BYTES: u64 = 1 << 28;

/// One of the files that make up a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The image.
    Image,
    /// The mask, or the annotations that tell its target.
    Target,
}

/// What stands beside the images of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// Nothing.
    None,
    /// Masks, as files or drawn from regions.
    Masks,
    /// Points, the same ones for every sample.
    Points {
        /// How many.
        k: usize,
    },
}

impl TargetKind {
    /// In words, for messages.
    pub fn words(self) -> &'static str {
        match self {
            TargetKind::None => "no targets",
            TargetKind::Masks => "masks",
            TargetKind::Points { .. } => "points",
        }
    }
}

/// What stands beside the image of one sample.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Nothing.
    None,
    /// A picture with a value for each pixel, read as [`Part::Target`].
    MaskFile,
    /// Regions that a mask of the image's size is drawn from.
    Regions(Regions<'a>),
    /// Points in pixels of the upright image.
    Points(&'a [Point]),
}

/// What a source knows of a sample beside its files and its target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct About {
    /// Size that the annotations state for the upright image. An image of another size is refused.
    pub size: Option<Size>,
    /// The part of the image that shows the sample; `None` is all of it. Where it reaches beyond the image there is
    /// padding, see [`Placement::of_window`](crate::canvas::Placement::of_window).
    pub window: Option<Window>,
    /// The box around what the sample is about. A source has them for all samples or for none.
    pub bounds: Option<Bounds>,
    /// Millimetres per pixel.
    pub mm_per_px: Option<f32>,
}

/// Where the bytes of a part lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file that they are made from.
    pub file: PathBuf,
    /// Tells apart what is made from one file: an offset, a window's number. 0 for a whole file.
    pub within: u64,
}

impl Origin {
    /// A whole file.
    pub fn whole(file: PathBuf) -> Self {
        Origin { file, within: 0 }
    }
}

/// An indexed set of samples. Ids run from 0 to `len() - 1` and never change their meaning.
///
/// Methods that take an id panic when it is not below `len()`.
pub trait Source: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// True when there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What stands beside the images. All samples have targets of this kind.
    fn kind(&self) -> TargetKind {
        TargetKind::Masks
    }

    /// Names of the points, where [`kind`](Self::kind) is points.
    fn point_names(&self) -> &[String] {
        &[]
    }

    /// Short name of a sample, for reports.
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

    /// How the samples of an epoch may be mixed. Other than [`Shuffle::Full`] where neighbouring samples lie
    /// together and are best read so.
    fn shuffle(&self) -> Shuffle {
        Shuffle::Full
    }

    /// What stands beside the image.
    fn target(&self, _id: SampleId) -> Target<'_> {
        Target::MaskFile
    }

    /// What else is known.
    fn about(&self, _id: SampleId) -> About {
        About::default()
    }

    /// A number that samples share when they show parts of the same image. Such samples follow each other.
    fn image_number(&self, id: SampleId) -> u32 {
        id.0
    }
}

/// Reads a whole regular file into `bytes`, whose capacity is kept.
///
/// # Errors
/// When the file is missing, unreadable, not a regular file, or longer than `max_bytes`.
pub fn read_file(path: &Path, max_bytes: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: path.into(), source };
    let (file, length) = open_file(path, max_bytes)?;
    bytes.clear();
    bytes.reserve(length as usize + 1);
    // The file may grow while it is read.
    file.take(max_bytes.saturating_add(1)).read_to_end(bytes).map_err(unreadable)?;
    let length = bytes.len() as u64;
    match length > max_bytes {
        true => Err(SourceError::TooLong { path: path.into(), length, limit: max_bytes }),
        false => Ok(()),
    }
}

/// Opens a regular file. Also gives its length, which is at most `max_bytes`.
fn open_file(path: &Path, max_bytes: u64) -> Result<(File, u64), SourceError> {
    // Opening a FIFO would wait for its writer, so look first.
    let meta = metadata(path)?;
    if !meta.is_file() {
        return Err(SourceError::NotAFile { path: path.into() });
    }
    if meta.len() > max_bytes {
        return Err(SourceError::TooLong { path: path.into(), length: meta.len(), limit: max_bytes });
    }
    let file = File::open(path).map_err(|source| SourceError::Unreadable { path: path.into(), source })?;
    Ok((file, meta.len()))
}

/// Reads a whole annotation file.
fn read_json<T: DeserializeOwned>(path: &Path, expected: &'static str) -> Result<T, SourceError> {
    let mut bytes = Vec::new();
    read_file(path, MAX_JSON_BYTES, &mut bytes)?;
    serde_json::from_slice(&bytes).map_err(|error| json_error(error, path, expected))
}

fn json_error(error: serde_json::Error, path: &Path, expected: &'static str) -> SourceError {
    match error.io_error_kind() {
        Some(_) => SourceError::Unreadable { path: path.into(), source: error.into() },
        None => SourceError::Json { path: path.into(), expected, detail: error.to_string() },
    }
}

fn metadata(path: &Path) -> Result<fs::Metadata, SourceError> {
    fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SourceError::NotFound { path: path.into() },
        _ => SourceError::Unreadable { path: path.into(), source },
    })
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
}
