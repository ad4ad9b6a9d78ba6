//! Points from a list are learnt, scored in the pixels of their image, and a part of them is learnt further.

use std::fs;
use std::path::Path;

use image::GrayImage;
use serde_json::Value;

use crate::scaffold::{Scene, device, events_of};

/// `data.csv`: discs with three landmarks, the centre and the leftmost and rightmost point; one is not labelled.
fn discs(scene: &Scene, n: u32) {
    let mut list = String::from("image,x0,y0,x1,y1,x2,y2\n");
    for index in 0..n {
        scene.add_blob(index, 32, 32);
        let mask = image::open(scene.mask(index)).unwrap().into_luma8();
        let [left, right, top, bottom] = extent(&mask);
        let (x, y) = ((left + right) / 2.0, (top + bottom) / 2.0);
        let last = if index == 1 { ",".into() } else { format!("{right},{y}") };
        list += &format!("data/images/{index:02}.png,{x},{y},{left},{y},{last}\n");
    }
    fs::write(scene.path("data.csv"), list).unwrap();
}

fn extent(mask: &GrayImage) -> [f32; 4] {
    let lit: Vec<_> =
        mask.enumerate_pixels().filter(|(_, _, p)| p.0[0] > 0).map(|(x, y, _)| (x, y)).collect();
    let bound = |values: Vec<u32>| {
        (values.iter().copied().min().unwrap() as f32, values.iter().copied().max().unwrap() as f32)
    };
    let (left, right) = bound(lit.iter().map(|p| p.0).collect());
    let (top, bottom) = bound(lit.iter().map(|p| p.1).collect());
    [left, right, top, bottom]
}

const POINTS: [&str; 10] = [
    "data.train=data.csv",
    "loss.name=softmax_ce",
    "model.base=8",
    "batch.size=4",
    "run.epochs=12",
    "augment.preset=minimal",
    "augment.flip_pairs=[[1, 2]]",
    "landmarks.normalizer=pixel",
    "landmarks.flip_test=true",
    "run.reproducible=true",
];

