//! Equality with PyTorch, from the fixtures it made (fixtures/README.md tells how, and how distance is measured).

mod fixture;

use fixture::{Fixture, TOLERANCE, assert_close, distance, drawn_from, test_device};
use fullbore_nn::losses::{LossName, StepTotals};
use fullbore_nn::metrics::Confusion;
use fullbore_nn::models::{Model, ModelConfig, ModelName, Up};
use fullbore_nn::optim::{Optimizer, OptimizerConfig, OptimizerName};
use fullbore_nn::params::Entry;
use fullbore_nn::{NormConfig, NormKind, NormMode, Params, weights};
use fullbore_torch::{Kind, NoGrad};

/// The network of the manifest with freshly drawn weights.
fn network(fixture: &Fixture) -> (Params, Box<dyn Model>) {
    let model = &fixture.manifest["model"];
    let number = |key: &str| model[key].as_u64().unwrap();
    let config = ModelConfig {
        name: ModelName::Unet,
        base: number("base") as u32,
        depth: number("depth") as u32,
        up: if model["up"] == "bilinear" { Up::Bilinear } else { Up::Transposed },
        weights: None,
    };
    let norm = NormConfig {
        kind: if model["norm"]["kind"] == "group" { NormKind::Group } else { NormKind::Batch },
        group: None,
        groups: model["norm"]["groups"].as_u64().unwrap_or(1) as u32,
    };
    let mut params = Params::new(test_device());
    let net = drawn_from(fixture.manifest["seed"].as_u64().unwrap(), || {
        config.build(&mut params, number("inputs") as i64, number("classes") as i64, &norm).unwrap()
    });
    (params, net)
}

fn train_mode(params: &Params, samples: i64) {
    params.norm().set(NormMode::Train { group: samples, step: samples });
}

fn unet_equals_pytorch(name: &str) {
    let fixture = Fixture::load(name);
    let (params, net) = network(&fixture);
    assert_eq!(params.count() as u64, fixture.manifest["parameters"].as_u64().unwrap());

    // Initial values: the same seed draws the same weights.
    for (key, entry) in params.entries() {
        if let Entry::Parameter(ours) | Entry::Buffer(ours) = entry {
            assert_close(&format!("initial {key}"), ours, &fixture.tensor(&format!("state.{key}")));
        }
    }
    let report = weights::load(&params, fixture.group("state.")).unwrap();
    assert!(report.is_complete() && report.unused.is_empty(), "{report}");
    assert_eq!(report.applied, params.entries().count());

    // Training mode: logits, loss, every gradient, running statistics.
    let (x, target) = (fixture.tensor("x"), fixture.tensor("target"));
    train_mode(&params, x.size()[0]);
    let logits = net.forward(&x.channels_last().unwrap()).unwrap();
    assert_close("logits", &logits, &fixture.tensor("logits"));
    let totals = StepTotals::of(&target, true).unwrap();
    let loss = LossName::Ce.share(&logits, &target, &totals).unwrap();
    assert_close("loss", &loss, &fixture.tensor("loss"));
    loss.backward().unwrap();
    for (key, parameter) in params.parameters() {
        let grad = parameter.grad().unwrap().expect("every parameter has a gradient");
        assert_close(&format!("gradient of {key}"), &grad, &fixture.tensor(&format!("grad.{key}")));
    }
    let after: Vec<_> = weights::save(&params, "after.").unwrap();
    let mut statistics = 0;
    for (name, theirs) in fixture.group("after.") {
        let ours = after.iter().find(|t| t.name == format!("after.{name}")).unwrap();
        let what = format!("{name} after a step");
        assert_close(&what, &weights::from_named(ours).unwrap(), &weights::from_named(theirs).unwrap());
        statistics += 1;
    }
    let is_batch_norm = fixture.manifest["model"]["norm"]["kind"] == "batch";
    assert_eq!(statistics > 0, is_batch_norm);

    // Evaluation mode, also with sides that are no multiple of the stride.
    let _no_grad = NoGrad::new();
    params.norm().set(NormMode::Eval);
    assert_close("logits in evaluation", &net.forward(&x).unwrap(), &fixture.tensor("logits_eval"));
    let odd = net.forward(&fixture.tensor("x_odd")).unwrap();
    assert_close("logits of odd sides", &odd, &fixture.tensor("logits_odd"));
}

#[test]
fn unet_with_transposed_convolutions() {
    unet_equals_pytorch("unet_transposed");
}

#[test]
fn unet_with_bilinear_upsampling() {
    unet_equals_pytorch("unet_bilinear");
}

#[test]
fn unet_with_group_norm() {
    unet_equals_pytorch("unet_group_norm");
}

