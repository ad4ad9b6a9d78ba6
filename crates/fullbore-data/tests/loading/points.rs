//! Points: exact on every canvas, and shown by their own part of the image.

use std::fs;
use std::sync::Arc;

use fullbore_data::source::{self, Crop, Cropped, hold_out};
use fullbore_data::{EvalConfig, EvalLoader, Format, Loader, LoaderConfig, Resize, Source, TargetKind};
use fullbore_types::{Position, Size};
use image::{Rgb, RgbImage};
use serde_json::json;

use crate::data_set::{InMemory, config, image_of, png};
use crate::eval::eval_config;

fn points_config(batch_size: usize) -> LoaderConfig {
    LoaderConfig { classes: None, ..config(batch_size) }
}

/// Three images of 20x16 pixels, `s0.png` and so on, with a list that names them.
fn listed(list: &str, rows: &str) -> (tempfile::TempDir, Arc<dyn Source>) {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..3 {
        let image = png(20, 16, image::ExtendedColorType::Rgb8, &image_of(i, 20, 16));
        fs::write(dir.path().join(format!("s{i}.png")), image).unwrap();
    }
    fs::write(dir.path().join(list), rows).unwrap();
    let source = source::open(&dir.path().join(list), Format::Auto, None).unwrap();
    (dir, source)
}

#[test]
fn a_batch_has_points_instead_of_masks() {
    let rows = "image,x0,y0,x1,y1,x2,y2\ns0.png,3,4,,,19,15\ns1.png,5,6,-9,2,0,0\ns2.png,1,1,2,2,3,3\n";
    let (_dir, source) = listed("l.csv", rows);
    assert_eq!(source.kind(), TargetKind::Points { k: 3 });
    let config = LoaderConfig { resize: Resize::Stretch, size: Size::new(40, 8), ..points_config(2) };
    for workers in [0, 1, 3] {
        let config = LoaderConfig { workers, ..config.clone() };
        let mut n = 0;
        for batch in Loader::start(source.clone(), config, Position::default()).unwrap() {
            let batch = batch.unwrap();
            assert!(batch.masks().is_empty());
            assert_eq!((batch.points().len(), batch.visibility().len()), (batch.len() * 6, batch.len() * 3));
            for (i, id) in batch.ids().iter().enumerate() {
                let xy = &batch.points()[i * 6..][..6];
                let visibility = &batch.visibility()[i * 3..][..3];
                // x becomes 2 x + 0.5 and y becomes y / 2 - 0.25.
                match id.0 {
                    0 => {
                        assert_eq!((xy, visibility), (&[6.5, 1.75, 0.0, 0.0, 38.5, 7.25][..], &[2, 0, 2][..]))
                    }
                    1 => assert_eq!(
                        (xy, visibility),
                        (&[10.5, 2.75, -17.5, 0.75, 0.5, -0.25][..], &[2, 1, 2][..])
                    ),
                    _ => {
                        assert_eq!((xy, visibility), (&[2.5, 0.25, 4.5, 0.75, 6.5, 1.25][..], &[2, 2, 2][..]))
                    }
                }
                n += 1;
            }
        }
        assert_eq!(n, 6);
    }
}

#[test]
fn a_point_stays_on_its_pixel_through_every_crop() {
    // Each image tells the place of its pixels in green and blue.
    let (_dir, source) = listed("l.csv", "image,x0,y0\ns0.png,7,9\ns1.png,11,2\ns2.png,0,15\n");
    let config = LoaderConfig { size: Size::new(12, 10), epochs: 40, ..points_config(3) };
    let (mut seen, mut hidden) = (0, 0);
    for batch in Loader::start(source, config, Position::default()).unwrap() {
        let batch = batch.unwrap();
        for (i, id) in batch.ids().iter().enumerate() {
            let (x, y) = (batch.points()[2 * i], batch.points()[2 * i + 1]);
            let inside = (0.0..12.0).contains(&x) && (0.0..10.0).contains(&y);
            assert_eq!(batch.visibility()[i], if inside { 2 } else { 1 });
            if !inside {
                hidden += 1;
                continue;
            }
            seen += 1;
            let pixel = &batch.images()[i * 360 + (y as usize * 12 + x as usize) * 3..][..3];
            let place = [[7, 9], [11, 2], [0, 15]][id.0 as usize];
            assert_eq!(pixel, [id.0 as u8, place[0], place[1]]);
        }
    }
    assert!(seen > 20 && hidden > 20, "{seen} {hidden}");
}

