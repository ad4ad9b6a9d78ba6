use std::fs;

use crate::scaffold::{Scene, events, events_of, settings};

#[test]
fn a_run_learns_and_leaves_everything_in_its_folder() {
    let scene = Scene::with_blobs(15);
    let outcome = scene.train(&["run.epochs=15"]).succeeded();
    let summary = outcome.json();
    assert_eq!(summary["status"], "completed");
    assert_eq!(summary["steps"], 45);
    assert_eq!(summary["run_dir"], "run");
    assert!(summary["samples_per_s"].as_f64().unwrap() > 0.0);
    assert!((0.0..=1.0).contains(&summary["data_wait"].as_f64().unwrap()));
    assert!(summary["metrics"]["dice"].as_f64().unwrap() > 0.8, "{outcome}");
    for class in ["background", "foreground"] {
        assert!(summary["metrics"]["dice_per_class"][class].as_f64().unwrap() > 0.8, "{outcome}");
    }
    assert_eq!(summary["metrics"]["images"], 3);
    assert!(summary["best"]["value"].as_f64() >= summary["metrics"]["dice"].as_f64());

    let run = scene.run_dir();
    for file in ["plan.yaml", "checkpoints/last.safetensors", "checkpoints/best.safetensors"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let written: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(run.join("summary.json")).unwrap()).unwrap();
    assert_eq!(written, summary);

    let all = events(&run);
    assert_eq!(all[0]["event"], "run_started");
    assert_eq!((&all[0]["n_train"], &all[0]["n_val"]), (&12.into(), &3.into()));
    assert_eq!(all.last().unwrap()["event"], "run_finished");
    assert_eq!(all.last().unwrap()["status"], "completed");
    assert_eq!(events_of(&run, "evaluated").len(), 15);
    let steps = events_of(&run, "step");
    let loss = |i: usize| steps[i]["loss"].as_f64().unwrap();
    assert!(loss(44) < 0.7 * loss(0), "from {} to {}", loss(0), loss(44));
}

#[test]
fn people_read_progress_on_stderr_and_the_result_on_stdout() {
    let scene = Scene::with_blobs(15);
    let all = settings(&[]);
    let mut args = vec!["train"];
    args.extend(all.iter().flat_map(|set| ["--set", set]));
    let outcome = scene.fullbore(&args).succeeded();
    assert!(outcome.stdout.starts_with("run folder  run\nbest dice  0."), "{outcome}");
    assert_eq!(outcome.stdout.lines().count(), 2, "{outcome}");
    for start in
        ["run folder: run", "epoch 1/2  step 1/6  ", "epoch 2 evaluated: dice 0.", "completed: 6 steps"]
    {
        assert!(outcome.stderr.lines().any(|line| line.starts_with(start)), "{start}: {outcome}");
    }
    // No terminal, no control characters.
    assert!(!outcome.stderr.contains(['\x1b', '\r']), "{outcome}");
}

#[test]
fn without_a_name_the_run_folder_is_dated() {
    let scene = Scene::with_blobs(6);
    let summary = scene.train(&["run.dir=null", "run.epochs=1"]).succeeded().json();
    let run_dir = summary["run_dir"].as_str().unwrap();
    let name = run_dir.strip_prefix("runs/").unwrap();
    assert!(name.len() == 15 && name.as_bytes()[8] == b'-', "{name}");
    assert!(scene.path(run_dir).join("summary.json").is_file());
}

#[test]
fn steps_end_a_run_before_its_epochs_do() {
    let scene = Scene::with_blobs(15);
    let summary = scene.train(&["run.epochs=1000", "run.steps=4"]).succeeded().json();
    assert_eq!(summary["steps"], 4);
    // The last step is evaluated, wherever it falls.
    assert!(summary["metrics"]["dice"].is_number());
}
