//! From the batch to the loss and back, and in the update, nothing changes the order of an image or a weight in memory: counted
//! through libtorch's record hooks. `FULLBORE_TEST_DEVICE=cuda` counts on a GPU.
//!
//! What is left, on the CPU: libtorch's backward of bilinear upsampling knows NCHW only, and so does its softmax over classes, which
//! lies behind the last convolution.
//!
//! The count is process-wide: with `cargo test`, which runs tests of one file in threads, they take turns.

use std::sync::Mutex;

use fullbore_feed::augment::Points;
use fullbore_feed::{DeviceBatch, Finish, Landmarks, Normalize, Targets};
use fullbore_nn::losses::{LossName, Task};
use fullbore_nn::models::{ModelConfig, ModelName, Up, Width};
use fullbore_nn::optim::{Optimizer, OptimizerConfig, OptimizerName};
use fullbore_nn::{NormConfig, NormKind, NormMode, Params};
use fullbore_torch::{Device, Kind, Layouts, Tensor, Threads, count_layouts, manual_seed, start};
use fullbore_train::step::{Engine, StepOutcome, StepSettings};
use fullbore_types::{Position, Size};

const BATCH: i64 = 4;
const SIDE: u32 = 64;
const NORM: NormConfig = NormConfig { kind: NormKind::Batch, group: Some(2), groups: 2 };

static TURN: Mutex<()> = Mutex::new(());

fn device() -> Device {
    start();
    match std::env::var("FULLBORE_TEST_DEVICE").as_deref() {
        Ok("cuda") => Device::Cuda(0),
        _ => Device::Cpu,
    }
}

fn unet() -> ModelConfig {
    ModelConfig { base: Some(8), depth: Some(3), ..ModelConfig::new(ModelName::Unet) }
}

/// Each with how often it upsamples bilinearly, at a side of 64 pixels: where one pixel becomes more, both
/// orders are the same memory.
fn networks() -> Vec<(ModelConfig, u64)> {
    let of = ModelConfig::new;
    vec![
        (unet(), 0),
        (ModelConfig { up: Some(Up::Bilinear), ..unet() }, 3),
        (ModelConfig { deep_supervision: 2, ..unet() }, 0),
        (ModelConfig { layers: Some(18), ..of(ModelName::ResnetUnet) }, 0),
        (ModelConfig { width: Some(Width::SmallV1), ..of(ModelName::Hrnet) }, 3),
        (ModelConfig { layers: Some(18), ..of(ModelName::ResnetDeconv) }, 0),
    ]
}

/// With `maps` classes or landmarks.
fn engine(config: &ModelConfig, maps: i64, kind: NormKind, precision: Option<Kind>) -> Engine {
    let device = device();
    manual_seed(1).unwrap();
    let mut params = Params::new(device);
    let model = config.build(&mut params, 3, maps, &NormConfig { kind, ..NORM }).unwrap();
    let optimizer =
        Optimizer::new(&params, &OptimizerConfig::new(OptimizerName::Adamw, 1e-3), false).unwrap();
    let normalize = Normalize::new(&[0.5; 3], &[0.25; 3], device).unwrap();
    let stride = config.output_stride();
    let loss = match (stride, maps) {
        (2.., _) => LossName::Mse,
        (_, 1) => LossName::BceDice,
        _ => LossName::CeDice,
    };
    let landmarks = (loss.task() == Task::Landmarks).then(|| {
        let (input, map) = (Size::new(SIDE, SIDE), Size::new(SIDE / stride, SIDE / stride));
        let ones = vec![1.0; maps as usize];
        Landmarks::new(None, &ones, &ones, input, map, device).unwrap()
    });
    let settings = StepSettings {
        loss: loss.into(),
        precision,
        may_ignore: true,
        norm_group: Some(2),
        levels: 1 + config.deep_supervision as usize,
        recorded: None,
    };
    let finish = Finish { normalize, twin: None, landmarks };
    Engine::new(model, params, optimizer, None, finish, settings).unwrap()
}

