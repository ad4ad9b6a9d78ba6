//! Lists of one JSON object to a line.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::SourceError;
use super::bounded::Bounded;
use super::list::Lines;
use crate::bounds::Bounds;
use crate::points::{MAX_POINTS, Point, PointTable};

/// One sample: an image with a mask or with points.
#[derive(Deserialize)]
struct Line {
    image: String,
    mask: Option<String>,
    points: Option<PointList>,
    /// Left, top, width, height.
    #[serde(rename = "box")]
    bounds: Option<Bounded<f64, 4>>,
}

/// Points as `[x, y]`, `[x, y, visibility]` or, where not labelled, `null`.
#[derive(Deserialize)]
pub(super) struct PointList(Bounded<Option<Bounded<f64, 3>>, MAX_POINTS>);

impl PointList {
    pub(super) fn len(&self) -> usize {
        self.0.0.len()
    }

    /// Adds one more sample to `table`.
    ///
    /// # Errors
    /// In words, when there are not as many points as `table` has names or a point cannot be used.
    pub(super) fn add_to(&self, table: &mut PointTable) -> Result<(), String> {
        if self.len() != table.k() {
            return Err(format!("{} points, though the first sample has {}", self.len(), table.k()));
        }
        for point in &self.0.0 {
            let point = match point.as_ref().map(|point| &*point.0) {
                None => Point::NOT_LABELLED,
                Some(&[x, y]) => Point::read(x, y, 2.0)?,
                Some(&[x, y, visibility]) => Point::read(x, y, visibility)?,
                Some(other) => {
                    let n = other.len();
                    return Err(format!(
                        "a point of {n} numbers; expected [x, y], [x, y, visibility] or null"
                    ));
                }
            };
            table.points.push(point);
        }
        Ok(())
    }
}

/// Reads all lines.
pub(super) fn read(from: impl Read, list: &Path) -> Result<Lines, SourceError> {
    let Lines { mut paths, points: mut table, mut bounds } = Lines::default();
    let mut has_boxes = false;
    let lines = serde_json::Deserializer::from_reader(from).into_iter::<Line>();
    for (i, line) in lines.enumerate() {
        let line = line.map_err(|error| super::json_error(error, list, "a list of samples"))?;
        let wrong =
            |detail| SourceError::Entry { path: list.into(), entry: format!("sample {}", i + 1), detail };
        paths.push(&line.image);
        if i == 0 {
            has_boxes = line.bounds.is_some();
            table = match (&line.mask, &line.points) {
                (Some(_), _) => None,
                (None, Some(points)) if points.len() == 0 => {
                    return Err(wrong("an empty list of points".into()));
                }
                (None, Some(points)) => Some(PointTable::numbered(points.len())),
                (None, None) => return Err(wrong("neither mask nor points".into())),
            };
        }
        match line.bounds.filter(|_| has_boxes) {
            Some(found) => {
                let n = found.0.len();
                let sides = found.0.try_into().map_err(|_| {
                    wrong(format!("a box of {n} numbers; expected [left, top, width, height]"))
                })?;
                bounds.push(Bounds::read(sides).map_err(wrong)?);
            }
            None if has_boxes => return Err(wrong("no box, though the first has one".into())),
            None => (),
        }
        match (&mut table, line.mask, line.points) {
            (Some(table), _, Some(points)) => points.add_to(table).map_err(wrong)?,
            (None, Some(mask), _) => paths.push(&mask),
            (Some(_), _, None) => return Err(wrong("no points, though the first sample has them".into())),
            (None, None, _) => return Err(wrong("no mask, though the first sample has one".into())),
        }
    }
    Ok(Lines { paths, points: table, bounds })
}
