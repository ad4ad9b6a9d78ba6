//! A network with heads at coarser levels trains all of them; its answer is the finest one's.

use fullbore_feed::{DeviceBatch, Finish, Normalize, Targets};
use fullbore_nn::losses::LossName;
use fullbore_nn::models::{ModelConfig, ModelName};
use fullbore_nn::optim::{Optimizer, OptimizerConfig, OptimizerName};
use fullbore_nn::{NormConfig, NormKind, NormMode, Params};
use fullbore_torch::{Device, Kind, NoGrad, Tensor, manual_seed, start};
use fullbore_train::step::{Engine, StepOutcome, StepSettings};
use fullbore_types::Position;

const BATCH: i64 = 4;
const SIDE: i64 = 16;
const HEADS: [&str; 3] = ["outc.conv.weight", "deep.0.weight", "deep.1.weight"];

fn engine(levels: usize) -> Engine {
    start();
    manual_seed(3).unwrap();
    let mut params = Params::new(Device::Cpu);
    let config = ModelConfig {
        base: Some(4),
        depth: Some(3),
        deep_supervision: 2,
        ..ModelConfig::new(ModelName::Unet)
    };
    let norm = NormConfig { kind: NormKind::Batch, group: None, groups: 2 };
    let model = config.build(&mut params, 3, 1, &norm).unwrap();
    let optimizer =
        Optimizer::new(&params, &OptimizerConfig::new(OptimizerName::Adamw, 1e-3), false).unwrap();
    let normalize = Normalize::new(&[0.5; 3], &[0.25; 3], Device::Cpu).unwrap();
    let finish = Finish { normalize, twin: None, landmarks: None };
    let settings = StepSettings {
        loss: LossName::BceDice.into(),
        precision: None,
        may_ignore: true,
        norm_group: Some(2),
        levels,
        recorded: None,
    };
    Engine::new(model, params, optimizer, None, finish, settings).unwrap()
}

fn noise(size: &[i64], high: f64) -> Tensor {
    let values = Tensor::empty(size, Kind::Float, Device::Cpu).unwrap();
    values.uniform_(0.0, high).unwrap();
    values.to_kind(Kind::Uint8).unwrap()
}

/// The largest gradient of each head after forward and backward by `micro` samples, and the loss.
fn gradients(levels: usize, micro: usize) -> (Vec<f64>, f64) {
    let mut engine = engine(levels);
    manual_seed(9).unwrap();
    let (images, masks) = (noise(&[BATCH, SIDE, SIDE, 3], 256.0), noise(&[BATCH, SIDE, SIDE], 2.0));
    let batch = DeviceBatch::from_tensors(images, Targets::Masks(masks), Position::default());
    let mut open = engine.begin(batch, 1).unwrap();
    assert!(matches!(engine.advance(&mut open, micro).unwrap(), StepOutcome::Done));
    let largest = |key: &str| {
        let (_, weight) = engine.params.parameters().find(|(name, _)| *name == key).unwrap();
        weight.grad().unwrap().map_or(0.0, |grad| grad.max_abs().unwrap())
    };
    let found = HEADS.map(largest).to_vec();
    (found, engine.update(open, 1e-3, 1).unwrap().loss.item().unwrap())
}

#[test]
fn every_head_is_trained() {
    let (whole, loss) = gradients(3, BATCH as usize);
    assert!(whole.iter().all(|&largest| largest > 0.0), "{whole:?}");
    let (finest, _) = gradients(1, BATCH as usize);
    assert!(finest[0] > 0.0 && finest[1..] == [0.0, 0.0], "{finest:?}");
    let (split, split_loss) = gradients(3, 2);
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-5 * a.abs();
    assert!(whole.iter().zip(&split).all(close) && close((&loss, &split_loss)), "{whole:?} {split:?}");
}

#[test]
fn the_answer_is_the_finest_level() {
    let engine = engine(3);
    let _no_grad = NoGrad::new();
    engine.params.norm().set(NormMode::Eval);
    let images = Tensor::randn(&[1, 3, SIDE, SIDE], Device::Cpu).unwrap();
    let answer = engine.logits(&images).unwrap();
    assert_eq!(answer.size(), [1, 1, SIDE, SIDE]);
    let finest = &engine.model.forward_levels(&images).unwrap()[0];
    assert_eq!(answer.sub(finest).unwrap().max_abs().unwrap(), 0.0);
}
