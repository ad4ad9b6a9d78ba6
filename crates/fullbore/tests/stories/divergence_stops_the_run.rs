use crate::scaffold::{Scene, events_of, tensors};

fn is_finite(bytes: &[u8]) -> bool {
    bytes.as_chunks::<4>().0.iter().all(|&number| f32::from_le_bytes(number).is_finite())
}

#[test]
fn a_run_that_loses_its_numbers_is_given_up_and_keeps_good_checkpoints() {
    let scene = Scene::with_blobs(15);
    let sets = ["run.epochs=20", "optimizer.lr=1e30", "run.max_skipped=5", "checkpoint.every_steps=1"];
    let outcome = scene.train(&sets);
    let words = ["training diverged at step", "NaN or infinite", "in a row: 5", "smaller optimizer.lr"];
    outcome.failed(2, &words);
    let saved = events_of(&scene.run_dir(), "checkpoint_saved").last().unwrap()["step"].as_u64().unwrap();
    outcome.failed(2, &["last good checkpoint is run/checkpoints/", &format!("(step {saved})")]);
    assert!(!events_of(&scene.run_dir(), "non_finite").is_empty());
    let finished = events_of(&scene.run_dir(), "run_finished");
    assert_eq!(finished[0]["status"], "failed");
    assert!(finished[0]["steps"].as_u64().unwrap() < 60, "{outcome}");
    assert!((0.0..=1.0).contains(&finished[0]["data_wait"].as_f64().unwrap()), "{outcome}");
    for which in ["last", "best"] {
        if !scene.run_dir().join(format!("checkpoints/{which}.safetensors")).exists() {
            continue;
        }
        for (name, bytes) in tensors(&scene.run_dir(), which) {
            assert!(!name.starts_with("model.") || is_finite(&bytes), "{name} in {which}: {outcome}");
        }
    }
}

#[test]
fn a_run_that_ends_on_a_number_that_is_none_does_not_count_as_completed() {
    let scene = Scene::with_blobs(15);
    let outcome = scene.train(&["run.epochs=1", "run.log_every=1000", "optimizer.lr=1e30"]);
    outcome.failed(2, &["training diverged at step 3", "NaN or infinite", "smaller optimizer.lr"]);
}
