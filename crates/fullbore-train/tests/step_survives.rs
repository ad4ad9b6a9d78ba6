//! A step that runs out of memory, in forward or in backward, ends in the same weights as one that does not. One that is not
//! finite leaves everything as it was, and so does one that is rehearsed.
//!
//! The CPU budget is process-wide: with `cargo test`, which runs tests of one file in threads, they take turns.

use std::sync::Mutex;

use fullbore_feed::{DeviceBatch, Finish, Normalize, Targets};
use fullbore_nn::layers::recompute::Activation;
use fullbore_nn::losses::LossName;
use fullbore_nn::models::{ModelConfig, ModelName};
use fullbore_nn::optim::{Optimizer, OptimizerConfig, OptimizerName};
use fullbore_nn::params::Entry;
use fullbore_nn::{NormConfig, NormKind, Params};
use fullbore_torch::{
    Device, Kind, Tensor, Threads, cpu_memory, manual_seed, release_cached_cpu_memory, reset_cpu_peak,
    rng_state, set_cpu_budget, start,
};
use fullbore_train::ema::{Ema, EmaConfig};
use fullbore_train::step::{Engine, Phase, StepOutcome, StepSettings};
use fullbore_types::Position;

const BATCH: usize = 8;
const SIDE: i64 = 16;
const STEPS: u64 = 2;
/// Drawn so that no activation lies within rounding of a ReLU's edge: there the two sides would differ by a whole
/// pixel's gradient, in PyTorch too.
const BATCH_SEED: u64 = 200;
/// Rounding of fp32 sums in another order, through two steps.
const TOLERANCE: f64 = 1e-5;

fn engine(kind: NormKind, activation: Activation) -> Engine {
    manual_seed(3).unwrap();
    let mut params = Params::new(Device::Cpu);
    // Small images and many weights: the gradients make the backward pass need the most memory.
    let config = ModelConfig { base: Some(16), depth: Some(3), ..ModelConfig::new(ModelName::Unet) };
    let norm = NormConfig { kind, group: None, groups: 2 };
    let model = config.build(&mut params, 3, 1, &norm).unwrap();
    params.set_recompute(activation == Activation::Recompute);
    let config = OptimizerConfig {
        // Large: without it Adam's first steps are the gradients' signs, which blow rounding up.
        eps: Some(1e-3),
        clip: Some(1.0),
        ..OptimizerConfig::new(OptimizerName::Adamw, 1e-3)
    };
    let optimizer = Optimizer::new(&params, &config, false).unwrap();
    let normalize = Normalize::new(&[0.5; 3], &[0.25; 3], Device::Cpu).unwrap();
    let finish = Finish { normalize, twin: None, landmarks: None };
    let settings = StepSettings {
        loss: LossName::BceDice.into(),
        precision: None,
        may_ignore: true,
        norm_group: Some(2),
        levels: 1,
        recorded: None,
    };
    Engine::new(model, params, optimizer, None, finish, settings).unwrap()
}

fn batch(step: u64) -> DeviceBatch {
    manual_seed(BATCH_SEED + step).unwrap();
    let bytes = |size: &[i64], high| {
        let values = Tensor::empty(size, Kind::Float, Device::Cpu).unwrap();
        values.uniform_(0.0, high).unwrap();
        values.to_kind(Kind::Uint8).unwrap()
    };
    let n = BATCH as i64;
    let masks = bytes(&[n, SIDE, SIDE], 2.0);
    // The first image is half unlabelled, so that samples weigh differently.
    masks.select(0, 0).unwrap().narrow(0, 0, SIDE / 2).unwrap().fill_(255.0).unwrap();
    DeviceBatch::from_tensors(bytes(&[n, SIDE, SIDE, 3], 256.0), Targets::Masks(masks), Position::default())
}

struct Outcome {
    /// Weights and statistics, one after the other.
    state: Vec<f32>,
    /// Where memory ran out.
    phases: Vec<Phase>,
    /// Most bytes that a step held on top of what there was at its start.
    peak: u64,
}

