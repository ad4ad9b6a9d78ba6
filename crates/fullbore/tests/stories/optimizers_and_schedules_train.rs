use crate::scaffold::{Scene, events_of, tensors};

#[test]
fn every_optimizer_learns_under_a_schedule_of_its_own() {
    let scene = Scene::with_blobs(15);
    for (name, sets) in [
        ("sgd", &["optimizer.momentum=0.9", "optimizer.nesterov=true", "schedule.name=poly"][..]),
        ("adam", &["optimizer.betas=[0.9, 0.99]", "schedule.name=step", "schedule.gamma=0.5"]),
        ("rmsprop", &["optimizer.alpha=0.9", "schedule.name=one_cycle", "schedule.warmup_steps=null"]),
        ("adamw", &["optimizer.decay_norm_and_bias=false", "schedule.name=plateau"]),
    ] {
        let (dir, name) = (format!("run.dir={name}"), format!("optimizer.name={name}"));
        let all = [&[&*dir, &*name, "run.epochs=8"], sets].concat();
        scene.train(&all).succeeded();
        let steps = events_of(&scene.path(&dir["run.dir=".len()..]), "step");
        let loss = |i: usize| steps[i]["loss"].as_f64().unwrap();
        assert!(
            loss(steps.len() - 1) < 0.9 * loss(0),
            "{name}: from {} to {}",
            loss(0),
            loss(steps.len() - 1)
        );
    }
}

#[test]
fn the_learning_rate_follows_schedule_and_batch() {
    let scene = Scene::with_blobs(15);
    let sets = ["run.epochs=4", "schedule.name=step", "schedule.step_size=5", "schedule.scale_with_batch=8"];
    scene.train(&sets).succeeded();
    let steps = events_of(&scene.run_dir(), "step");
    let rates: Vec<f64> = steps.iter().map(|step| step["lr"].as_f64().unwrap()).collect();
    // Half of optimizer.lr (batch.size 4 of 8), two steps of warm-up, then a tenth every five steps.
    let expected = [0.0025, 0.005].into_iter().chain([0.005; 5]).chain([0.0005; 5]);
    for (lr, expected) in rates.iter().zip(expected) {
        assert!((lr - expected).abs() < 1e-12, "{rates:?}");
    }
    assert_eq!(rates.len(), 12);
}

#[test]
fn a_frozen_part_stays_as_it_was() {
    let scene = Scene::with_blobs(15);
    let frozen = "optimizer.groups=[{match: inc, frozen: true}, {match: 'down*', lr_factor: 0.1}]";
    scene.train(&["run.steps=1", "run.dir=one", frozen]).succeeded();
    scene.train(&["run.steps=5", "run.dir=five", frozen]).succeeded();
    let weights = |run: &str| -> Vec<_> {
        tensors(&scene.path(run), "last").filter(|(name, _)| name.starts_with("model.")).collect()
    };
    for ((name, one), (_, five)) in weights("one").into_iter().zip(weights("five")) {
        assert_eq!(one == five, name.starts_with("model.inc."), "{name}");
    }
}

#[test]
fn settings_that_an_optimizer_or_schedule_cannot_use() {
    let scene = Scene::with_blobs(6);
    for (sets, words) in [
        (
            &["optimizer.momentum=0.9"][..],
            &["optimizer.momentum: 0.9", "null, because optimizer.name is adamw", "sgd, rmsprop"][..],
        ),
        (&["optimizer.name=lion"], &["`optimizer.name`", "lion", "adamw | adam | sgd | rmsprop"]),
        (&["optimizer.clip_value=1"], &["optimizer.clip_value: 1", "optimizer.clip"]),
        (
            &["optimizer.groups=[{match: encoder}]"],
            &["optimizer.groups: `encoder`", "no parameter has such a name"],
        ),
        (
            &["optimizer.groups=[{match: inc, lr: 1}]"],
            &["`optimizer.groups.0.lr`: unknown key `lr`", "`lr_factor`"],
        ),
        (&["schedule.gamma=0.5"], &["schedule.gamma: 0.5", "schedule.name is cosine", "step may set it"]),
        (&["schedule.name=one_cycle"], &["schedule.warmup_steps: 2", "one_cycle rises by itself"]),
        (&["early_stop.metric=iou"], &["early_stop.metric: iou", "dice, loss, or one of"]),
        (&["checkpoint.every_minutes=0"], &["checkpoint.every_minutes: 0", "above 0"]),
        (&["ema.decay=1"], &["ema.decay: 1", "between 0 and 1"]),
    ] {
        scene.train(sets).refused(&scene, 2, words);
    }
}

#[test]
fn half_precision_trains_and_keeps_its_loss_scale() {
    let scene = Scene::with_blobs(10);
    let outcome =
        scene.train(&["precision=fp16", "run.epochs=2", "ema.decay=0.9", "ema.warmup=true"]).succeeded();
    assert!(outcome.stderr.contains(", fp16, "), "{outcome}");
    assert!(outcome.json()["loss"].as_f64().unwrap().is_finite());
    let saved: Vec<_> = tensors(&scene.run_dir(), "last").collect();
    let number = |wanted: &str| {
        let (_, bytes) = saved.iter().find(|(name, _)| name == wanted).unwrap_or_else(|| panic!("{wanted}"));
        f32::from_le_bytes(bytes.as_slice().try_into().unwrap())
    };
    let (steps, skipped) = (number("optimizer.step"), number("optimizer.skipped"));
    assert_eq!(steps + skipped, 4.0);
    // Halved for every skipped step.
    assert_eq!(number("optimizer.scaler.scale"), 65536.0 / 2f32.powf(skipped));
}
