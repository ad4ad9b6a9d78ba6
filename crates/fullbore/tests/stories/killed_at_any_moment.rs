use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;

use fullbore_checkpoint::training::PROGRESS;

use crate::scaffold::{Outcome, Running, Scene, events_of, tensors};

const KILLS: u32 = 20;
/// So many that all kills come before the end.
const EPOCHS: u32 = 12;

/// Twelve of fifteen train, one of these is torn; four crops each: 12 steps an epoch.
fn scene() -> Scene {
    let scene = Scene::new();
    for index in 0..15 {
        scene.add_blob(index, 40, 40);
    }
    let bytes = fs::read(scene.image(4)).unwrap();
    fs::write(scene.image(4), &bytes[..bytes.len() / 2]).unwrap();
    scene
}

fn start(scene: &Scene, dir: &str, epochs: u32) -> Running {
    let (dir, epochs) = (format!("run.dir={dir}"), format!("run.epochs={epochs}"));
    scene.start_training(&[
        &dir,
        &epochs,
        "run.reproducible=true",
        "data.workers=2",
        "data.resize=crop",
        "data.crops_per_image=4",
        "data.max_bad_share=0.3",
        "augment.preset=standard",
        "ema.decay=0.9",
        "schedule.name=plateau",
        "checkpoint.every_steps=3",
        "checkpoint.keep_best=3",
    ])
}

/// The loss of each step when it was last done.
fn losses(scene: &Scene, dir: &str) -> BTreeMap<u64, String> {
    let steps = events_of(&scene.path(dir), "step");
    steps.iter().map(|step| (step["step"].as_u64().unwrap(), step["loss"].to_string())).collect()
}

/// Every tensor of every kept checkpoint, and how far it had come.
fn state(scene: &Scene, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for which in ["last", "best", "best-2", "best-3"] {
        all.extend(tensors(&scene.path(dir), which).map(|(name, bytes)| (format!("{which} {name}"), bytes)));
        let path = scene.path(dir).join(format!("checkpoints/{which}.safetensors"));
        let progress: serde_json::Value =
            fullbore_checkpoint::read(&path).unwrap().json(&path, PROGRESS).unwrap();
        all.insert(format!("{which} progress"), progress.to_string().into_bytes());
    }
    all
}

#[track_caller]
fn same(scene: &Scene, killed: &Outcome, straight: &Outcome) {
    for key in ["steps", "metrics", "best", "bad_samples", "status"] {
        assert_eq!(killed.json()[key], straight.json()[key], "{key}: {killed}");
    }
    assert_eq!(losses(scene, "killed"), losses(scene, "whole"));
    let (a, b) = (state(scene, "killed"), state(scene, "whole"));
    assert!(b.keys().any(|name| name.starts_with("last ema.")), "{:?}", b.keys());
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(*bytes == b[name], "{name} differs");
    }
}

/// Names of what lies in the run folder and in its checkpoints.
fn files(scene: &Scene, dir: &str) -> Vec<String> {
    let names =
        |folder| fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut all: Vec<_> = names(scene.path(dir)).chain(names(scene.path(dir).join("checkpoints"))).collect();
    all.sort();
    all
}

