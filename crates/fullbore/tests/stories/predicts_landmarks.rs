use std::fs;

use fullbore_data::Target;
use fullbore_data::source::{Format, open};
use fullbore_types::SampleId;
use image::{Rgb, RgbImage};

use crate::scaffold::{Outcome, Scene};

/// A red and a green dot on a dark ground, and where they lie.
fn dots(index: u32, width: u32, height: u32) -> (RgbImage, [[f32; 2]; 2]) {
    let spread = |n: u32, side: u32| (4 + n * 7 % (side - 8)) as f32;
    let red = [spread(index, width), spread(3 * index + 1, height)];
    let green = [spread(5 * index + 3, width), spread(2 * index + 2, height)];
    let bell = |x: u32, y: u32, [cx, cy]: [f32; 2]| {
        let apart = (x as f32 - cx).powi(2) + (y as f32 - cy).powi(2);
        20 + (220.0 * (-apart / 6.0).exp()) as u8
    };
    let image = RgbImage::from_fn(width, height, |x, y| Rgb([bell(x, y, red), bell(x, y, green), 30]));
    (image, [red, green])
}

/// `pictures/` with 20 pairs of dots and `points.csv` beside it, with boxes around the middle of each.
fn scene() -> Scene {
    let scene = Scene::new();
    fs::create_dir(scene.path("pictures")).unwrap();
    let mut list = "image,x0,y0,x1,y1,box_left,box_top,box_width,box_height\n".to_owned();
    for index in 0..20 {
        let (image, [[ax, ay], [bx, by]]) = dots(index, 32, 32);
        image.save(scene.path(&format!("pictures/{index:02}.png"))).unwrap();
        list += &format!("pictures/{index:02}.png,{ax},{ay},{bx},{by},4,5,22,21\n");
    }
    fs::write(scene.path("points.csv"), list).unwrap();
    scene
}

fn train(scene: &Scene, sets: &[&str]) -> Outcome {
    let landmarks = ["data.train=points.csv", "data.holdout=5", "loss.name=mse"];
    scene.train(&[&landmarks[..], sets].concat())
}

fn predict(scene: &Scene, output: &str, more: &[&str]) -> Outcome {
    scene.fullbore(&[&["predict", "run", "--input", "pictures", "--output", output], more].concat())
}

fn data_set(scene: &Scene, path: &str) -> Vec<[f32; 2]> {
    let source = open(&scene.path(path), Format::Auto, None).unwrap();
    let points = |i| match source.target(SampleId(i as u32)) {
        Target::Points(points) => points.to_vec(),
        other => panic!("{other:?}"),
    };
    (0..source.len()).flat_map(points).map(|p| [p.x, p.y]).collect()
}

