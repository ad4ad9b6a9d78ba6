//! One optimizer step: micro-batches forward and backward, then clip, update, average.
//!
//! A step survives running out of memory. Forward: statistics go back to the micro-batch's start, and the caller
//! repeats it with a smaller size. Backward: it may have written part of the gradients, so they are dropped, statistics
//! and random state go back to the step's start, and the step begins anew. The update itself cannot run out:
//! everything it needs exists before the first step. Micro-batches may be recorded and replayed (`graphs.rs`); only how
//! they reach the device differs then.

use std::rc::Rc;

use fullbore_feed::{DeviceBatch, Finish, Targets};
use fullbore_governor::faults::FaultPoint;
use fullbore_nn::losses::{HeatmapTargets, LossConfig, StepTotals};
use fullbore_nn::models::Model;
use fullbore_nn::optim::Optimizer;
use fullbore_nn::{NormMode, Params};
use fullbore_torch::{Error, KernelSearch, Kind, Result, Tensor, TensorList, rng_state, set_rng_state};

use crate::ema::Ema;
use crate::graphs::Graphs;
use crate::memory::Faults;
use crate::pass::{Input, Pass, Totals, wrong_targets};

/// What a step works with.
#[derive(Debug)]
pub struct Engine {
    /// The network.
    pub model: Rc<dyn Model>,
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
    pass: Pass,
    graphs: Graphs,
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
    /// Micro-batches of steps with this many samples are recorded and replayed; what a micro-batch size leaves over is not.
    /// `None`: nothing is.
    pub recorded: Option<usize>,
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
        let model: Rc<dyn Model> = Rc::from(model);
        let pass = Pass {
            model: model.clone(),
            device: params.device(),
            precision: settings.precision,
            loss: settings.loss.clone(),
            levels: settings.levels,
            gate: optimizer.gate().clone(),
        };
        Ok(Self {
            model,
            params,
            optimizer,
            ema,
            faults: Faults::default(),
            finish,
            settings,
            pass,
            graphs: Graphs::default(),
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
        let _search = KernelSearch::new()?;
        while step.next < step.batch.len() {
            let end = (step.next + micro.max(1)).min(step.batch.len());
            if step.next > 0 {
                self.at_micro_start.take(&self.buffers, &self.params)?;
            }
            match self.micro_batch(step, end, micro) {
                Ok(()) => step.next = end,
                Err((at, error)) if error.is_out_of_memory() => {
                    match at {
                        Phase::Forward => {
                            let start =
                                if step.next > 0 { &self.at_micro_start } else { &self.at_step_start };
                            start.restore(&self.buffers, &self.params)?;
                        }
                        Phase::Backward => self.restart(step)?,
                    }
                    return Ok(StepOutcome::OutOfMemory { at, message: error.to_string() });
                }
                Err((_, error)) => return Err(error),
            }
        }
        Ok(StepOutcome::Done)
    }

    /// Forward and backward over `batch` by `micro` samples, as in a step that is then forgotten: weights, gradients,
    /// running statistics, counters, random state, optimizer and average are as before. Nothing is recorded or replayed,
    /// and recordings are dropped.
    ///
    /// # Errors
    /// Anything but running out of memory, which is an outcome.
    pub fn rehearse(&mut self, batch: DeviceBatch, micro: usize) -> Result<StepOutcome> {
        self.graphs.clear();
        let recorded = self.settings.recorded.take();
        // Steps of the run are counted from 1.
        let outcome = self.begin(batch, 0).and_then(|mut open| {
            let outcome = self.advance(&mut open, micro)?;
            self.restart(&mut open)?;
            Ok(outcome)
        });
        self.settings.recorded = recorded;
        outcome
    }

    /// Drops what was recorded, because memory is short; it is recorded again later. False when there was nothing to drop.
    pub fn make_way(&mut self) -> bool {
        self.graphs.make_way()
    }

    /// Drops what was recorded, because such micro-batches will not come again.
    pub(crate) fn forget_graphs(&mut self) {
        self.graphs.clear();
    }

    /// Recordings that live, 3 at most.
    pub fn graphs(&self) -> usize {
        self.graphs.len()
    }

    /// Device memory that recordings keep and readings of tensors do not show.
    pub(crate) fn graph_bytes(&self) -> u64 {
        self.graphs.bytes()
    }

    /// What has changed in how steps reach the device since this was last asked, in words: `graph (...)`, `eager ...`.
    pub fn step_mode_news(&mut self) -> Vec<String> {
        self.graphs.news()
    }

    /// Clips, updates the weights with learning rate `lr`, moves the average, forgets the gradients. `number` counts
    /// the run's steps, this one included. A loss or gradient that is not finite changes neither weights nor running
    /// statistics nor average.
    pub fn update(&mut self, step: OpenStep, lr: f64, number: u64) -> Result<StepDone> {
        let grad_norm = self.optimizer.step(lr, &step.loss)?;
        self.forget_gradients()?;
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
        self.pass.logits(images)
    }

    /// Forward and backward for the next samples up to `end`. Where memory runs out in forward, no gradient has changed.
    fn micro_batch(
        &mut self,
        step: &mut OpenStep,
        end: usize,
        micro: usize,
    ) -> std::result::Result<(), (Phase, Error)> {
        let forward = |error| (Phase::Forward, error);
        let backward = |error| (Phase::Backward, error);
        self.faults.check(FaultPoint::Forward, step.number).map_err(forward)?;
        let samples = step.next..end;
        let all = step.batch.len();
        let whole = samples.len() == micro.min(all) && self.settings.recorded == Some(all);
        let batch = step.batch.finish(samples, &self.finish).map_err(forward)?;
        let input = Input { batch, totals: step.totals.clone() };
        let recording = match whole {
            true => self.graphs.of(&input, &self.pass, &self.params).map_err(forward)?,
            false => None,
        };
        if let Some(recording) = recording {
            // Where a replay fails is not known: it may have been in backward.
            let loss = recording.replay(&input, &self.params).map_err(backward)?;
            step.loss.add_(loss).map_err(backward)?;
        } else {
            let counters = whole.then(|| self.params.counters());
            let share = self.pass.share(&input).map_err(forward)?;
            let loss = share.detach().map_err(forward)?;
            self.pass.backward(&share).map_err(backward)?;
            if let Some(counters) = counters {
                self.graphs.saw(&input, &self.params, &counters);
            }
            step.loss.add_(&loss).map_err(backward)?;
        }
        // An injected fault strikes once gradients are written, as a real one may.
        self.faults.check(FaultPoint::Backward, step.number).map_err(backward)
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

    /// Before the gradients of a new step. Recordings write to the old ones' memory, which therefore stays.
    fn forget_gradients(&self) -> Result<()> {
        match self.settings.recorded.is_some() && self.graphs.are_wanted() {
            true => self.optimizer.zero_grads(),
            false => self.optimizer.drop_grads(),
        }
    }

    fn restart(&mut self, step: &mut OpenStep) -> Result<()> {
        self.forget_gradients()?;
        self.at_step_start.restore(&self.buffers, &self.params)?;
        step.loss.fill_(0.0)?;
        step.next = 0;
        Ok(())
    }
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
