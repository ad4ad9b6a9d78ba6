use crate::scaffold::{Scene, events_of};

/// No evaluation beats the first one by so much.
const NEVER_BETTER: [&str; 4] =
    ["run.epochs=30", "early_stop.metric=loss", "early_stop.patience=3", "early_stop.min_delta=100"];

#[test]
fn a_run_that_gets_no_better_ends_and_says_why() {
    let scene = Scene::with_blobs(10);
    let outcome = scene.train(&NEVER_BETTER).succeeded();
    let summary = outcome.json();
    assert_eq!((&summary["status"], &summary["steps"]), (&"completed".into(), &8.into()), "{outcome}");
    let reason = summary["reason"].as_str().unwrap();
    assert!(reason.starts_with("stopped early: 3 evaluations without a better loss than "), "{reason}");
    assert!(outcome.stderr.lines().any(|line| line == reason), "{outcome}");
    assert_eq!(events_of(&scene.run_dir(), "early_stopped")[0]["reason"], reason);
    assert_eq!(events_of(&scene.run_dir(), "run_finished")[0]["message"], reason);
    assert!(scene.run_dir().join("checkpoints/last.safetensors").is_file());

    let again = scene.fullbore(&["train", "--resume", "run", "--json"]);
    again.failed(2, &["complete", "8 of 60 steps"]);
}

#[test]
fn patience_goes_on_where_it_was_after_a_resume() {
    let scene = Scene::with_blobs(10);
    let all = [&NEVER_BETTER[..], &["run.epochs=100", "early_stop.patience=20"]].concat();
    let mut running = scene.start_training(&all);
    running.wait_for("epoch 2 evaluated");
    running.signal("INT");
    let stopped = running.finish();
    assert_eq!(stopped.code, Some(130), "{stopped}");
    let resumed = scene.fullbore(&["train", "--resume", "run", "--json"]).succeeded();
    // The first evaluation and twenty more, of two steps each.
    assert_eq!(resumed.json()["steps"], 42, "{stopped} {resumed}");
}
