use std::fs;

use crate::scaffold::{Scene, events_of, losses, tensors};

const LONG_AND_REPEATABLE: [&str; 3] = ["run.reproducible=true", "run.epochs=3", "data.workers=2"];

/// Twelve of these train, in twelve random crops each: 36 steps an epoch.
fn scene() -> Scene {
    let scene = Scene::new();
    for index in 0..15 {
        scene.add_blob(index, 40, 40);
    }
    scene
}

fn sets(dir: &str) -> Vec<String> {
    let crops = ["data.resize=crop", "data.crops_per_image=12", "ema.decay=0.9"];
    LONG_AND_REPEATABLE
        .iter()
        .chain(&crops)
        .map(|s| s.to_string())
        .chain([format!("run.dir={dir}")])
        .collect()
}

/// Starts a run, stops it by a signal once a line of progress has come, goes on with it to its end, and compares
/// it with one that was never stopped.
fn stopped_equals_unstopped(signal: &str, after: &str) {
    let scene = scene();
    let (cut, whole) = (sets("cut"), sets("whole"));
    let mut running = scene.start_training(&cut.iter().map(String::as_str).collect::<Vec<_>>());
    running.wait_for(after);
    running.signal(signal);
    let stopped = running.finish();
    assert_eq!(stopped.code, Some(130), "{stopped}");
    let summary = stopped.json();
    assert_eq!(summary["status"], "interrupted");
    let steps = summary["steps"].as_u64().unwrap();
    assert!((1..108).contains(&steps), "{stopped}");
    assert!(stopped.stderr.contains("fullbore train --resume cut"), "{stopped}");
    let cut = scene.path("cut");
    assert!(cut.join("checkpoints/last.safetensors").is_file());
    assert_eq!(events_of(&cut, "run_finished")[0]["status"], "interrupted");

    let resumed = scene.fullbore(&["train", "--resume", "cut", "--json"]).succeeded();
    assert_eq!(resumed.json()["status"], "completed");
    assert_eq!(resumed.json()["steps"], 108);

    let straight = scene.train(&whole.iter().map(String::as_str).collect::<Vec<_>>()).succeeded();
    let whole = scene.path("whole");
    assert_eq!(losses(&cut), losses(&whole));
    let evaluations = |run| {
        let events = events_of(run, "evaluated");
        events.iter().map(|e| (e["step"].clone(), e["loss"].clone(), e["dice"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(evaluations(&cut), evaluations(&whole));
    assert_eq!(resumed.json()["metrics"], straight.json()["metrics"]);
    assert_eq!(resumed.json()["best"], straight.json()["best"]);
    for which in ["last", "best"] {
        let (resumed, straight): (Vec<_>, Vec<_>) =
            (tensors(&cut, which).collect(), tensors(&whole, which).collect());
        assert!(straight.iter().any(|(name, _)| name.starts_with("model.")));
        assert!(straight.iter().any(|(name, _)| name.starts_with("optimizer.")));
        for (a, b) in resumed.iter().zip(&straight) {
            assert!(a == b, "{which}: {} is not {}", a.0, b.0);
        }
        assert_eq!(resumed.len(), straight.len());
    }
}

#[test]
fn ctrl_c_within_the_first_epoch_loses_nothing() {
    stopped_equals_unstopped("INT", "epoch 1/3  step 1/108 ");
}

#[test]
fn sigterm_after_an_epoch_loses_nothing() {
    stopped_equals_unstopped("TERM", "saved last at step 36");
}

#[test]
fn people_are_told_how_to_go_on() {
    let scene = scene();
    let all = sets("cut");
    let mut running = scene.start_training(&all.iter().map(String::as_str).collect::<Vec<_>>());
    running.wait_for("epoch 1/3  step 1/108 ");
    running.signal("INT");
    let stopped = running.finish();
    let told = stopped.stderr.lines().last().unwrap();
    assert!(told.ends_with("go on with: fullbore train --resume cut"), "{stopped}");
}

#[test]
fn a_finished_run_has_nothing_to_resume() {
    let scene = Scene::with_blobs(10);
    scene.train(&["run.epochs=1"]).succeeded();
    let before = content(&scene);
    let again = scene.fullbore(&["train", "--resume", "run", "--json"]);
    again.failed(2, &["run", "2 of 2 steps", "fullbore eval run"]);
    assert_eq!(content(&scene), before);
}

fn content(scene: &Scene) -> Vec<Vec<u8>> {
    ["summary.json", "events.jsonl", "checkpoints/last.safetensors"]
        .iter()
        .map(|file| fs::read(scene.run_dir().join(file)).unwrap())
        .collect()
}
