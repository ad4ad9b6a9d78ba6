use std::fs;
use std::path::Path;

use crate::scaffold::Scene;

fn cut_in_half(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn half_a_checkpoint_is_told_and_nothing_is_changed() {
    let scene = Scene::with_blobs(10);
    scene.train(&["run.epochs=1"]).succeeded();
    let events = fs::read(scene.run_dir().join("events.jsonl")).unwrap();
    for which in ["best", "last"] {
        cut_in_half(&scene.run_dir().join(format!("checkpoints/{which}.safetensors")));
    }
    let advice = ["is cut off", "expected", "bytes", "use another checkpoint"];
    let best = [&["run/checkpoints/best.safetensors"], &advice[..]].concat();
    scene.fullbore(&["eval", "run", "--json"]).failed(3, &best);
    let last = [&["run/checkpoints/last.safetensors"], &advice[..]].concat();
    scene.fullbore(&["train", "--resume", "run", "--json"]).failed(3, &last);
    assert_eq!(fs::read(scene.run_dir().join("events.jsonl")).unwrap(), events);
}

#[test]
fn one_wrong_bit_is_found() {
    let scene = Scene::with_blobs(10);
    scene.train(&["run.epochs=1"]).succeeded();
    let path = scene.run_dir().join("checkpoints/best.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    scene.fullbore(&["eval", "run"]).failed(3, &["run/checkpoints/best.safetensors is damaged"]);
}

#[test]
fn a_folder_that_is_no_run() {
    let scene = Scene::with_blobs(6);
    for command in [&["eval", "data", "--json"][..], &["train", "--resume", "data"]] {
        scene.fullbore(command).failed(2, &["data is not a run folder", "plan.yaml", "fullbore train"]);
    }
    scene.fullbore(&["eval", "nowhere"]).failed(2, &["nowhere is not a run folder: it does not exist"]);
}

#[test]
fn weights_of_another_network_are_refused() {
    let scene = Scene::with_blobs(10);
    scene.train(&["run.epochs=1"]).succeeded();
    scene.fullbore(&["eval", "run", "--set", "model.base=8"]).failed(
        3,
        &[
            "run/checkpoints/best.safetensors does not fit the model",
            "use the checkpoint with the plan that made it",
        ],
    );
}
