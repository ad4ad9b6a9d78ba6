//! Where the batches of a turn come from.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fullbore_data::{LoaderStats, Source};
use fullbore_events::Reporter;
use fullbore_feed::augment::Points;
use fullbore_feed::{DeviceBatch, Targets};
use fullbore_torch::{Device, Error, Kind, Tensor, manual_seed, synchronize};
use fullbore_train::feeding::{Pipeline, Stretch};
use fullbore_train::setup::{self, Prepared, Start};
use fullbore_train::step::{Engine, StepOutcome};
use fullbore_train::{Plan, TrainError};
use fullbore_types::Position;

/// Batches that are kept to be played again.
const KEPT: usize = 4;

/// How a turn goes.
pub(super) struct Turn<'a> {
    pub(super) plan: &'a Plan,
    pub(super) device: Device,
    /// Steps that do not count, at least one.
    pub(super) warm: u64,
    /// Steps that do.
    pub(super) steps: u64,
}

/// What a turn gave.
pub(super) struct Pass {
    /// Milliseconds of a step: whole ones, from its batch to updated weights, the wait for the batch included.
    pub(super) mean_ms: f64,
    /// The same; on a GPU, where a step's time is the host's alone, the mean.
    pub(super) median_ms: f64,
    /// Share of the time that went by in waiting for batches.
    pub(super) wait_share: f64,
    /// Milliseconds of decoding for a sample, as the loader's threads saw them; 0 without a loader.
    pub(super) decode_ms: f64,
    /// The same for augmentation on the loader's threads.
    pub(super) augment_ms: f64,
    pub(super) loss_first: f64,
    pub(super) loss_last: f64,
}

/// A batch, and what its loader had done by then.
type Given = Result<(DeviceBatch, LoaderStats), TrainError>;

impl Turn<'_> {
    /// Plays batches over and over.
    pub(super) fn replay(&self, engine: &mut Engine, batches: &[DeviceBatch]) -> Result<Pass, TrainError> {
        let mut endless = batches.iter().cycle().cloned();
        let empty = || Error::Invalid { op: "bench".into(), message: "there is no batch to play".into() };
        self.time(engine, || Ok((endless.next().ok_or_else(empty)?, LoaderStats::default())))
    }

    /// Times whole steps.
    fn time(&self, engine: &mut Engine, mut next: impl FnMut() -> Given) -> Result<Pass, TrainError> {
        let mut number = 0;
        let mut waited = Duration::ZERO;
        let mut loading = LoaderStats::default();
        let mut step = |waited: &mut Duration, loading: &mut LoaderStats| -> Result<Tensor, TrainError> {
            number += 1;
            let start = Instant::now();
            let batch;
            (batch, *loading) = next()?;
            *waited += start.elapsed();
            let mut open = engine.begin(batch, number)?;
            match engine.advance(&mut open, self.plan.first_micro())? {
                StepOutcome::Done => Ok(engine.update(open, self.plan.peak_lr(), number)?.loss),
                StepOutcome::OutOfMemory { message, .. } => Err(Error::OutOfMemory { message }.into()),
            }
        };
        let loss_first = step(&mut waited, &mut loading)?.item()?;
        for _ in 1..self.warm {
            step(&mut waited, &mut loading)?;
        }
        synchronize(self.device)?;
        let before = loading;
        waited = Duration::ZERO;
        let start = Instant::now();
        let mut each_ms = Vec::with_capacity(self.steps as usize);
        let mut loss = None;
        for _ in 0..self.steps {
            let start = Instant::now();
            loss = Some(step(&mut waited, &mut loading)?);
            each_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        synchronize(self.device)?;
        let elapsed = start.elapsed().as_secs_f64();
        let mean_ms = 1e3 * elapsed / self.steps as f64;
        let loaded = loading.since(&before);
        let per_sample = |time: Duration| 1e3 * time.as_secs_f64() / loaded.samples.max(1) as f64;
        Ok(Pass {
            mean_ms,
            median_ms: if self.device == Device::Cpu { super::median(each_ms.into_iter()) } else { mean_ms },
            wait_share: waited.as_secs_f64() / elapsed,
            decode_ms: per_sample(loaded.read + loaded.decode),
            augment_ms: per_sample(loaded.augment),
            loss_first,
            loss_last: loss.map_or(Ok(f64::NAN), |loss| loss.item())?,
        })
    }
}

