//! The micro-batch to begin with: steps rehearsed on made-up samples before training tell what a sample takes.

use std::time::{Duration, Instant};

use fullbore_events::{Event, PlannedBytes};
use fullbore_feed::augment::Points;
use fullbore_feed::{DeviceBatch, Targets};
use fullbore_governor::{
    FixedBytes, GovernorState, MemoryConfig, MicroPlan, MicroPlanError, Probe, plan_micro,
};
use fullbore_nn::NormKind;
use fullbore_nn::layers::recompute::Activation;
use fullbore_nn::params::Entry;
use fullbore_torch::{
    Device, Error, Kind, Result, Tensor, device_memory, empty_device_cache, reset_device_peak,
};
use fullbore_types::Position;

use crate::TrainError;
use crate::plan::{Micro, Plan};
use crate::step::{Engine, StepOutcome};

/// Rehearsals at most; each has twice the samples of the one before.
const MOST: usize = 3;
/// No rehearsal begins that would probably end later than this.
const LONGEST: Duration = Duration::from_secs(10);

/// What the governor of a new run begins with, and the words for it. `limit`: most bytes that tensors may come to.
///
/// # Errors
/// When the model or one sample does not fit in any way, and failures of the device.
pub(crate) fn plan_memory(
    plan: &Plan,
    engine: &mut Engine,
    limit: Option<u64>,
) -> std::result::Result<(Option<GovernorState>, Event), TrainError> {
    let why_not = match (plan.batch.micro, limit) {
        (Micro::Auto, Some(limit)) => {
            let planned = rehearse(plan, engine, limit)?;
            let state = GovernorState::planned(planned.micro.micro, planned.recompute);
            return Ok((Some(state), planned.event()));
        }
        (Micro::Count(_), _) => "batch.micro says so",
        (Micro::Auto, None) => "the device does not tell how much memory there is",
    };
    let micro = plan.first_micro();
    let line = format!("micro-batch {micro} of {}: {why_not}", plan.batch.size);
    let (micro_batch, lines) = (micro as u64, vec![line]);
    Ok((None, Event::MemoryPlanned { micro_batch, recompute: false, bytes: None, lines }))
}

/// Refuses a model that does not fit into `limit` bytes by itself. Allocates nothing.
///
/// # Errors
/// [`MicroPlanError::Model`].
pub(crate) fn check_model(plan: &Plan, engine: &Engine, limit: u64) -> std::result::Result<(), TrainError> {
    // Without rehearsals it is about the model alone.
    Stage { plan, limit, fixed: fixed_bytes(engine)? }.split(&[])?;
    Ok(())
}

/// How a run's batches are split at first.
struct MemoryPlan {
    micro: MicroPlan,
    /// Whether one sample fits only when activations are computed again.
    recompute: bool,
}

/// Rehearses steps and plans how to split batches so that they stay within `limit` bytes. Where one sample does not fit
/// and `activation` is auto, the network recomputes activations from now on. Nothing else of `engine` changes.
fn rehearse(plan: &Plan, engine: &mut Engine, limit: u64) -> std::result::Result<MemoryPlan, TrainError> {
    check_model(plan, engine, limit)?;
    let stage = Stage { plan, limit, fixed: fixed_bytes(engine)? };
    let kept = stage.play(engine);
    match kept {
        Err(error) if is_about_memory(&error) && plan.activation == Activation::Auto => {
            engine.params.set_recompute(true);
            Ok(MemoryPlan { micro: stage.play(engine)?, recompute: true })
        }
        kept => Ok(MemoryPlan { micro: kept?, recompute: false }),
    }
}

impl MemoryPlan {
    fn event(&self) -> Event {
        let MicroPlan { micro, fixed, other, per_sample, budget, .. } = self.micro;
        let mut lines = self.micro.lines();
        if self.recompute {
            lines.push("activations are computed again in backward: without that no sample fits".into());
        }
        Event::MemoryPlanned {
            micro_batch: micro as u64,
            recompute: self.recompute,
            bytes: Some(PlannedBytes {
                weights: fixed.weights,
                gradients: fixed.gradients,
                optimizer: fixed.optimizer,
                average: fixed.average,
                other,
                per_sample,
                expected_peak: self.micro.expected_peak(),
                limit: budget,
            }),
            lines,
        }
    }
}

/// What rehearsals have in common.
struct Stage<'a> {
    plan: &'a Plan,
    limit: u64,
    fixed: FixedBytes,
}