/// Trains some steps by `micro` samples. With `squeeze` the budget leaves that many bytes until memory has run out
/// and the micro-batch is down to a statistics group.
fn train(kind: NormKind, activation: Activation, micro: usize, squeeze: Option<u64>) -> Outcome {
    let mut engine = engine(kind, activation);
    let (mut phases, mut peak) = (Vec::new(), 0);
    for step in 0..STEPS {
        let mut open = engine.begin(batch(step), step + 1).unwrap();
        release_cached_cpu_memory();
        reset_cpu_peak();
        let start = cpu_memory().in_use;
        set_cpu_budget(squeeze.map(|bytes| start + bytes));
        let mut micro = micro;
        while let StepOutcome::OutOfMemory { at, .. } = engine.advance(&mut open, micro).unwrap() {
            phases.push(at);
            micro = (micro / 2).max(2);
            if micro == 2 {
                set_cpu_budget(None);
            }
        }
        set_cpu_budget(None);
        peak = cpu_memory().peak - start;
        engine.update(open, 1e-3, step + 1).unwrap();
    }
    Outcome { state: state(&engine), phases, peak }
}

/// Weights and statistics, one after the other.
fn state(engine: &Engine) -> Vec<f32> {
    let values = engine.params.entries().filter_map(|(_, entry)| match entry {
        Entry::Parameter(t) | Entry::Buffer(t) => Some(t.detach().unwrap().to_vec_f32().unwrap()),
        Entry::Counter(_) => None,
    });
    values.flatten().collect()
}

/// ‖a - b‖ / ‖b‖
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = a.iter().zip(b).map(|(x, y)| square(x - y)).sum();
    (difference / b.iter().map(|&y| square(y)).sum::<f64>()).sqrt()
}

static TURN: Mutex<()> = Mutex::new(());

const CASES: [(NormKind, Activation); 3] = [
    (NormKind::Group, Activation::Keep),
    (NormKind::Batch, Activation::Keep),
    (NormKind::Batch, Activation::Recompute),
];

#[test]
fn out_of_memory_changes_nothing() {
    let _turn = TURN.lock().unwrap();
    start();
    for (kind, activation) in CASES {
        let case = format!("{kind:?}, {activation:?}");
        let calm = train(kind, activation, BATCH, None);
        assert!(calm.phases.is_empty());
        let mut seen = Vec::new();
        // From so little that the first layers fail to so much that only the backward pass does.
        for percent in [10, 50, 80, 96, 98] {
            let squeezed = train(kind, activation, BATCH, Some(calm.peak * percent / 100));
            let d = distance(&squeezed.state, &calm.state);
            assert!(d < TOLERANCE, "{case} with {percent} % of the memory: {d:.1e}");
            assert_eq!(squeezed.state.len(), calm.state.len());
            eprintln!("{case} {percent} {d:.1e} {:?} {}", squeezed.phases, calm.peak);
            seen.extend(squeezed.phases);
        }
        assert!(seen.contains(&Phase::Forward), "{case}: memory never ran out in forward");
        assert!(seen.contains(&Phase::Backward), "{case}: memory never ran out in backward");
    }
}

#[test]
fn a_split_step_is_the_whole_step() {
    let _turn = TURN.lock().unwrap();
    start();
    for (kind, activation) in CASES {
        let whole = train(kind, activation, BATCH, None);
        // 6: a last micro-batch of another size.
        for micro in [2, 4, 6] {
            let d = distance(&train(kind, activation, micro, None).state, &whole.state);
            eprintln!("{kind:?}, {activation:?} by {micro}: {d:.1e}");
            assert!(d < TOLERANCE, "{kind:?}, {activation:?} by {micro}: {d:.1e}");
        }
    }
}

/// Everything that a checkpoint holds, and the random state, bit by bit.
fn everything(engine: &Engine) -> Vec<Vec<u8>> {
    let bits = |tensor: &Tensor| {
        let values = tensor.detach().unwrap().to_kind(Kind::Float).unwrap().to_vec_f32().unwrap();
        values.into_iter().flat_map(f32::to_le_bytes).collect()
    };
    let mut all: Vec<Vec<u8>> = state(engine).iter().map(|value| value.to_le_bytes().to_vec()).collect();
    all.push(engine.params.counters().iter().flat_map(|count| count.to_le_bytes()).collect());
    all.push(rng_state(Device::Cpu).unwrap().to_vec_u8().unwrap());
    all.extend(engine.optimizer.state().unwrap().iter().map(|(_, tensor)| bits(tensor)));
    all.extend(engine.ema.iter().flat_map(|ema| ema.state().unwrap()).map(|(_, tensor)| bits(&tensor)));
    all
}

