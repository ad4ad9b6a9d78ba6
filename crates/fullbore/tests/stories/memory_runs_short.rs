//! Runs that are short of memory go on, and come to the same result.

use crate::scaffold::{Outcome, Scene, events_of};

fn train(scene: &Scene, run: &str, inject: &str, more: &[&str]) -> Outcome {
    let dir = format!("run.dir={run}");
    let settings = crate::scaffold::settings(&[&["run.reproducible=true", &*dir][..], more].concat());
    let mut args = vec!["train", "--json", "--inject", inject];
    args.extend(settings.iter().flat_map(|set| ["--set", set]));
    scene.fullbore(&args)
}

fn losses(scene: &Scene, run: &str) -> Vec<f64> {
    events_of(&scene.path(run), "step").iter().map(|e| e["loss"].as_f64().unwrap()).collect()
}

#[test]
fn running_out_of_memory_in_steps_and_evaluation_changes_nothing_but_the_micro_batch() {
    let scene = Scene::with_blobs(20);
    let group_norm = ["norm.kind=group", "norm.groups=2"];
    train(&scene, "whole", "", &group_norm).succeeded();
    let short = train(&scene, "short", "oom@step:2,oom@backward:5,oom@eval:1", &group_norm).succeeded();
    for (step, (whole, short)) in losses(&scene, "whole").iter().zip(losses(&scene, "short")).enumerate() {
        assert!((whole - short).abs() < 1e-4, "step {step}: {whole} against {short}");
    }
    let fell: Vec<_> = events_of(&scene.path("short"), "out_of_memory")
        .iter()
        .map(|e| format!("{} after {} with {}", e["at"].as_str().unwrap(), e["step"], e["micro_batch"]))
        .collect();
    assert_eq!(fell, ["forward after 1 with 4", "eval after 4 with 4", "backward after 4 with 2"]);
    let sizes: Vec<_> = events_of(&scene.path("short"), "micro_batch_changed")
        .iter()
        .map(|e| (e["from"].as_u64().unwrap(), e["to"].as_u64().unwrap()))
        .collect();
    assert_eq!(sizes, [(4, 2), (2, 1)]);
    assert!(short.stderr.contains("injected"), "{short}");
}

#[test]
fn where_one_sample_does_not_fit_activations_are_computed_again() {
    let scene = Scene::with_blobs(20);
    train(&scene, "whole", "", &["norm.kind=group", "norm.groups=2"]).succeeded();
    // Micro-batches of 4, 2 and 1 fail; the fourth attempt goes well.
    let short = train(&scene, "short", "oom@step:3x3", &["norm.kind=group", "norm.groups=2"]).succeeded();
    assert!(short.stderr.contains("warning: activations are computed again"), "{short}");
    for (whole, short) in losses(&scene, "whole").iter().zip(losses(&scene, "short")) {
        assert!((whole - short).abs() < 1e-4, "{whole} against {short}");
    }
    let keep = ["activation=keep", "norm.kind=group", "norm.groups=2", "run.dir=kept"];
    train(&scene, "unused", "oom@step:3x3", &keep)
        .failed(4, &["out of memory with a micro-batch of one sample"]);
}

#[test]
fn a_run_that_cannot_go_on_says_so() {
    let scene = Scene::with_blobs(10);
    let words = ["injected", "out of memory with a micro-batch of one sample (32x32)", "data.size"];
    train(&scene, "run", "oom@step:1x99", &[]).failed(4, &words);
    assert_eq!(events_of(&scene.run_dir(), "run_finished")[0]["status"], "failed");
}

#[test]
fn faults_that_cannot_be_understood_are_refused() {
    let scene = Scene::with_blobs(10);
    for (inject, words) in [
        ("oom", ["\"oom\" is not a fault", "oom@step:12"]),
        ("fire@step:1", ["\"fire\"", "oom"]),
        ("oom@lunch:1", ["\"lunch\"", "backward"]),
    ] {
        train(&scene, "run", inject, &[]).refused(&scene, 2, &words);
    }
}

#[test]
fn a_budget_bounds_the_memory_of_tensors() {
    let scene = Scene::with_blobs(20);
    let sets = ["data.size=64", "model.base=8", "batch.size=8", "norm.kind=group", "norm.groups=2"];
    train(&scene, "whole", "", &sets).succeeded();
    // Room for the weights and a few samples, not for eight.
    train(&scene, "short", "", &[&sets[..], &["memory.budget=14MB"]].concat()).succeeded();
    assert!(!events_of(&scene.path("short"), "micro_batch_changed").is_empty(), "the budget was never felt");
    for (whole, short) in losses(&scene, "whole").iter().zip(losses(&scene, "short")) {
        assert!((whole - short).abs() < 1e-4, "{whole} against {short}");
    }
    scene.train(&["memory.halve=1.5"]).refused(&scene, 2, &["memory.halve is 1.5", "allows"]);
    scene.train(&["memory.budget=lots"]).refused(&scene, 2, &["memory.budget"]);
}
