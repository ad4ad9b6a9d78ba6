//! The story of a run: set up, then epochs of steps, evaluations and checkpoints, then the summary.

mod epoch_end;
mod rearrange;
mod roll_back;
mod saves;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fullbore_data::Source;
use fullbore_events::{BestScore, Event, OutOfMemoryAt, Reporter, RunDir, RunStatus};
use fullbore_feed::{Fed, Feed};
use fullbore_governor::{Attempt, Decision, Governor, Outcome};
use fullbore_nn::compute::{PrecisionChoice, device_name};
use fullbore_torch::{Device, empty_device_cache, reset_device_peak};

use crate::TrainError;
use crate::caching::Caching;
use crate::checkpoint::{Best, Progress};
use crate::clock::Clock;
use crate::evaluate::{EvalSettings, Scores};
use crate::feeding::{Pipeline, Stretch, bytes_beside_the_model};
use crate::log_window::{LogReading, LogWindow};
use crate::memory;
use crate::phases::Phase;
use crate::plan::Plan;
use crate::rehearsal;
use crate::setup::{self, Prepared};
use crate::step::{self, StepOutcome};

use rearrange::Arranging;

pub use crate::clock::WARM_UP_STEPS;

/// What came out of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How it ended.
    pub status: RunStatus,
    /// Why, when it ended before its last step without being told to.
    pub reason: Option<String>,
    /// Optimizer steps done, those before a resume included.
    pub steps: u64,
    /// Training samples per second after [`WARM_UP_STEPS`], without evaluations and checkpoints.
    pub samples_per_s: f64,
    /// Share of the same time spent waiting for data, 0 to 1.
    pub data_wait: f64,
    /// Mean loss since the last log point.
    pub loss: f64,
    /// The last evaluation.
    pub scores: Option<Scores>,
    /// The best evaluation.
    pub best: Option<Best>,
    /// Training samples that could not be loaded, those before a resume included.
    pub bad_samples: usize,
    /// Wall time.
    pub seconds: f64,
    /// The same up to the end of the first step; `None` when there was none.
    pub first_step_s: Option<f64>,
}

/// Trains what [`setup::prepare`] built from `plan`, into `run_dir`. `stop` ends the run after the current step: the
/// state is saved, the summary says `Interrupted`.
pub fn train(
    plan: &Plan,
    prepared: Prepared,
    run_dir: &RunDir,
    reporter: &Reporter,
    stop: &AtomicBool,
) -> Result<Summary, TrainError> {
    let mut run = Run::new(plan, prepared, run_dir, reporter)?;
    let result = run.train(stop);
    if let Err(error) = &result {
        run.fail(error);
    }
    result
}

struct Run<'a> {
    plan: &'a Plan,
    run_dir: &'a RunDir,
    reporter: &'a Reporter,
    started: Instant,
    ground: Prepared,
    /// What the present epoch is trained with.
    phase: Phase,
    eval: EvalSettings,
    /// What evaluations on the way look at: the validation set, or a part of it.
    val: Arc<dyn Source>,
    governor: Governor,
    /// Most bytes that the plan allows the device's memory.
    budget: Option<u64>,
    /// Threads that compute at most.
    threads: usize,
    sample_bytes: u64,
    /// Host memory of the batches on their way.
    slab_bytes: u64,
    steps_per_epoch: u64,
    steps_total: u64,
    /// All that is left to do is the summary.
    trained: bool,
    clock: Clock,
    log: LogWindow,
    caching: Caching,
    arranging: Arranging,
    scores: Option<Scores>,
    /// The last checkpoint that this process knows to be on disk, and its step.
    saved: Option<(PathBuf, u64)>,
    saved_at: Instant,
}