/// What steps are taken with.
pub(super) enum Ground {
    /// A network; there are no files.
    Alone(Box<Engine>),
    /// Everything that a run has.
    WithData(Box<Real>),
}

impl Ground {
    /// Builds what a plan names. Names of landmarks that only the files know are written into it.
    pub(super) fn new(plan: &mut Plan, device: Device) -> Result<Self, TrainError> {
        Ok(match plan.data.train {
            None => Ground::Alone(Box::new(setup::engine(plan, device, plan.precision.resolve(device))?)),
            Some(_) => {
                let ground = setup::prepare(plan, Start::Anew)?;
                Ground::WithData(Box::new(Real { ground, from: Position::default(), kept: Vec::new() }))
            }
        })
    }

    pub(super) fn engine(&mut self) -> &mut Engine {
        match self {
            Ground::Alone(engine) => engine,
            Ground::WithData(real) => &mut real.ground.engine,
        }
    }
}

/// A run's own way from files to batches.
pub(super) struct Real {
    ground: Prepared,
    /// Where the next turn goes on.
    from: Position,
    /// The last turn's batches.
    kept: Vec<DeviceBatch>,
}

impl Real {
    /// The training set.
    pub(super) fn source(&self) -> &dyn Source {
        &*self.ground.data.train
    }

    /// Trains on fresh batches. The loader works in this turn only, and keeps none of them.
    pub(super) fn take(&mut self, turn: &Turn<'_>) -> Result<Pass, TrainError> {
        let stretch = Stretch { from: self.from, end_epoch: u64::MAX, known_bad: Vec::new() };
        let (reporter, stop) = (Reporter::new(Vec::new()), AtomicBool::new(false));
        let mut feed = Pipeline::start(turn.plan, &self.ground, stretch, None, &reporter, &stop)?.feed;
        let mut next = || -> Result<fullbore_feed::Fed, TrainError> {
            let ended =
                || Error::Invalid { op: "bench".into(), message: "the batches came to an end".into() };
            let fed = feed.next().ok_or_else(ended)??;
            self.from = fed.next;
            Ok(fed)
        };
        let given = || next().map(|fed| (fed.batch, fed.loading));
        let pass = turn.time(&mut self.ground.engine, given)?;
        self.kept = (0..KEPT).map(|_| Ok(next()?.batch.copy()?)).collect::<Result<_, TrainError>>()?;
        Ok(pass)
    }

    /// Trains on the batches of the last turn again.
    pub(super) fn replay(&mut self, turn: &Turn<'_>) -> Result<Pass, TrainError> {
        turn.replay(&mut self.ground.engine, &self.kept)
    }
}

/// Noise: images, and masks of all classes or landmarks anywhere.
pub(super) fn synthetic_batch(plan: &Plan, device: Device) -> Result<DeviceBatch, TrainError> {
    manual_seed(plan.run.seed)?;
    let (n, h, w) =
        (plan.batch.size as i64, i64::from(plan.data.size.height), i64::from(plan.data.size.width));
    let noise = |size: &[i64], high: f64| -> Result<Tensor, Error> {
        let values = Tensor::empty(size, Kind::Float, Device::Cpu)?;
        values.uniform_(0.0, high)?;
        Ok(values)
    };
    let bytes = |size: &[i64], high| noise(size, high)?.to_kind(Kind::Uint8)?.to_device(device);
    let images = bytes(&[n, h, w, i64::from(plan.data.channels)], 256.0)?;
    let targets = match plan.chosen()? {
        None => Targets::Masks(bytes(&[n, h, w], plan.data.classes.len() as f64)?),
        Some(_) => {
            // Losses choose from all points of a data set.
            let k = plan.landmarks.names.as_ref().map_or(0, Vec::len) as i64;
            let axis = |side: i64| noise(&[n, k, 1], side as f64 - 1.0);
            Targets::Points(Points {
                places: Tensor::cat(&[&axis(w)?, &axis(h)?], 2)?.to_device(device)?,
                visibility: Tensor::ones(&[n, k], Kind::Uint8, device)?
                    .mul_scalar(2.0)?
                    .to_kind(Kind::Uint8)?,
            })
        }
    };
    Ok(DeviceBatch::from_tensors(images, targets, Position::default()))
}
