use fullbore_types::{Classes, IGNORE_INDEX, SampleId, Size};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CocoMasks, CocoPoints};
use crate::bounds::Bounds;
use crate::canvas::Window;
use crate::points::Visibility;
use crate::regions::DrawScratch;
use crate::source::{About, Part, Source, SourceError, Target, TargetKind};

/// A folder with this file as `annotations/instances_val.json`, and the images a.png and b.png below `val/`.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["annotations", "val"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for image in ["a.png", "b.png"] {
            std::fs::write(dir.path().join("val").join(image), b"x").unwrap();
        }
        std::fs::write(dir.path().join("annotations/instances_val.json"), text).unwrap();
        Folder(dir)
    }

    fn masks(&self, classes: &[&str]) -> Result<CocoMasks, SourceError> {
        let names: Vec<String> = classes.iter().map(|name| name.to_string()).collect();
        let values = (0..names.len() as u8).collect();
        CocoMasks::open(&self.0.path().join("annotations"), &Classes { names, values, void_value: None })
    }

    fn points(&self) -> Result<CocoPoints, SourceError> {
        CocoPoints::open(&self.0.path().join("annotations/instances_val.json"))
    }

    fn words<T>(&self, result: Result<T, SourceError>) -> String {
        let error = result.err().unwrap().to_string();
        error.replace(&format!("{}/annotations/", self.0.path().display()), "")
    }
}

/// Annotations before images and categories, as the order is free.
fn file(annotations: Value) -> Value {
    json!({
        "info": {"year": 2017},
        "annotations": annotations,
        "images": [
            {"id": 70, "file_name": "b.png", "width": 6, "height": 4, "license": 3},
            {"id": 9, "file_name": "a.png", "width": 5, "height": 3},
        ],
        "categories": [
            {"id": 1, "name": "person", "keypoints": ["nose", "left eye"], "skeleton": [[1, 2]]},
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 90, "name": "tree"},
        ],
    })
}

fn region(image: i64, category: i64, segmentation: Value) -> Value {
    json!({"id": 5, "image_id": image, "category_id": category, "iscrowd": 0, "segmentation": segmentation, "area": 1})
}

fn rectangle(x: i64, y: i64, w: i64, h: i64) -> Value {
    json!([[x, y, x + w, y, x + w, y + h, x, y + h]])
}

fn drawn(source: &CocoMasks, sample: u32) -> String {
    let id = SampleId(sample);
    let size = source.about(id).size.unwrap();
    let Target::Regions(regions) = source.target(id) else { panic!("regions") };
    let mut mask = vec![9; size.area() as usize];
    regions.draw(size, &mut mask, &mut DrawScratch::default());
    let pixel = |v: &u8| if *v == IGNORE_INDEX { '-' } else { char::from(b'0' + v) };
    let rows = mask.chunks(size.width as usize);
    rows.map(|row| row.iter().map(pixel).collect::<String>()).collect::<Vec<_>>().join(" ")
}

#[test]
fn small_objects_lie_on_large_ones_and_crowds_below_all() {
    let mut crowd = region(70, 18, json!({"size": [4, 6], "counts": [4, 8, 12]}));
    crowd["iscrowd"] = json!(1);
    let folder = Folder::new(
        &file(json!([
            region(70, 1, rectangle(3, 1, 1, 1)),
            region(70, 18, rectangle(2, 0, 4, 3)),
            region(70, 90, rectangle(0, 0, 6, 4)),
            region(9, 18, rectangle(0, 0, 2, 2)),
            region(9, 1, rectangle(1, 0, 2, 2)),
            crowd,
        ]))
        .to_string(),
    );
    let source = folder.masks(&["background", "person", "dog"]).unwrap();
    assert_eq!((source.len(), source.kind()), (2, TargetKind::Masks));
    assert_eq!([0, 1].map(|i| source.name(SampleId(i))), ["b", "a"]);
    assert!(source.file(SampleId(0), Part::Image).is_file());
    assert_eq!(drawn(&source, 0), "0-2222 0-2122 0-2222 0--000");
    assert_eq!(drawn(&source, 1), "21100 21100 00000");
    // Only the classes asked for, in the order asked for.
    let source = folder.masks(&["rest", "dog"]).unwrap();
    assert_eq!(drawn(&source, 0), "0-1111 0-1111 0-1111 0--000");
}

