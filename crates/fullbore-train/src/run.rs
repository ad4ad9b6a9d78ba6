//! The story of a run: set up, then epochs of steps, evaluations and checkpoints, then the summary.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fullbore_data::Source;
use fullbore_events::{BestScore, CheckpointKind, Event, OutOfMemoryAt, Reporter, RunDir, RunStatus};
use fullbore_feed::{Fed, Feed};
use fullbore_governor::{Attempt, Change, Decision, Governor, Outcome};
use fullbore_nn::compute::{PrecisionChoice, device_name};
use fullbore_torch::{Device, empty_device_cache, reset_device_peak};

use crate::TrainError;
use crate::best;
use crate::caching::Caching;
use crate::checkpoint::{self, Best, Progress};
use crate::clock::Clock;
use crate::evaluate::{EvalSettings, Scored, Scores, evaluate, mean_dice};
use crate::feeding::{Pipeline, Stretch, bytes_beside_the_model};
use crate::log_window::{LogReading, LogWindow};
use crate::memory;
use crate::phases::Phase;
use crate::plan::Plan;
use crate::rehearsal;
use crate::setup::{self, Prepared};
use crate::step::{self, StepOutcome};

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
            sample_bytes: 0,
            slab_bytes: 0,
            steps_per_epoch,
            steps_total,
            trained,
            clock: Clock::new(step),
            log: LogWindow::new(ground.device, ground.engine.optimizer.gate())?,
            caching: Caching::off(),
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
        } else if self.ground.progress.step != self.ground.progress.ended && self.epoch_is_over() {
            // It was stopped between the last step of an epoch and its evaluation.
            self.end_epoch()?;
            self.clock.restart();
        }
        let mut status = RunStatus::Completed;
        while self.ground.progress.step < self.steps_total && self.stopped_early().is_none() {
            let Some(fed) = self.clock.wait_for(&mut feed) else { break };
            let fed = fed?;
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
                self.log_point(reading)?;
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
        let Phase { end, plan, .. } = &self.phase;
        if !self.plan.phases.is_empty() {
            self.tell_phase();
        }
        self.sample_bytes = memory::sample_bytes(plan);
        // What it kept must not count as taken.
        self.caching = Caching::off();
        let stretch = Stretch {
            from: self.ground.progress.position,
            end_epoch: self.plan.run.epochs.min(*end),
            known_bad: self.ground.progress.bad_samples.clone(),
        };
        let Pipeline { feed, caching, slab_bytes } =
            Pipeline::start(plan, &self.ground, stretch, self.reporter, stop)?;
        (self.caching, self.slab_bytes) = (caching, slab_bytes);
        Ok(feed)
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
        self.ground.progress.position.epoch >= self.phase.end
            && self.ground.progress.step < self.steps_total
            && self.stopped_early().is_none()
    }

    fn enter_phase(&mut self) -> Result<(), TrainError> {
        let samples = self.ground.data.train.len() as u64;
        self.phase = Phase::at(self.plan, samples, self.ground.progress.position.epoch);
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
    fn log_point(&mut self, window: LogReading) -> Result<(), TrainError> {
        let step = self.ground.progress.step;
        let (elapsed, waited) = self.clock.since_log();
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
        if in_row >= self.plan.run.max_skipped {
            return Err(self.diverged());
        }
        Ok(())
    }

    fn diverged(&self) -> TrainError {
        let (in_row, step) = (self.log.skipped_in_row, self.ground.progress.step);
        TrainError::Diverged { in_row, step, saved: self.saved.clone() }
    }

    /// Whether it is time to save within an epoch.
    fn is_save_due(&self) -> bool {
        let by_steps = self.plan.checkpoint.every_steps;
        let by_minutes = self.plan.checkpoint.every_minutes;
        by_steps.is_some_and(|n| self.ground.progress.step.is_multiple_of(n))
            || by_minutes.is_some_and(|minutes| self.saved_at.elapsed().as_secs_f64() >= 60.0 * minutes)
    }

    fn epoch_is_over(&self) -> bool {
        self.ground.progress.step >= self.steps_total || self.ground.progress.position.batch == 0
    }

    /// Evaluates and saves when it is their turn, and after the last step in any case.
    fn end_epoch(&mut self) -> Result<(), TrainError> {
        let last = self.ground.progress.step >= self.steps_total;
        if !self.log.is_finite() {
            // Such weights must not replace good ones, and cannot become better.
            return if last { Err(self.diverged()) } else { Ok(()) };
        }
        let epoch = self.log.epoch(&self.ground.progress, self.steps_per_epoch);
        if last || (epoch + 1).is_multiple_of(self.plan.eval.every) {
            self.evaluate(epoch)?;
        }
        self.ground.progress.ended = self.ground.progress.step;
        self.caching.pass_warnings_on(self.reporter);
        let due = (epoch + 1).is_multiple_of(self.plan.checkpoint.every) || self.is_save_due();
        if !last && self.stopped_early().is_none() && due {
            self.save_last()?;
        }
        Ok(())
    }

    /// Scores the model on whole images.
    fn score(&mut self, images: Arc<dyn Source>) -> Result<Scores, TrainError> {
        let epoch = self.log.epoch(&self.ground.progress, self.steps_per_epoch);
        let cache = self.caching.cache.clone();
        let samples = setup::eval_loader(self.plan, images, self.ground.workers, false, cache)?;
        // Evaluations see images of data.size in every phase.
        let whole = setup::finish(self.plan, self.ground.device)?;
        let of_phase = std::mem::replace(&mut self.ground.engine.finish, whole);
        let (engine, eval, reporter, step) =
            (&self.ground.engine, &mut self.eval, self.reporter, self.ground.progress.step);
        let score = || {
            let resized = |change: Change, error: Option<&fullbore_torch::Error>| {
                let (from, to) = (change.from as u64, change.to as u64);
                if let Some(error) = error {
                    let (at, message) = (OutOfMemoryAt::Eval, error.to_string());
                    reporter.emit(Event::OutOfMemory { step, at, micro_batch: from, message });
                }
                reporter.emit(Event::EvalBatchChanged { step, from, to, reason: change.to_string() });
            };
            evaluate(engine, samples, eval, resized, |_, _| Ok(()))
        };
        let scores = match &engine.ema {
            Some(ema) => ema.with_average(score)?,
            None => score()?,
        };
        self.ground.engine.finish = of_phase;
        self.reporter.emit(evaluated(&scores, epoch, step));
        Ok(scores)
    }

    /// Scores the model, and draws all conclusions from that.
    fn evaluate(&mut self, epoch: u64) -> Result<(), TrainError> {
        let scores = self.score(self.val.clone())?;
        let (progress, metric) = (&mut self.ground.progress, self.plan.metric());
        let step = progress.step;
        let value_of = |metric: &str| scores.metric(metric).unwrap_or(f64::NAN);
        let value = value_of(metric);
        self.plan.schedule.see(&mut progress.plateau, metric, value);
        self.plan.early_stop.see(&mut progress.early_stop, value_of);
        // Whoever goes on from the best checkpoint must not see this evaluation again.
        progress.ended = step;
        let keep = self.plan.checkpoint.keep_best;
        if let Some(place) = best::place(&progress.best, metric, value, keep) {
            progress.best.insert(place, Best { value, epoch, step });
            progress.best.truncate(keep);
            self.save_best(place)?;
        }
        self.scores = Some(scores);
        Ok(())
    }

    fn save_last(&mut self) -> Result<(), TrainError> {
        let path = self.run_dir.last_checkpoint();
        checkpoint::save(&path, &self.ground.engine, self.plan, &self.ground.progress)?;
        self.saved_at = Instant::now();
        self.tell_saved(CheckpointKind::Last, path);
        Ok(())
    }

    /// Saves among the best. The file is whole before others make room for it.
    fn save_best(&mut self, place: usize) -> Result<(), TrainError> {
        let new = best::unplaced(self.run_dir);
        checkpoint::save(&new, &self.ground.engine, self.plan, &self.ground.progress)?;
        best::put(self.run_dir, &new, place, self.plan.checkpoint.keep_best)?;
        self.tell_saved(CheckpointKind::Best, self.run_dir.best_checkpoint(place));
        Ok(())
    }

    fn tell_saved(&mut self, kind: CheckpointKind, path: PathBuf) {
        let step = self.ground.progress.step;
        self.reporter.emit(Event::CheckpointSaved { kind, path: path.display().to_string(), step });
        self.saved = Some((path, step));
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
        let plateau = &self.ground.progress.plateau;
        self.plan.schedule.lr(self.plan.peak_lr(), step, self.steps_total, plateau)
    }
}

