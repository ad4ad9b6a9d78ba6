//! A run that diverges goes back to its newest good checkpoint, as often as it may, and on with half the learning rate.

use std::collections::BTreeMap;

use crate::scaffold::{Running, Scene, events, events_of, tensors};

/// A step multiplies weights by `1 - lr * weight_decay`, here by -6: they and the loss grow until they are numbers no
/// more. So they do after half the learning rate, by -2.5, but no more after a quarter.
const GROWS: [&str; 8] = [
    "run.reproducible=true",
    "run.epochs=30",
    "run.max_skipped=3",
    "optimizer.lr=0.1",
    "optimizer.weight_decay=70",
    "optimizer.clip=null",
    "schedule.name=constant",
    "schedule.warmup_steps=0",
];

fn start(scene: &Scene, sets: &[&str]) -> Running {
    scene.start_training(&[&GROWS, sets].concat())
}

#[test]
fn it_trains_to_the_end_once_the_learning_rate_is_small_enough() {
    let scene = Scene::with_blobs(15);
    let outcome = start(&scene, &["run.roll_backs=3"]).finish().succeeded();
    assert_eq!(outcome.json()["steps"], 90, "{outcome}");
    assert!(outcome.stderr.contains(" the learning rate is 0.25 of the schedule's from now on"), "{outcome}");
    let mut lr = 0.1;
    let (mut done, mut gone_back) = (0, 0);
    for event in events(&scene.run_dir()) {
        let number = |key: &str| event[key].as_f64().unwrap();
        match event["event"].as_str().unwrap() {
            "step" => {
                // It goes on behind the checkpoint, with the new rate.
                assert_eq!((number("step"), number("lr")), (done as f64 + 1.0, lr), "{event}");
                done += 1;
            }
            "rolled_back" => {
                lr /= 2.0;
                gone_back += 1;
                assert_eq!((number("from"), number("lr_factor")), (done as f64, lr / 0.1), "{event}");
                // Three steps failed, one at least counted, and three make an epoch.
                done = number("to") as u64;
                assert!(done.is_multiple_of(3) && done as f64 + 3.0 < number("from"), "{event}");
            }
            _ => {}
        }
    }
    // A third time where the second began just below the largest number.
    assert!((2..=3).contains(&gone_back) && done == 90, "{outcome}");
}

#[test]
fn it_gives_up_when_it_has_gone_back_as_often_as_it_may() {
    let scene = Scene::with_blobs(15);
    let outcome = start(&scene, &["run.roll_backs=1"]).finish();
    outcome
        .failed(2, &["training diverged at step", "in a row: 3", "smaller optimizer.lr", "run.roll_backs"]);
    assert_eq!(events_of(&scene.run_dir(), "rolled_back").len(), 1, "{outcome}");
    assert_eq!(events_of(&scene.run_dir(), "run_finished")[0]["status"], "failed");
}

#[test]
fn it_gives_up_when_there_is_nothing_good_to_go_back_to() {
    let scene = Scene::with_blobs(15);
    // The first step breaks the weights: all that is saved holds them.
    let broken = ["optimizer.lr=1e30", "run.roll_backs=20", "checkpoint.every_steps=1"];
    let outcome = start(&scene, &broken).finish();
    outcome.failed(2, &["training diverged at step 4"]);
    assert_eq!(events_of(&scene.run_dir(), "rolled_back").len(), 0, "{outcome}");
}

#[test]
fn behind_a_change_of_size_it_has_the_size_of_before() {
    // Few checkpoints: the evaluations' losses grow, and every fifth epoch of three steps is saved.
    let sets = ["run.roll_backs=3", "checkpoint.every=5", "checkpoint.metric=loss"];
    let scene = Scene::with_blobs(15);
    start(&scene, &[&sets[..], &["run.dir=plain"]].concat()).finish().succeeded();
    let plain = &events_of(&scene.path("plain"), "rolled_back")[0];
    let epoch = plain["to"].as_u64().unwrap() / 3 + 1;
    assert!(3 * epoch + 3 < plain["from"].as_u64().unwrap(), "{plain}");

    let phases = format!("phases=[{{epoch: {epoch}, size: 16}}]");
    let outcome = start(&scene, &[&sets[..], &[&phases]].concat()).finish().succeeded();
    assert_eq!(outcome.json()["steps"], 90, "{outcome}");
    let mut told = Vec::new();
    for event in events(&scene.run_dir()) {
        match event["event"].as_str().unwrap() {
            "phase_started" => told.push(event["size"][0].as_u64().unwrap()),
            "rolled_back" => told.push(0),
            _ => {}
        }
    }
    assert_eq!(told[..4], [16, 32, 0, 16], "{told:?}");
    assert_eq!(told.last(), Some(&32));
}

#[test]
fn stopped_after_that_it_goes_on_as_if_it_had_not_been() {
    let scene = Scene::with_blobs(15);
    let sets = ["run.roll_backs=3", "ema.decay=0.9", "checkpoint.keep_best=3"];
    let straight = start(&scene, &[&sets[..], &["run.dir=whole"]].concat()).finish().succeeded();
    for signal in ["INT", "KILL"] {
        let dir = format!("run.dir={signal}");
        let mut running = start(&scene, &[&sets[..], &[&dir]].concat());
        running.wait_for("rolled back from step");
        running.signal(signal);
        let stopped = running.finish();
        assert_eq!(stopped.code, (signal == "INT").then_some(130), "{stopped}");
        let end = scene.fullbore(&["train", "--resume", signal, "--json"]).succeeded();
        for key in ["steps", "metrics", "best"] {
            assert_eq!(end.json()[key], straight.json()[key], "{key} after {signal}: {end}");
        }
        let state = |dir: &str| -> BTreeMap<_, _> {
            let of =
                |which| tensors(&scene.path(dir), which).map(move |(name, bytes)| ((which, name), bytes));
            of("last").chain(of("best")).collect()
        };
        let (found, expected) = (state(signal), state("whole"));
        assert!(expected.keys().eq(found.keys()));
        for (name, bytes) in &expected {
            assert!(*bytes == found[name], "{name:?} differs after {signal}");
        }
    }
}

#[test]
fn more_often_than_makes_sense_is_refused() {
    let scene = Scene::with_blobs(6);
    scene.train(&["run.roll_backs=21"]).refused(&scene, 2, &["run.roll_backs: 21 cannot work", "at most 20"]);
    scene.train(&["run.roll_backs=-1"]).refused(&scene, 2, &["`run.roll_backs`", "whole number, 0 or more"]);
}
