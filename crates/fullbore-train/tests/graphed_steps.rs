//! Steps whose micro-batches are recorded and replayed are the eager ones, bit for bit. On the CPU a replay runs the
//! recorded work again, so that all around it is tested; `FULLBORE_TEST_DEVICE=cuda` records CUDA graphs, whose sums are
//! compared up to rounding.
//!
//! The random generator and the CPU's budget are process-wide: with `cargo test`, which runs tests of one file in threads,
//! they take turns.

use std::sync::{Mutex, MutexGuard};

use fullbore_feed::augment::Points;
use fullbore_feed::{DeviceBatch, Finish, Landmarks, Normalize, Targets};
use fullbore_nn::losses::{LossConfig, LossName};
use fullbore_nn::models::{ModelConfig, ModelName};
use fullbore_nn::optim::{Optimizer, OptimizerConfig, OptimizerName};
use fullbore_nn::params::Entry;
use fullbore_nn::{NormConfig, NormKind, Params};
use fullbore_torch::{
    Device, Kind, Tensor, Threads, cpu_memory, manual_seed, release_cached_cpu_memory, reset_cpu_peak,
    set_cpu_budget, start,
};
use fullbore_train::ema::{Ema, EmaConfig};
use fullbore_train::memory::Faults;
use fullbore_train::step::{Engine, Phase, StepOutcome, StepSettings};
use fullbore_types::{Position, Size};

const BATCH: usize = 8;
const SIDE: i64 = 16;
const LANDMARKS: i64 = 2;
/// Passes before a recording.
const WARM_UP: usize = 3;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    start();
    TURN.lock().unwrap_or_else(|stopped| stopped.into_inner())
}

fn device() -> Device {
    match std::env::var("FULLBORE_TEST_DEVICE") {
        Ok(name) if name.starts_with("cuda") => start().check_device(Device::Cuda(0)).unwrap(),
        _ => Device::Cpu,
    }
}

/// What is trained.
#[derive(Clone, Debug)]
struct Case {
    loss: LossConfig,
    norm: NormConfig,
    may_ignore: bool,
    /// Levels with a head, and those with a loss.
    levels: (usize, usize),
    scaled: bool,
}

const BATCH_NORM: NormConfig = NormConfig { kind: NormKind::Batch, group: Some(2), groups: 1 };
const GROUP_NORM: NormConfig = NormConfig { kind: NormKind::Group, group: None, groups: 2 };

fn plain() -> Case {
    let loss = LossName::BceDice.into();
    Case { loss, norm: BATCH_NORM, may_ignore: true, levels: (1, 1), scaled: false }
}

