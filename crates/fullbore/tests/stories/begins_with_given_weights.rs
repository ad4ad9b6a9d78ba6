use std::fs;
use std::path::Path;

use crate::scaffold::{Scene, events_of, tensors};

/// So small that weights stay what they were, but for zeros that become as small; only BatchNorm's statistics move.
const STANDSTILL: &str = "optimizer.lr=1e-30";

/// The setting for a file in `fixtures/`.
fn weights(name: &str) -> String {
    let path = fs::canonicalize(Path::new("../../fixtures").join(name)).unwrap();
    format!("model.weights='{}'", path.display())
}

#[test]
fn a_file_of_torch_save_and_another_head() {
    let scene = Scene::with_blobs(10);
    let outcome = scene.train(&[&weights("pth/unet.pth"), STANDSTILL, "run.epochs=1"]).succeeded();
    let loaded = &events_of(&scene.run_dir(), "weights_loaded")[0];
    assert_eq!(loaded["applied"].as_u64().unwrap() + 2, loaded["entries"].as_u64().unwrap(), "{loaded}");
    assert_eq!(loaded["passed_over"][0], "mask_values", "{loaded}");
    let mismatched = loaded["mismatched"].to_string();
    for shapes in [
        "outc.conv.weight: the model has [1, 4, 1, 1], the file [2, 4, 1, 1]",
        "outc.conv.bias: the model has [1]",
    ] {
        assert!(mismatched.contains(shapes), "{loaded}");
    }
    assert!(outcome.stderr.contains("of another shape, left fresh: outc.conv.weight"), "{outcome}");

    let file = fullbore_checkpoint::read(Path::new("../../fixtures/weights/ours.safetensors")).unwrap();
    let mut seen = 0;
    for (name, bytes) in tensors(&scene.run_dir(), "last") {
        let Some(name) = name.strip_prefix("model.") else { continue };
        let moves =
            ["running_mean", "running_var", "num_batches_tracked"].iter().any(|end| name.ends_with(end));
        if !moves && !name.starts_with("outc") {
            let values = |bytes: &[u8]| -> Vec<f32> {
                bytes.chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect()
            };
            let mut pairs = values(&bytes).into_iter().zip(values(&file.tensors[name].bytes));
            assert!(pairs.all(|(a, b)| (a - b).abs() < 1e-20), "{name} is not the file's");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn gray_images_under_colour_weights() {
    let scene = Scene::with_blobs(10);
    let gray = ["data.channels=1", "data.mean=[0.5]", "data.std=[0.25]", "run.steps=1"];
    let outcome =
        scene.train(&[&[weights("weights/ours.safetensors").as_str()], &gray[..]].concat()).succeeded();
    let loaded = &events_of(&scene.run_dir(), "weights_loaded")[0];
    assert_eq!(loaded["summed"], "inc.double_conv.0.weight", "{loaded}");
    assert!(outcome.stderr.contains("summed over its input channels: inc.double_conv.0.weight"), "{outcome}");
}

#[test]
fn another_run_and_no_second_time_after_a_resume() {
    let scene = Scene::with_blobs(10);
    scene.train(&["run.epochs=1", "ema.decay=0.9"]).succeeded();
    let mut running = scene.start_training(&["model.weights=run", "run.dir=next", "run.epochs=100"]);
    running.wait_for("epoch 1 evaluated");
    running.signal("INT");
    assert_eq!(running.finish().code, Some(130));
    let next = scene.path("next");
    let loaded = events_of(&next, "weights_loaded");
    assert_eq!(loaded[0]["path"], "run/checkpoints/best.safetensors", "{loaded:?}");
    assert_eq!(loaded[0]["applied"], loaded[0]["entries"], "{loaded:?}");
    assert_eq!(loaded[0]["stripped"][0], "ema.", "{loaded:?}");

    fs::remove_dir_all(scene.run_dir()).unwrap();
    let mut resumed = scene.start(&["train", "--json", "--resume", "next"]);
    resumed.wait_for("epoch 3 evaluated");
    resumed.signal("INT");
    assert_eq!(resumed.finish().code, Some(130));
    assert_eq!(events_of(&next, "weights_loaded").len(), 1);
}

#[test]
fn what_gives_no_weights_is_refused_before_the_run() {
    let scene = Scene::with_blobs(10);
    for (set, words) in [
        (weights("pth/legacy.pth"), &["before PyTorch 1.6", "python -c", "torch.save("][..]),
        (weights("pth/torchscript.pt"), &["TorchScript", "python -c"]),
        (weights("pth/module.pth"), &["`torch.nn.modules.linear.Linear`", "nothing is run"]),
        (
            weights("pth/checkpoint.pth"),
            &["does not fit the model: 0 applied", "missing inc.double_conv.0.weight"],
        ),
        ("model.weights=nowhere.pth".into(), &["nowhere.pth"]),
    ] {
        scene.train(&[&set]).refused(&scene, 3, words);
    }
    let wider = scene.train(&[&weights("pth/unet.pth"), "model.base=8"]);
    wider.refused(&scene, 3, &["the model has [8, 3, 3, 3], the file [4, 3, 3, 3]", "model.* keys"]);
    scene.train(&["model.weights=data"]).refused(&scene, 2, &["data is not a run folder"]);
}
