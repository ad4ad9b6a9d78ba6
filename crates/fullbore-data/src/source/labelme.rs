//! LabelMe: a JSON file for each image.
//!
//! Coordinates in these files count from the outer edge of the first pixel, as drawing programs have it; they hold
//! for the upright image.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fullbore_types::{Classes, IGNORE_INDEX, SampleId, Size};
use serde::Deserialize;

use super::listing::Listing;
use super::names::NameTable;
use super::{About, Origin, Part, Source, SourceError, Target, TargetKind};
use crate::points::{MAX_POINTS, Point, PointTable};
use crate::regions::{RegionTable, Shape};

/// LabelMe's own names for pixels that take no part, and for those of no object.
const IGNORED_LABEL: &str = "__ignore__";
const BACKGROUND_LABEL: &str = "_background_";

/// A folder of LabelMe files with masks drawn from their polygons, rectangles (also turned ones) and circles. Later
/// shapes are painted over earlier ones; points are passed over.
///
/// A shape's class is found by its label. `__ignore__` means "not labelled"; pixels in no shape, or in one labelled
/// `_background_`, are of the first class. Polygons are filled as COCO's are. LabelMe's own script takes corners for
/// centres of pixels and also paints the outline: its masks differ by up to a pixel along outlines.
#[derive(Debug)]
pub struct LabelMeMasks {
    files: Files,
    regions: RegionTable,
}

/// A folder of LabelMe files with landmarks: shapes of the kind `point`, called by their labels. The landmarks are the
/// labels of all files, sorted (numbers by value); one that a file lacks is not labelled there.
#[derive(Debug)]
pub struct LabelMePoints {
    files: Files,
    points: PointTable,
}

/// Which file belongs to which image.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    /// Name of the JSON file and path of the image, in turn.
    names: NameTable,
    /// Sizes stated for the images; older files have none.
    sizes: Vec<Option<Size>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    shapes: Vec<Labelled>,
    image_path: String,
    image_height: Option<u32>,
    image_width: Option<u32>,
}

#[derive(Deserialize)]
struct Labelled {
    label: String,
    points: Vec<(f64, f64)>,
    shape_type: Option<String>,
}

impl Labelled {
    fn kind(&self) -> &str {
        // Files from before there were others hold polygons only.
        self.shape_type.as_deref().unwrap_or("polygon")
    }

    /// The shape as a region; `None` when it is a point.
    fn region(&self) -> Result<Option<Shape>, String> {
        let corners =
            |points: &[(f64, f64)]| -> Vec<f64> { points.iter().flat_map(|&(x, y)| [x, y]).collect() };
        let shape = match (self.kind(), &self.points[..]) {
            ("point" | "points", _) => return Ok(None),
            ("polygon", points) => Shape::polygon(&corners(points)),
            ("oriented_rectangle", points @ [_, _, _, _]) => Shape::polygon(&corners(points)),
            ("rectangle", &[(ax, ay), (bx, by)]) => Shape::polygon(&[ax, ay, bx, ay, bx, by, ax, by]),
            ("circle", &[(cx, cy), (x, y)]) => Shape::circle((cx, cy), (x - cx).hypot(y - cy)),
            (kind @ ("oriented_rectangle" | "rectangle" | "circle"), points) => {
                return Err(format!("a {kind} with {} points", points.len()));
            }
            (kind, _) => {
                return Err(format!("a {kind}; masks are made of polygons, rectangles and circles"));
            }
        };
        shape.map(Some)
    }
}

