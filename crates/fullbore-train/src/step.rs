//! One optimizer step: micro-batches forward and backward, then clip, update, average.
//!
//! A step survives running out of memory. Forward: statistics go back to the micro-batch's start, and the caller
//! repeats it with a smaller size. Backward: it may have written part of the gradients, so they are dropped, statistics
//! and random state go back to the step's start, and the step begins anew. The update itself cannot run out:
//! everything it needs exists before the first step.

use fullbore_feed::{DeviceBatch, Finish, HeatmapBatch, MicroTargets, Targets};
use fullbore_governor::faults::FaultPoint;
use fullbore_nn::losses::{HeatmapLossConfig, HeatmapTargets, LossConfig, StepTotals};
use fullbore_nn::models::Model;
use fullbore_nn::optim::Optimizer;
use fullbore_nn::{NormMode, Params};
use fullbore_torch::{Autocast, Error, Kind, Result, Tensor, TensorList, rng_state, set_rng_state};

use crate::ema::Ema;
use crate::memory::Faults;

/// What a step works with.
#[derive(Debug)]
pub struct Engine {
    /// The network.
    pub model: Box<dyn Model>,
    /// Its weights and buffers.
    pub params: Params,
    /// Updates the weights.
    pub optimizer: Optimizer,
    /// Their average, when asked for.
    pub ema: Option<Ema>,
    /// Failures on purpose.
    pub faults: Faults,
    /// Batches to network input and targets.
    pub finish: Finish,
    settings: StepSettings,
    buffers: TensorList,
    at_step_start: Snapshot,
    at_micro_start: Snapshot,
}

/// What stays the same in all steps of a run.
#[derive(Clone, Debug)]
pub struct StepSettings {
    /// What is minimised.
    pub loss: LossConfig,
    /// Lower precision of convolutions, `None` for fp32.
    pub precision: Option<Kind>,
    /// Whether targets may hold ignored pixels.
    pub may_ignore: bool,
    /// Samples that share BatchNorm statistics; `None`: the whole batch.
    pub norm_group: Option<usize>,
    /// Resolutions of masks that have a loss: 1, and one for each level of `model.deep_supervision`.
    pub levels: usize,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum StepOutcome {
    /// All micro-batches are through; the step can be updated.
    Done,
    /// Memory ran out. The step is in a state from which [`Engine::advance`] goes on with a smaller micro-batch.
    OutOfMemory {
        /// Where.
        at: Phase,
        /// The allocator's words.
        message: String,
    },
}

/// Half of a micro-batch's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Input, network and loss.
    Forward,
    /// Gradients.
    Backward,
}

/// A step under way: how many samples have given their gradients.
#[derive(Debug)]
pub struct OpenStep {
    batch: DeviceBatch,
    number: u64,
    totals: Totals,
    next: usize,
    loss: Tensor,
}

/// What the shares of a step are shares of.
#[derive(Debug)]
enum Totals {
    /// Labelled pixels.
    Masks(StepTotals),
    /// Weights of all landmarks, 0-dim f32.
    Landmarks(HeatmapLossConfig, Tensor),
}

/// What an update reports, on the device: reading it makes the host wait.
#[derive(Debug)]
pub struct StepDone {
    /// Mean loss over the batch, 0-dim f32.
    pub loss: Tensor,
    /// Gradient norm before clipping, 0-dim f32.
    pub grad_norm: Tensor,
}

/// Running statistics, host counters and random state at one moment: what a forward pass changes.
#[derive(Debug)]
struct Snapshot {
    buffers: TensorList,
    counters: Vec<i64>,
    rng: Tensor,
}

impl Engine {
    /// Prepares steps; all long-lived memory is allocated here.
    pub fn new(
        model: Box<dyn Model>,
        params: Params,
        optimizer: Optimizer,
        ema: Option<Ema>,
        finish: Finish,
        settings: StepSettings,
    ) -> Result<Self> {
        let buffers = params.buffer_list()?;
        let snapshot = || -> Result<Snapshot> {
            Ok(Snapshot {
                buffers: buffers.copy()?,
                counters: params.counters(),
                rng: rng_state(params.device())?,
            })
        };
        let (at_step_start, at_micro_start) = (snapshot()?, snapshot()?);
        Ok(Self {
            model,
            params,
            optimizer,
            ema,
            faults: Faults::default(),
            finish,
            settings,
            buffers,
            at_step_start,
            at_micro_start,
        })
    }

    /// Opens a step over a batch. `number` counts the run's steps, this one included.
    pub fn begin(&mut self, batch: DeviceBatch, number: u64) -> Result<OpenStep> {
        let totals = self.totals(batch.targets())?;
        let loss = Tensor::zeros(&[], Kind::Float, self.params.device())?;
        let samples = batch.len();
        let group = self.settings.norm_group.unwrap_or(samples);
        self.params.norm().set(NormMode::Train { group: group as i64, step: samples as i64 });
        self.at_step_start.take(&self.buffers, &self.params)?;
        Ok(OpenStep { batch, number, totals, next: 0, loss })
    }

