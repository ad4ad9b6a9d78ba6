use std::fs;

use crate::scaffold::Scene;

#[test]
fn an_unknown_key_is_answered_with_the_nearest() {
    let scene = Scene::with_blobs(6);
    scene.train(&["optimizer.lrr=1e-3"]).refused(
        &scene,
        2,
        &["unknown key `optimizer.lrr` in --set", "did you mean `optimizer.lr`?"],
    );
}

#[test]
fn a_value_of_the_wrong_type() {
    let scene = Scene::with_blobs(6);
    scene.train(&["batch.size=many"]).refused(
        &scene,
        2,
        &[
            "`batch.size`: expected a whole number, 0 or more, got \"many\" (--set)",
            "samples per optimizer step",
        ],
    );
}

#[test]
fn a_settings_file_names_the_line_of_what_is_wrong() {
    let scene = Scene::with_blobs(6);
    fs::write(scene.path("my.yaml"), "data:\n  train: data\nmodel:\n  depth: deep\n").unwrap();
    let outcome = scene.fullbore(&["train", "my.yaml"]);
    outcome.refused(&scene, 2, &["`model.depth`", "\"deep\"", "my.yaml:4"]);

    fs::write(scene.path("my.yaml"), "data:\n  train: [data\nmodel:\n").unwrap();
    let outcome = scene.fullbore(&["train", "my.yaml"]);
    outcome.refused(&scene, 2, &["cannot parse my.yaml:3:", "correct the YAML there"]);

    let outcome = scene.fullbore(&["train", "other.yaml"]);
    outcome.refused(&scene, 2, &["there is no settings file other.yaml", "fullbore init"]);
}

#[test]
fn a_batch_larger_than_the_training_set() {
    let scene = Scene::with_blobs(10);
    scene.train(&["batch.size=9"]).refused(
        &scene,
        2,
        &["batch.size 9", "8 samples in data", "smaller batch.size", "data.drop_last: false"],
    );
    // The way out that it names works.
    scene.train(&["batch.size=9", "data.drop_last=false", "run.epochs=1"]).succeeded();
}

#[test]
fn no_training_data_named() {
    let scene = Scene::new();
    scene.train(&["data.train=null"]).refused(&scene, 2, &["data.train is required", "images/ and masks/"]);
}

#[test]
fn a_canvas_that_the_network_cannot_halve() {
    let scene = Scene::with_blobs(6);
    scene.train(&["data.size=[32, 30]"]).refused(
        &scene,
        2,
        &["data.size", "[32, 30]", "multiples of 4", "halves them 2 times (model.depth)"],
    );
}

#[test]
fn a_loss_that_does_not_fit_the_classes() {
    let scene = Scene::with_blobs(6);
    scene.train(&["data.classes={a: 0, b: 100, c: 255}"]).refused(
        &scene,
        2,
        &["loss.name: bce_dice cannot work", "data.classes has 3", "ce_dice"],
    );
}

#[test]
fn a_metric_of_a_class_that_is_not_there() {
    let scene = Scene::with_blobs(6);
    scene.train(&["checkpoint.metric=dice_per_class.cell"]).refused(
        &scene,
        2,
        &["checkpoint.metric", "dice_per_class.cell", "dice_per_class.foreground"],
    );
}

#[test]
fn a_gpu_where_there_is_none() {
    let scene = Scene::with_blobs(6);
    if scene.fullbore(&["doctor"]).stdout.contains("cuda:0") {
        eprintln!("skipped: this machine has a GPU");
        return;
    }
    scene.train(&["device=cuda"]).refused(&scene, 5, &["cuda", "fullbore doctor", "device: cpu"]);
}
