use std::fs;
use std::path::Path;

use image::{GrayImage, Luma};

use crate::scaffold::{Scene, events_of};

/// Cuts a file in half.
fn tear(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn an_empty_folder() {
    let scene = Scene::new();
    fs::create_dir(scene.path("data")).unwrap();
    scene.train(&[]).refused(
        &scene,
        3,
        &["data holds no image/mask pairs; it holds nothing", "images/", "masks/"],
    );
}

#[test]
fn a_folder_that_does_not_exist() {
    let scene = Scene::new();
    scene.train(&[]).refused(&scene, 3, &["data does not exist", "check the spelling"]);
}

#[test]
fn an_image_without_mask() {
    let scene = Scene::with_blobs(10);
    fs::remove_file(scene.mask(4)).unwrap();
    let words = ["1 of 10 images", "data/masks", "04.png", "add the missing masks or remove the images"];
    scene.train(&[]).refused(&scene, 3, &words);
}

/// Trains on a set with one broken pair, which is only found when it is read, and is not to be replaced.
#[track_caller]
fn found_while_training(scene: &Scene, words: &[&str]) {
    let outcome = scene.train(&["data.max_bad=0"]);
    outcome.failed(3, words);
    // The run folder keeps the reason.
    let finished = events_of(&scene.run_dir(), "run_finished");
    assert_eq!(finished[0]["status"], "failed");
    let message = finished[0]["message"].as_str().unwrap();
    assert!(outcome.stderr.contains(&format!("error: {message}")), "{outcome}");
}

#[test]
fn a_mask_of_another_size() {
    let scene = Scene::with_blobs(10);
    GrayImage::new(20, 32).save(scene.mask(3)).unwrap();
    found_while_training(
        &scene,
        &["data/masks/03.png is 20x32", "data/images/03.png is 32x32", "the same size"],
    );
}

#[test]
fn a_truncated_png() {
    let scene = Scene::with_blobs(10);
    tear(&scene.image(3));
    found_while_training(&scene, &["data/images/03.png is truncated", "copy the file again"]);
}

#[test]
fn a_text_file_named_png() {
    let scene = Scene::with_blobs(10);
    fs::write(scene.image(3), "not a picture at all").unwrap();
    found_while_training(&scene, &["data/images/03.png is not an image", "`not a picture at`", "PNG, JPEG"]);
}

#[test]
fn a_mask_value_that_no_class_has() {
    let scene = Scene::with_blobs(10);
    let mut mask = image::open(scene.mask(3)).unwrap().to_luma8();
    mask.put_pixel(5, 17, Luma([7]));
    mask.save(scene.mask(3)).unwrap();
    let words =
        ["data/masks/03.png holds 7 at pixel (5, 17)", "background 0, foreground 255", "data.classes"];
    found_while_training(&scene, &words);
}

#[test]
fn a_bad_picture_that_only_validation_reads_loses_no_training() {
    let scene = Scene::with_blobs(10);
    let good = fs::read(scene.mask(5)).unwrap();
    tear(&scene.mask(5));
    found_while_training(&scene, &["data/masks/05.png is truncated"]);
    // Two of ten pairs validate; eight train, in two steps an epoch.
    fs::write(scene.mask(5), good).unwrap();
    let resumed = scene.fullbore(&["train", "--resume", "run", "--json"]).succeeded();
    assert_eq!(resumed.json()["steps"], 4);
    let steps: Vec<u64> =
        events_of(&scene.run_dir(), "step").iter().map(|e| e["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4]);
    assert_eq!(events_of(&scene.run_dir(), "evaluated").len(), 2);
}

#[test]
fn a_bad_picture_is_replaced_and_listed_and_stays_replaced_after_a_resume() {
    let scene = Scene::with_blobs(30);
    tear(&scene.image(3));
    let sets = ["run.reproducible=true", "run.epochs=6"];
    let outcome = scene.train(&sets).succeeded();
    assert_eq!(outcome.json()["bad_samples"], 1);
    let bad = &events_of(&scene.run_dir(), "bad_sample");
    assert_eq!(bad.len(), 1, "one report, though six epochs met it");
    assert_eq!((&bad[0]["name"], &bad[0]["epoch"]), (&"03".into(), &0.into()));
    let list = fs::read_to_string(scene.path("run/bad_samples.csv")).unwrap();
    let rows: Vec<&str> = list.lines().collect();
    assert_eq!(rows[0], "name,file,reason,replaced_by");
    assert!(rows.len() == 2 && rows[1].starts_with("03,data/images/03.png,"), "{list}");
    assert!(rows[1].contains("03.png is truncated"), "{list}");
    assert!(outcome.stderr.contains("warning: bad sample `03`"), "{outcome}");

    // A run that is stopped, and whose file is mended before it goes on, keeps the substitute.
    let again: Vec<_> = sets.iter().copied().chain(["run.dir=again"]).collect();
    let mut running = scene.start_training(&again);
    running.wait_for("epoch 1 evaluated");
    running.signal("TERM");
    assert_eq!(running.finish().code, Some(130));
    scene.add_blob(3, 32, 32);
    scene.fullbore(&["train", "--resume", "again", "--json"]).succeeded();
    let losses = |run: &str| -> Vec<String> {
        events_of(&scene.path(run), "step").iter().map(|e| format!("{} {}", e["step"], e["loss"])).collect()
    };
    assert_eq!(losses("again"), losses("run"));
}

#[test]
fn too_many_bad_pictures_end_the_run() {
    let scene = Scene::with_blobs(30);
    tear(&scene.image(3));
    tear(&scene.image(4));
    let words = ["2 bad samples, more than the 1 allowed", "data/images/0", "is truncated", "data.max_bad"];
    scene.train(&["data.max_bad=1"]).failed(3, &words);
}