impl Stage<'_> {
    fn split(&self, probes: &[Probe]) -> std::result::Result<MicroPlan, MicroPlanError> {
        let (batch, norm) = (self.plan.batch.size, &self.plan.norm);
        let group = (norm.kind == NormKind::Batch).then(|| norm.group.map_or(batch, |n| n as usize));
        plan_micro(probes, self.fixed, self.limit, batch, group, &self.plan.memory)
    }

    /// Rehearses as many samples as safely fit, and plans with what that took.
    fn play(&self, engine: &mut Engine) -> std::result::Result<MicroPlan, TrainError> {
        let began = Instant::now();
        let mut probes = Vec::new();
        let mut micro = self.fewest();
        loop {
            let start = Instant::now();
            match self.peak_of(engine, micro)? {
                Ok(peak_bytes) => probes.push(Probe { micro, peak_bytes }),
                Err(message) if probes.is_empty() => {
                    let size = self.plan.data.size;
                    return Err(TrainError::NothingFits { width: size.width, height: size.height, message });
                }
                // It takes more than there is; how much more is not known.
                Err(_) => probes.push(Probe { micro, peak_bytes: self.limit.saturating_add(1) }),
            }
            let late = !self.plan.run.reproducible && began.elapsed() + 2 * start.elapsed() > LONGEST;
            micro *= 2;
            if late || probes.len() == MOST || micro > self.most() || !self.is_safe(&probes) {
                return Ok(self.split(&probes)?);
            }
        }
    }

    fn fewest(&self) -> usize {
        let fewest = if self.plan.needs_two_samples() { 2 } else { 1 };
        fewest.max(self.plan.memory.min_micro).min(self.most())
    }

    fn most(&self) -> usize {
        let MemoryConfig { max_micro, .. } = self.plan.memory;
        max_micro.map_or(self.plan.batch.size, |most| most.min(self.plan.batch.size))
    }

    /// Whether twice the samples fit for sure: on a host without a budget nothing fails, the system ends the process.
    fn is_safe(&self, probes: &[Probe]) -> bool {
        let last = probes.last().map_or(0, |probe| probe.peak_bytes);
        let grows = last.saturating_sub(self.fixed.total());
        (last.saturating_add(grows)) as f64 <= self.limit as f64 * self.plan.memory.halve
    }

    /// Most bytes that tensors held in a rehearsal, or the allocator's words.
    fn peak_of(&self, engine: &mut Engine, micro: usize) -> Result<std::result::Result<u64, String>> {
        let device = engine.params.device();
        // In a second micro-batch the gradients are there already, as in most of a step.
        let samples = (2 * micro).min(self.plan.batch.size);
        empty_device_cache(device)?;
        reset_device_peak(device)?;
        let mut rehearsed =
            made_up(self.plan, samples, device).and_then(|batch| engine.rehearse(batch, micro));
        if device != Device::Cpu && matches!(rehearsed, Ok(StepOutcome::Done)) {
            // The first time cuDNN searches among its algorithms, in memory that no later step takes.
            empty_device_cache(device)?;
            reset_device_peak(device)?;
            rehearsed = made_up(self.plan, samples, device).and_then(|batch| engine.rehearse(batch, micro));
        }
        match rehearsed {
            Ok(StepOutcome::Done) => Ok(Ok(device_memory(device)?.peak)),
            Ok(StepOutcome::OutOfMemory { message, .. }) => Ok(Err(message)),
            Err(Error::OutOfMemory { message }) => Ok(Err(message)),
            Err(error) => Err(error),
        }
    }
}

fn is_about_memory(error: &TrainError) -> bool {
    matches!(error, TrainError::NothingFits { .. } | TrainError::MicroPlan(_))
}

/// Memory that an engine holds for good.
fn fixed_bytes(engine: &Engine) -> Result<FixedBytes> {
    let weights = engine.params.entries().filter_map(|(_, entry)| match entry {
        Entry::Parameter(tensor) | Entry::Buffer(tensor) => Some(tensor),
        Entry::Counter(_) => None,
    });
    let trained =
        engine.params.parameters().map(|(_, tensor)| tensor).filter(|tensor| tensor.requires_grad());
    let average = engine.ema.as_ref().map(|ema| ema.state()).transpose()?.unwrap_or_default();
    Ok(FixedBytes {
        weights: bytes(weights),
        gradients: bytes(trained),
        optimizer: bytes(engine.optimizer.state()?.iter().map(|(_, tensor)| tensor)),
        // It has a place aside for the weights that it takes turns with.
        average: 2 * bytes(average.iter().map(|(_, tensor)| tensor)),
    })
}

fn bytes<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> u64 {
    tensors.map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
}

/// A batch as large as any: gray images, and targets without a gap.
fn made_up(plan: &Plan, samples: usize, device: Device) -> Result<DeviceBatch> {
    let size = plan.data.size;
    let (n, h, w) = (samples as i64, i64::from(size.height), i64::from(size.width));
    let full = |size: &[i64], value: f64, kind| {
        let tensor = Tensor::zeros(size, kind, device)?;
        tensor.fill_(value)?;
        Ok::<_, Error>(tensor)
    };
    let images = full(&[n, h, w, i64::from(plan.data.channels)], 128.0, Kind::Uint8)?;
    let targets = match &plan.landmarks.names {
        Some(names) if plan.classes().is_none() => {
            let k = names.len() as i64;
            let places = full(&[n, k, 2], 0.5 * h.min(w) as f64, Kind::Float)?;
            Targets::Points(Points { places, visibility: full(&[n, k], 2.0, Kind::Uint8)? })
        }
        _ => Targets::Masks(full(&[n, h, w], 0.0, Kind::Uint8)?),
    };
    Ok(DeviceBatch::from_tensors(images, targets, Position::default()))
}