#[test]
fn evaluation_keeps_points_in_the_source() {
    let rows = r#"{"image": "s0.png", "points": [[3, 4.25], null, [19, 15, 1]]}"#;
    let (_dir, source) = listed("l.jsonl", rows);
    let config =
        EvalConfig { classes: None, resize: Resize::Letterbox, size: Size::new(40, 40), ..eval_config() };
    let sample = EvalLoader::start(source, config).unwrap().next().unwrap().unwrap();
    let points: Vec<_> = sample.points.iter().map(|p| (p.x, p.y, p.visibility as u8)).collect();
    assert_eq!(points, [(3.0, 4.25, 2), (0.0, 0.0, 0), (19.0, 15.0, 1)]);
    let placed = sample.points[0].on_canvas(&sample.frame, sample.canvas);
    assert_eq!((placed.x, placed.y), (6.5, 4.0 + 9.0));
    assert!(sample.mask.is_empty());
}

#[test]
fn masks_are_not_asked_of_points() {
    let (_dir, source) = listed("l.csv", "image,x0,y0\ns0.png,7,9\n");
    let error = Loader::start(source.clone(), config(1), Position::default()).err().unwrap().to_string();
    assert_eq!(error, "the samples hold points, and masks are asked for");
    assert!(EvalLoader::start(source, eval_config()).is_err());
    // Masks left alone leave no room in the slabs.
    let with = config(1).ring_bytes().unwrap();
    assert!(points_config(1).ring_bytes().unwrap() < with);
    let batch =
        Loader::start(InMemory::new(2).shared(), points_config(2), Position::default()).unwrap().next();
    let batch = batch.unwrap().unwrap();
    assert!(batch.masks().is_empty() && batch.points().is_empty() && batch.visibility().is_empty());
}