impl Files {
    /// Reads all files of a folder, sorted by name; `each` is given their shapes and makes errors of words.
    fn read(
        folder: &Path,
        mut each: impl FnMut(Vec<Labelled>, &dyn Fn(String) -> SourceError) -> Result<(), SourceError>,
    ) -> Result<Self, SourceError> {
        let listing = Listing::read(folder)?;
        let mut files = Files { folder: folder.into(), names: NameTable::default(), sizes: Vec::new() };
        for name in listing.files_ending("json") {
            let path = folder.join(name);
            let document: Document = super::read_json(&path, "LabelMe annotations")?;
            let image = document.image_path.replace('\\', "/");
            // Files are moved together with their images, but keep the old path.
            let beside = image.rsplit('/').next().unwrap_or_default();
            let moved = !folder.join(&image).is_file() && folder.join(beside).is_file();
            files.names.push(name);
            files.names.push(if moved { beside } else { &image });
            let sides = (document.image_width, document.image_height);
            files.sizes.push(if let (Some(w), Some(h)) = sides { Some(Size::new(w, h)) } else { None });
            let wrong =
                |detail: String| SourceError::Entry { path: path.clone(), entry: "shapes".into(), detail };
            each(document.shapes, &wrong)?;
        }
        if files.sizes.is_empty() {
            let found = format!("{}, and no .json files", listing.summary());
            return Err(SourceError::Layout { path: folder.into(), found });
        }
        super::renumbered::check_count(files.sizes.len() as u64)?;
        files.names.shrink_to_fit();
        Ok(files)
    }

    fn name(&self, id: SampleId) -> String {
        super::names::stem(self.names.get(2 * id.0 as usize)).to_owned()
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        self.folder.join(self.names.get(2 * id.0 as usize + usize::from(part == Part::Image)))
    }

    fn about(&self, id: SampleId) -> About {
        About { size: self.sizes[id.0 as usize], ..About::default() }
    }
}

impl LabelMeMasks {
    /// Reads all JSON files of a folder; opens no picture.
    ///
    /// # Errors
    /// When there is none, one cannot be read or used, or has a label that is no class.
    pub fn open(folder: &Path, classes: &Classes) -> Result<Self, SourceError> {
        let class_of = |label: &str| match label {
            IGNORED_LABEL => Some(IGNORE_INDEX),
            BACKGROUND_LABEL => Some(0),
            label => classes.names.iter().position(|name| name == label).map(|i| i as u8),
        };
        let mut regions = RegionTable::default();
        let files = Files::read(folder, |labelled, wrong| {
            let mut shapes = Vec::new();
            for (i, shape) in labelled.iter().enumerate() {
                let wrong = |detail| wrong(format!("number {}, `{}`: {detail}", i + 1, shape.label));
                let Some(region) = shape.region().map_err(wrong)? else { continue };
                let class = class_of(&shape.label).ok_or_else(|| {
                    wrong(format!("the label is no class; data.classes has {}", classes.names.join(", ")))
                })?;
                shapes.push((class, region));
            }
            regions.push_sample(shapes.iter().map(|(class, shape)| (*class, shape))).map_err(wrong)
        })?;
        regions.shrink_to_fit();
        Ok(LabelMeMasks { files, regions })
    }
}

impl LabelMePoints {
    /// Reads all JSON files of a folder; opens no picture.
    ///
    /// # Errors
    /// When there is none, one cannot be read or used, no file has a point, or a file has two of one label.
    pub fn open(folder: &Path) -> Result<Self, SourceError> {
        let mut labels: BTreeSet<Label> = BTreeSet::new();
        let mut marked: Vec<Vec<(String, Point)>> = Vec::new();
        let files = Files::read(folder, |shapes, wrong| {
            let mut points: Vec<(String, Point)> = Vec::new();
            for Labelled { label, points: at, .. } in
                shapes.into_iter().filter(|shape| shape.kind() == "point")
            {
                let &[(x, y)] = &at[..] else {
                    return Err(wrong(format!("`{label}`: a point with {} coordinate pairs", at.len())));
                };
                if points.iter().any(|(other, _)| *other == label) {
                    return Err(wrong(format!("`{label}`: two points have this label")));
                }
                // From edges to centres.
                let point = Point::read(x - 0.5, y - 0.5, 2.0);
                let point = point.map_err(|detail| wrong(format!("`{label}`: {detail}")))?;
                labels.insert(Label(label.clone()));
                if labels.len() > MAX_POINTS {
                    return Err(wrong(format!("there are more than {MAX_POINTS} labels of points by now")));
                }
                points.push((label, point));
            }
            marked.push(points);
            Ok(())
        })?;
        if labels.is_empty() {
            return Err(SourceError::NoSamples { path: folder.into() });
        }
        let names: Vec<String> = labels.into_iter().map(|label| label.0).collect();
        let place = |label: &str| names.iter().position(|name| name == label);
        let mut points = vec![Point::NOT_LABELLED; marked.len() * names.len()];
        for (of_sample, marked) in points.chunks_exact_mut(names.len()).zip(&marked) {
            for (label, point) in marked {
                if let Some(place) = place(label) {
                    of_sample[place] = *point;
                }
            }
        }
        Ok(LabelMePoints { files, points: PointTable { names, points } })
    }
}

