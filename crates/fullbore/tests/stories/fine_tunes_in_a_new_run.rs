use std::fs;

use crate::scaffold::{Outcome, Scene, events_of, tensors};

/// Learns nothing to speak of, so that the scores are those of the weights that it begins with.
const STILL: [&str; 2] = ["optimizer.lr=1e-30", "run.epochs=1"];

/// `fullbore train --resume FROM`, and `sets` as settings.
fn tune(scene: &Scene, from: &[&str], sets: &[&str]) -> Outcome {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    scene.fullbore(
        &["train", "--json", "--resume"]
            .into_iter()
            .chain(from.iter().copied())
            .chain(sets)
            .collect::<Vec<_>>(),
    )
}

#[test]
fn changed_settings_train_the_best_weights_further_and_the_run_says_so() {
    let scene = Scene::with_blobs(10);
    let first = scene.train(&["ema.decay=0.9", "run.epochs=3"]).succeeded().json();
    let before = fs::read(scene.path("run/events.jsonl")).unwrap();
    let outcome = tune(&scene, &["run"], &[&STILL[..], &["run.dir=tuned"]].concat()).succeeded();
    assert_eq!(outcome.json()["best"]["value"], first["best"]["value"]);
    assert_eq!(outcome.json()["run_dir"], "tuned");
    let told = "kept: the average of the weights; anew: optimizer state, schedule, steps and best score; changed: \
                optimizer.lr: 0.01 -> 1e-30, run.epochs: 3 -> 1";
    assert!(outcome.stderr.contains(told), "{outcome}");
    let tuned = scene.path("tuned");
    let event = &events_of(&tuned, "fine_tuning")[0];
    assert_eq!(event["checkpoint"], "run/checkpoints/best.safetensors");
    assert_eq!(event["step"], first["best"]["step"]);
    assert_eq!(events_of(&tuned, "step")[0]["step"], 1);
    // The settings that were not named are those of the first run.
    let plan = fs::read_to_string(tuned.join("plan.yaml")).unwrap();
    assert!(plan.contains("base: 4") && plan.contains("decay: 0.9"), "{plan}");
    assert_eq!(fs::read(scene.path("run/events.jsonl")).unwrap(), before);

    // It is a run like any other.
    scene.fullbore(&["train", "--resume", "tuned"]).failed(2, &["the run in tuned is complete"]);
    let again = tune(&scene, &["tuned", "--from", "last"], &["run.epochs=2"]).succeeded().json();
    assert_eq!(again["steps"], 4);
    assert!(again["run_dir"].as_str().unwrap().starts_with("runs/"), "{again}");
}

#[test]
fn it_begins_with_the_checkpoint_that_is_named() {
    let scene = Scene::with_blobs(10);
    scene.train(&["run.epochs=3"]).succeeded();
    let weights = |run: &str| -> Vec<_> {
        let all = tensors(&scene.path(run), "last");
        all.filter(|(name, _)| name.starts_with("model.") && name.ends_with("weight")).collect()
    };
    for (dir, from) in [("a", &["run/checkpoints/last.safetensors"][..]), ("b", &["run", "--from", "last"])] {
        let dir_set = format!("run.dir={dir}");
        tune(&scene, from, &[&STILL[..], &["optimizer.weight_decay=0", &dir_set]].concat()).succeeded();
        assert_eq!(weights(dir), weights("run"), "{dir}");
    }
    tune(&scene, &["run/checkpoints/last.safetensors", "--from", "last"], &[])
        .failed(2, &["--from last", "is a checkpoint", "leave out --from"]);
}

#[test]
fn another_network_is_refused_with_the_settings_that_make_it() {
    let scene = Scene::with_blobs(10);
    scene.train(&["run.epochs=1"]).succeeded();
    for (set, told) in [
        ("model.base=8", "model.base: 4 -> 8"),
        ("norm.kind=group", r#"norm.kind: "batch" -> "group""#),
        ("model.up=bilinear", r#"model.up: null -> "bilinear""#),
    ] {
        let outcome = tune(&scene, &["run"], &[set, "optimizer.lr=1e-6"]);
        outcome.failed(
            2,
            &["best.safetensors are of another network", told, "leave these settings as they were"],
        );
        assert!(!outcome.stderr.contains("optimizer.lr: "), "{outcome}");
        assert!(!scene.path("runs").exists());
    }
    tune(&scene, &["run"], &["run.dir=run"]).failed(2, &["already exists"]);
}
