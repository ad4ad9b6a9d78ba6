//! Masks drawn from annotations, against the same ones as files.

use std::fs;

use fullbore_data::{DataError, EvalLoader, Format, Loader, LoaderConfig, Resize, SourceError, source};
use fullbore_types::{IGNORE_INDEX, Position, Size};
use serde_json::json;

use crate::data_set::{CLASSES, classes, config, image_of, png};
use crate::eval::eval_config;

/// One image of 20x16 pixels, labelled in LabelMe: its left 7 columns are a thing, its last row is ignored.
fn labelled(height: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let shape = |label: &str, points: [[u32; 2]; 2]| json!({"label": label, "points": points, "shape_type": "rectangle"});
    let shapes = [shape(CLASSES[1].0, [[0, 0], [7, 16]]), shape("__ignore__", [[0, 15], [20, 16]])];
    let file = json!({"shapes": shapes, "imagePath": "a.png", "imageWidth": 20, "imageHeight": height});
    fs::write(dir.path().join("a.json"), file.to_string()).unwrap();
    let image = png(20, 16, image::ExtendedColorType::Rgb8, &image_of(0, 20, 16));
    fs::write(dir.path().join("a.png"), image).unwrap();
    dir
}

fn class_at(x: usize, y: usize) -> u8 {
    if y == 15 { IGNORE_INDEX } else { u8::from(x < 7) }
}

#[test]
fn drawn_masks_are_cropped_with_their_images() {
    let dir = labelled(16);
    let source = source::open(dir.path(), Format::Auto, Some(&classes())).unwrap();
    let config = LoaderConfig { epochs: 20, ..config(1) };
    for batch in Loader::start(source.clone(), config, Position::default()).unwrap() {
        let batch = batch.unwrap();
        for (pixel, class) in batch.images().chunks_exact(3).zip(batch.masks()) {
            assert_eq!(*class, class_at(pixel[1].into(), pixel[2].into()));
        }
    }
    let sample = EvalLoader::start(source, eval_config()).unwrap().next().unwrap().unwrap();
    let expected: Vec<u8> = (0..320).map(|i| class_at(i % 20, i / 20)).collect();
    assert_eq!(sample.mask, expected);
}

#[test]
fn shrunk_masks_keep_their_classes() {
    let dir = labelled(16);
    let source = source::open(dir.path(), Format::LabelMe, Some(&classes())).unwrap();
    let config = LoaderConfig { resize: Resize::Stretch, size: Size::new(10, 8), epochs: 1, ..config(1) };
    let batch = Loader::start(source, config, Position::default()).unwrap().next().unwrap().unwrap();
    let expected: Vec<u8> = (0..80).map(|i| class_at(i % 10 * 2 + 1, i / 10 * 2 + 1)).collect();
    assert_eq!(batch.masks(), expected);
}

#[test]
fn annotations_of_another_size_are_refused() {
    let dir = labelled(20);
    let source = source::open(dir.path(), Format::Auto, Some(&classes())).unwrap();
    let error = Loader::start(source, config(1), Position::default()).unwrap().next().unwrap().err().unwrap();
    assert!(matches!(
        error,
        DataError::Source(SourceError::StatedSize {
            stated: Size { height: 20, .. },
            size: Size { height: 16, .. },
            ..
        })
    ));
}
