use std::fs;

use crate::scaffold::{Scene, blob};

/// A small set in `set/`.
const SMALL: [&str; 14] = [
    "synth",
    "watermark",
    "--output",
    "set",
    "--train",
    "6",
    "--val",
    "3",
    "--test",
    "2",
    "--size",
    "32",
    "--height",
    "0.4",
];

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..], &["0.9"], more].concat()
}

#[test]
fn a_set_is_made_once_and_trains() {
    let scene = Scene::new();
    let made = scene.fullbore(&small(&["--json"])).succeeded().json();
    assert_eq!(made["already_there"], false);
    let image = scene.path("set/train/images/train-000000.jpg");
    let written = fs::metadata(&image).unwrap().modified().unwrap();
    let again = scene.fullbore(&small(&[])).succeeded().stdout;
    assert!(again.ends_with("/set: 6 train, 3 val, 2 test images, already there\n"), "{again}");
    assert_eq!(fs::metadata(&image).unwrap().modified().unwrap(), written);
    let trained =
        scene.train(&["data.train=set/train", "data.val=set/val", "run.epochs=1"]).succeeded().json();
    assert_eq!(trained["metrics"]["images"], 3);
}

#[test]
fn real_photos_serve_and_bad_ones_are_told() {
    let scene = Scene::new();
    fs::create_dir(scene.path("photos")).unwrap();
    for index in 0..6 {
        blob(index, 60, 50).0.save(scene.path(&format!("photos/{index}.png"))).unwrap();
    }
    fs::write(scene.path("photos/text.png"), "no picture").unwrap();
    let outcome = scene.fullbore(&small(&["--photos", "photos"])).succeeded();
    assert_eq!(outcome.stderr.lines().filter(|line| line.contains("text.png")).count(), 1, "{outcome}");
}

#[test]
fn what_cannot_be_made_is_refused() {
    let scene = Scene::new();
    scene.fullbore(&small(&["--opacity", "0.7", "0.3"])).failed(2, &["opacity is [0.7, 0.3]"]);
    scene.fullbore(&small(&["--photos", "nowhere"])).failed(3, &["nowhere"]);
    assert!(!scene.path("set").exists());
    fs::create_dir(scene.path("set")).unwrap();
    fs::write(scene.path("set/mine.txt"), "precious").unwrap();
    scene.fullbore(&small(&[])).failed(2, &["set is taken"]);
    assert_eq!(fs::read(scene.path("set/mine.txt")).unwrap(), b"precious");
    let usage = scene.fullbore(&small(&["--style", "sideways"]));
    assert_eq!(usage.code, Some(2), "{usage}");
    assert!(usage.stderr.contains("sideways") && usage.stderr.contains("corner"), "{usage}");
}