#[test]
fn twenty_kills_change_nothing() {
    let scene = scene();
    let straight = start(&scene, "whole", EPOCHS).finish().succeeded();
    let mut draws: u64 = 7;
    let mut killed = 0;
    let end = loop {
        let mut running = match killed {
            0 => start(&scene, "killed", EPOCHS),
            _ => scene.start(&["train", "--resume", "killed", "--json"]),
        };
        if killed < KILLS {
            draws = draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // The first one before anything is saved; the others while it sets up, and in the first steps after that.
            running.wait_for_lines(if killed == 0 { 1 } else { 4 + (draws >> 33) as usize % 6 });
            running.kill();
        }
        let outcome = running.finish();
        if outcome.code.is_some() {
            break outcome.succeeded();
        }
        killed += 1;
        if killed == KILLS / 2 {
            // What a kill leaves in the worst case.
            let unfinished = scene.path("killed/checkpoints/.last.safetensors.x1y2z3.tmp");
            fs::write(unfinished, "half a checkpoint").unwrap();
            let mut log = OpenOptions::new().append(true).open(scene.path("killed/events.jsonl")).unwrap();
            log.write_all(b"{\"time\":\"2026").unwrap();
        }
    };
    assert_eq!(killed, KILLS, "the run was over before the last kill");
    same(&scene, &end, &straight);
    assert_eq!(files(&scene, "killed"), files(&scene, "whole"));
    let rows = |dir| fs::read_to_string(scene.path(dir).join("bad_samples.csv")).unwrap().lines().count();
    assert_eq!(rows("killed"), rows("whole"));
}

#[test]
fn a_kill_before_the_first_checkpoint_begins_anew() {
    let scene = Scene::with_blobs(10);
    let straight = scene.train(&["run.dir=whole", "run.reproducible=true"]).succeeded();
    let mut running = scene.start_training(&["run.dir=killed", "run.reproducible=true"]);
    running.wait_for("run folder");
    running.kill();
    running.finish();
    // Whatever it had come to, there was no checkpoint.
    fs::remove_dir_all(scene.path("killed/checkpoints")).unwrap();
    fs::create_dir(scene.path("killed/checkpoints")).unwrap();
    let _ = fs::remove_file(scene.path("killed/summary.json"));
    let anew = scene.fullbore(&["train", "--resume", "killed", "--json"]).succeeded();
    assert!(anew.stderr.contains("killed has no checkpoint yet: it begins anew"), "{anew}");
    assert_eq!(anew.json()["metrics"], straight.json()["metrics"]);
    assert_eq!(anew.json()["run_dir"], "killed");
}

#[test]
fn a_kill_between_the_checkpoints_of_a_step_loses_neither() {
    let scene = scene();
    let straight = start(&scene, "whole", 4).finish().succeeded();
    let mut running = start(&scene, "killed", 4);
    running.wait_for("epoch 3 evaluated");
    running.kill();
    running.finish();
    let folder = scene.path("killed").join("checkpoints");
    let at = |name: &str| folder.join(format!("{name}.safetensors"));
    // The best one is newer than the last one, and was about to get its place.
    let bests: Vec<_> = ["best", "best-2", "best-3"].iter().filter(|name| at(name).exists()).collect();
    let step_of = |name: &str| {
        let progress: serde_json::Value =
            fullbore_checkpoint::read(&at(name)).unwrap().json(&at(name), PROGRESS).unwrap();
        progress["step"].as_u64().unwrap()
    };
    let newest = bests.iter().max_by_key(|name| step_of(name)).unwrap();
    fs::rename(at(newest), at("new-best")).unwrap();
    fs::remove_file(at("last")).unwrap();
    let end = scene.fullbore(&["train", "--resume", "killed", "--json"]).succeeded();
    same(&scene, &end, &straight);
}

#[test]
fn a_kill_before_the_summary_leaves_only_that_to_do() {
    let scene = Scene::with_blobs(10);
    let straight = scene.train(&["run.epochs=1"]).succeeded();
    let last = fs::read(scene.path("run/checkpoints/last.safetensors")).unwrap();
    fs::remove_file(scene.path("run/summary.json")).unwrap();
    let end = scene.fullbore(&["train", "--resume", "run", "--json"]).succeeded();
    for key in ["metrics", "best", "steps", "status"] {
        assert_eq!(end.json()[key], straight.json()[key], "{key}");
    }
    assert_eq!(fs::read(scene.path("run/checkpoints/last.safetensors")).unwrap(), last);
    scene.fullbore(&["train", "--resume", "run"]).failed(2, &["the run in run is complete"]);
}
