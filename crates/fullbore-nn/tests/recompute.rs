//! A network whose blocks are computed again in backward: the same loss, gradients and statistics, bit for bit.

use fullbore_nn::models::{Head, Model, ModelConfig, ModelName, Up, Width};
use fullbore_nn::{NormConfig, NormKind, NormMode, Params, weights};
use fullbore_torch::{Autocast, Device, Kind, NoGrad, Tensor, manual_seed};

const SIDE: i64 = 16;

fn net(config: ModelConfig, kind: NormKind, recompute: bool) -> (Params, Box<dyn Model>) {
    manual_seed(4).unwrap();
    let mut params = Params::new(Device::Cpu);
    let model = config.build(&mut params, 3, 2, &NormConfig { kind, group: None, groups: 4 }).unwrap();
    params.set_recompute(recompute);
    (params, model)
}

fn unet(kind: NormKind, up: Up, recompute: bool) -> (Params, Box<dyn Model>) {
    let plain = ModelConfig::new(ModelName::Unet);
    net(ModelConfig { base: Some(8), depth: Some(2), up: Some(up), ..plain }, kind, recompute)
}

/// Everything that a step of 6 samples in micro-batches leaves behind: losses, gradients and their layout, then weights, statistics
/// and counters as they are saved.
fn step(
    (params, model): &(Params, Box<dyn Model>),
    side: i64,
    micro: i64,
    precision: Option<Kind>,
) -> (Vec<f32>, Vec<Vec<u8>>) {
    manual_seed(5).unwrap();
    let images = Tensor::randn(&[6, 3, side, side], Device::Cpu).unwrap();
    params.norm().set(NormMode::Train { group: 2, step: 6 });
    let mut values = Vec::new();
    for start in (0..6).step_by(micro as usize) {
        let x = images.narrow(0, start, micro.min(6 - start)).unwrap().channels_last().unwrap();
        let logits = {
            let _autocast = Autocast::new(Device::Cpu, precision).unwrap();
            model.forward(&x).unwrap()
        };
        let logits = logits.to_kind(Kind::Float).unwrap();
        let loss = logits.mul(&logits).unwrap().sum(Kind::Float).unwrap();
        loss.backward().unwrap();
        values.push(loss.item().unwrap() as f32);
    }
    for (name, parameter) in params.parameters() {
        let grad = parameter.grad().unwrap().unwrap_or_else(|| panic!("{name} has no gradient"));
        values.extend(grad.stride().into_iter().map(|step| step as f32));
        values.extend(grad.to_vec_f32().unwrap());
    }
    params.parameter_list().unwrap().drop_grads().unwrap();
    (values, weights::save(params, "").unwrap().into_iter().map(|tensor| tensor.bytes.into_owned()).collect())
}

#[test]
fn loss_gradients_and_statistics_are_the_same() {
    for kind in [NormKind::Batch, NormKind::Group] {
        for up in [Up::Transposed, Up::Bilinear] {
            for precision in [None, Some(Kind::BFloat16)] {
                let (kept, again) = (unet(kind, up, false), unet(kind, up, true));
                // 6: three statistics groups at once. 4: a last micro-batch of another size.
                for micro in [6, 4, 2] {
                    let (kept, again) =
                        (step(&kept, SIDE, micro, precision), step(&again, SIDE, micro, precision));
                    assert!(kept.0.iter().all(|value| value.is_finite()));
                    assert!(kept == again, "{kind:?} {up:?} {precision:?} by {micro}");
                }
            }
        }
    }
}

#[test]
fn so_they_are_in_the_other_networks() {
    let plain = ModelConfig::new(ModelName::Hrnet);
    let small = |head| ModelConfig { width: Some(Width::SmallV1), head: Some(head), ..plain.clone() };
    let resnet = |name| ModelConfig { layers: Some(18), ..ModelConfig::new(name) };
    for config in [
        small(Head::Concatenated),
        small(Head::Pose),
        resnet(ModelName::ResnetUnet),
        resnet(ModelName::ResnetDeconv),
    ] {
        let again = |recompute| step(&net(config.clone(), NormKind::Batch, recompute), 32, 4, None);
        let (kept, again) = (again(false), again(true));
        assert!(kept.0.iter().all(|value| value.is_finite()));
        assert!(kept.1 == again.1, "statistics of {config:?}");
        if config.name == ModelName::ResnetUnet {
            // A skip connection's gradient joins the two of a residual block, which recompute has added up before.
            let norm = |values: &mut dyn Iterator<Item = f32>| {
                values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
            };
            let difference = norm(&mut kept.0.iter().zip(&again.0).map(|(a, b)| a - b));
            assert!(difference <= 1e-5 * norm(&mut kept.0.iter().copied()), "{config:?}: {difference}");
        } else {
            assert!(kept.0 == again.0, "{config:?}");
        }
    }
}

#[test]
fn evaluation_is_the_same_and_leaves_statistics_alone() {
    let net = unet(NormKind::Batch, Up::Transposed, false);
    step(&net, SIDE, 6, None);
    let before: Vec<_> = weights::save(&net.0, "").unwrap();
    net.0.norm().set(NormMode::Eval);
    let x = Tensor::randn(&[2, 3, SIDE, SIDE], Device::Cpu).unwrap();
    let logits = |recompute| {
        net.0.set_recompute(recompute);
        let _off = NoGrad::new();
        net.1.forward(&x).unwrap()
    };
    let (kept, again) = (logits(false), logits(true));
    assert!(kept.equal(&again).unwrap() && !again.requires_grad());
    let after = weights::save(&net.0, "").unwrap();
    assert!(before.iter().zip(&after).all(|(before, after)| before.bytes == after.bytes));
}

#[test]
fn a_frozen_block_passes_its_gradient_on() {
    let grads = |recompute| {
        let (params, model) = unet(NormKind::Batch, Up::Transposed, recompute);
        // `inc` has neither weights nor input to learn from, `up1` only its input.
        for (_, tensor) in
            params.parameters().filter(|(name, _)| name.starts_with("inc") || name.starts_with("up1"))
        {
            tensor.set_requires_grad(false).unwrap();
        }
        params.norm().set(NormMode::Train { group: 2, step: 2 });
        manual_seed(5).unwrap();
        let logits = model.forward(&Tensor::randn(&[2, 3, SIDE, SIDE], Device::Cpu).unwrap()).unwrap();
        logits.mul(&logits).unwrap().sum(Kind::Float).unwrap().backward().unwrap();
        params
            .parameters()
            .map(|(_, tensor)| tensor.grad().unwrap().map(|grad| grad.to_vec_f32().unwrap()))
            .collect::<Vec<_>>()
    };
    let (kept, again) = (grads(false), grads(true));
    assert!(kept.iter().any(Option::is_none) && kept == again);
}