/// And the micro-batches that it is trained by. 3: each step's last micro-batch is smaller, and eager.
fn cases() -> [(Case, &'static [usize]); 5] {
    let weighted = LossConfig { class_weights: Some(vec![0.5, 3.0]), ..LossName::Focal.into() };
    let landmarks = LossConfig { coord_weight: Some(0.5), ..LossName::AdaptiveWing.into() };
    [
        (plain(), &[8, 4, 2]),
        (Case { norm: GROUP_NORM, may_ignore: false, ..plain() }, &[8, 3]),
        (Case { loss: weighted, levels: (3, 3), ..plain() }, &[4]),
        // Heads that no loss reaches have no gradient, and must keep none.
        (Case { levels: (3, 1), scaled: true, ..plain() }, &[4]),
        (Case { loss: landmarks, ..plain() }, &[4]),
    ]
}

fn is_landmarks(case: &Case) -> bool {
    case.loss.heatmap().is_some()
}

fn engine(case: &Case, recorded: bool) -> Engine {
    manual_seed(3).unwrap();
    let mut params = Params::new(device());
    let config = ModelConfig {
        base: Some(4),
        depth: Some(3),
        deep_supervision: case.levels.0 as u32 - 1,
        ..ModelConfig::new(ModelName::Unet)
    };
    let channels = if is_landmarks(case) { LANDMARKS } else { 1 };
    let model = config.build(&mut params, 3, channels, &case.norm).unwrap();
    // A large eps: without it Adam's first steps are the gradients' signs, which blow rounding up.
    let config = OptimizerConfig {
        eps: Some(1e-3),
        clip: Some(1.0),
        ..OptimizerConfig::new(OptimizerName::Adamw, 1e-3)
    };
    let optimizer = Optimizer::new(&params, &config, case.scaled).unwrap();
    let ema = Ema::new(&params, EmaConfig { decay: Some(0.9), warmup: true }).unwrap();
    let normalize = Normalize::new(&[0.5; 3], &[0.25; 3], device()).unwrap();
    let size = Size::new(SIDE as u32, SIDE as u32);
    let landmarks = is_landmarks(case)
        .then(|| Landmarks::new(None, &[1.5; 2], &[1.0, 2.0], size, size, device()).unwrap());
    let finish = Finish { normalize, twin: None, landmarks };
    let settings = StepSettings {
        loss: case.loss.clone(),
        precision: None,
        may_ignore: case.may_ignore,
        norm_group: case.norm.group.map(|n| n as usize),
        levels: case.levels.1,
        recorded: recorded.then_some(BATCH),
    };
    Engine::new(model, params, optimizer, ema, finish, settings).unwrap()
}

/// Samples of step `number`, different in each, as are the numbers of those that count.
fn batch(case: &Case, number: u64, samples: usize) -> DeviceBatch {
    manual_seed(100 + number).unwrap();
    let bytes = |size: &[i64], high| {
        let values = Tensor::empty(size, Kind::Float, Device::Cpu).unwrap();
        values.uniform_(0.0, high).unwrap();
        values.to_kind(Kind::Uint8).unwrap().to_device(device()).unwrap()
    };
    let n = samples as i64;
    let images = bytes(&[n, SIDE, SIDE, 3], 256.0);
    let targets = if is_landmarks(case) {
        let places = Tensor::empty(&[n, LANDMARKS, 2], Kind::Float, Device::Cpu).unwrap();
        places.uniform_(-2.0, SIDE as f64).unwrap();
        let places = places.to_device(device()).unwrap();
        Targets::Points(Points { places, visibility: bytes(&[n, LANDMARKS], 3.0) })
    } else {
        let masks = bytes(&[n, SIDE, SIDE], 2.0);
        if case.may_ignore {
            let unlabelled = 1 + number as i64 % (SIDE - 1);
            masks.select(0, 0).unwrap().narrow(0, 0, unlabelled).unwrap().fill_(255.0).unwrap();
        }
        Targets::Masks(masks)
    };
    DeviceBatch::from_tensors(images, targets, Position::default())
}

/// A step of `samples`; its loss and gradient norm.
fn step(engine: &mut Engine, case: &Case, number: u64, samples: usize, micro: usize) -> [f64; 2] {
    let mut open = engine.begin(batch(case, number, samples), number).unwrap();
    assert!(matches!(engine.advance(&mut open, micro).unwrap(), StepOutcome::Done));
    let done = engine.update(open, 1e-2, number).unwrap();
    [done.loss.item().unwrap(), done.grad_norm.item().unwrap()]
}

/// All that a checkpoint holds.
fn state(engine: &Engine) -> Vec<f32> {
    let values =
        |tensor: &Tensor| tensor.detach().unwrap().to_kind(Kind::Float).unwrap().to_vec_f32().unwrap();
    let mut all = Vec::new();
    for (_, entry) in engine.params.entries() {
        match entry {
            Entry::Parameter(tensor) | Entry::Buffer(tensor) => all.extend(values(tensor)),
            Entry::Counter(_) => {}
        }
    }
    all.extend(engine.optimizer.state().unwrap().iter().flat_map(|(_, tensor)| values(tensor)));
    all.extend(
        engine.ema.iter().flat_map(|ema| ema.state().unwrap()).flat_map(|(_, tensor)| values(&tensor)),
    );
    all
}

/// Bit for bit on the CPU.
#[track_caller]
fn assert_same(recorded: &Engine, eager: &Engine, what: &str) {
    assert_eq!(recorded.params.counters(), eager.params.counters(), "{what}");
    let (a, b) = (state(recorded), state(eager));
    let square = |x: f32| f64::from(x).powi(2);
    let distance: f64 = a.iter().zip(&b).map(|(x, y)| square(x - y)).sum();
    let distance = (distance / b.iter().map(|&y| square(y)).sum::<f64>()).sqrt();
    match device() {
        Device::Cpu => assert!(
            a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| x.to_bits() == y.to_bits()),
            "{what}: {distance:.1e}"
        ),
        _ => assert!(a.len() == b.len() && distance < 1e-4, "{what}: {distance:.1e}"),
    }
}

#[test]
fn recorded_steps_are_the_eager_ones() {
    let _turn = turn();
    let _one = Threads::new(1);
    for (case, sizes) in cases() {
        for &micro in sizes {
            let (mut recorded, mut eager) = (engine(&case, true), engine(&case, false));
            // The last batch of an epoch has fewer samples.
            for (number, samples) in (1..).zip([8, 8, 8, 5, 8, 8, 5]) {
                let found = step(&mut recorded, &case, number, samples, micro);
                let expected = step(&mut eager, &case, number, samples, micro);
                if device() == Device::Cpu {
                    assert_eq!(found, expected, "{case:?} by {micro}, step {number}");
                }
            }
            let what = format!("{case:?} by {micro}");
            assert_eq!((recorded.graphs(), eager.graphs()), (1, 0), "{what}");
            assert_eq!(recorded.step_mode_news(), [format!("graph (micro-batches of {micro} are recorded)")]);
            assert!(eager.step_mode_news().is_empty());
            assert_same(&recorded, &eager, &what);
        }
    }
}

