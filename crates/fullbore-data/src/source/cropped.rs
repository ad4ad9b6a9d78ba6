use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fullbore_types::SampleId;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::{About, Origin, Part, Source, SourceError, Target, TargetKind};
use crate::bounds::Bounds;
use crate::canvas::Window;
use crate::order::Shuffle;

/// How much of its image a sample shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// As the format has it: all of it, or the instance of a COCO file.
    #[default]
    None,
    /// A square around the box that the data set has for it.
    Box,
    /// A square around its labelled points. A sample without two of them shows what it does with [`Crop::None`].
    Points,
}

impl Crop {
    /// In words, for messages.
    pub(super) fn needs(self) -> &'static str {
        match self {
            Crop::None | Crop::Box => "boxes",
            Crop::Points => "points",
        }
    }
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Crop::None => "none",
            Crop::Box => "box",
            Crop::Points => "points",
        })
    }
}

/// Samples of another source, each shown by a square: [`Window::around`] its box or its labelled points. Coordinates
/// remain those of the whole image.
pub struct Cropped {
    source: Arc<dyn Source>,
    crop: Crop,
    margin: f64,
}

impl Cropped {
    /// `margin` is a share of the square's side within, added on each side. `path` names the data set in messages.
    ///
    /// # Errors
    /// When the source has no boxes or no points to crop around.
    pub fn new(source: Arc<dyn Source>, crop: Crop, margin: f64, path: &Path) -> Result<Self, SourceError> {
        let has_points = matches!(source.kind(), TargetKind::Points { .. });
        let has_boxes = source.is_empty() || source.about(SampleId(0)).bounds.is_some();
        let works = match crop {
            Crop::None => true,
            Crop::Box => has_boxes,
            Crop::Points => has_points,
        };
        let allowed = match (has_boxes, has_points) {
            (true, true) => "none, box or points",
            (true, false) => "none or box",
            (false, true) => "none or points",
            (false, false) => "none",
        };
        match works {
            true => Ok(Cropped { source, crop, margin }),
            false => Err(SourceError::CropWithout { path: path.into(), crop, allowed }),
        }
    }

    fn window(&self, id: SampleId) -> Option<Window> {
        let bounds = match (self.crop, self.source.target(id)) {
            (Crop::None, _) => None,
            (Crop::Box, _) => self.source.about(id).bounds,
            (Crop::Points, Target::Points(points)) => Bounds::of_points(points),
            (Crop::Points, _) => None,
        };
        bounds.map(|bounds| Window::around(bounds, self.margin))
    }
}

impl Source for Cropped {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn kind(&self) -> TargetKind {
        self.source.kind()
    }

    fn point_names(&self) -> &[String] {
        self.source.point_names()
    }

    fn name(&self, id: SampleId) -> String {
        self.source.name(id)
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        self.source.file(id, part)
    }

    /// Each window of an image is another picture.
    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        let origin = self.source.origin(id, part)?;
        let Some(Window { x, y, size }) = self.window(id) else { return Some(origin) };
        let [x, y] = [x, y].map(|v| u64::from(v.cast_unsigned()));
        let numbers = [origin.within, x, y, size.width.into(), size.height.into()];
        let within = XxHash3_64::oneshot(numbers.map(u64::to_le_bytes).as_flattened());
        Some(Origin { within, ..origin })
    }

    fn read(&self, id: SampleId, part: Part, max: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        self.source.read(id, part, max, bytes)
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        self.source.target(id)
    }

    fn about(&self, id: SampleId) -> About {
        let about = self.source.about(id);
        About { window: self.window(id).or(about.window), ..about }
    }

    fn shuffle(&self) -> Shuffle {
        self.source.shuffle()
    }

    fn image_number(&self, id: SampleId) -> u32 {
        self.source.image_number(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::List;
    use fullbore_types::Size;

    fn list(text: &str) -> Arc<dyn Source> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.csv");
        std::fs::write(&path, text).unwrap();
        Arc::new(List::open(&path).unwrap())
    }

    const BOXED: &str = "image,x0,y0,x1,y1,box_left,box_top,box_width,box_height
a.png,3,4,13,8,10,20,8,4
b.png,,,1,2,-9,0,2,2
";

    #[test]
    fn windows_go_around_the_box_or_the_points() {
        let source = list(BOXED);
        let windows = |crop, margin| {
            let cropped = Cropped::new(source.clone(), crop, margin, Path::new("l")).unwrap();
            [0, 1].map(|i| cropped.about(SampleId(i)).window.map(|w| (w.x, w.y, w.size)))
        };
        let square = |x, y, side| Some((x, y, Size::new(side, side)));
        assert_eq!(windows(Crop::None, 0.25), [None, None]);
        assert_eq!(windows(Crop::Box, 0.25), [square(8, 16, 12), square(-10, -1, 3)]);
        // From (3.5, 4.5) to (13.5, 8.5), counted from the edges.
        assert_eq!(windows(Crop::Points, 0.0), [square(4, 2, 10), None]);
        assert_eq!(windows(Crop::Points, 0.3), [square(1, -2, 16), None]);
    }

    #[test]
    fn other_windows_are_other_pictures_to_a_cache() {
        let source = list(BOXED);
        let origin = |crop, margin, i| {
            let cropped = Cropped::new(source.clone(), crop, margin, Path::new("l")).unwrap();
            cropped.origin(SampleId(i), Part::Image).unwrap()
        };
        let whole = origin(Crop::None, 0.25, 0);
        assert_eq!(whole, source.origin(SampleId(0), Part::Image).unwrap());
        let [boxed, wider, points] = [(Crop::Box, 0.25), (Crop::Box, 0.5), (Crop::Points, 0.25)]
            .map(|(crop, margin)| origin(crop, margin, 0));
        assert_eq!(boxed, origin(Crop::Box, 0.25, 0));
        assert!(
            boxed.file == whole.file
                && boxed != whole
                && boxed != wider
                && boxed != points
                && wider != points
        );
    }

    #[test]
    fn what_the_data_lack_is_refused() {
        let error = |text: &str, crop| {
            let error = Cropped::new(list(text), crop, 0.0, Path::new("l")).err().unwrap();
            let SourceError::CropWithout { allowed, .. } = &error else { panic!("{error}") };
            (error.to_string(), *allowed)
        };
        let points = "image,x0,y0\na.png,1,2\n";
        assert_eq!(
            error(points, Crop::Box),
            ("data.crop is box, but l has no boxes".into(), "none or points")
        );
        let masks = "image,mask,box_left,box_top,box_width,box_height\na.png,b.png,1,2,3,4\n";
        assert_eq!(
            error(masks, Crop::Points),
            ("data.crop is points, but l has no points".into(), "none or box")
        );
        assert_eq!(error("image,mask\na.png,b.png\n", Crop::Box).1, "none");
    }
}