fn batch(engine: &Engine, maps: i64) -> DeviceBatch {
    let random = |size: &[i64], high: f64| {
        let values = Tensor::empty(size, Kind::Float, device()).unwrap();
        values.uniform_(0.0, high).unwrap();
        values
    };
    let side = i64::from(SIDE);
    let bytes = |size: &[i64], high| random(size, high).to_kind(Kind::Uint8).unwrap();
    let targets = match engine.finish.landmarks {
        None => Targets::Masks(bytes(&[BATCH, side, side], maps.max(2) as f64)),
        Some(_) => Targets::Points(Points {
            places: random(&[BATCH, maps, 2], f64::from(SIDE)),
            visibility: Tensor::ones(&[BATCH, maps], Kind::Uint8, device()).unwrap(),
        }),
    };
    DeviceBatch::from_tensors(bytes(&[BATCH, side, side, 3], 256.0), targets, Position::default())
}

/// What convolutions meet in a step of two micro-batches, the update included.
fn step(config: &ModelConfig, maps: i64, kind: NormKind, precision: Option<Kind>) -> Layouts {
    let mut engine = engine(config, maps, kind, precision);
    let batch = batch(&engine, maps);
    let step = || {
        let mut open = engine.begin(batch, 1)?;
        assert!(matches!(engine.advance(&mut open, 2)?, StepOutcome::Done));
        engine.update(open, 1e-3, 1).map(drop)
    };
    count_layouts(step).unwrap().1
}

#[test]
fn the_counter_counts() {
    let _turn = TURN.lock().unwrap();
    let _one = Threads::new(1);
    let engine = engine(&unet(), 1, NormKind::Batch, None);
    engine.params.norm().set(NormMode::Train { group: 2, step: BATCH });
    let plain = Tensor::randn(&[BATCH, 3, i64::from(SIDE), i64::from(SIDE)], device()).unwrap();
    let (images, seen) = count_layouts(|| plain.channels_last()).unwrap();
    assert_eq!(seen, Layouts { conversions: 1, ..Layouts::default() });
    let (_, good) = count_layouts(|| engine.model.forward(&images)).unwrap();
    let (_, bad) = count_layouts(|| engine.model.forward(&plain)).unwrap();
    assert_eq!(good, Layouts { convolutions: 18, ..Layouts::default() });
    assert!(bad.in_other_order >= 1 && bad.convolutions == 18, "{bad:?}");
    // What cuDNN does with it is its own affair.
    assert!(bad.conversions >= 1 || device() != Device::Cpu, "{bad:?}");
}

#[test]
fn no_network_converts_anything_in_a_step() {
    let _turn = TURN.lock().unwrap();
    let _one = Threads::new(1);
    for (config, upsamplings) in networks() {
        let plain = (NormKind::Batch, None);
        for (kind, precision) in [plain, (NormKind::Group, None), (NormKind::Batch, Some(Kind::BFloat16))] {
            let maps = if config.output_stride() > 1 { 3 } else { 1 };
            let seen = step(&config, maps, kind, precision);
            let what = format!("{:?} {kind:?} {precision:?}: {seen:?}", config.name);
            assert!(seen.convolutions > 50, "{what}");
            assert_eq!((seen.in_other_order, seen.conversions), (0, 0), "{what}");
            // Two micro-batches, there and back, and on the CPU alone.
            let on_cpu = if device() == Device::Cpu { 4 * upsamplings } else { 0 };
            assert_eq!(seen.in_upsampling, on_cpu, "{what}");
        }
    }
}

#[test]
fn classes_are_put_in_the_order_of_libtorchs_softmax() {
    let _turn = TURN.lock().unwrap();
    let _one = Threads::new(1);
    let seen = step(&unet(), 3, NormKind::Batch, None);
    // In each of two micro-batches: for log_softmax and softmax, and their gradient for the head's convolution. Without
    // oneDNN, which libtorch passes over where the work is small, that is converted twice.
    assert!(seen.in_other_order == 2 && (6..=8).contains(&seen.conversions), "{seen:?}");
}