impl<'a> Run<'a> {
    fn new(
        plan: &'a Plan,
        ground: Prepared,
        run_dir: &'a RunDir,
        reporter: &'a Reporter,
    ) -> Result<Self, TrainError> {
        let samples = ground.data.train.len() as u64;
        let (steps_per_epoch, steps_total) = (plan.steps_per_epoch(samples), plan.steps_total(samples));
        let step = ground.progress.step;
        let budget = memory::budget(plan, ground.device)?;
        if let Some(bytes) = budget {
            rehearsal::check_model(plan, &ground.engine, bytes)?;
        }
        let stopped_early = plan.early_stop.reason(&ground.progress.early_stop).is_some();
        let trained = (step >= steps_total || stopped_early) && ground.progress.ended == step;
        // Without a summary it was killed after its last checkpoint.
        if trained && run_dir.summary().exists() {
            return Err(TrainError::Complete { path: run_dir.path().into(), step, steps_total });
        }
        // It tells of an earlier end.
        let _ = std::fs::remove_file(run_dir.summary());
        Ok(Self {
            plan,
            run_dir,
            reporter,
            started: Instant::now(),
            phase: Phase::at(plan, samples, ground.progress.position.epoch),
            eval: setup::eval_settings(plan, budget)?,
            val: setup::spread(plan, &ground.data.val),
            governor: memory::governor(plan, ground.progress.governor.clone()),
            budget,
            threads: fullbore_torch::num_threads(),
            sample_bytes: 0,
            slab_bytes: 0,
            steps_per_epoch,
            steps_total,
            trained,
            clock: Clock::new(step),
            log: LogWindow::new(ground.device, ground.engine.optimizer.gate())?,
            caching: Caching::off(),
            arranging: Arranging::new(None),
            scores: None,
            saved: (step > 0).then(|| (run_dir.last_checkpoint(), step)),
            saved_at: Instant::now(),
            ground,
        })
    }

    fn train(&mut self, stop: &AtomicBool) -> Result<Summary, TrainError> {
        self.announce();
        if self.governor.recomputes() {
            self.ground.engine.params.set_recompute(true);
        }
        if !self.trained && self.ground.progress.governor.is_none() {
            self.plan_memory()?;
        }
        let mut feed = self.feed(stop)?;
        self.clock.restart();
        if self.trained {
            self.scores = Some(self.score(self.ground.data.val.clone())?);
        } else {
            self.catch_up()?;
        }
        let mut status = RunStatus::Completed;
        while self.ground.progress.step < self.steps_total && self.stopped_early().is_none() {
            let Some(fed) = self.clock.wait_for(&mut feed) else { break };
            let fed = fed?;
            self.arranging.loaded(fed.loading);
            self.ground.workers = fed.workers;
            let position = fed.batch.position();
            if position.batch == 0 {
                self.reporter.emit(Event::EpochStarted { epoch: position.epoch });
            }
            self.step(fed)?;
            let stopping = stop.load(Ordering::Relaxed);
            let save = stopping || self.is_save_due();
            // Before a save it must be known whether the weights are worth it.
            let due = save
                || self.ground.progress.step.is_multiple_of(self.plan.run.log_every)
                || self.epoch_is_over();
            // Reading waits for the device, so that the step's time is whole; only then the clock is read.
            let reading = if due { self.log.read(self.ground.engine.optimizer.gate())? } else { None };
            self.clock.step_done(self.ground.progress.step, self.ground.device)?;
            if let Some(reading) = reading {
                self.log_point(reading);
            }
            if self.has_diverged() {
                drop(feed);
                self.roll_back()?;
                feed = self.feed(stop)?;
                self.catch_up()?;
                continue;
            }
            if stopping {
                status = RunStatus::Interrupted;
                break;
            }
            if self.epoch_is_over() {
                self.end_epoch()?;
                if self.phase_is_over() {
                    drop(feed);
                    self.enter_phase()?;
                    feed = self.feed(stop)?;
                }
                self.clock.restart();
            } else if save && self.log.is_finite() {
                self.save_last()?;
                self.clock.restart();
            }
            if self.ground.progress.step < self.steps_total && self.stopped_early().is_none() {
                feed = self.rearrange(feed, stop)?;
            }
        }
        drop(feed);
        if self.log.is_finite() {
            self.save_last()?;
        }
        let completed = status == RunStatus::Completed;
        if completed && !self.trained && self.val.len() < self.ground.data.val.len() {
            self.scores = Some(self.score(self.ground.data.val.clone())?);
        }
        let reason = self.stopped_early().filter(|_| completed);
        if let Some(reason) = &reason {
            let Progress { step, .. } = self.ground.progress;
            let epoch = self.log.epoch(&self.ground.progress, self.steps_per_epoch);
            self.reporter.emit(Event::EarlyStopped { epoch, step, reason: reason.clone() });
        }
        Ok(self.finish(status, reason))
    }

