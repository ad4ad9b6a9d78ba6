use std::path::Path;

use super::faces::{FaceList, Faces};
use super::text::{line_error, number, numbered_lines, read_text};
use super::{MAX_JSON_BYTES, SourceError};
use crate::bounds::Bounds;
use crate::points::Point;

/// Points of each face.
const K: usize = 98;
/// x and y of the points, the box, six attributes and the path.
const FIELDS: usize = 2 * K + 4 + 6 + 1;
/// Where the images lie as published, seen from the list or the folder above its own.
const IMAGES: [&str; 3] = ["WFLW_images", "../WFLW_images", "../../WFLW_images"];

/// True for the start of a list.
pub(super) fn starts_like_list(start: &str) -> bool {
    start.lines().next().is_some_and(|line| line.split_whitespace().count() == FIELDS)
}

impl Faces {
    /// Reads a list of WFLW, such as `list_98pt_rect_attr_train.txt`: a line for each face with the coordinates of 98
    /// points, its box (left, top, right, bottom), six attributes, which are passed over, and the path of its image.
    /// Points are called by their numbers; whole numbers are the centres of pixels. Opens no picture.
    ///
    /// # Errors
    /// When the list cannot be read, is empty, or has a line that cannot be used.
    pub fn open_wflw(list: &Path) -> Result<Self, SourceError> {
        let text = read_text(list, MAX_JSON_BYTES)?;
        let mut faces = FaceList::default();
        for (line, content) in numbered_lines(&text) {
            let fields: Vec<&str> = content.split_whitespace().take(FIELDS + 1).collect();
            let mut face = || {
                let Ok::<[&str; FIELDS], _>(fields) = fields.as_slice().try_into() else {
                    let n = content.split_whitespace().count();
                    return Err(format!(
                        "{n} fields; expected {FIELDS}: x and y of {K} points, a box, six attributes and a path"
                    ));
                };
                let (coordinates, rest) = fields.split_at(2 * K);
                let (pairs, _) = coordinates.as_chunks::<2>();
                let points: Vec<Point> = pairs
                    .iter()
                    .map(|[x, y]| Point::read(number(x)?, number(y)?, 2.0))
                    .collect::<Result<_, _>>()?;
                let [left, top, right, bottom] =
                    [number(rest[0])?, number(rest[1])?, number(rest[2])?, number(rest[3])?];
                let bounds = Bounds::read([left, top, right - left, bottom - top])?;
                faces.push(rest[rest.len() - 1], bounds, points);
                Ok(())
            };
            face().map_err(|detail| line_error(list, line, detail))?;
        }
        faces.index(list, (0..K).map(|i| i.to_string()).collect(), &IMAGES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Format, Part, Target, TargetKind, open};
    use fullbore_types::SampleId;
    use std::fs;

    /// Point `i` lies at (i + `x`, 2.5 i).
    fn line(x: u32, bounds: &str, path: &str) -> String {
        let points: String = (0..K as u32).map(|i| format!("{} {:.1} ", i + x, 2.5 * f64::from(i))).collect();
        format!("{points}{bounds} 0 1 0 0 1 0 {path}\n")
    }

    fn listed(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("WFLW_annotations/split");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("l.txt"), text).unwrap();
        let list = folder.join("l.txt");
        (dir, list)
    }

    #[test]
    fn faces_of_one_image_follow_each_other() {
        let text = line(3, "10 20 30 60", "a/one.jpg")
            + &line(4, "1 2 3 4", "b/two.jpg")
            + "\r\n"
            + &line(5, "5 6 7.5 8", "a/one.jpg");
        let (dir, list) = listed(&text);
        let images = dir.path().join("WFLW_images/a");
        fs::create_dir_all(&images).unwrap();
        fs::write(images.join("one.jpg"), b"x").unwrap();
        let source = open(&list, Format::Auto, None).unwrap();
        assert_eq!((source.len(), source.kind()), (3, TargetKind::Points { k: 98 }));
        let of = |get: &dyn Fn(SampleId) -> String| [0, 1, 2].map(|i| get(SampleId(i)));
        assert_eq!(of(&|id| source.name(id)), ["one#1", "one#2", "two"]);
        assert_eq!(of(&|id| source.image_number(id).to_string()), ["0", "0", "1"]);
        assert!(
            source.file(SampleId(1), Part::Image).canonicalize().unwrap().ends_with("WFLW_images/a/one.jpg")
        );
        let bounds = Bounds { left: 5.0, top: 6.0, width: 2.5, height: 2.0 };
        assert_eq!(source.about(SampleId(1)).bounds, Some(bounds));
        let Target::Points(points) = source.target(SampleId(1)) else { panic!("points") };
        assert_eq!((points.len(), points[97]), (98, Point::visible(102.0, 242.5)));
    }

    #[test]
    fn bad_lines_are_named() {
        let error = |bad: &str| {
            let (_dir, list) = listed(&(line(0, "1 2 3 4", "a.jpg") + bad));
            let error = Faces::open_wflw(&list).unwrap_err().to_string();
            error.rsplit_once("l.txt").unwrap().1.to_owned()
        };
        let good = line(0, "1 2 3 4", "a.jpg");
        assert_eq!(
            error(&good[2..]),
            ", line 2: 206 fields; expected 207: x and y of 98 points, a box, six attributes and a path"
        );
        assert!(error(&"1 ".repeat(9999)).starts_with(", line 2: 9999 fields"));
        assert_eq!(error(&good.replacen('0', "x", 1)), ", line 2: `x` is no number; expected pixels");
        assert!(error(&good.replacen('0', "inf", 1)).starts_with(", line 2: a coordinate of inf"));
        assert!(
            error(&line(0, "3 2 3 4", "a.jpg")).starts_with(", line 2: a box of [3.0, 2.0, 0.0, 2.0] (left")
        );
        assert!(
            error(&line(0, "nan 2 3 4", "a.jpg")).contains("expected pixels, with width and height above 0")
        );
        let (_dir, empty) = listed("\n");
        assert!(matches!(Faces::open_wflw(&empty), Err(SourceError::NoSamples { .. })));
    }
}
