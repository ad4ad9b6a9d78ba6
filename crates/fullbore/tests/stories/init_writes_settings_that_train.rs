use std::fs;

use crate::scaffold::{Scene, settings};

#[test]
fn a_new_file_with_data_in_it_trains() {
    let scene = Scene::with_blobs(6);
    let outcome = scene.fullbore(&["init", "mine.yaml"]).succeeded();
    assert!(outcome.stderr.contains("fullbore train mine.yaml"), "{outcome}");
    let text = fs::read_to_string(scene.path("mine.yaml")).unwrap();
    assert!(text.starts_with('#') && text.contains("train: null"), "{text}");

    scene.fullbore(&["train", "mine.yaml"]).refused(&scene, 2, &["data.train is required"]);
    let all = settings(&["run.epochs=1"]);
    let mut args = vec!["train", "mine.yaml"];
    args.extend(all.iter().flat_map(|set| ["--set", set]));
    scene.fullbore(&args).succeeded();
}

#[test]
fn a_file_that_is_there_is_kept() {
    let scene = Scene::new();
    fs::write(scene.path("mine.yaml"), "run: {epochs: 3}\n").unwrap();
    scene
        .fullbore(&["init", "mine.yaml"])
        .failed(2, &["mine.yaml is there already", "fullbore init OTHER.yaml"]);
    assert_eq!(fs::read_to_string(scene.path("mine.yaml")).unwrap(), "run: {epochs: 3}\n");
    scene
        .fullbore(&["init", "no/such/folder/mine.yaml"])
        .failed(6, &["no/such/folder/mine.yaml", "because: "]);
}

#[test]
fn a_dash_writes_to_standard_output() {
    let outcome = Scene::new().fullbore(&["init", "-"]).succeeded();
    assert!(outcome.stdout.contains("\noptimizer:\n"), "{outcome}");
}