#[test]
fn classes_must_be_categories_but_for_the_first() {
    let folder = Folder::new(&file(json!([region(9, 1, rectangle(0, 0, 2, 2))])).to_string());
    assert_eq!(
        folder.words(folder.masks(&["background", "cat"])),
        "class `cat` is not in instances_val.json, which knows person, dog, tree"
    );
    let message = folder.words(folder.masks(&["person", "dog"]));
    assert!(
        message.starts_with("`person`, the first class, stands for pixels that no region covers"),
        "{message}"
    );
    // A first class that is a category which marks nothing is no trouble.
    assert_eq!(drawn(&folder.masks(&["tree", "person"]).unwrap(), 1), "11000 11000 00000");
}

#[test]
fn instances_show_their_box() {
    let person = |id: i64, image: i64, bbox: Value, keypoints: Value| {
        json!({"id": id, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": bbox, "keypoints": keypoints,
            "num_keypoints": 2, "segmentation": []})
    };
    let mut crowd = person(6, 9, json!([0, 0, 5, 3]), json!([1, 1, 2, 1, 1, 2]));
    crowd["iscrowd"] = json!(1);
    let folder = Folder::new(
        &file(json!([
            person(1, 9, json!([1.0, 1.0, 1.6, 0.8]), json!([1, 2, 2, 3.5, 0, 1])),
            person(2, 70, json!([-3, -3, 4, 4]), json!([0, 0, 0, 5, 3, 2])),
            person(3, 70, json!([0, 0, 1, 1]), json!([0, 0, 0, 0, 0, 0])),
            person(4, 9, json!([0, 0, 5, 3]), json!([0, 0, 2, 0, 0, 0])),
            crowd,
        ]))
        .to_string(),
    );
    let source = folder.points().unwrap();
    assert_eq!(
        (source.kind(), source.point_names()),
        (TargetKind::Points { k: 2 }, &["nose".into(), "left eye".into()][..])
    );
    let ids = (0..source.len() as u32).map(SampleId);
    let names: Vec<_> = ids.clone().map(|id| source.name(id)).collect();
    assert_eq!(names, ["b#2", "a#1", "a#4"]);
    assert_eq!(ids.map(|id| source.image_number(id)).collect::<Vec<_>>(), [0, 1, 1]);
    let window = |x, y, side| Some(Window { x, y, size: Size::new(side, side) });
    let about = |i| source.about(SampleId(i));
    // Centre (-1, -1), half side 2.5.
    let bounds = Some(Bounds { left: -3.0, top: -3.0, width: 4.0, height: 4.0 });
    let first = About { size: Some(Size::new(6, 4)), window: window(-4, -4, 5), bounds, mm_per_px: None };
    assert_eq!(about(0), first);
    // Centre (1.8, 1.4), half side 1: 0.8 to 2.8 and 0.4 to 2.4, in whole pixels.
    assert_eq!(about(1).window, window(1, 0, 2));
    assert_eq!(about(2).window, window(-1, -2, 6));
    let Target::Points(points) = source.target(SampleId(1)) else { panic!("points") };
    assert_eq!((points[1].x, points[1].y, points[1].visibility), (3.5, 0.0, Visibility::Hidden));
}

