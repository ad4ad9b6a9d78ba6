use std::fs;
use std::path::Path;

use crate::scaffold::{Outcome, Scene, device, events_of, tensors};

/// A network and a canvas as small as in the other stories; the flags come after it.
const TOY: &str = "run: {dir: run}\ndata: {train: data, size: 64}\nmodel: {base: 4, depth: 2}\n";

fn toy() -> Scene {
    let scene = Scene::with_blobs(10);
    fs::write(scene.path("toy.yaml"), format!("{TOY}{}\n", device().replace('=', ": "))).unwrap();
    scene
}

fn train(scene: &Scene, line: &str) -> Outcome {
    scene.fullbore(&["train", "toy.yaml"].into_iter().chain(line.split_whitespace()).collect::<Vec<_>>())
}

#[test]
fn flags_stand_for_settings_and_say_what_is_so_anyway() {
    let scene = toy();
    let line = "--image_size 32 32 --batch_size 2 --gradient_accumulation_steps 2 --epochs 2 --lr 1e-3 \
                --warmup_epochs 1.5 --use_ema --num_workers 1 --use_compile --channels_last --early_stopping \
                --patience 20 --model-size small --pin_memory --prefetch_factor 2 --persistent_workers --drop_last \
                --enable-static-shapes --buffer-size 2 --set run.log_every=1";
    let outcome = train(&scene, line).succeeded();
    for told in
        ["--channels-last: ", "--use-compile: ", "--persistent-workers: ", "--pin-memory: ", "step: eager ("]
    {
        assert!(outcome.stderr.lines().any(|line| line.starts_with(told)), "{told}: {outcome}");
    }
    let plan = fs::read_to_string(scene.path("run/plan.yaml")).unwrap();
    // Eight training samples in batches of four: an epoch and a half are three steps.
    for kept in
        ["micro: 2", "warmup_steps: 3", "warmup_epochs: null", "decay: 0.999", "metric: loss", "prefetch: 2"]
    {
        assert!(plan.contains(kept), "{kept}: {plan}");
    }
    let steps = events_of(&scene.run_dir(), "step");
    let rates: Vec<_> = steps.iter().map(|step| (step["lr"].as_f64().unwrap() * 3e3).round()).collect();
    assert_eq!(rates, [1.0, 2.0, 3.0, 3.0]);
    assert_eq!(events_of(&scene.run_dir(), "run_started")[0]["steps_total"], 4);
}

#[test]
fn a_wrong_value_names_the_flag_and_the_key() {
    let scene = toy();
    for (line, told) in [
        (
            "--batch_size many",
            &["`batch.size`", "got \"many\" (--batch-size)", "samples per optimizer step"][..],
        ),
        ("--grad-accum 0 --batch-size 4", &["batch.size: 0 cannot work", "(--grad-accum)"]),
        ("--lr -1", &["optimizer.lr", "(--lr)"]),
        ("--image_size 32 30", &["data.size", "[32, 30]", "(--image-size)"]),
        ("--num-workers 1000", &["data.workers", "(--num-workers)"]),
        ("--train-data nowhere", &["nowhere"]),
        ("--model hrnet --loss bce", &["model.name: hrnet cannot work", "(--model)"]),
        ("--set step=graph", &["step: graph cannot work", "graphs are"]),
        ("--data-gpu 0", &["placement.data_gpu is set", "(--data-gpu)"]),
    ] {
        let code = if line.contains("nowhere") { 3 } else { 2 };
        train(&scene, line).refused(&scene, code, told);
    }
}

#[test]
fn two_gpus_where_there_are_none() {
    let scene = toy();
    if scene.fullbore(&["doctor"]).stdout.contains("cuda:0") {
        eprintln!("skipped: this machine has a GPU");
        return;
    }
    train(&scene, "--set device=auto --data-gpu 0 --model-gpu 1").refused(
        &scene,
        2,
        &[
            "insufficient GPUs for multi-GPU mode: asked for GPU 0 (data) and GPU 1 (model), this machine has none",
            "drop --data-gpu and --model-gpu to train on the CPU",
        ],
    );
}

#[test]
fn resume_with_flags_fine_tunes_and_takes_pytorch_files() {
    let scene = toy();
    train(&scene, "--image-size 32 32 --epochs 1").succeeded();
    let args = "train --resume run --lr 1e-30 --warmup_epochs 2 --epochs 3 --set run.dir=tuned --json";
    let outcome = scene.fullbore(&args.split(' ').collect::<Vec<_>>()).succeeded();
    assert_eq!(outcome.json()["steps"], 3);
    assert!(outcome.stderr.contains("run.epochs: 1 -> 3"), "{outcome}");

    let file = fs::canonicalize(Path::new("../../fixtures/pth/unet.pth")).unwrap();
    fs::copy(file, scene.path("checkpoint_best.pth")).unwrap();
    let line = "--image-size 32 32 --resume checkpoint_best.pth --lr 1e-30 --warmup_epochs 2 --epochs 1 \
                --set run.dir=from";
    train(&scene, line).succeeded();
    assert_eq!(events_of(&scene.path("from"), "weights_loaded")[0]["path"], "checkpoint_best.pth");
    assert!(tensors(&scene.path("from"), "last").count() > 0);
    train(&scene, "--resume checkpoint_best.pth --from best").failed(2, &["--from best", "leave out --from"]);
}

#[test]
fn help_shows_the_flags_under_their_own_heading() {
    let outcome = Scene::new().fullbore(&["train", "--help"]).succeeded();
    let (_, guides) = outcome.stdout.split_once("As in the field guides").unwrap();
    assert!(guides.contains("--grad-accum <K>") && guides.contains("schedule.warmup_epochs"), "{guides}");
    let (settings, _) = outcome.stdout.split_once("As in the field guides").unwrap();
    assert!(settings.contains("--resume") && !settings.contains("--batch-size"), "{settings}");
}
