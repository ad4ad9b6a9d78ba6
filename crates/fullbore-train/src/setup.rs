//! What a run is made of, built from its plan: device, data sets, engine.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use fullbore_augment::AugmentDevice;
use fullbore_data::source::{self, Renumbered};
use fullbore_data::{Cache, EvalConfig, EvalLoader, FaultPolicy, LoaderConfig, Resize, Source, Workers};
use fullbore_events::Event;
use fullbore_feed::{Finish, Landmarks, Normalize, PassPlan};
use fullbore_governor::Bounds;
use fullbore_governor::placement::Placement;
use fullbore_governor::threads::{ThreadPlan, Trains};
use fullbore_nn::Params;
use fullbore_nn::layers::recompute::Activation;
use fullbore_nn::losses::Task;
use fullbore_nn::models::Model;
use fullbore_nn::optim::Optimizer;
use fullbore_torch::{Deterministic, Device, Kind, Threads, manual_seed, num_threads};
use fullbore_types::Size;

use crate::TrainError;
use crate::augmentation::{self, Augmentation};
use crate::checkpoint::{Progress, Saved};
use crate::ema::Ema;
use crate::evaluate::{EvalOf, EvalSettings, LandmarkEval};
use crate::feeding;
use crate::fine_tune;
use crate::initial_weights;
use crate::memory;
use crate::phases::Phase;
use crate::plan::{Plan, PlanError, refuse};
use crate::step::{Engine, StepSettings};

/// Everything a run needs that can be refused before anything is written.
pub struct Prepared {
    /// Where the model lives.
    pub device: Device,
    /// Who prepares batches for it.
    pub placement: Placement,
    /// The type that convolutions run in, `None` for fp32.
    pub precision: Option<Kind>,
    /// How steps reach the device, and why, in words.
    pub step_mode: String,
    /// Decoding threads.
    pub workers: usize,
    /// What it trains and validates on.
    pub data: DataSets,
    /// What happens to training samples.
    pub augment: Augmentation,
    /// Network, optimizer, and all memory that steps need for good.
    pub engine: Engine,
    /// How far the run has come.
    pub progress: Progress,
    /// What a new run begins with, when that is not fresh weights alone.
    pub(crate) began_with: Option<Event>,
    /// How many threads compute, where not libtorch's own number.
    pub(crate) threads: Option<Threads>,
    _deterministic: Option<Deterministic>,
}