fn with(more: &[&'static str]) -> Vec<&'static str> {
    POINTS.into_iter().chain(more.iter().copied()).collect()
}

fn errors(run: &Path) -> Vec<f64> {
    let evaluated = events_of(run, "landmarks_evaluated");
    evaluated.iter().map(|event| event["mre_px"].as_f64().unwrap()).collect()
}

#[test]
fn points_are_found_and_a_subset_goes_on() {
    let scene = Scene::new();
    discs(&scene, 20);
    let end = scene.train(&with(&[])).succeeded().json();
    let errors = errors(&scene.run_dir());
    let (first, last) = (errors[0], *errors.last().unwrap());
    assert!(last < 2.0 && last < first / 2.0, "pixels of 32: {errors:?}");
    assert_eq!(end["metrics"]["all"]["mre_px"], last);
    assert_eq!(end["best"]["metric"], "nme");

    let scored = scene.fullbore(&["eval", "run", "--checkpoint", "last", "--json"]).succeeded().json();
    assert_eq!(scored["metrics"]["all"], end["metrics"]["all"]);

    // The head of two takes the rows that it knows.
    let part =
        ["--set", "landmarks.use=[2, 0]", "--set", "landmarks.flip_test=false", "--set", "run.epochs=1"];
    let mut args =
        vec!["train", "--json", "--resume", "run", "--set", "run.dir=part", "--set", "optimizer.lr=1e-6"];
    args.extend(part);
    let part = scene.fullbore(&args).succeeded().json();
    let of = |name: usize| end["metrics"]["per_landmark"][name]["mre_px"].as_f64().unwrap();
    let kept = &part["metrics"]["per_landmark"];
    assert_eq!(kept.as_array().map(Vec::len), Some(2));
    let close = |a: &Value, b: f64| (a.as_f64().unwrap() - b).abs() < 1.5;
    assert!(close(&kept[0]["mre_px"], of(2)) && close(&kept[1]["mre_px"], of(0)), "{kept}");
}

#[test]
fn what_is_drawn_before_training_has_its_points() {
    let scene = Scene::new();
    discs(&scene, 3);
    let mut args: Vec<String> =
        ["show", "augment", "--output", "sheet.png", "--samples", "2", "--draws", "1"]
            .map(String::from)
            .into();
    args.extend(POINTS.iter().flat_map(|set| ["--set".into(), set.to_string()]));
    args.extend(["--set", "data.size=32"].map(String::from));
    let shown = scene.fullbore(&args.iter().map(String::as_str).collect::<Vec<_>>()).succeeded();
    assert!(shown.stdout.contains("horizontal flip"), "{shown}");
    let sheet = image::open(scene.path("sheet.png")).unwrap().into_rgb8();
    let colourful =
        sheet.pixels().filter(|p| p.0.iter().max().unwrap() - p.0.iter().min().unwrap() > 120).count();
    assert!(colourful > 0, "points are drawn in bright colours, pictures have none");
}

#[test]
fn a_validation_set_must_have_the_same_points() {
    let scene = Scene::new();
    discs(&scene, 4);
    fs::write(scene.path("val.csv"), "image,x0,y0\ndata/images/00.png,1,2\n").unwrap();
    let refused = ["data.val: val.csv cannot work", "the 3 points of the training set", "this one has 1"];
    scene.train(&with(&["data.val=val.csv"])).refused(&scene, 2, &refused);
}

#[test]
fn a_feed_of_its_own_changes_nothing() {
    let scene = Scene::new();
    discs(&scene, 10);
    let losses = |run: &'static str, more: &[&'static str]| {
        let dir = format!("run.dir={run}");
        let mut sets = with(&["run.epochs=2", "augment.device=device"]);
        sets.extend(more);
        sets.push(Box::leak(dir.into_boxed_str()));
        scene.train(&sets).succeeded();
        let run = scene.path(run);
        let steps: Vec<_> = events_of(&run, "step").iter().map(|step| step["loss"].clone()).collect();
        assert!(!steps.is_empty());
        (steps, events_of(&run, "feeding")[0]["mode"].as_str().unwrap().to_string(), run)
    };
    let on_cpu = device() == "device=cpu";
    let (direct, mode, _) = losses("direct", &["run.log_every=1", "buffer.size=0"]);
    assert!(mode.starts_with(if on_cpu { "CPU mode" } else { "Single-GPU" }), "{mode}");
    let (buffered, mode, run) = losses("buffered", &["run.log_every=1", "buffer.size=3"]);
    assert!(mode.contains("buffer of 3 batches, starts when it is full"), "{mode}");
    assert_eq!(buffered, direct);
    assert_eq!(events_of(&run, "buffer_warm")[0]["batches"], 3);

    // Two devices hand bytes over, and one may play both: the same but for the rounding of bytes.
    let (data, model) = match on_cpu {
        true => ("placement.data_gpu=cpu", "placement.model_gpu=cpu"),
        false => ("placement.data_gpu=0", "placement.model_gpu=0"),
    };
    let (handed, mode, _) = losses("pair", &["run.log_every=1", data, model, "buffer.size=2"]);
    assert!(mode.starts_with("Multi-GPU Mode on"), "{mode}");
    for (a, b) in handed.iter().zip(&direct) {
        let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
        assert!((a - b).abs() < 0.05 * b, "{a} and {b}");
    }
}

#[test]
fn points_and_masks_are_not_mixed_up() {
    let scene = Scene::new();
    discs(&scene, 6);
    let points = scene.train(&["data.train=data.csv"]);
    points.failed(3, &["holds points", "loss.name"]);
    let masks = scene.train(&["loss.name=mse"]);
    masks.failed(3, &["holds masks", "loss.name"]);
}