#[test]
fn an_instance_fills_its_canvas() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..2 {
        let image = png(40, 30, image::ExtendedColorType::Rgb8, &image_of(i, 40, 30));
        fs::write(dir.path().join(format!("{i}.png")), image).unwrap();
    }
    let person = |id: u32, image: u32, bbox: [u32; 4]| {
        json!({"id": id, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": bbox,
            "keypoints": [bbox[0] + 1, bbox[1] + 1, 2, 39, 29, 1]})
    };
    let file = json!({
        "images": [{"id": 0, "file_name": "0.png", "width": 40, "height": 30},
            {"id": 1, "file_name": "1.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "person", "keypoints": ["a", "b"]}],
        "annotations": [person(1, 0, [10, 8, 8, 4]), person(2, 0, [30, 20, 10, 10]), person(3, 1, [4, 4, 8, 8])],
    });
    fs::write(dir.path().join("set.json"), file.to_string()).unwrap();
    let source = source::open(&dir.path().join("set.json"), Format::Auto, None).unwrap();
    let config =
        LoaderConfig { resize: Resize::Stretch, size: Size::new(10, 10), epochs: 1, ..points_config(3) };
    let batch = Loader::start(source.clone(), config, Position::default()).unwrap().next().unwrap().unwrap();
    for (i, id) in batch.ids().iter().enumerate() {
        // Boxes grown to squares of 10, 12.5 and 10 pixels; the second reaches two pixels beyond the corner, and its
        // 11 pixels take 8 of the canvas.
        let (number, corner, side, scale) =
            [(0, (9, 5), 10, 1.0), (0, (29, 19), 13, 8.0 / 11.0), (1, (3, 3), 10, 1.0)][id.0 as usize];
        let frame = &batch.frames()[i];
        assert_eq!(frame.source_size, Size::new(40, 30));
        let edge = frame.canvas_from_source.apply((f64::from(corner.0) - 0.5, f64::from(corner.1) - 0.5));
        assert!((edge.0 + 0.5).abs() < 1e-9 && (edge.1 + 0.5).abs() < 1e-9, "{edge:?}");
        assert!((frame.canvas_from_source.0[0] - scale).abs() < 1e-9);
        if side == 10 {
            let first = &batch.images()[i * 300..][..3];
            assert_eq!(first, [number, corner.0 as u8, corner.1 as u8]);
        }
        let points = &batch.points()[i * 4..][..4];
        let back = frame.canvas_from_source.inverse().unwrap().apply((points[2].into(), points[3].into()));
        assert!((back.0 - 39.0).abs() < 1e-4 && (back.1 - 29.0).abs() < 1e-4, "{back:?}");
    }
    // People of one image are never on both sides of a split.
    let (train, val) = hold_out(source, 2).unwrap();
    assert_eq!((train.len(), val.len()), (1, 2));
}

#[test]
fn crops_show_points_where_their_pixels_are() {
    let dir = tempfile::tempdir().unwrap();
    // Colours tell the place to 0.05 px wherever filters see no edge.
    let ramp = RgbImage::from_fn(10, 8, |x, y| Rgb([25 * x as u8, 30 * y as u8, 0]));
    fs::write(dir.path().join("a.png"), png(10, 8, image::ExtendedColorType::Rgb8, &ramp)).unwrap();
    // Inside, beyond the upper left corner, beyond the lower right one, and beyond all sides.
    let boxes = ["2,1,6,5.5", "-2.2,-1,8,6", "4,3,6.9,7.5", "-4,-4,17,17"];
    let rows: String = boxes.map(|bounds| format!("a.png,3,2.5,6.25,5,11,-3,{bounds}\n")).concat();
    let header = "image,x0,y0,x1,y1,x2,y2,box_left,box_top,box_width,box_height\n";
    fs::write(dir.path().join("l.csv"), format!("{header}{rows}")).unwrap();
    let listed = source::open(&dir.path().join("l.csv"), Format::Auto, None).unwrap();
    let mut checked = 0;
    for (crop, margin) in [(Crop::Box, 0.0), (Crop::Box, 0.25), (Crop::Points, 0.25)] {
        let source: Arc<dyn Source> =
            Arc::new(Cropped::new(listed.clone(), crop, margin, dir.path()).unwrap());
        for (resize, size) in [
            (Resize::Stretch, Size::new(36, 36)),
            (Resize::Stretch, Size::new(31, 50)),
            (Resize::Letterbox, Size::new(60, 40)),
        ] {
            let config = LoaderConfig { resize, size, epochs: 1, ..points_config(4) };
            let batch = Loader::start(source.clone(), config, Position::default()).unwrap().next().unwrap();
            let batch = batch.unwrap();
            for (i, id) in batch.ids().iter().enumerate() {
                let frame = &batch.frames()[i];
                let back = frame.canvas_from_source.inverse().unwrap();
                for (place, at) in
                    [(3.0, 2.5), (6.25, 5.0), (11.0, -3.0)].iter().zip(batch.points()[6 * i..].chunks(2))
                {
                    let (x, y) = back.apply((at[0].into(), at[1].into()));
                    assert!((x - place.0).abs() < 1e-3 && (y - place.1).abs() < 1e-3, "{place:?}: {x} {y}");
                }
                let window = source.about(*id).window.unwrap();
                let within = |v: f64, start: i32, length: u32, side: i32| {
                    let end = (start + length as i32).min(side);
                    v >= f64::from(start.max(0)) + 1.0 && v <= f64::from(end) - 2.0
                };
                let image = &batch.images()[i * size.area() as usize * 3..];
                for (n, pixel) in image.chunks(3).take(size.area() as usize).enumerate() {
                    let on_canvas = (f64::from(n as u32 % size.width), f64::from(n as u32 / size.width));
                    let (x, y) = back.apply(on_canvas);
                    if within(x, window.x, window.size.width, 10)
                        && within(y, window.y, window.size.height, 8)
                    {
                        let (seen_x, seen_y) = (f64::from(pixel[0]) / 25.0, f64::from(pixel[1]) / 30.0);
                        let (dx, dy) = (seen_x - x, seen_y - y);
                        assert!(
                            dx.abs() < 0.05 && dy.abs() < 0.05,
                            "{crop} {window:?} {resize:?} {size}: {dx} {dy}"
                        );
                        checked += 1;
                    }
                }
            }
        }
    }
    assert!(checked > 5_000, "{checked}");
}

#[test]
fn a_box_outside_of_its_image_is_a_bad_sample() {
    let rows = "image,x0,y0,box_left,box_top,box_width,box_height\ns0.png,3,4,20,0,9,9\n";
    let (dir, source) = listed("l.csv", rows);
    let source: Arc<dyn Source> = Arc::new(Cropped::new(source, Crop::Box, 0.0, dir.path()).unwrap());
    let config = LoaderConfig { resize: Resize::Stretch, ..points_config(1) };
    let error = Loader::start(source, config, Position::default()).unwrap().next().unwrap().err().unwrap();
    let words = error.to_string();
    assert!(words.contains("columns 20 to 28 and rows 0 to 8") && words.contains("only 20x16"), "{words}");
}
