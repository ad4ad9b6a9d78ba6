use fullbore::config::Layers;
use fullbore_train::Plan;
use fullbore_train::phases::Phase;

use crate::scaffold::{Scene, events_of, losses, tensors};

const SETS: [&str; 6] = [
    "run.reproducible=true",
    "run.epochs=3",
    "batch.size=2",
    "data.workers=2",
    "ema.decay=0.9",
    "phases=[{epoch: 1, size: 16}, {until: 0.7, size: [24, 16], augment: minimal}]",
];

fn sets(dir: &str) -> Vec<String> {
    SETS.iter().map(|set| set.to_string()).chain([format!("run.dir={dir}")]).collect()
}

fn strs(sets: &[String]) -> Vec<&str> {
    sets.iter().map(String::as_str).collect()
}

#[test]
fn a_run_stopped_in_its_second_phase_ends_as_if_it_never_was() {
    // 60 of these train: 30 steps an epoch.
    let scene = Scene::with_blobs(75);
    let mut running = scene.start_training(&strs(&sets("cut")));
    running.wait_for("phase 2 of 3 from epoch 2: 16x24 pixels");
    running.signal("INT");
    let stopped = running.finish();
    assert_eq!(stopped.code, Some(130), "{stopped}");
    assert!(stopped.json()["steps"].as_u64().unwrap() > 30, "{stopped}");
    let resumed = scene.fullbore(&["train", "--resume", "cut", "--json"]).succeeded();
    let straight = scene.train(&strs(&sets("whole"))).succeeded();
    let (cut, whole) = (scene.path("cut"), scene.path("whole"));
    assert_eq!(losses(&cut), losses(&whole));
    assert_eq!(resumed.json()["metrics"], straight.json()["metrics"]);
    for (a, b) in tensors(&cut, "last").zip(tensors(&whole, "last")) {
        assert!(a == b, "{} is not {}", a.0, b.0);
    }
    let phases = |run| -> Vec<_> {
        let started = events_of(run, "phase_started");
        started.iter().map(|e| (e["epoch"].clone(), e["size"].clone())).collect()
    };
    let sizes = [(0, [16, 16]), (1, [16, 24]), (2, [32, 32])];
    assert_eq!(phases(&whole), sizes.map(|(epoch, size)| (epoch.into(), size.to_vec().into())));
    // Evaluations see data.size: the same score as the command gives, which knows no phases.
    let eval = scene.fullbore(&["eval", "whole", "--checkpoint", "last", "--json"]).succeeded().json();
    assert_eq!(eval["metrics"]["dice"], straight.json()["metrics"]["dice"]);
}

#[test]
fn phases_that_cannot_work_are_refused() {
    let scene = Scene::with_blobs(10);
    for (phases, words) in [
        ("[{until: 0.5, size: 18}]", ["phases: data.size 18 of phase 1", "multiples of 4"]),
        ("[{until: 0.5, size: 64}]", ["size 64 of phase 1", "data.size, 32"]),
        ("[{until: 0.5, size: 0}]", ["size 0 of phase 1", "from 1"]),
        ("[{size: 16}]", ["until: null, epoch: null of phase 1", "either until"]),
        ("[{until: 1.5, size: 16}]", ["until: 1.5", "at most 1"]),
        ("[{epoch: 2, size: 8}, {epoch: 2, size: 16}]", ["of phase 2", "after the end of the phase before"]),
    ] {
        scene.train(&[&format!("phases={phases}")]).refused(&scene, 2, &words);
    }
}

#[test]
fn phases_follow_from_the_epoch() {
    let plan = |sets: &[&str]| {
        let mut layers = Layers::new();
        for set in ["batch.size=4", "data.size=64", "run.epochs=10"].iter().chain(sets) {
            layers.add_set(set).unwrap();
        }
        layers.resolve::<Plan>().unwrap().0
    };
    // Width, last epoch and sigma of every epoch.
    let all = |plan: &Plan| -> Vec<(u32, u64, f32)> {
        let at = |epoch| Phase::at(plan, 40, epoch);
        (0..10).map(at).map(|p| (p.plan.data.size.width, p.end, p.plan.landmarks.sigma)).collect()
    };
    let two = plan(&["phases=[{until: 0.3, size: 16}, {epoch: 5, size: 32}]"]);
    let (first, then, full) = ((16, 3, 0.375), (32, 5, 0.75), (64, u64::MAX, 1.5));
    assert_eq!(all(&two), [[first; 3].as_slice(), &[then; 2], &[full; 5]].concat());
    // The share is one of the run as it is: 25 steps are two epochs and a half.
    let short = plan(&["run.steps=25", "phases=[{until: 0.5, size: 16}]"]);
    assert_eq!(all(&short)[..2], [(16, 1, 0.375), full]);
    // Pixels from outside of an image are ignored, whichever phase augments.
    let augments = |preset: &str| {
        let phases = format!("phases=[{{until: 0.5, size: 16, augment: {preset}}}]");
        plan(&["augment.preset=none", &phases]).may_ignore()
    };
    assert!(augments("standard") && !augments("none"));
    // Less than an epoch is nothing.
    let none = plan(&["run.epochs=1", "phases=[{until: 0.5, size: 16}]"]);
    assert_eq!(all(&none)[0], full);
}
