//! Training samples are augmented, on either side, and nothing else is.

use crate::scaffold::{Outcome, Scene, events_of};

fn losses(scene: &Scene, run: &str) -> Vec<f64> {
    events_of(&scene.path(run), "step").iter().map(|e| e["loss"].as_f64().unwrap()).collect()
}

/// In fp32: losses are compared.
fn train(scene: &Scene, run: &str, more: &[&str]) -> Outcome {
    let dir = format!("run.dir={run}");
    let sets: Vec<&str> =
        ["run.reproducible=true", "precision=fp32", &dir].into_iter().chain(more.iter().copied()).collect();
    scene.train(&sets).succeeded()
}

#[test]
fn both_sides_train_alike_and_say_so() {
    let scene = Scene::with_blobs(20);
    let standard = "augment.preset=standard";
    train(&scene, "off", &[]);
    let on_cpu = train(&scene, "cpu", &[standard, "augment.device=cpu"]);
    train(&scene, "device", &[standard, "augment.device=device"]);
    let [off, cpu, device] = ["off", "cpu", "device"].map(|run| losses(&scene, run));
    assert_eq!(cpu.len(), 8);
    for (step, (a, b)) in cpu.iter().zip(&device).enumerate() {
        assert!((a - b).abs() < 2e-3, "step {step}: {a} on the CPU, {b} on the device");
    }
    assert!((off[0] - cpu[0]).abs() > 5e-3, "{off:?} {cpu:?}");
    let said =
        "augmentation enabled on the cpu (augment.device is cpu), training only: horizontal flip p 0.5";
    assert!(on_cpu.stderr.contains(said), "{on_cpu}");
    let event = &events_of(&scene.path("device"), "augmentation")[0];
    assert_eq!((&event["side"], event["operations"].as_array().unwrap().len()), (&"device".into(), 4));
}

#[test]
fn the_workers_draw_the_same_whatever_their_number() {
    let scene = Scene::with_blobs(20);
    let strong = ["augment.preset=strong", "augment.device=cpu"];
    train(&scene, "inline", &[&["data.workers=0"], &strong[..]].concat());
    train(&scene, "three", &[&["data.workers=3"], &strong[..]].concat());
    assert_eq!(losses(&scene, "inline"), losses(&scene, "three"));
}

#[test]
fn validation_is_never_augmented() {
    let scene = Scene::with_blobs(20);
    // A policy that leaves nothing recognisable.
    let wild = ["augment.brightness.p=1", "augment.brightness.range=[0.01, 0.02]", "optimizer.lr=1e-30"];
    let plain = train(&scene, "plain", &["optimizer.lr=1e-30"]);
    let augmented = train(&scene, "wild", &wild);
    assert_ne!(losses(&scene, "plain"), losses(&scene, "wild"));
    for (run, trained) in [("plain", plain), ("wild", augmented)] {
        let scored = scene.fullbore(&["eval", run, "--checkpoint", "last", "--json"]).succeeded();
        assert_eq!(
            trained.json()["metrics"],
            scored.json()["metrics"],
            "eval, which knows no policy, agrees"
        );
    }
}

#[test]
fn a_policy_that_cannot_work_is_answered_with_key_value_and_what_is_allowed() {
    let scene = Scene::with_blobs(10);
    for (set, words) in [
        ("augment.rotate.degrees=[15, -15]", ["augment.rotate.degrees is [15.0, -15.0]", "degrees allows"]),
        ("augment.hflip.p=1.5", ["augment.hflip.p is 1.5", "0 to 1"]),
        ("augment.flip_pairs=[[0, 9]]", ["augment.flip_pairs", "flip_pairs"]),
        ("augment.crop.area=[0.5, 1.5]", ["augment.crop.area", "allows"]),
        ("augment.preset=wild", ["augment.preset", "progressive"]),
        ("augment.rotat.p=1", ["augment.rotat", "augment.rotate"]),
    ] {
        scene.train(&[set]).refused(&scene, 2, &words);
    }
}

#[test]
fn a_contact_sheet_shows_what_training_would_see() {
    let scene = Scene::with_blobs(6);
    let args =
        ["show", "augment", "--input", "data", "--output", "sheet.png", "--samples", "3", "--draws", "2"];
    let sets = ["--set", "data.size=32", "--set", "augment.preset=strong", "--set", "device=cpu"];
    let shown = scene.fullbore(&[&args[..], &sets].concat()).succeeded();
    assert!(shown.stdout.contains("rotation p 0.8, -30 to 30 degrees"), "{shown}");
    assert!(shown.stdout.contains("3 samples, as they are and in 2 draws: sheet.png"), "{shown}");
    let sheet = image::open(scene.path("sheet.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (3 * 262 + 6, 3 * 262 + 6));
    let nowhere = [&args[..4], &["--output", "missing/sheet.png"], &sets].concat();
    scene.fullbore(&nowhere).failed(6, &["missing/sheet.png", "--output"]);
}

#[test]
fn both_sides_can_be_measured() {
    let scene = Scene::with_blobs(12);
    let args = ["bench", "augment", "--seconds", "0", "--passes", "1", "--json"];
    let sets = [
        "--set",
        "data.train=data",
        "--set",
        "data.size=32",
        "--set",
        "batch.size=4",
        "--set",
        "data.workers=1",
        "--set",
        "device=cpu",
    ];
    let json = scene.fullbore(&[&args[..], &sets].concat()).succeeded().json();
    let rows = json["rows"].as_array().unwrap();
    let sides: Vec<_> =
        rows.iter().map(|row| format!("{} {}", row["side"].as_str().unwrap(), row["workers"])).collect();
    assert_eq!(sides, ["cpu 1", "device 1", "cpu 2", "device 2"]);
    assert!(rows.iter().all(|row| row["samples_per_s"].as_f64().unwrap() > 0.0), "{json}");
}