/// Largest distance on an axis.
fn apart(a: &[[f32; 2]], b: &[[f32; 2]]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn landmarks_come_out_as_data_sets() {
    let scene = scene();
    train(&scene, &["run.epochs=30", "model.base=8", "loss.name=softmax_ce"]).succeeded();
    let summary = predict(&scene, "csv", &["--overlay", "--json"]).succeeded().json();
    assert_eq!((&summary["landmarks"], &summary["failed"]), (&20.into(), &serde_json::json!([])));
    let found = data_set(&scene, "csv/landmarks.csv");
    let truth: Vec<_> = (0..20).flat_map(|i| dots(i, 32, 32).1).collect();
    let close = found.iter().zip(&truth).filter(|(a, b)| apart(&[**a], &[**b]) < 1.5).count();
    assert!(close >= 34, "{close} of 40: {found:?} {truth:?}");
    predict(&scene, "coco", &["--format", "coco"]).succeeded();
    assert!(apart(&data_set(&scene, "coco/landmarks.json"), &found) <= 1e-3);
    predict(&scene, "labelme", &["--format", "labelme", "--batch", "3"]).succeeded();
    assert!(apart(&data_set(&scene, "labelme"), &found) <= 1e-3);
    assert_eq!(fs::read_dir(scene.path("labelme")).unwrap().count(), 20);
    let overlay = image::open(scene.path("csv/overlays/00.png")).unwrap().into_rgb8();
    let plain = image::open(scene.path("pictures/00.png")).unwrap().into_rgb8();
    let [x, y] = found[0].map(|v| v.round() as u32);
    assert_eq!((overlay.get_pixel(x, y).0, overlay.dimensions()), ([255, 0, 0], plain.dimensions()));
    assert_ne!(overlay, plain);

    // What is predicted is what an evaluation sees.
    for set in ["data.val=csv/landmarks.csv", "data.val=labelme"] {
        let scored = scene.fullbore(&["eval", "run", "--set", set, "--json"]).succeeded().json();
        let error = scored["metrics"]["all"]["max_px"].as_f64().unwrap();
        assert!(error <= 1e-3, "{set}: {error}");
    }
}

#[test]
fn a_model_of_crops_wants_boxes_and_looks_at_them() {
    let scene = scene();
    train(&scene, &["run.steps=2", "data.crop=box", "data.crop_margin=0.1"]).succeeded();
    predict(&scene, "out", &[]).failed(2, &["data.crop = box", "--boxes FILE.csv"]);
    assert!(!scene.path("out").exists());
    // Another box in a picture that has one already, and none for the last picture.
    let list = fs::read_to_string(scene.path("points.csv")).unwrap();
    let mut lines: Vec<&str> = list.lines().collect();
    lines.pop();
    lines.push("00.png,,,,,10,8,12.5,14");
    fs::write(scene.path("boxes.csv"), lines.join("\n")).unwrap();
    let predicted = predict(&scene, "out", &["--boxes", "boxes.csv", "--overlay", "--json"]);
    let summary = predicted.succeeded().json();
    assert_eq!((&summary["landmarks"], &summary["without_box"]), (&19.into(), &1.into()));
    assert_eq!(data_set(&scene, "out/landmarks.csv").len(), 2 * 20);
    let set = "data.val=out/landmarks.csv";
    let scored = scene.fullbore(&["eval", "run", "--set", set, "--json"]).succeeded().json();
    let error = scored["metrics"]["all"]["max_px"].as_f64().unwrap();
    assert!(error <= 1e-3, "{error}");
    fs::write(scene.path("boxes.csv"), "image,box_left\n").unwrap();
    predict(&scene, "out", &["--boxes", "boxes.csv"]).failed(3, &["boxes.csv", "no column box_top"]);
}

#[test]
fn options_for_landmarks_are_refused_for_masks_and_boxes_for_whole_pictures() {
    let scene = scene();
    train(&scene, &["run.steps=1"]).succeeded();
    predict(&scene, "out", &["--boxes", "points.csv"]).failed(2, &["data.crop = none"]);
    let scene = Scene::with_blobs(10);
    scene.train(&["run.steps=1"]).succeeded();
    let masks = ["predict", "run", "--input", "data/images", "--output", "out"];
    let refused = |more: &[&str]| scene.fullbore(&[&masks, more].concat());
    refused(&["--format", "coco"]).failed(2, &["--format is for landmarks"]);
    refused(&["--boxes", "boxes.csv"]).failed(2, &["--boxes is for landmarks"]);
    scene.fullbore(&["eval", "run", "--curve", "c.png"]).failed(2, &["--curve is for landmarks"]);
    scene.fullbore(&["eval", "run", "--sheet", "s.png", "--worst"]).failed(2, &["--worst is for landmarks"]);
}

#[test]
fn the_worst_images_and_the_curve_can_be_looked_at() {
    let scene = scene();
    train(&scene, &["run.epochs=2"]).succeeded();
    let look = ["--sheet", "sheet.png", "--worst", "--curve", "curve.png", "--curve", "curve.csv", "--json"];
    let scored = scene.fullbore(&[&["eval", "run"], &look[..]].concat()).succeeded().json();
    let worst = scored["worst"].as_array().unwrap();
    let errors: Vec<f64> = worst.iter().map(|image| image["nme"].as_f64().unwrap()).collect();
    assert!(errors.len() == 4 && errors.is_sorted_by(|a, b| a >= b), "{errors:?}");
    let mean = errors.iter().sum::<f64>() / 4.0;
    assert!((scored["metrics"]["nme"].as_f64().unwrap() - mean).abs() < 1e-9, "all four held out are shown");
    let sheet = image::open(scene.path("sheet.png")).unwrap().into_rgb8();
    // Two columns, four rows; crosses in the second column alone.
    assert_eq!((sheet.width() - 6) * 2, sheet.height() - 6);
    for colour in [[0, 220, 60], [255, 48, 48]] {
        let columns: Vec<u32> =
            sheet.enumerate_pixels().filter(|(_, _, p)| p.0 == colour).map(|(x, _, _)| x).collect();
        assert!(columns.len() > 30 && columns.iter().all(|x| *x > sheet.width() / 2), "{colour:?}");
    }
    assert!(image::open(scene.path("curve.png")).is_ok());
    let numbers = fs::read_to_string(scene.path("curve.csv")).unwrap();
    assert_eq!(numbers.lines().count(), 5);
    assert!(numbers.ends_with(",1\n"), "{numbers}");
    let told = scene.fullbore(&["eval", "run", "--sheet", "sheet.png", "--worst"]).succeeded().stdout;
    let first = format!("row 1: {}, nme ", worst[0]["image"].as_str().unwrap());
    assert!(told.lines().any(|line| line.starts_with(&first)), "{told}");
    scene.fullbore(&["eval", "run", "--curve", "curve.svg"]).failed(2, &["curve.svg", ".png or .csv"]);
    scene.fullbore(&["eval", "run", "--curve", "no/c.png"]).failed(6, &["curve"]);
}

#[test]
fn data_for_another_task_are_refused_with_the_setting_to_change() {
    let points = scene();
    let refused = points.train(&["data.train=points.csv"]);
    refused.refused(&points, 3, &["points.csv holds points, but masks are needed", "loss.name"]);
    let masks = Scene::with_blobs(10);
    let refused = masks.train(&["loss.name=mse"]);
    refused.refused(&masks, 3, &["data holds masks, but points are needed", "loss.name"]);
}