    /// Starts the batches of the present phase.
    fn feed(&mut self, stop: &AtomicBool) -> Result<Feed, TrainError> {
        if !self.plan.phases.is_empty() {
            self.tell_phase();
        }
        self.sample_bytes = memory::sample_bytes(&self.phase.plan);
        // What it kept must not count as taken.
        self.caching = Caching::off();
        let pipeline = self.pipeline(None, stop)?;
        self.arranging = self.arranging(&pipeline);
        (self.caching, self.slab_bytes) = (pipeline.caching, pipeline.slab_bytes);
        Ok(pipeline.feed)
    }

    /// Starts the batches that are left of the present phase.
    fn pipeline(&self, going_on: Option<Caching>, stop: &AtomicBool) -> Result<Pipeline, TrainError> {
        let Phase { end, plan, .. } = &self.phase;
        let stretch = Stretch {
            from: self.ground.progress.position,
            end_epoch: self.plan.run.epochs.min(*end),
            known_bad: self.ground.progress.bad_samples.clone(),
        };
        Pipeline::start(plan, &self.ground, stretch, going_on, self.reporter, stop)
    }

    fn tell_phase(&self) {
        let Phase { number, plan, .. } = &self.phase;
        let size = plan.data.size;
        self.reporter.emit(Event::PhaseStarted {
            phase: *number as u64,
            phases: self.plan.phases.len() as u64 + 1,
            epoch: self.ground.progress.position.epoch,
            size: [size.width, size.height],
        });
    }

    /// Whether the next batch belongs to another phase.
    fn phase_is_over(&self) -> bool {
        self.next_phase().number != self.phase.number
            && self.ground.progress.step < self.steps_total
            && self.stopped_early().is_none()
    }

    /// That of the next batch.
    fn next_phase(&self) -> Phase {
        let samples = self.ground.data.train.len() as u64;
        Phase::at(self.plan, samples, self.ground.progress.position.epoch)
    }

    fn enter_phase(&mut self) -> Result<(), TrainError> {
        self.phase = self.next_phase();
        let Prepared { engine, augment, workers, .. } = &mut self.ground;
        *augment = setup::fit(engine, &self.phase.plan, *workers)?;
        augment.announce(self.reporter);
        Ok(())
    }

    /// Why the run ends before its last step, once early stopping has seen enough.
    fn stopped_early(&self) -> Option<String> {
        let reason = self.plan.early_stop.reason(&self.ground.progress.early_stop)?;
        (self.ground.progress.step < self.steps_total).then_some(reason)
    }

    fn announce(&self) {
        self.reporter.emit(Event::RunStarted {
            run_dir: self.run_dir.path().display().to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            device: device_name(self.ground.device),
            precision: self.plan.precision.name_on(self.ground.device).into(),
            step_mode: self.ground.step_mode.clone(),
            threads: fullbore_torch::num_threads() as u64,
            workers: self.ground.workers as u64,
            n_train: self.ground.data.train.len() as u64,
            n_val: self.ground.data.val.len() as u64,
            parameters: self.ground.engine.params.count() as u64,
            epochs: self.plan.run.epochs,
            steps_per_epoch: self.steps_per_epoch,
            steps_total: self.steps_total,
            plan: serde_json::to_value(self.plan).ok(),
        });
        if self.plan.precision == PrecisionChoice::Tf32 && self.ground.device == Device::Cpu {
            self.reporter.warn("precision is tf32, which CPUs do not have: they compute in fp32");
        }
        if let Some(began_with) = &self.ground.began_with {
            self.reporter.emit(began_with.clone());
        }
        self.ground.augment.announce(self.reporter);
    }

