//! Equality with PyTorch, from the fixtures it made (fixtures/README.md tells how, and how distance is measured).

mod fixture;

use fixture::{Fixture, TOLERANCE, assert_close, distance, drawn_from, test_device};
use fullbore_nn::losses::{HeatmapTargets, LossConfig, LossName, StepTotals};
use fullbore_nn::metrics::Confusion;
use fullbore_nn::models::{Model, ModelConfig, ModelName, Up};
use fullbore_nn::optim::{Optimizer, OptimizerConfig, OptimizerName};
use fullbore_nn::params::Entry;
use fullbore_nn::{NormConfig, NormKind, NormMode, Params, weights};
use fullbore_torch::{Kind, NoGrad, Tensor};

/// The network of the manifest with freshly drawn weights.
fn network(fixture: &Fixture) -> (Params, Box<dyn Model>) {
    let model = &fixture.manifest["model"];
    let number = |key: &str| model[key].as_u64().unwrap();
    let config = ModelConfig {
        base: Some(number("base") as u32),
        depth: Some(number("depth") as u32),
        up: Some(if model["up"] == "bilinear" { Up::Bilinear } else { Up::Transposed }),
        ..ModelConfig::new(ModelName::Unet)
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
    let ce = LossConfig::from(LossName::Ce);
    let totals = StepTotals::of(&target, true, &ce).unwrap();
    let loss = ce.share(&logits, &target, &totals).unwrap();
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
        let bce = LossConfig::from(LossName::Bce);
        let totals = StepTotals::of(&target, false, &bce).unwrap();
        let loss = bce.share(&net.forward(&x).unwrap(), &target, &totals).unwrap();
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

/// Value and gradient against `CASE.value` and `CASE.grad` of a fixture; the value comes back.
fn assert_loss(fixture: &Fixture, case: &str, input: &Tensor, loss: impl Fn(&Tensor) -> Tensor) -> f64 {
    let input = input.detach().unwrap().set_requires_grad(true).unwrap();
    let value = loss(&input);
    assert_close(case, &value, &fixture.tensor(&format!("{case}.value")));
    value.backward().unwrap();
    let grad = input.grad().unwrap().unwrap();
    assert_close(&format!("{case} gradient"), &grad, &fixture.tensor(&format!("{case}.grad")));
    value.item().unwrap()
}

#[test]
fn losses_of_masks_and_their_gradients() {
    let fixture = Fixture::load("losses");
    let of = LossConfig::from;
    let weights = |weights: &[f64]| Some(weights.to_vec());
    let (binary, multi) = (weights(&[0.5, 3.0]), weights(&[0.5, 3.0, 1.5]));
    let cases = [
        ("bce", "binary", of(LossName::Bce)),
        ("bce_dice", "binary", of(LossName::BceDice)),
        ("bce_weighted", "binary", LossConfig { class_weights: binary, ..of(LossName::Bce) }),
        ("bce_pos_weight", "binary", LossConfig { pos_weight: Some(4.0), ..of(LossName::Bce) }),
        ("dice", "binary", of(LossName::Dice)),
        ("focal", "binary", of(LossName::Focal)),
        ("tversky", "binary", of(LossName::Tversky)),
        ("focal_tversky", "binary", of(LossName::FocalTversky)),
        ("ce", "multi", of(LossName::Ce)),
        ("ce_dice", "multi", of(LossName::CeDice)),
        ("ce_weighted", "multi", LossConfig { class_weights: multi.clone(), ..of(LossName::Ce) }),
        ("dice", "multi", of(LossName::Dice)),
        ("dice_smooth", "multi", LossConfig { smooth: Some(10.0), ..of(LossName::Dice) }),
        ("focal", "multi", of(LossName::Focal)),
        (
            "focal_weighted",
            "multi",
            LossConfig { gamma: Some(1.5), class_weights: multi, ..of(LossName::Focal) },
        ),
        ("tversky", "multi", of(LossName::Tversky)),
        ("focal_tversky", "multi", of(LossName::FocalTversky)),
    ];
    for (name, kind, loss) in cases {
        for case in [kind.to_string(), format!("{kind}_all_ignored")] {
            let logits = fixture.tensor(&format!("{kind}.logits"));
            let target = fixture.tensor(&format!("{case}.target"));
            let totals = StepTotals::of(&target, true, &loss).unwrap();
            let value = assert_loss(&fixture, &format!("{case}.{name}"), &logits, |logits| {
                loss.share(logits, &target, &totals).unwrap()
            });
            if case != kind {
                assert_eq!(value, 0.0, "{case} {name}");
            }
        }
    }
}

#[test]
fn losses_of_heat_maps_and_their_gradients() {
    let fixture = Fixture::load("heatmap_losses");
    let targets = HeatmapTargets {
        maps: fixture.tensor("targets"),
        points: fixture.tensor("points"),
        weights: fixture.tensor("weights"),
    };
    let total = HeatmapTargets::total(&targets.weights).unwrap();
    let coord = |name| LossConfig { coord_weight: Some(20.0), ..LossConfig::from(name) };
    let cases = [
        ("mse", LossName::Mse.into()),
        ("mse_coord", coord(LossName::Mse)),
        ("mse_weighted", LossName::MseWeighted.into()),
        ("adaptive_wing", LossName::AdaptiveWing.into()),
        ("wing", LossName::Wing.into()),
        ("softmax_ce", LossName::SoftmaxCe.into()),
        ("softmax_ce_coord", coord(LossName::SoftmaxCe)),
    ];
    for (name, loss) in cases {
        let loss = loss.heatmap().unwrap();
        let maps = fixture.tensor("maps");
        assert_loss(&fixture, name, &maps, |maps| loss.share(maps, &targets, &total).unwrap());
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
