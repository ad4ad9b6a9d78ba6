//! Runs that are short of memory go on, and come to the same result.

use serde_json::Value;

use crate::scaffold::{Outcome, Scene, events_of};

/// In fp32: losses are compared.
fn train(scene: &Scene, run: &str, inject: &str, more: &[&str]) -> Outcome {
    let dir = format!("run.dir={run}");
    let sets = ["run.reproducible=true", "precision=fp32", &*dir];
    let settings = crate::scaffold::settings(&[&sets[..], more].concat());
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

/// The plan of a run's memory.
fn planned(scene: &Scene, run: &str) -> Value {
    let plans = events_of(&scene.path(run), "memory_planned");
    assert_eq!(plans.len(), 1, "{plans:?}");
    plans[0].clone()
}

const SIXTEEN: [&str; 4] = ["data.size=64", "batch.size=16", "norm.kind=group", "norm.groups=2"];

#[test]
fn a_budget_eight_times_too_small_changes_the_micro_batch_and_not_the_score() {
    let scene = Scene::with_blobs(40);
    let whole = train(&scene, "whole", "", &SIXTEEN).succeeded().json();
    let plan = planned(&scene, "whole");
    assert_eq!((&plan["micro_batch"], &plan["recompute"]), (&16.into(), &false.into()));
    let budget = format!("memory.budget={}", plan["bytes"]["expected_peak"].as_u64().unwrap() / 8);
    let short = train(&scene, "short", "", &[&SIXTEEN[..], &[&*budget]].concat()).succeeded();
    let plan = planned(&scene, "short");
    assert!(plan["micro_batch"].as_u64().unwrap() <= 2, "{plan}");
    assert!(short.stderr.contains("memory: weights "), "{short}");
    assert!(short.stderr.contains(" of 16: about "), "{short}");
    // It was planned well: no step has run out of memory, only evaluations may have had to find their own size.
    let fell = events_of(&scene.path("short"), "out_of_memory");
    assert!(fell.iter().all(|event| event["at"] == "eval"), "{fell:?}");
    for (whole, short) in losses(&scene, "whole").iter().zip(losses(&scene, "short")) {
        assert!((whole - short).abs() < 1e-4, "{whole} against {short}");
    }
    let dice = |json: &Value| json["best"]["value"].as_f64().unwrap();
    let (whole, short) = (dice(&whole), dice(&short.json()));
    assert!((whole - short).abs() < 1e-3, "{whole} against {short}");
}

#[test]
fn planning_changes_nothing_and_is_done_once() {
    let scene = Scene::with_blobs(20);
    train(&scene, "planned", "", &[]).succeeded();
    train(&scene, "set", "", &["batch.micro=4"]).succeeded();
    assert_eq!(losses(&scene, "planned"), losses(&scene, "set"));
    assert_eq!(planned(&scene, "planned")["micro_batch"], 4);
    let set = planned(&scene, "set");
    assert_eq!(
        (&set["bytes"], &set["lines"][0]),
        (&Value::Null, &"micro-batch 4 of 4: batch.micro says so".into())
    );

    // A run that was stopped takes its plan from the checkpoint, whatever there is now.
    let mut running = scene.start_training(&["run.dir=stopped", "run.epochs=500", "run.reproducible=true"]);
    running.wait_for("epoch ");
    running.signal("INT");
    running.finish();
    let steps = events_of(&scene.path("stopped"), "step").len();
    let mut running = scene.start(&["train", "--resume", "stopped"]);
    running.wait_for("epoch ");
    running.signal("INT");
    running.finish();
    assert!(events_of(&scene.path("stopped"), "step").len() > steps);
    planned(&scene, "stopped");
}

#[test]
fn what_cannot_fit_is_refused_before_the_first_step() {
    let scene = Scene::with_blobs(10);
    let words = ["the model alone needs", "there are 1.0 MB", "model.size"];
    train(&scene, "run", "", &["model.base=32", "memory.budget=1MB"]).failed(4, &words);
    let sets = ["data.size=256", "memory.budget=2MB"];
    train(&scene, "large", "", &sets).failed(4, &["one sample", "data.size"]);
    assert!(events_of(&scene.path("large"), "step").is_empty());
}

#[test]
fn where_one_sample_does_not_fit_activations_are_planned_to_be_computed_again() {
    let scene = Scene::with_blobs(10);
    let sets = ["data.size=128", "norm.kind=group", "norm.groups=2", "eval.batch=1", "batch.size=2"];
    let run = |run: &str, more: &[&str]| train(&scene, run, "", &[&sets[..], more].concat());
    run("kept", &["activation=keep"]).succeeded();
    run("again", &["activation=recompute"]).succeeded();
    let sample = |run: &str| planned(&scene, run)["bytes"]["per_sample"].as_u64().unwrap();
    assert!(sample("again") < sample("kept") * 9 / 10);
    let fixed = {
        let bytes = &planned(&scene, "kept")["bytes"];
        ["weights", "gradients", "optimizer", "other"]
            .iter()
            .map(|key| bytes[key].as_u64().unwrap())
            .sum::<u64>()
    };
    let budget = format!("memory.budget={}", fixed + (sample("kept") + sample("again")) / 2);
    let short = run("short", &[&*budget]).succeeded();
    assert_eq!(planned(&scene, "short")["recompute"], true);
    assert!(short.stderr.contains("activations are computed again in backward"), "{short}");
    for (kept, short) in losses(&scene, "kept").iter().zip(losses(&scene, "short")) {
        assert!((kept - short).abs() < 1e-4, "{kept} against {short}");
    }
    run("refused", &["activation=keep", &*budget]).failed(4, &["one sample", "data.size"]);
}

#[test]
fn evaluations_split_for_themselves_and_remember_it() {
    let scene = Scene::with_blobs(40);
    let sets = ["batch.size=8", "run.epochs=3", "norm.kind=group", "norm.groups=2"];
    train(&scene, "whole", "", &sets).succeeded();
    train(&scene, "short", "oom@eval:2", &sets).succeeded();
    let resized: Vec<_> = events_of(&scene.path("short"), "eval_batch_changed")
        .iter()
        .map(|e| (e["step"].as_u64().unwrap(), e["from"].as_u64().unwrap(), e["to"].as_u64().unwrap()))
        .collect();
    // Eight images are a pass of the first evaluation; the second pass is the second evaluation's.
    assert_eq!(resized, [(8, 8, 4)]);
    assert!(
        events_of(&scene.path("short"), "micro_batch_changed").is_empty(),
        "training has a plan of its own"
    );
    let scores =
        |run| events_of(&scene.path(run), "evaluated").iter().map(|e| e["dice"].clone()).collect::<Vec<_>>();
    assert_eq!(scores("whole"), scores("short"));
}

#[test]
fn settings_of_the_memory_are_checked() {
    let scene = Scene::with_blobs(10);
    scene.train(&["memory.halve=1.5"]).refused(&scene, 2, &["memory.halve is 1.5", "allows"]);
    scene.train(&["memory.budget=lots"]).refused(&scene, 2, &["memory.budget"]);
}