    /// Decides how batches are split at first. After a resume the run knows.
    fn plan_memory(&mut self) -> Result<(), TrainError> {
        let batches = bytes_beside_the_model(&self.phase.plan, &self.ground)?;
        let limit = memory::limit(self.ground.device, self.budget, batches)?;
        let (state, event) = rehearsal::plan_memory(&self.phase.plan, &mut self.ground.engine, limit)?;
        self.reporter.emit(event);
        self.governor = memory::governor(self.plan, state.clone());
        self.ground.progress.governor = state;
        Ok(())
    }

    /// One optimizer step, whatever micro-batch it takes.
    fn step(&mut self, Fed { batch, next, bad_samples, .. }: Fed) -> Result<(), TrainError> {
        let lr = self.lr();
        let samples = batch.len();
        let number = self.ground.progress.step + 1;
        reset_device_peak(self.ground.device)?;
        let mut open = self.ground.engine.begin(batch, number)?;
        loop {
            let micro = self.micro();
            let StepOutcome::OutOfMemory { at, message } = self.ground.engine.advance(&mut open, micro)?
            else {
                break;
            };
            self.out_of_memory(at, micro.min(samples), message)?;
        }
        let done = self.ground.engine.update(open, lr, number)?;
        self.tell_step_mode();
        self.log.add(done, samples)?;
        self.ground.progress.step = number;
        self.ground.progress.position = next;
        self.ground.progress.bad_samples = bad_samples;
        self.observe(Outcome::Done, self.micro().min(samples)).map(|_| ())
    }

    /// Reports what has become of recording micro-batches.
    fn tell_step_mode(&mut self) {
        let step = self.ground.progress.step;
        for mode in self.ground.engine.step_mode_news() {
            self.reporter.emit(Event::StepModeChanged { step, mode });
        }
    }

    /// Samples per forward pass.
    fn micro(&self) -> usize {
        self.governor.micro(self.sample_bytes)
    }

    /// Reports that memory ran out, frees what can be freed, and lets the governor decide how to go on. Recorded micro-batches
    /// go first, and the same size is tried again without them.
    fn out_of_memory(&mut self, at: step::Phase, samples: usize, message: String) -> Result<(), TrainError> {
        let at = match at {
            step::Phase::Forward => OutOfMemoryAt::Forward,
            step::Phase::Backward => OutOfMemoryAt::Backward,
        };
        self.reporter.emit(Event::OutOfMemory {
            step: self.ground.progress.step,
            at,
            micro_batch: samples as u64,
            message: message.clone(),
        });
        let made_way = self.ground.engine.make_way();
        empty_device_cache(self.ground.device)?;
        if made_way {
            return Ok(());
        }
        match self.observe(Outcome::OutOfMemory, samples)? {
            Decision::GiveUp { why, fits } => {
                let size = self.phase.plan.data.size;
                let message = format!("{message}; {why}; {fits}");
                Err(TrainError::NothingFits { width: size.width, height: size.height, message })
            }
            _ => Ok(()),
        }
    }

    /// Tells the governor of an attempt and does what it decides, but for giving up.
    fn observe(&mut self, outcome: Outcome, samples: usize) -> Result<Decision, TrainError> {
        let held = (self.slab_bytes, self.caching.cache.as_ref().map_or(0, |cache| cache.bytes()));
        let mut readings = memory::readings(self.ground.device, self.budget, held)?;
        readings.device.peak += self.ground.engine.graph_bytes();
        let attempt = Attempt { samples, sample_bytes: self.sample_bytes, outcome };
        let decision = self.governor.observe(attempt, &readings);
        match &decision {
            Decision::Halve(change) | Decision::Grow(change) => {
                self.reporter.emit(Event::MicroBatchChanged {
                    step: self.ground.progress.step,
                    from: change.from as u64,
                    to: change.to as u64,
                    reason: change.to_string(),
                });
            }
            Decision::CleanUp { of_host, .. } => {
                if !of_host {
                    self.ground.engine.make_way();
                }
                empty_device_cache(self.ground.device)?;
            }
            Decision::Recompute => {
                self.ground.engine.params.set_recompute(true);
                self.reporter
                    .warn("activations are computed again in backward from now on: nothing smaller is left");
            }
            Decision::Nothing | Decision::GiveUp { .. } => {}
        }
        if decision != Decision::Nothing {
            self.ground.progress.governor = Some(self.governor.state().clone());
        }
        Ok(decision)
    }