    /// Forward and backward for the samples that are left, `micro` at a time.
    ///
    /// # Errors
    /// Anything but running out of memory, which is an outcome.
    pub fn advance(&mut self, step: &mut OpenStep, micro: usize) -> Result<StepOutcome> {
        while step.next < step.batch.len() {
            let end = (step.next + micro.max(1)).min(step.batch.len());
            if step.next > 0 {
                self.at_micro_start.take(&self.buffers, &self.params)?;
            }
            let share = match self.forward(step, end) {
                Ok(share) => share,
                Err(error) if error.is_out_of_memory() => {
                    let start = if step.next > 0 { &self.at_micro_start } else { &self.at_step_start };
                    start.restore(&self.buffers, &self.params)?;
                    return Ok(StepOutcome::OutOfMemory { at: Phase::Forward, message: error.to_string() });
                }
                Err(error) => return Err(error),
            };
            let loss = share.detach()?;
            // An injected fault strikes once gradients are written, as a real one may.
            let backward = self.optimizer.scale_loss(&share)?.backward();
            match backward.and_then(|()| self.faults.check(FaultPoint::Backward, step.number)) {
                Ok(()) => {}
                Err(error) if error.is_out_of_memory() => {
                    self.restart(step)?;
                    return Ok(StepOutcome::OutOfMemory { at: Phase::Backward, message: error.to_string() });
                }
                Err(error) => return Err(error),
            }
            step.loss.add_(&loss)?;
            step.next = end;
        }
        Ok(StepOutcome::Done)
    }

    /// Forward and backward over `batch` by `micro` samples, as in a step that is then forgotten: weights, gradients,
    /// running statistics, counters, random state, optimizer and average are as before.
    ///
    /// # Errors
    /// Anything but running out of memory, which is an outcome.
    pub fn rehearse(&mut self, batch: DeviceBatch, micro: usize) -> Result<StepOutcome> {
        // Steps of the run are counted from 1.
        let mut open = self.begin(batch, 0)?;
        let outcome = self.advance(&mut open, micro)?;
        self.restart(&mut open)?;
        Ok(outcome)
    }

    /// Clips, updates the weights with learning rate `lr`, moves the average, forgets the gradients. `number` counts
    /// the run's steps, this one included. A loss or gradient that is not finite changes neither weights nor running
    /// statistics nor average.
    pub fn update(&mut self, step: OpenStep, lr: f64, number: u64) -> Result<StepDone> {
        let grad_norm = self.optimizer.step(lr, &step.loss)?;
        self.optimizer.drop_grads()?;
        let skipped = &self.optimizer.gate().found_inf;
        // Forward has moved them already, and NaN would stay in them for good.
        self.buffers.copy_if_(&self.at_step_start.buffers, skipped)?;
        if let Some(ema) = &self.ema {
            ema.update(number, skipped)?;
        }
        Ok(StepDone { loss: step.loss, grad_norm })
    }

    /// Logits in f32 for network input, in the run's precision.
    pub fn logits(&self, images: &Tensor) -> Result<Tensor> {
        let logits = {
            let _autocast = Autocast::new(self.params.device(), self.settings.precision)?;
            self.model.forward(images)?
        };
        logits.to_kind(Kind::Float)
    }

    /// The same at all levels that have a head, the finest first: for training alone.
    fn deep_logits(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let levels = {
            let _autocast = Autocast::new(self.params.device(), self.settings.precision)?;
            self.model.forward_levels(images)?
        };
        levels.iter().map(|logits| logits.to_kind(Kind::Float)).collect()
    }

    fn forward(&self, step: &OpenStep, end: usize) -> Result<Tensor> {
        self.faults.check(FaultPoint::Forward, step.number)?;
        let micro = step.batch.finish(step.next..end, &self.finish)?;
        match (micro.targets, &step.totals) {
            (MicroTargets::Masks(masks), Totals::Masks(totals)) if self.settings.levels > 1 => {
                self.settings.loss.share_levels(&self.deep_logits(&micro.images)?, &masks, totals)
            }
            (MicroTargets::Masks(masks), Totals::Masks(totals)) => {
                self.settings.loss.share(&self.logits(&micro.images)?, &masks, totals)
            }
            (
                MicroTargets::Heatmaps(HeatmapBatch { maps, points, weights }),
                Totals::Landmarks(loss, total),
            ) => {
                let targets = HeatmapTargets { maps, points, weights };
                loss.share(&self.logits(&micro.images)?, &targets, total)
            }
            _ => Err(wrong_targets()),
        }
    }

    fn totals(&self, targets: &Targets) -> Result<Totals> {
        let loss = &self.settings.loss;
        match (targets, loss.heatmap(), &self.finish.landmarks) {
            (Targets::Masks(masks), None, _) => {
                let StepSettings { may_ignore, levels, .. } = self.settings;
                Ok(Totals::Masks(StepTotals::of_levels(masks, may_ignore, loss, levels)?))
            }
            (Targets::Points(points), Some(loss), Some(landmarks)) => {
                Ok(Totals::Landmarks(loss, HeatmapTargets::total(&landmarks.weights(points)?)?))
            }
            _ => Err(wrong_targets()),
        }
    }

    fn restart(&mut self, step: &mut OpenStep) -> Result<()> {
        self.optimizer.drop_grads()?;
        self.at_step_start.restore(&self.buffers, &self.params)?;
        step.loss.fill_(0.0)?;
        step.next = 0;
        Ok(())
    }
}

fn wrong_targets() -> Error {
    Error::Invalid { op: "step".into(), message: "the loss is for another task than the data".into() }
}

impl Snapshot {
    fn take(&mut self, buffers: &TensorList, params: &Params) -> Result<()> {
        self.buffers.copy_(buffers)?;
        self.counters = params.counters();
        self.rng = rng_state(params.device())?;
        Ok(())
    }

    fn restore(&self, buffers: &TensorList, params: &Params) -> Result<()> {
        buffers.copy_(&self.buffers)?;
        params.set_counters(&self.counters);
        set_rng_state(params.device(), &self.rng)
    }
}