/// A label that sorts by its value when it is a number, before all that are not.
#[derive(PartialEq, Eq)]
pub(super) struct Label(pub(super) String);

impl Ord for Label {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |label: &Label| label.0.parse::<u64>().unwrap_or(u64::MAX);
        key(self).cmp(&key(other)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Source for LabelMeMasks {
    fn len(&self) -> usize {
        self.files.sizes.len()
    }

    fn name(&self, id: SampleId) -> String {
        self.files.name(id)
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        self.files.file(id, part)
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        Target::Regions(self.regions.of(id.0 as usize, 0))
    }

    fn about(&self, id: SampleId) -> About {
        self.files.about(id)
    }
}

impl Source for LabelMePoints {
    fn len(&self) -> usize {
        self.files.sizes.len()
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Points { k: self.points.k() }
    }

    fn point_names(&self) -> &[String] {
        &self.points.names
    }

    fn name(&self, id: SampleId) -> String {
        self.files.name(id)
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        self.files.file(id, part)
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        Target::Points(self.points.of(id.0 as usize))
    }

    fn about(&self, id: SampleId) -> About {
        self.files.about(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::Visibility;
    use crate::regions::DrawScratch;
    use serde_json::{Value, json};

    fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in files {
            std::fs::write(dir.path().join(name), value.to_string()).unwrap();
        }
        dir
    }

    fn document(shapes: Value) -> Value {
        json!({"version": "5.2.1", "flags": {}, "shapes": shapes, "imagePath": "a.jpg", "imageData": "AAAA",
            "imageHeight": 6, "imageWidth": 8})
    }

    fn shape(kind: &str, label: &str, points: Value) -> Value {
        json!({"label": label, "points": points, "group_id": null, "shape_type": kind, "flags": {}, "mask": null})
    }

    fn classes() -> Classes {
        let names = ["nothing", "cell", "wall"].map(String::from).to_vec();
        Classes { names, values: vec![0, 1, 2], void_value: None }
    }

    fn mask(shapes: Value) -> Result<String, String> {
        let dir = folder(&[("a.json", document(shapes))]);
        let source = LabelMeMasks::open(dir.path(), &classes())
            .map_err(|e| e.to_string().replace(&format!("{}/", dir.path().display()), ""))?;
        let Target::Regions(regions) = source.target(SampleId(0)) else { panic!("regions") };
        let mut mask = vec![9; 48];
        regions.draw(Size::new(8, 6), &mut mask, &mut DrawScratch::default());
        let pixel = |v: &u8| if *v == IGNORE_INDEX { '-' } else { char::from(b'0' + v) };
        Ok(mask.chunks(8).map(|row| row.iter().map(pixel).collect::<String>()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn shapes_are_painted_in_order() {
        let drawn = mask(json!([
            shape("rectangle", "wall", json!([[6, 5], [1, 1]])),
            shape("polygon", "cell", json!([[2, 2], [5, 2], [5, 4], [2, 4]])),
            shape("point", "unknown labels of points do not matter", json!([[2, 2]])),
            shape("oriented_rectangle", "__ignore__", json!([[0, 0], [2, 0], [2, 2], [0, 2]])),
            shape("rectangle", "_background_", json!([[4, 3], [5, 4]])),
        ]));
        assert_eq!(drawn.unwrap(), "--000000 --222200 02111200 02110200 02222200 00000000");
        assert_eq!(
            mask(json!([shape("circle", "cell", json!([[4, 3], [6, 3]]))])).unwrap(),
            "00000000 00011000 00111100 00111100 00011000 00000000"
        );
        assert_eq!(mask(json!([])).unwrap(), ["00000000"; 6].join(" "));
    }

    #[test]
    fn bad_shapes_are_named() {
        let error = |shapes| mask(shapes).unwrap_err();
        let good = shape("rectangle", "wall", json!([[6, 5], [1, 1]]));
        assert_eq!(
            error(json!([good, shape("polygon", "cel", json!([[0, 0], [1, 0], [1, 1]]))])),
            "a.json, shapes: number 2, `cel`: the label is no class; data.classes has nothing, cell, wall"
        );
        assert_eq!(
            error(json!([shape("line", "cell", json!([[0, 0], [1, 0]]))])),
            "a.json, shapes: number 1, `cell`: a line; masks are made of polygons, rectangles and circles"
        );
        assert!(error(json!([shape("circle", "cell", json!([[0, 0]]))])).ends_with("a circle with 1 points"));
        assert!(error(json!([shape("polygon", "cell", json!([[0, 0]]))])).contains("at least 3 corners"));
        assert!(
            error(json!([shape("circle", "cell", json!([[0, 0], [1e300, 0]]))]))
                .contains("a polygon corner at")
        );
        assert!(
            error(json!([{"label": "cell"}]))
                .starts_with("a.json cannot be used as LabelMe annotations: missing")
        );
        assert!(error(json!([shape("polygon", "cell", json!([[0, "x"]]))])).contains("invalid type"));
    }

    #[test]
    fn landmarks_are_sorted_labels_and_count_from_pixel_centres() {
        let point = |label: &str, x: f64, y: f64| shape("point", label, json!([[x, y]]));
        let dir = folder(&[
            ("b.json", document(json!([point("10", 0.5, 1.5), point("9", 3.0, 4.0)]))),
            ("a.json", document(json!([point("nose", 7.25, 0.0), point("9", 1.0, 1.0)]))),
        ]);
        let source = LabelMePoints::open(dir.path()).unwrap();
        assert_eq!(source.point_names(), ["9", "10", "nose"]);
        assert_eq!([0, 1].map(|i| source.name(SampleId(i))), ["a", "b"]);
        let points = |i| match source.target(SampleId(i)) {
            Target::Points(points) => points.iter().map(|p| (p.x, p.y, p.visibility)).collect::<Vec<_>>(),
            _ => panic!("points"),
        };
        let none = (0.0, 0.0, Visibility::NotLabelled);
        assert_eq!(points(0), [(0.5, 0.5, Visibility::Visible), none, (6.75, -0.5, Visibility::Visible)]);
        assert_eq!(points(1), [(2.5, 3.5, Visibility::Visible), (0.0, 1.0, Visibility::Visible), none]);
        assert_eq!(source.about(SampleId(0)).size, Some(Size::new(8, 6)));

        let twice = folder(&[("a.json", document(json!([point("1", 0.0, 0.0), point("1", 0.0, 0.0)])))]);
        let error = LabelMePoints::open(twice.path()).unwrap_err().to_string();
        assert!(error.ends_with("a.json, shapes: `1`: two points have this label"), "{error}");
        let none = folder(&[("a.json", document(json!([])))]);
        assert!(matches!(LabelMePoints::open(none.path()), Err(SourceError::NoSamples { .. })));
        let empty = folder(&[]);
        assert!(matches!(LabelMePoints::open(empty.path()), Err(SourceError::Layout { .. })));
    }

    #[test]
    fn images_are_found_where_the_file_says_or_beside_it() {
        let mut old = document(json!([]));
        old["imagePath"] = json!("..\\pictures\\a.jpg");
        old.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "imageHeight" | "imageWidth"));
        let dir = folder(&[("a.json", old)]);
        let image = || LabelMeMasks::open(dir.path(), &classes()).unwrap().file(SampleId(0), Part::Image);
        assert_eq!(image(), dir.path().join("../pictures/a.jpg"));
        std::fs::write(dir.path().join("a.jpg"), b"x").unwrap();
        assert_eq!(image(), dir.path().join("a.jpg"));
        let source = LabelMeMasks::open(dir.path(), &classes()).unwrap();
        assert_eq!(source.about(SampleId(0)), About::default());
        assert_eq!(source.file(SampleId(0), Part::Target), dir.path().join("a.json"));
    }
}
