//! Between log points the host reads nothing from the device: counted through libtorch's record hooks, which count on the
//! CPU as well. `FULLBORE_TEST_DEVICE=cuda` counts on a GPU.
//!
//! The count is process-wide: with `cargo test`, which runs tests of one file in threads, they take turns.

use std::sync::Mutex;

use fullbore_augment::{AugmentConfig, AugmentParams, Preset};
use fullbore_feed::augment::DeviceTwin;
use fullbore_feed::{DeviceBatch, Finish, Normalize, Targets};
use fullbore_nn::losses::LossName;
use fullbore_nn::models::{ModelConfig, ModelName};
use fullbore_nn::optim::{Optimizer, OptimizerConfig, OptimizerName};
use fullbore_nn::{NormConfig, NormKind, Params};
use fullbore_torch::{Device, HostReads, Kind, Tensor, Threads, count_host_reads, start};
use fullbore_train::ema::{Ema, EmaConfig};
use fullbore_train::step::{Engine, StepOutcome, StepSettings};
use fullbore_types::{Position, SampleId, SampleKey, Size};

const BATCH: i64 = 4;
const SIDE: i64 = 16;
const NOTHING: HostReads = HostReads { values: 0, copies: 0 };

static TURN: Mutex<()> = Mutex::new(());

fn device() -> Device {
    start();
    match std::env::var("FULLBORE_TEST_DEVICE").as_deref() {
        Ok("cuda") => Device::Cuda(0),
        _ => Device::Cpu,
    }
}

fn engine(name: OptimizerName, scaled: bool, clip_value: Option<f64>) -> Engine {
    let device = device();
    let mut params = Params::new(device);
    let config = ModelConfig { base: Some(4), depth: Some(2), ..ModelConfig::new(ModelName::Unet) };
    let norm = NormConfig { kind: NormKind::Batch, group: Some(2), groups: 2 };
    let model = config.build(&mut params, 3, 1, &norm).unwrap();
    let clip = if clip_value.is_none() { Some(1.0) } else { None };
    let config = OptimizerConfig { clip, clip_value, ..OptimizerConfig::new(name, 1e-3) };
    let optimizer = Optimizer::new(&params, &config, scaled).unwrap();
    let ema = Ema::new(&params, EmaConfig { decay: Some(0.9), warmup: true }).unwrap();
    let normalize = Normalize::new(&[0.5; 3], &[0.25; 3], device).unwrap();
    let settings = StepSettings {
        loss: LossName::BceDice.into(),
        precision: None,
        may_ignore: true,
        norm_group: Some(2),
        levels: 1,
        // The last of six micro-batches are replayed.
        recorded: Some(BATCH as usize),
    };
    let finish = Finish { normalize, twin: None, landmarks: None };
    Engine::new(model, params, optimizer, ema, finish, settings).unwrap()
}

fn batch() -> DeviceBatch {
    let images = Tensor::zeros(&[BATCH, SIDE, SIDE, 3], Kind::Uint8, device()).unwrap();
    let masks = Tensor::ones(&[BATCH, SIDE, SIDE], Kind::Uint8, device()).unwrap();
    DeviceBatch::from_tensors(images, Targets::Masks(masks), Position::default())
}

#[test]
fn the_counter_counts() {
    let _turn = TURN.lock().unwrap();
    let one = Tensor::ones(&[], Kind::Float, device()).unwrap();
    let (value, seen) = count_host_reads(|| one.item()).unwrap();
    assert_eq!((value, seen.values), (1.0, 1));
    let (_, seen) = count_host_reads(|| one.add_(&one)).unwrap();
    assert_eq!(seen, NOTHING);
    if device() != Device::Cpu {
        let (_, seen) = count_host_reads(|| one.to_device(Device::Cpu)).unwrap();
        assert_eq!(seen.copies, 1);
    }
}

#[test]
fn a_step_reads_nothing_whatever_is_on() {
    let _turn = TURN.lock().unwrap();
    // On a busy machine the threads of operations this small wait for each other.
    let _one = Threads::new(1);
    for name in [OptimizerName::Adamw, OptimizerName::Adam, OptimizerName::Sgd, OptimizerName::Rmsprop] {
        for (scaled, clip_value) in [(false, None), (true, None), (false, Some(0.5))] {
            let mut engine = engine(name, scaled, clip_value);
            let batches = [batch(), batch(), batch()];
            let ((), seen) = count_host_reads(|| {
                for (number, batch) in (1..).zip(batches) {
                    let mut open = engine.begin(batch, number)?;
                    assert!(matches!(engine.advance(&mut open, 2)?, StepOutcome::Done));
                    engine.update(open, 1e-3, number)?;
                }
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, NOTHING, "{name:?}, loss scale {scaled}, clip_value {clip_value:?}");
        }
    }
}

#[test]
fn augmentation_on_the_device_reads_nothing() {
    let _turn = TURN.lock().unwrap();
    let device = device();
    let size = Size::new(SIDE as u32, SIDE as u32);
    let policy = AugmentConfig::of(Preset::Strong).resolve(size, size, None).unwrap();
    let twin = DeviceTwin::new(&policy, &[0.5; 3], &[0.25; 3], Kind::Float, device).unwrap();
    let draw = |sample| policy.draw(SampleKey { seed: 0, epoch: 0, sample: SampleId(sample) });
    // So many that every operation of the preset is drawn for some.
    let params: Vec<AugmentParams> = (0..64).map(draw).collect();
    let images = Tensor::zeros(&[64, SIDE, SIDE, 3], Kind::Uint8, device).unwrap();
    let masks = Tensor::ones(&[64, SIDE, SIDE], Kind::Uint8, device).unwrap();
    let (_, seen) = count_host_reads(|| twin.apply(&images, Some(&masks), None, &params)).unwrap();
    assert_eq!(seen, NOTHING);
}