/// What a run begins with.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Fresh weights.
    Anew,
    /// The state that it was left in; the plan is the saved one.
    GoOn(&'a Saved),
    /// Another run's weights.
    FineTune(&'a Saved),
}

/// Checks a plan against the machine and the files, and builds what a run needs. What only the files know, the names of
/// landmarks and how many steps an epoch has, is written into the plan.
pub fn prepare(plan: &mut Plan, start: Start<'_>) -> Result<Prepared, TrainError> {
    plan.data.check()?;
    plan.check()?;
    plan.memory.check()?;
    plan.buffer.check()?;
    let placement = feeding::place(plan)?;
    let device = feeding::device(placement.model());
    let step_mode = plan.step.resolve(device, plan.activation)?.words;
    let deterministic = plan.run.reproducible.then(Deterministic::new).transpose()?;
    let data = DataSets::open(plan)?;
    let precision = plan.precision.resolve(device);
    let network = network(plan, device)?;
    let mut began_with = None;
    if let (Some(path), Start::Anew) = (&plan.model.weights, start) {
        began_with = Some(Event::WeightsLoaded(initial_weights::load(path, &network.0)?));
    }
    let mut engine = engine_of(plan, network, precision)?;
    let mut progress = Progress::default();
    match start {
        Start::Anew => {}
        Start::GoOn(saved) => {
            saved.restore(&engine)?;
            progress = saved.progress.clone();
        }
        Start::FineTune(saved) => began_with = Some(fine_tune::begin(saved, plan, &engine)?),
    }
    let compute = shares(plan, device).compute;
    let threads = (compute < num_threads()).then(|| Threads::new(compute));
    for phase in &plan.phases {
        // Refused now, not after hours.
        augmentation::policy(&phase.of(plan))?;
    }
    let workers = workers(plan, device);
    let phase = Phase::at(plan, data.train.len() as u64, progress.position.epoch);
    let augment = fit(&mut engine, &phase.plan, workers)?;
    Ok(Prepared {
        device,
        placement,
        precision,
        step_mode,
        workers,
        data,
        augment,
        engine,
        progress,
        began_with,
        threads,
        _deterministic: deterministic,
    })
}

/// What scoring a model needs.
pub struct PreparedEval {
    /// Decoding threads.
    pub workers: usize,
    /// Whole images.
    pub val: Arc<dyn Source>,
    /// Network with fresh weights.
    pub engine: Engine,
    /// Most bytes that the plan allows of the device's memory.
    pub budget: Option<u64>,
    _deterministic: Option<Deterministic>,
}

/// The same for scoring a model. With a `data.val` of its own the training files may be gone.
pub fn prepare_eval(plan: &Plan) -> Result<PreparedEval, TrainError> {
    plan.data.check()?;
    plan.check()?;
    plan.memory.check()?;
    let device = plan.device.resolve()?;
    let deterministic = plan.run.reproducible.then(Deterministic::new).transpose()?;
    let val: Arc<dyn Source> = match &plan.data.val {
        Some(path) => open_scored(plan, "data.val", path)?,
        None => {
            let all = open_scored(plan, "data.train", train_path(plan)?)?;
            Arc::new(source::hold_out(all, plan.data.holdout)?.1)
        }
    };
    let engine = engine(plan, device, plan.precision.resolve(device))?;
    let (workers, budget) = (workers(plan, device), memory::budget(plan, device)?);
    Ok(PreparedEval { workers, val, engine, budget, _deterministic: deterministic })
}

/// The training and validation sets of a plan.
pub struct DataSets {
    /// Every crop of every image is a sample of its own.
    pub train: Arc<dyn Source>,
    /// Whole images.
    pub val: Arc<dyn Source>,
}

impl DataSets {
    /// Indexes the files; reads none of them. The names of landmarks and the steps of a warm-up in epochs are written into
    /// the plan.
    pub fn open(plan: &mut Plan) -> Result<Self, TrainError> {
        let all = open_training(plan)?;
        let path = train_path(plan)?;
        let (train, val): (Arc<dyn Source>, Arc<dyn Source>) = match &plan.data.val {
            Some(path) => (all, open_scored(plan, "data.val", path)?),
            None => {
                let (train, held_out) = source::hold_out(all, plan.data.holdout)?;
                (Arc::new(train), Arc::new(held_out))
            }
        };
        let train: Arc<dyn Source> = match plan.data.crops_per_image {
            1 => train,
            times => Arc::new(Renumbered::repeat(train, times)?),
        };
        if train.len() < plan.batch.size && plan.data.drop_last {
            let (batch, samples, path) = (plan.batch.size, train.len(), path.to_path_buf());
            return Err(TrainError::BatchTooLarge { batch, samples, path });
        }
        plan.schedule.meet(plan.steps_per_epoch(train.len() as u64));
        Ok(Self { train, val })
    }
}

/// All samples of `data.train`. The names of its landmarks are written into the plan.
///
/// # Errors
/// When it cannot be indexed, or does not have the landmarks that the plan names.
pub fn open_training(plan: &mut Plan) -> Result<Arc<dyn Source>, TrainError> {
    let all = open(plan, train_path(plan)?)?;
    if plan.task() == Task::Landmarks {
        plan.landmarks.meet(all.point_names()).map_err(PlanError::from)?;
    }
    Ok(all)
}

/// Opens a data set with the targets that the loss wants.
fn open(plan: &Plan, path: &Path) -> Result<Arc<dyn Source>, TrainError> {
    Ok(plan.data.open(path, plan.classes().as_ref())?)
}

/// The same for images to be scored, which must have the landmarks that the plan has names for. `key` named them.
fn open_scored(plan: &Plan, key: &'static str, path: &Path) -> Result<Arc<dyn Source>, TrainError> {
    let source = open(plan, path)?;
    if let Some(names) = plan.landmarks.names.as_ref().filter(|_| plan.task() == Task::Landmarks) {
        let (known, found) = (names.len(), source.point_names().len());
        if known != found {
            let allowed =
                format!("a data set of the {known} points of the training set; this one has {found}");
            return Err(refuse(key, path.display(), allowed).into());
        }
    }
    Ok(source)
}

fn train_path(plan: &Plan) -> Result<&Path, TrainError> {
    Ok(plan.data.train.as_deref().ok_or(fullbore_data::ConfigError::TrainMissing)?)
}

/// Decoding threads of a plan on this machine.
pub fn workers(plan: &Plan, device: Device) -> usize {
    match plan.data.workers {
        Workers::Count(n) => n,
        Workers::Auto => shares(plan, device).workers,
    }
}

/// How model and data share the cores of this machine.
fn shares(plan: &Plan, device: Device) -> ThreadPlan {
    let augment_on_cpu = plan.augment.device == AugmentDevice::Cpu;
    let trains = if device == Device::Cpu { Trains::OnCpu } else { Trains::OnGpu { augment_on_cpu } };
    ThreadPlan::start(cores(), trains)
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The training stream of a plan: all epochs without end, and the first bad sample ends it; who records them may
/// allow more.
pub fn loader_config(plan: &Plan, workers: usize) -> LoaderConfig {
    LoaderConfig {
        resize: plan.data.resize,
        channels: plan.data.channels,
        seed: plan.run.seed,
        drop_last: plan.data.drop_last,
        workers,
        adjust_workers: adjust_workers(plan),
        prefetch: plan.data.prefetch,
        max_ring_bytes: plan
            .data
            .cache_bytes
            .map_or(usize::MAX, |bytes| bytes.try_into().unwrap_or(usize::MAX)),
        limits: plan.data.decode_limits(),
        faults: FaultPolicy { max_bad: 0, ..plan.data.fault_policy() },
        ..LoaderConfig::new(plan.batch.size, canvas(plan), plan.classes())
    }
}

/// Between which numbers a run may adjust its decoding threads; `None` keeps their number.
fn adjust_workers(plan: &Plan) -> Option<RangeInclusive<usize>> {
    // The order of batches does not depend on it, but a reproducible run takes no decision from a clock.
    let adjusts = plan.data.workers == Workers::Auto && !plan.run.reproducible;
    let device = plan.device.resolve().unwrap_or(Device::Cpu);
    let ThreadPlan { fewest_workers, most_workers, .. } = shares(plan, device);
    adjusts.then_some(fewest_workers..=most_workers)
}

/// What evaluations look at while a run trains: `eval.samples` of the validation set, evenly spread, or all of it.
pub(crate) fn spread(plan: &Plan, val: &Arc<dyn Source>) -> Arc<dyn Source> {
    match plan.eval.samples {
        Some(n) if n < val.len() => {
            let ids = (0..n as u64).map(|i| (i * val.len() as u64 / n as u64) as u32);
            Arc::new(Renumbered::subset(val.clone(), ids.collect()))
        }
        _ => val.clone(),
    }
}

/// Starts a pass over the validation set. `keep_native` keeps the images at their own size, to be looked at; `cache`
/// keeps the samples for the next pass.
pub fn eval_loader(
    plan: &Plan,
    source: Arc<dyn Source>,
    workers: usize,
    keep_native: bool,
    cache: Option<Arc<Cache>>,
) -> Result<EvalLoader, TrainError> {
    let config = EvalConfig {
        size: canvas(plan),
        resize: plan.data.resize,
        pad_multiple: plan.model.side_multiple(),
        channels: plan.data.channels,
        classes: plan.classes(),
        keep_native,
        workers,
        prefetch: plan.eval.batch.unwrap_or(plan.batch.size),
        limits: plan.data.decode_limits(),
        read_timeout: plan.data.fault_policy().read_timeout,
        cache,
    };
    Ok(EvalLoader::start(source, config)?)
}

fn canvas(plan: &Plan) -> Size {
    Size::new(plan.data.size.width, plan.data.size.height)
}

/// What evaluations of a plan need, where `budget` bytes of the device's memory are allowed.
///
/// # Errors
/// When landmarks are named that are not there.
pub fn eval_settings(plan: &Plan, budget: Option<u64>) -> Result<EvalSettings, TrainError> {
    // Native pixels come in any size: one image at a time keeps memory predictable.
    let batch = if plan.data.resize == Resize::Crop { 1 } else { plan.batch.size };
    let of = match plan.chosen()? {
        None => {
            EvalOf::Masks { classes: plan.data.classes.keys().cloned().collect(), mirror: plan.eval.mirror }
        }
        Some(chosen) => EvalOf::Landmarks(Box::new(LandmarkEval {
            reader: plan.landmarks.reader(
                &chosen,
                plan.model.side_multiple(),
                plan.loss.name.maps_are_logits(),
            ),
            radii: plan.landmarks.radii.clone(),
            failure: plan.landmarks.failure,
            chosen,
        })),
    };
    let bounds = Bounds { live: !plan.run.reproducible, ..Bounds::whole(plan.eval.batch.unwrap_or(batch)) };
    let passes = PassPlan::new(plan.memory.clone(), bounds, budget);
    Ok(EvalSettings { of, passes, loss: plan.loss.clone() })
}

/// Builds the network with fresh weights, its optimizer, and all memory that steps need for good.
pub fn engine(plan: &Plan, device: Device, precision: Option<Kind>) -> Result<Engine, TrainError> {
    engine_of(plan, network(plan, device)?, precision)
}

type Network = (Params, Box<dyn Model>);

fn network(plan: &Plan, device: Device) -> Result<Network, TrainError> {
    plan.precision.apply()?;
    manual_seed(plan.run.seed)?;
    let mut params = Params::new(device);
    let model =
        plan.model.build(&mut params, i64::from(plan.data.channels), plan.channels_out()?, &plan.norm)?;
    params.set_recompute(plan.activation == Activation::Recompute);
    Ok((params, model))
}

fn engine_of(plan: &Plan, (params, model): Network, precision: Option<Kind>) -> Result<Engine, TrainError> {
    let optimizer = Optimizer::new(&params, &plan.optimizer, precision == Some(Kind::Half))?;
    let ema = Ema::new(&params, plan.ema)?;
    let settings = StepSettings {
        loss: plan.loss.clone(),
        precision,
        may_ignore: plan.may_ignore(),
        norm_group: plan.norm.group.map(|n| n as usize),
        levels: 1 + plan.model.deep_supervision as usize,
        recorded: plan.step.records(params.device(), plan.activation).then_some(plan.batch.size),
    };
    let finish = finish(plan, params.device())?;
    Ok(Engine::new(model, params, optimizer, ema, finish, settings)?)
}

/// Makes an engine ready for training batches of a plan, augmented or not; says how they are to be augmented.
///
/// # Errors
/// When a key of the augmentation cannot work, or the device fails.
pub fn fit(engine: &mut Engine, plan: &Plan, workers: usize) -> Result<Augmentation, TrainError> {
    let augment = Augmentation::decide(plan, engine.params.device(), workers)?;
    take_on(engine, plan, &augment)?;
    Ok(augment)
}

/// Makes an engine ready for training batches that are augmented as `augment` says.
///
/// # Errors
/// When the device fails.
pub(crate) fn take_on(engine: &mut Engine, plan: &Plan, augment: &Augmentation) -> Result<(), TrainError> {
    let device = engine.params.device();
    engine.forget_graphs();
    engine.finish = finish(plan, device)?;
    engine.finish.twin = augment.on_device.as_ref().map(|on_device| on_device.twin(device)).transpose()?;
    Ok(())
}

/// What turns a plan's batches into network input and targets. Augmentation on the device is added where it is decided.
///
/// # Errors
/// When the device fails, or landmarks are named that are not there.
pub fn finish(plan: &Plan, device: Device) -> Result<Finish, TrainError> {
    let normalize = Normalize::new(&plan.data.mean, &plan.data.std, device)?;
    Ok(Finish { normalize, twin: None, landmarks: landmarks(plan, device)? })
}

/// What points become on the device.
fn landmarks(plan: &Plan, device: Device) -> Result<Option<Landmarks>, TrainError> {
    let Some(chosen) = plan.chosen()? else { return Ok(None) };
    let (input, stride) = (canvas(plan), plan.model.output_stride());
    let map = Size::new(input.width / stride, input.height / stride);
    let sigmas = vec![plan.landmarks.sigma; chosen.numbers.len()];
    Ok(Some(Landmarks::new(Some(&chosen.numbers), &sigmas, &chosen.weights, input, map, device)?))
}