#[test]
fn a_rehearsed_step_leaves_everything_as_it_was() {
    let _turn = TURN.lock().unwrap();
    start();
    for activation in [Activation::Keep, Activation::Recompute] {
        let mut engine = engine(NormKind::Batch, activation);
        engine.ema = Ema::new(&engine.params, EmaConfig { decay: Some(0.5), warmup: false }).unwrap();
        // After a step nothing is at its first value.
        let mut open = engine.begin(batch(1), 1).unwrap();
        assert!(matches!(engine.advance(&mut open, BATCH).unwrap(), StepOutcome::Done));
        engine.update(open, 1e-3, 1).unwrap();
        let before = everything(&engine);
        let mut phases = Vec::new();
        let calm = {
            reset_cpu_peak();
            let held = cpu_memory().in_use;
            assert!(matches!(engine.rehearse(batch(2), 4).unwrap(), StepOutcome::Done));
            cpu_memory().peak - held
        };
        for percent in [10, 50, 96, 98, 200] {
            manual_seed(7).unwrap();
            let (batch, rng) = (batch(2), rng_state(Device::Cpu).unwrap().to_vec_u8().unwrap());
            release_cached_cpu_memory();
            set_cpu_budget(Some(cpu_memory().in_use + calm * percent / 100));
            if let StepOutcome::OutOfMemory { at, .. } = engine.rehearse(batch, 4).unwrap() {
                phases.push(at);
            }
            set_cpu_budget(None);
            assert!(engine.params.parameters().all(|(_, tensor)| tensor.grad().unwrap().is_none()));
            assert_eq!(rng_state(Device::Cpu).unwrap().to_vec_u8().unwrap(), rng);
            let mut after = everything(&engine);
            // Drawing the batch moved the random state.
            let place = after.iter().position(|bytes| *bytes == rng).unwrap();
            after[place] = before[place].clone();
            assert!(after == before, "{activation:?} with {percent} % of the memory");
        }
        assert!(phases.contains(&Phase::Forward) && phases.contains(&Phase::Backward), "{phases:?}");
        assert!(phases.len() < 5, "it never fitted");
    }
}

#[test]
fn a_step_that_is_not_finite_changes_neither_weights_nor_statistics_nor_average() {
    let _turn = TURN.lock().unwrap();
    start();
    let _one = Threads::new(1);
    let mut engine = engine(NormKind::Batch, Activation::Keep);
    engine.ema = Ema::new(&engine.params, EmaConfig { decay: Some(0.5), warmup: false }).unwrap();
    let step = |engine: &mut Engine, std: f32, number| {
        engine.finish.normalize = Normalize::new(&[0.5; 3], &[std; 3], Device::Cpu).unwrap();
        let mut open = engine.begin(batch(number), number).unwrap();
        // Two micro-batches: the second has a start of its own.
        assert!(matches!(engine.advance(&mut open, BATCH / 2).unwrap(), StepOutcome::Done));
        let done = engine.update(open, 1e-3, number).unwrap();
        let average = || Ok::<_, fullbore_torch::Error>(state(engine));
        let average = engine.ema.as_ref().unwrap().with_average(average).unwrap();
        (done.loss.item().unwrap().is_finite(), state(engine), average)
    };
    let (finite, weights, average) = step(&mut engine, 0.25, 1);
    assert!(finite && weights != average);
    // Inputs so large that the first convolution overflows.
    let (finite, weights_now, average_now) = step(&mut engine, 1e-38, 2);
    assert!(!finite);
    assert!(weights_now == weights && average_now == average);
    let (finite, weights_now, average) = step(&mut engine, 0.25, 3);
    assert!(finite && weights_now != weights && average.iter().all(|value| value.is_finite()));
}
