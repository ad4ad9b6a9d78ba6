//! `activation: recompute` holds less memory in a step, and changes nothing else.

use fullbore_feed::{DeviceBatch, Finish, Normalize, Targets};
use fullbore_nn::losses::LossName;
use fullbore_nn::models::{ModelConfig, ModelName};
use fullbore_nn::optim::{Optimizer, OptimizerConfig, OptimizerName};
use fullbore_nn::{NormConfig, NormKind, Params, weights};
use fullbore_torch::{Device, Kind, Tensor, cpu_memory, manual_seed, reset_cpu_peak, start};
use fullbore_train::step::{Engine, StepOutcome, StepSettings};
use fullbore_types::Position;

const SIDE: i64 = 64;

/// The peak of a second step above what the engine holds for good, and the bytes of all weights and statistics after it.
fn two_steps(recompute: bool) -> (u64, Vec<Vec<u8>>) {
    manual_seed(1).unwrap();
    let mut params = Params::new(Device::Cpu);
    let config = ModelConfig { base: Some(8), ..ModelConfig::new(ModelName::Unet) };
    let norm = NormConfig { kind: NormKind::Batch, group: None, groups: 1 };
    let model = config.build(&mut params, 3, 1, &norm).unwrap();
    params.set_recompute(recompute);
    let optimizer =
        Optimizer::new(&params, &OptimizerConfig::new(OptimizerName::Adamw, 1e-3), false).unwrap();
    let normalize = Normalize::new(&[0.5; 3], &[0.25; 3], Device::Cpu).unwrap();
    let finish = Finish { normalize, twin: None, landmarks: None };
    let settings = StepSettings {
        loss: LossName::BceDice.into(),
        precision: None,
        may_ignore: false,
        norm_group: Some(2),
        levels: 1,
        recorded: None,
    };
    let mut engine = Engine::new(model, params, optimizer, None, finish, settings).unwrap();

    let bytes = |size: &[i64], high| {
        let values = Tensor::empty(size, Kind::Float, Device::Cpu).unwrap();
        values.uniform_(0.0, high).unwrap();
        values.to_kind(Kind::Uint8).unwrap()
    };
    let (images, masks) = (bytes(&[4, SIDE, SIDE, 3], 256.0), bytes(&[4, SIDE, SIDE], 2.0));
    let mut peak = 0;
    for number in 1..=2 {
        let held = cpu_memory().in_use;
        reset_cpu_peak();
        let batch =
            DeviceBatch::from_tensors(images.clone(), Targets::Masks(masks.clone()), Position::default());
        let mut open = engine.begin(batch, 1).unwrap();
        assert!(matches!(engine.advance(&mut open, 4).unwrap(), StepOutcome::Done));
        engine.update(open, 1e-3, number).unwrap();
        peak = cpu_memory().peak - held;
    }
    let state = weights::save(&engine.params, "").unwrap();
    (peak, state.into_iter().map(|tensor| tensor.bytes.into_owned()).collect())
}

#[test]
fn a_step_holds_a_third_less_and_trains_the_same() {
    start();
    let ((kept, expected), (again, state)) = (two_steps(false), two_steps(true));
    eprintln!("{} KiB kept, {} KiB computed again", kept >> 10, again >> 10);
    assert!(again * 3 <= kept * 2, "{again} of {kept} bytes");
    assert!(state == expected);
}
