use std::fs;

use crate::scaffold::{Scene, events_of, losses};

#[test]
fn the_checkpoint_before_is_kept_and_named_and_the_run_goes_on_from_it() {
    let scene = Scene::with_blobs(20);
    let sets = ["run.reproducible=true", "run.epochs=4"];
    let straight = scene.train(&[&sets[..], &["run.dir=whole"]].concat()).succeeded();
    let mut running = scene.start_training(&sets);
    running.wait_for("epoch 1 evaluated");
    running.signal("TERM");
    assert_eq!(running.finish().code, Some(130));
    let last = scene.path("run/checkpoints/last.safetensors");
    let before = fs::read(&last).unwrap();

    // Half a checkpoint fits: the same error as of a full disk, without a disk to fill.
    let kib = before.len() as u64 / 2048;
    let outcome = scene.with_small_files(kib, &["train", "--resume", "run", "--json"]);
    outcome.failed(
        4,
        &[
            "no space left for checkpoint run/checkpoints/",
            "bytes needed",
            "the checkpoint saved before is still whole",
            "free space",
        ],
    );
    assert!(outcome.stderr.contains("once the cause is mended: fullbore train --resume run"), "{outcome}");
    assert_eq!(fs::read(&last).unwrap(), before);
    let names: Vec<_> =
        fs::read_dir(last.parent().unwrap()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{names:?}");
    assert_eq!(events_of(&scene.run_dir(), "run_finished").last().unwrap()["status"], "failed");

    let end = scene.fullbore(&["train", "--resume", "run", "--json"]).succeeded();
    assert_eq!(end.json()["metrics"], straight.json()["metrics"]);
    assert_eq!(losses(&scene.run_dir()).last(), losses(&scene.path("whole")).last());
}