#[test]
fn gradients_stay_and_are_zero_but_where_there_are_none() {
    let _turn = turn();
    let _one = Threads::new(1);
    let case = Case { levels: (3, 1), ..plain() };
    let mut engine = engine(&case, true);
    step(&mut engine, &case, 1, BATCH, 2);
    for (name, parameter) in engine.params.parameters() {
        match parameter.grad().unwrap() {
            Some(grad) => assert_eq!(grad.max_abs().unwrap(), 0.0, "{name}"),
            None => assert!(name.starts_with("deep."), "{name}"),
        }
    }
    let deep = engine.params.parameters().filter(|(_, parameter)| parameter.grad().unwrap().is_none());
    assert!(deep.count() > 0);
    // Rehearsals take their gradients away, and the recordings with them.
    assert_eq!(engine.graphs(), 1);
    engine.rehearse(batch(&case, 2, BATCH), 2).unwrap();
    assert_eq!(engine.graphs(), 0);
    let (mut recorded, mut eager) = (engine, self::engine(&case, false));
    step(&mut eager, &case, 1, BATCH, 2);
    for number in 3..6 {
        step(&mut recorded, &case, number, BATCH, 2);
        step(&mut eager, &case, number, BATCH, 2);
    }
    assert_eq!(recorded.graphs(), 1);
    assert_same(&recorded, &eager, "after a rehearsal");
}

#[test]
fn out_of_memory_drops_recordings_and_changes_nothing() {
    let _turn = turn();
    let _one = Threads::new(1);
    let case = plain();
    for (place, phase) in [("step", Phase::Forward), ("backward", Phase::Backward)] {
        let (mut recorded, mut eager) = (engine(&case, true), engine(&case, false));
        recorded.faults = Faults::new(format!("oom@{place}:3,oom@{place}:5").parse().unwrap());
        let mut struck = Vec::new();
        for number in 1..8 {
            let mut open = recorded.begin(batch(&case, number, BATCH), number).unwrap();
            while let StepOutcome::OutOfMemory { at, .. } = recorded.advance(&mut open, 4).unwrap() {
                assert_eq!((at, recorded.graphs()), (phase, 1));
                // What they held may be enough: the same size again. A second time there is nothing left to drop.
                assert!(recorded.make_way() && !recorded.make_way());
                assert_eq!(recorded.graphs(), 0);
                struck.push(number);
            }
            recorded.update(open, 1e-2, number).unwrap();
            step(&mut eager, &case, number, BATCH, 4);
        }
        assert_eq!(struck, [3, 5]);
        assert_eq!(recorded.graphs(), 1, "recorded again");
        let news = recorded.step_mode_news();
        let begins = |start: &str| news.iter().filter(|mode| mode.starts_with(start)).count();
        assert_eq!((begins("graph ("), begins("eager for now:")), (3, 2), "{news:?}");
        assert_same(&recorded, &eager, place);
    }
}

/// Memory that really runs out, in the middle of a replay.
#[test]
fn a_replay_without_room_changes_nothing() {
    let _turn = turn();
    if device() != Device::Cpu {
        eprintln!("skipped: only the CPU has a budget that can be set");
        return;
    }
    let _one = Threads::new(1);
    let case = plain();
    let (mut recorded, mut eager) = (engine(&case, true), engine(&case, false));
    for number in 1..4 {
        step(&mut recorded, &case, number, BATCH, 4);
        step(&mut eager, &case, number, BATCH, 4);
    }
    assert_eq!(recorded.graphs(), 1);
    let mut failed = 0;
    for (number, percent) in (4..).zip([200, 10, 20, 60]) {
        let open_batch = batch(&case, number, BATCH);
        let mut open = eager.begin(batch(&case, number, BATCH), number).unwrap();
        release_cached_cpu_memory();
        reset_cpu_peak();
        let held = cpu_memory().in_use;
        assert!(matches!(eager.advance(&mut open, 4).unwrap(), StepOutcome::Done));
        let needed = cpu_memory().peak - held;
        eager.update(open, 1e-2, number).unwrap();

        let mut open = recorded.begin(open_batch, number).unwrap();
        release_cached_cpu_memory();
        set_cpu_budget(Some(cpu_memory().in_use + needed * percent / 100));
        let outcome = recorded.advance(&mut open, 4).unwrap();
        set_cpu_budget(None);
        if let StepOutcome::OutOfMemory { .. } = outcome {
            failed += 1;
            assert!(matches!(recorded.advance(&mut open, 4).unwrap(), StepOutcome::Done));
        }
        recorded.update(open, 1e-2, number).unwrap();
    }
    assert_eq!((failed, recorded.graphs()), (3, 1));
    assert_same(&recorded, &eager, "after replays without room");
}