#[test]
fn what_cannot_be_used_is_named() {
    let masks = |annotation: Value| {
        let folder = Folder::new(&file(json!([annotation])).to_string());
        folder.words(folder.masks(&["background", "person"]))
    };
    let object = |segmentation: Value| masks(region(9, 1, segmentation));
    let name = "instances_val.json, annotation 5: ";
    assert_eq!(masks(region(8, 1, json!([]))), format!("{name}image 8 is not in the file"));
    assert_eq!(
        masks(json!({"id": 5, "image_id": 9, "category_id": 1})),
        format!("{name}no segmentation; masks are drawn from it")
    );
    assert!(object(json!([[1, 2, 3]])).starts_with(&format!("{name}a polygon of 3 numbers")));
    assert!(object(json!([[1, 2, 3, 4, 5, 1e300]])).starts_with(&format!("{name}a polygon corner at 1")));
    assert_eq!(
        object(json!({"size": [3, 5], "counts": [4, 4]})),
        format!("{name}runs of 8 pixels in all; expected the 15 of 5x3")
    );
    assert_eq!(
        object(json!({"size": [5, 3], "counts": [15]})),
        format!("{name}a run-length code of 3x5 for an image of 5x3")
    );
    assert!(
        object(json!({"size": [4e9 as u64, 4e9 as u64], "counts": [4]})).contains("runs of 4 pixels in all")
    );
    assert!(object(json!({"size": [3, 5], "counts": [1e18]})).contains("cannot be used as COCO annotations"));
    assert!(object(json!({"size": [3, 5], "counts": [-1]})).contains("cannot be used as COCO annotations"));
    assert!(
        object(json!({"size": [3, 5], "counts": "5Q"})).contains("a run-length code is cut off at line 1")
    );
    assert!(object(json!({"counts": [15]})).contains("missing field `size`"));
    assert!(
        object(json!(vec![json!([]); (1 << 16) + 1])).contains("expected a list of at most 65536 elements")
    );
    assert!(object(json!(7)).contains("expected a list of polygons or a run-length code"));

    let points = |change: Value| {
        let mut annotation =
            json!({"id": 5, "image_id": 9, "category_id": 1, "bbox": [0, 0, 2, 2], "keypoints": [1, 1, 2]});
        annotation.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let folder = Folder::new(&file(json!([annotation])).to_string());
        folder.words(folder.points())
    };
    assert_eq!(
        points(json!({"keypoints": [1, 1]})),
        format!("{name}2 numbers as key points; expected x, y and visibility of at most 4096")
    );
    assert_eq!(
        points(json!({"keypoints": [1, 1, 5]})),
        format!("{name}a visibility of 5; expected 0, 1 or 2")
    );
    assert!(points(json!({"keypoints": [1, -1e300, 1]})).contains("a coordinate of -1"));
    assert_eq!(points(json!({"bbox": null})), format!("{name}no bbox; an instance is shown by it"));
    assert!(points(json!({"bbox": [0, 0, 0, 1]})).contains("expected pixels, with width and height above 0"));
    assert!(points(json!({"bbox": [0, 0, 1e300, 1]})).contains("expected pixels"));
    assert!(points(json!({"bbox": [40, 0, 1, 1]})).contains("lies outside of its image of 5x3"));
    assert_eq!(points(json!({"keypoints": null})), "instances_val.json names no samples");
}

#[test]
fn the_file_itself_is_checked() {
    let words = |text: &str| {
        let folder = Folder::new(text);
        folder.words(folder.masks(&["background", "person"]))
    };
    assert!(words("").contains("cannot be used as COCO annotations: EOF while parsing"));
    assert!(words("{\"images\": []}").contains("missing field `annotations`"));
    assert!(words("[1]").contains("expected an object with images, annotations and categories"));
    let good = file(json!([region(9, 1, rectangle(0, 0, 2, 2))])).to_string();
    assert!(words(&good[..good.len() - 9]).contains("EOF while parsing"));
    assert!(words(&format!("{good} x")).contains("trailing characters"));
    let mut twins = file(json!([]));
    twins["images"][1]["id"] = json!(70);
    assert_eq!(words(&twins.to_string()), "instances_val.json, image 70: two images have this id");
    let mut none = file(json!([]));
    none["images"] = json!([]);
    assert_eq!(words(&none.to_string()), "instances_val.json names no samples");
    let mut lost = file(json!([]));
    lost["images"][0]["file_name"] = json!("c.png");
    assert!(
        words(&lost.to_string())
            .starts_with("`c.png`, the first image of instances_val.json, lies in none of")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a damaged file holds, it is read or refused.
    #[test]
    fn damage_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut text = file(json!([
            region(9, 1, rectangle(0, 0, 2, 2)),
            region(9, 18, json!({"size": [3, 5], "counts": "05"})),
            {"id": 1, "image_id": 9, "category_id": 1, "bbox": [0, 0, 2, 2], "keypoints": [1, 1, 2]},
        ]))
        .to_string()
        .into_bytes();
        let at = at.index(text.len());
        if cut { text.truncate(at) } else { text[at] = byte }
        let folder = Folder::new("");
        std::fs::write(folder.0.path().join("annotations/instances_val.json"), text).unwrap();
        let _ = folder.masks(&["background", "person"]);
        let _ = folder.points();
    }
}