/// The event that tells of an evaluation.
fn evaluated(scores: &Scores, epoch: u64, step: u64) -> Event {
    let (images, loss, seconds) = (scores.images as u64, scores.loss, scores.seconds);
    match &scores.of {
        Scored::Masks(classes) => {
            let per_class = |value: fn(&fullbore_nn::metrics::ClassScores) -> f64| {
                classes.iter().map(|(name, s)| (name.clone(), value(s))).collect()
            };
            Event::Evaluated {
                epoch,
                step,
                images,
                loss,
                dice: mean_dice(classes),
                dice_per_class: per_class(|s| s.dice),
                iou_per_class: per_class(|s| s.iou),
                precision_per_class: per_class(|s| s.precision.unwrap_or(f64::NAN)),
                recall_per_class: per_class(|s| s.recall.unwrap_or(f64::NAN)),
                seconds,
            }
        }
        Scored::Landmarks(landmarks) => Event::LandmarksEvaluated {
            epoch,
            step,
            images,
            loss,
            nme: landmarks.nme,
            mre_px: landmarks.all.mre_px,
            mre_mm: landmarks.all.mre_mm,
            sdr: landmarks.all.sdr.clone(),
            auc: landmarks.auc,
            failure_rate: landmarks.failure_rate,
            seconds,
        },
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    // A run that ends within a step has waited, but counted no step yet.
    (part.as_secs_f64() / whole.as_secs_f64().max(1e-9)).min(1.0)
}