#[test]
fn a_recording_without_room_leaves_its_size_eager() {
    let _turn = turn();
    if device() != Device::Cpu {
        eprintln!("skipped: only the CPU has a budget that can be set");
        return;
    }
    let _one = Threads::new(1);
    let case = plain();
    let (mut recorded, mut eager) = (engine(&case, true), engine(&case, false));
    for number in 1..=WARM_UP as u64 {
        step(&mut recorded, &case, number, BATCH, BATCH);
        step(&mut eager, &case, number, BATCH, BATCH);
    }
    // The next pass is to be recorded: more and more room, until there is enough for its input, but not for a copy of it.
    let mut open = recorded.begin(batch(&case, 4, BATCH), 4).unwrap();
    let mut news = Vec::new();
    for kib in 0..200 {
        release_cached_cpu_memory();
        set_cpu_budget(Some(cpu_memory().in_use + (kib << 10)));
        let outcome = recorded.advance(&mut open, BATCH).unwrap();
        set_cpu_budget(None);
        news = recorded.step_mode_news();
        if !news.is_empty() || matches!(outcome, StepOutcome::Done) {
            break;
        }
    }
    assert!(
        news.len() == 1 && news[0].starts_with("eager for micro-batches of 8: out of memory"),
        "{news:?}"
    );
    assert!(matches!(recorded.advance(&mut open, BATCH).unwrap(), StepOutcome::Done));
    recorded.update(open, 1e-2, 4).unwrap();
    step(&mut eager, &case, 4, BATCH, BATCH);
    for (number, micro, graphs) in [(5, BATCH, 0), (6, 2, 1), (7, BATCH, 1)] {
        step(&mut recorded, &case, number, BATCH, micro);
        step(&mut eager, &case, number, BATCH, micro);
        assert_eq!(recorded.graphs(), graphs, "step {number}");
    }
    assert_same(&recorded, &eager, "one size is recorded, the other not");
}

#[test]
fn three_recordings_live_at_most() {
    let _turn = turn();
    let _one = Threads::new(1);
    let case = Case { norm: GROUP_NORM, ..plain() };
    let (mut recorded, mut eager) = (engine(&case, true), engine(&case, false));
    let mut number = 0;
    // 8 is the one that was not used for the longest time when 1 comes, and has to be recorded anew.
    for (micro, live) in [(8, 1), (4, 2), (2, 3), (4, 3), (1, 3), (8, 3)] {
        for _ in 0..WARM_UP + 1 {
            number += 1;
            step(&mut recorded, &case, number, BATCH, micro);
            step(&mut eager, &case, number, BATCH, micro);
            assert!(recorded.graphs() <= 3);
        }
        assert_eq!(recorded.graphs(), live, "by {micro}");
    }
    let recorded_sizes: Vec<_> = recorded.step_mode_news();
    assert_eq!(recorded_sizes.len(), 5, "8, 4, 2, 1 and 8 again: {recorded_sizes:?}");
    assert_same(&recorded, &eager, "by sizes in turn");
}

#[test]
fn recordings_that_always_make_way_are_given_up() {
    let _turn = turn();
    let _one = Threads::new(1);
    let case = plain();
    let (mut recorded, mut eager) = (engine(&case, true), engine(&case, false));
    for number in 1..6 {
        step(&mut recorded, &case, number, BATCH, 2);
        step(&mut eager, &case, number, BATCH, 2);
        assert_eq!(recorded.make_way(), number <= 3);
    }
    let news = recorded.step_mode_news();
    assert!(news.last().unwrap().starts_with("eager from now on:"), "{news:?}");
    assert!(recorded.params.parameters().all(|(_, parameter)| parameter.grad().unwrap().is_none()));
    assert_same(&recorded, &eager, "given up");
}

#[test]
fn recomputing_is_eager_from_then_on_and_says_so() {
    let _turn = turn();
    let _one = Threads::new(1);
    let case = plain();
    let (mut recorded, mut eager) = (engine(&case, true), engine(&case, false));
    for number in 1..6 {
        if number == 4 {
            assert_eq!(recorded.graphs(), 1);
            recorded.params.set_recompute(true);
            eager.params.set_recompute(true);
        }
        step(&mut recorded, &case, number, BATCH, 4);
        step(&mut eager, &case, number, BATCH, 4);
    }
    assert_eq!(recorded.graphs(), 0);
    let news = recorded.step_mode_news();
    assert!(news.len() == 2 && news[1].contains("activations are computed again"), "{news:?}");
    assert_same(&recorded, &eager, "recomputed");
}
