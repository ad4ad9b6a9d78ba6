use fullbore_checkpoint::training::PROGRESS;

use crate::scaffold::{Scene, events_of};

/// Step and validation loss of the evaluations that a run's checkpoints `best`, `best-2`, ... hold.
fn kept(scene: &Scene) -> Vec<(u64, f64)> {
    let files = ["best", "best-2", "best-3", "best-4"];
    let progress = |name: &str| {
        let path = scene.run_dir().join(format!("checkpoints/{name}.safetensors"));
        let file = fullbore_checkpoint::read(&path).ok()?;
        let progress: serde_json::Value = file.json(&path, PROGRESS).unwrap();
        let step = progress["step"].as_u64().unwrap();
        let evaluated = events_of(&scene.run_dir(), "evaluated");
        let loss = evaluated.iter().find(|event| event["step"] == step).unwrap()["loss"].as_f64().unwrap();
        Some((step, loss))
    };
    files.iter().map_while(|name| progress(name)).collect()
}

#[test]
fn the_best_evaluations_keep_their_checkpoints_in_order() {
    let scene = Scene::with_blobs(10);
    let sets = ["run.epochs=6", "checkpoint.metric=loss", "checkpoint.keep_best=3"];
    let summary = scene.train(&sets).succeeded().json();
    let mut all: Vec<(u64, f64)> = events_of(&scene.run_dir(), "evaluated")
        .iter()
        .map(|event| (event["step"].as_u64().unwrap(), event["loss"].as_f64().unwrap()))
        .collect();
    assert_eq!(all.len(), 6);
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(kept(&scene), all[..3]);
    assert_eq!(summary["best"]["value"], all[0].1);
    assert_eq!(summary["best"]["metric"], "loss");
    assert!(!scene.run_dir().join("checkpoints/new-best.safetensors").exists());
    scene.fullbore(&["eval", "run"]).succeeded();
}

#[test]
fn steps_and_minutes_save_within_an_epoch() {
    let scene = Scene::with_blobs(20);
    let saved_last = |dir: &str, set: &str| -> Vec<u64> {
        let dir = format!("run.dir={dir}");
        scene.train(&[&*dir, set, "run.epochs=2", "run.log_every=1000"]).succeeded();
        events_of(&scene.path(&dir["run.dir=".len()..]), "checkpoint_saved")
            .iter()
            .filter(|event| event["kind"] == "last")
            .map(|event| event["step"].as_u64().unwrap())
            .collect()
    };
    // Four steps an epoch: the end of each, and every third step that is not.
    assert_eq!(saved_last("steps", "checkpoint.every_steps=3"), [3, 4, 6, 8]);
    assert_eq!(saved_last("minutes", "checkpoint.every_minutes=1e-9"), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(saved_last("epochs", "checkpoint.every=2"), [8]);
}
