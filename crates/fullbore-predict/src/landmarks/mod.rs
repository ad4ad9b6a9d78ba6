//! Landmarks to files that data sets are read from: what is written can be trained on.

mod coco;
mod labelme;
mod list;

use std::path::{Component, Path, PathBuf};

use fullbore_data::Bounds;
use fullbore_data::source::Pictures;
use fullbore_types::{SampleId, Size};

use crate::PredictError;
use crate::look::{mark_named, rgb};

use coco::CocoFile;
pub(crate) use labelme::write_labelme;
use list::CsvFile;

/// How landmarks are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PointFormat {
    /// `landmarks.csv`: a line for each picture or box with `image`, `x0`, `y0`, `score_NAME`, `x1` and so on, and the box.
    /// Coordinates begin where those of the list began that the model learnt from ([`DataConfig::first_pixel`]).
    ///
    /// [`DataConfig::first_pixel`]: fullbore_data::DataConfig::first_pixel
    #[default]
    Csv,
    /// `landmarks.json`: COCO's key points of all pictures.
    Coco,
    /// `NAME.json` for each picture: LabelMe's points.
    Labelme,
}

/// A landmark of one picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Found {
    /// x before y, in pixels of the upright picture; (0, 0) is the centre of the first.
    pub(crate) place: [f64; 2],
    /// Height of the peak that it was read from. Not finite where the network gave no number.
    pub(crate) score: f32,
}

impl Found {
    /// False where there is no place to tell.
    pub(crate) fn is_found(&self) -> bool {
        self.score.is_finite() && self.place.iter().all(|v| v.is_finite())
    }
}

/// All landmarks of one object.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// The box that it was looked for in; `None`: the whole picture.
    pub(crate) bounds: Option<Bounds>,
    /// In the order of the model's landmarks.
    pub(crate) points: Vec<Found>,
}

/// What was found in one picture.
#[derive(Debug)]
pub(crate) struct Findings {
    /// The picture's number.
    pub(crate) picture: SampleId,
    /// Its size, upright.
    pub(crate) size: Size,
    /// The picture itself, or nothing.
    pub(crate) pixels: Vec<u8>,
    /// In the order of the boxes.
    pub(crate) instances: Vec<Instance>,
}

impl Findings {
    /// The picture with its landmarks and their names drawn on it, RGB u8 `[height, width, 3]`.
    pub(crate) fn drawn(&self, names: &[String]) -> Vec<u8> {
        let mut picture = rgb(&self.pixels, self.size.area() as usize);
        for instance in &self.instances {
            let found = instance.points.iter().zip(names).enumerate().filter(|(_, (f, _))| f.is_found());
            let named = found.map(|(i, (f, name))| (i, f.place.map(|v| v as f32), &name[..]));
            mark_named(&mut picture, self.size, named);
        }
        picture
    }
}

/// The one file of formats that have one for all pictures.
pub(crate) enum PointsFile {
    Csv(CsvFile),
    Coco(CocoFile),
}

impl PointsFile {
    /// `None` for formats with a file for each picture.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn create(
        format: PointFormat,
        output: &Path,
        names: &[String],
        with_boxes: bool,
        first_pixel: f64,
    ) -> Result<Option<Self>, PredictError> {
        Ok(match format {
            PointFormat::Csv => {
                Some(PointsFile::Csv(CsvFile::create(output, names, with_boxes, first_pixel)?))
            }
            PointFormat::Coco => Some(PointsFile::Coco(CocoFile::create(output)?)),
            PointFormat::Labelme => None,
        })
    }

    /// Adds a picture; `image` is its path, seen from the output folder.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn add(&mut self, image: &str, findings: &Findings) -> Result<(), PredictError> {
        match self {
            PointsFile::Csv(file) => file.add(image, findings),
            PointsFile::Coco(file) => file.add(findings),
        }
    }

    /// Gives the file its name. `image` tells the paths of pictures, as in [`add`](Self::add).
    ///
    /// # Errors
    /// When the disk does not take the rest.
    pub(crate) fn finish(
        self,
        names: &[String],
        image: impl Fn(SampleId) -> String,
    ) -> Result<(), PredictError> {
        match self {
            PointsFile::Csv(file) => file.finish(),
            PointsFile::Coco(file) => file.finish(names, image),
        }
    }
}

/// Paths of pictures, seen from the output folder.
pub(crate) struct ImagePaths<'a> {
    pictures: &'a Pictures,
    folder: PathBuf,
}

impl<'a> ImagePaths<'a> {
    /// Both folders exist.
    pub(crate) fn new(pictures: &'a Pictures, output: &Path) -> Self {
        let whole = |path: &Path| {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
        };
        let folder = seen_from(&whole(output), &whole(pictures.folder()));
        Self { pictures, folder }
    }

    /// With `/` between folders.
    pub(crate) fn of(&self, picture: SampleId) -> String {
        let path = self.folder.join(fullbore_data::Source::name(self.pictures, picture));
        path.to_string_lossy().replace('\\', "/")
    }
}

/// The way from one folder to another; both are absolute.
fn seen_from(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    // With nothing but the root in common, one cannot be moved together with the other.
    if common <= 1 {
        return to.into();
    }
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// Thousandths of pixels: finer than any network finds.
pub(crate) fn rounded(v: f64) -> f64 {
    (v * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