    /// Reports the steps since the last log point.
    fn log_point(&mut self, window: LogReading) {
        let step = self.ground.progress.step;
        let (elapsed, waited) = self.clock.since_log();
        self.arranging.add(elapsed, waited, window.samples);
        self.reporter.emit(Event::Step {
            epoch: self.log.epoch(&self.ground.progress, self.steps_per_epoch),
            step,
            loss: window.loss,
            lr: self.lr_of(step.saturating_sub(1)),
            grad_norm: Some(window.grad_norm),
            samples_per_s: window.samples as f64 / elapsed.as_secs_f64().max(1e-9),
            data_wait: share(waited, elapsed),
            micro_batch: self.micro() as u64,
        });
        let LogReading { skipped, skipped_in_row: in_row, .. } = window;
        if skipped > 0 {
            let what = if window.loss.is_finite() { "gradient" } else { "loss" };
            self.reporter.emit(Event::NonFinite { step, what: what.into(), skipped, in_row });
        }
    }

    fn epoch_is_over(&self) -> bool {
        self.ground.progress.step >= self.steps_total || self.ground.progress.position.batch == 0
    }

    /// Keeps what the run has learnt, when it is worth keeping, and reports the end.
    fn fail(&mut self, error: &TrainError) {
        if self.log.is_finite()
            && self.ground.progress.step > 0
            && let Err(second) = self.save_last()
        {
            self.reporter.warn(format!("the state could not be saved either: {second}"));
        }
        self.finish(RunStatus::Failed, Some(error.to_string()));
    }

    fn finish(&self, status: RunStatus, message: Option<String>) -> Summary {
        let batch = self.plan.batch.size as f64;
        let (elapsed, waited, steps) = self.clock.measured();
        let summary = Summary {
            status,
            reason: message.clone().filter(|_| status == RunStatus::Completed),
            steps: self.ground.progress.step,
            samples_per_s: steps as f64 * batch / elapsed.as_secs_f64().max(1e-9),
            data_wait: share(waited, elapsed),
            loss: self.log.last_loss,
            scores: self.scores.clone(),
            best: self.ground.progress.best.first().cloned(),
            bad_samples: self.ground.progress.bad_samples.len(),
            seconds: self.started.elapsed().as_secs_f64(),
            first_step_s: self.clock.to_first_step().map(|time| time.as_secs_f64()),
        };
        self.reporter.emit(Event::RunFinished {
            status,
            steps: summary.steps,
            seconds: summary.seconds,
            first_step_s: summary.first_step_s,
            samples_per_s: summary.samples_per_s,
            data_wait: summary.data_wait,
            best: summary.best.as_ref().map(|best| BestScore {
                metric: self.plan.metric().into(),
                value: best.value,
                epoch: best.epoch,
                step: best.step,
            }),
            message,
        });
        summary
    }

    fn lr(&self) -> f64 {
        self.lr_of(self.ground.progress.step)
    }

    fn lr_of(&self, step: u64) -> f64 {
        let progress = &self.ground.progress;
        let scheduled = self.plan.schedule.lr(self.plan.peak_lr(), step, self.steps_total, &progress.plateau);
        scheduled * progress.lr_factor()
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    // A run that ends within a step has waited, but counted no step yet.
    (part.as_secs_f64() / whole.as_secs_f64().max(1e-9)).min(1.0)
}