#[test]
fn ten_adamw_steps_with_clipping() {
    let fixture = Fixture::load("adamw");
    let (params, net) = network(&fixture);
    let initial = Fixture::load("unet_transposed");
    let report = weights::load(&params, initial.group("state.")).unwrap();
    assert_eq!(report.mismatched.len(), 2, "only the head differs: {report}");
    weights::load(&params, fixture.group("init.")).unwrap();

    let config = OptimizerConfig { clip: Some(1.0), ..OptimizerConfig::new(OptimizerName::Adamw, 1e-3) };
    let optimizer = Optimizer::new(&params, &config, false).unwrap();
    let losses = fixture.tensor("losses").to_vec_f32().unwrap();
    let norms = fixture.tensor("grad_norms").to_vec_f32().unwrap();
    assert!(norms.iter().any(|&n| n > 1.0), "no step clips");
    for i in 0..10 {
        let x = fixture.tensor(&format!("x.{i}")).to_kind(Kind::Float).unwrap();
        let x = x.mul_scalar(1.0 / 255.0).unwrap().channels_last().unwrap();
        let target = fixture.tensor(&format!("target.{i}")).reshape(&[-1, 32, 32]).unwrap();
        train_mode(&params, x.size()[0]);
        let totals = StepTotals::of(&target, false).unwrap();
        let loss = LossName::Bce.share(&net.forward(&x).unwrap(), &target, &totals).unwrap();
        loss.backward().unwrap();
        let norm = optimizer.step(1e-3, &loss.detach().unwrap()).unwrap().item().unwrap();
        optimizer.drop_grads().unwrap();
        let relative = |ours: f64, theirs: f32| (ours - f64::from(theirs)).abs() / f64::from(theirs);
        assert!(relative(loss.item().unwrap(), losses[i]) < TOLERANCE, "loss of step {i}");
        assert!(relative(norm, norms[i]) < TOLERANCE, "gradient norm of step {i}");
    }
    // The whole state as one vector: single small tensors move by more than 1e-5 between two ways in which PyTorch
    // itself may compute them (channels_last or not, number of threads; see the manifest).
    let (mut difference, mut norm) = (0.0, 0.0);
    for (key, entry) in params.entries() {
        if let Entry::Parameter(ours) | Entry::Buffer(ours) = entry {
            let theirs = fixture.tensor(&format!("state.{key}"));
            let n = theirs.to_kind(Kind::Double).unwrap().norm().unwrap().item().unwrap();
            difference += (distance(ours, &theirs) * n).powi(2);
            norm += n.powi(2);
        }
    }
    let d = (difference / norm).sqrt();
    assert!(d <= TOLERANCE, "state after ten steps: relative distance {d:.1e}");
}

#[test]
fn losses_and_their_gradients() {
    let fixture = Fixture::load("losses");
    let cases = [
        (LossName::Bce, "binary", "bce"),
        (LossName::BceDice, "binary", "bce_dice"),
        (LossName::Ce, "multi", "ce"),
        (LossName::CeDice, "multi", "ce_dice"),
    ];
    for (loss, logits, name) in cases {
        for case in [logits.to_string(), format!("{logits}_all_ignored")] {
            let logits = fixture.tensor(&format!("{logits}.logits")).set_requires_grad(true).unwrap();
            let target = fixture.tensor(&format!("{case}.target"));
            let totals = StepTotals::of(&target, true).unwrap();
            let value = loss.share(&logits, &target, &totals).unwrap();
            assert_close(&format!("{case} {name}"), &value, &fixture.tensor(&format!("{case}.{name}.value")));
            value.backward().unwrap();
            let grad = logits.grad().unwrap().unwrap();
            let expected = fixture.tensor(&format!("{case}.{name}.grad"));
            assert_close(&format!("{case} {name} gradient"), &grad, &expected);

            // Split into two micro-batches, the shares add up to the same.
            let (a, b) = (1, logits.size()[0] - 1);
            let part = |start, n| {
                let (l, t) = (logits.narrow(0, start, n).unwrap(), target.narrow(0, start, n).unwrap());
                loss.share(&l.detach().unwrap(), &t, &totals).unwrap()
            };
            let sum = part(0, a).add(&part(a, b)).unwrap();
            assert!((sum.item().unwrap() - value.item().unwrap()).abs() < 1e-5, "{case} {name} split");
        }
    }
}

#[test]
fn scores_per_class() {
    let fixture = Fixture::load("metrics");
    let cases = fixture.manifest["cases"].as_object().unwrap();
    assert!(cases.len() >= 2);
    for (name, case) in cases {
        let classes = case["classes"].as_u64().unwrap() as usize;
        let confusion = Confusion::new(classes, test_device()).unwrap();
        let (prediction, target) =
            (fixture.tensor(&format!("{name}.prediction")), fixture.tensor(&format!("{name}.target")));
        // Image by image: the counts pool.
        for i in 0..prediction.size()[0] {
            confusion.update(&prediction.select(0, i).unwrap(), &target.select(0, i).unwrap()).unwrap();
        }
        for (class, scores) in confusion.read().unwrap().into_iter().enumerate() {
            let expected = |key: &str| case[key][class].as_f64();
            let close = |ours: Option<f64>, theirs: Option<f64>| match (ours, theirs) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-12,
                (a, b) => a == b,
            };
            assert!(close(Some(scores.dice), expected("dice")), "{name} {class} {scores:?}");
            assert!(close(Some(scores.iou), expected("iou")), "{name} {class} {scores:?}");
            assert!(close(scores.precision, expected("precision")), "{name} {class} {scores:?}");
            assert!(close(scores.recall, expected("recall")), "{name} {class} {scores:?}");
        }
    }
}
