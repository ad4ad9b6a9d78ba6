//! What follows an epoch's last step: the evaluation, and what is concluded from it.

use std::sync::Arc;

use fullbore_data::Source;
use fullbore_events::{Event, OutOfMemoryAt};
use fullbore_governor::Change;

use super::Run;
use crate::TrainError;
use crate::best;
use crate::checkpoint::Best;
use crate::evaluate::{Scored, Scores, evaluate, mean_dice};
use crate::setup;

impl Run<'_> {
    /// Ends an epoch that was left between its last step and its evaluation.
    pub(super) fn catch_up(&mut self) -> Result<(), TrainError> {
        if self.ground.progress.step != self.ground.progress.ended && self.epoch_is_over() {
            self.end_epoch()?;
        }
        self.clock.restart();
        Ok(())
    }

    /// Evaluates and saves when it is their turn, and after the last step in any case.
    pub(super) fn end_epoch(&mut self) -> Result<(), TrainError> {
        let last = self.ground.progress.step >= self.steps_total;
        if !self.log.is_finite() {
            // Such weights must not replace good ones, and cannot become better.
            return Ok(());
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
    pub(super) fn score(&mut self, images: Arc<dyn Source>) -> Result<Scores, TrainError> {
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
