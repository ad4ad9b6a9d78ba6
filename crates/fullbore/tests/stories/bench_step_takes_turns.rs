use std::fs;

use crate::scaffold::{Outcome, Scene, device};

/// `fullbore bench step` with a tiny network, as short as can be.
fn bench(scene: &Scene, sets: &[&str], more: &[&str]) -> Outcome {
    let device = device();
    let tiny = ["data.size=32", "model.base=4", "model.depth=2", "batch.size=4", &device];
    let sets = tiny.iter().chain(sets).flat_map(|set| ["--set", set]);
    let short = ["bench", "step", "--steps", "2", "--warm", "1", "--passes", "2"];
    scene.fullbore(&short.into_iter().chain(sets).chain(more.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn the_step_alone_needs_no_files() {
    let scene = Scene::new();
    let json = bench(&scene, &[], &["--json"]).succeeded().json();
    assert!(json["step_ms"]["median"].as_f64().unwrap() > 0.0 && json["loss_first"].is_f64(), "{json}");
    assert!(json.get("real").is_none() && json.get("peer").is_none(), "{json}");
    let points = [
        "loss.name=mse",
        "model.name=hrnet",
        "model.base=null",
        "model.depth=null",
        "landmarks.names=[a, b]",
    ];
    bench(&scene, &points, &["--json"]).succeeded();
}

#[test]
fn real_batches_stand_beside_noise_and_their_own_replay() {
    let scene = Scene::with_blobs(10);
    let sets = ["data.train=data", "augment.preset=minimal", "data.workers=1"];
    let json = bench(&scene, &sets, &["--json"]).succeeded().json();
    let number = |pointer: &str| json.pointer(pointer).unwrap().as_f64().unwrap();
    for key in ["/real/step_ms", "/replay/step_ms", "/headspace", "/accelerator_utilisation"] {
        assert!(number(key) > 0.0, "{key}: {json}");
    }
    assert!((0.0..=1.0).contains(&number("/real/wait_share")), "{json}");
    assert!(number("/real/decode_ms_per_sample") > 0.0, "{json}");
    let rate = 4e3 / number("/real/step_ms");
    assert!((number("/real/samples_per_s") / rate - 1.0).abs() < 1e-6, "{json}");
    let text = bench(&scene, &sets, &[]).succeeded().stdout;
    assert!(text.contains("headspace") && text.contains("waiting for data"), "{text}");
}

#[test]
fn without_a_peer_there_is_a_way_out() {
    let scene = Scene::new();
    let against = ["--against", "python"];
    bench(&scene, &[], &against).failed(2, &["model.depth: ", "4 alone, got 2", "--peer"]);
    bench(&scene, &[], &["--against", "python", "--peer", "none.py"])
        .failed(2, &["there is no script none.py"]);
    fs::write(scene.path("peer.py"), "").unwrap();
    let outcome = bench(&scene, &[], &["--against", "python", "--peer", "peer.py"]);
    // Whether this machine's python3 has torch or not: an empty script prints no time.
    assert_eq!(outcome.code, Some(2), "{outcome}");
}
