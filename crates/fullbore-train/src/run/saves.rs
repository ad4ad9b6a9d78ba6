//! When a run saves, and where.

use std::path::PathBuf;
use std::time::Instant;

use fullbore_events::{CheckpointKind, Event};

use super::Run;
use crate::TrainError;
use crate::best;
use crate::checkpoint;

impl Run<'_> {
    /// Whether it is time to save within an epoch.
    pub(super) fn is_save_due(&self) -> bool {
        let by_steps = self.plan.checkpoint.every_steps;
        let by_minutes = self.plan.checkpoint.every_minutes;
        by_steps.is_some_and(|n| self.ground.progress.step.is_multiple_of(n))
            || by_minutes.is_some_and(|minutes| self.saved_at.elapsed().as_secs_f64() >= 60.0 * minutes)
    }

    pub(super) fn save_last(&mut self) -> Result<(), TrainError> {
        let path = self.run_dir.last_checkpoint();
        checkpoint::save(&path, &self.ground.engine, self.plan, &self.ground.progress)?;
        self.saved_at = Instant::now();
        self.tell_saved(CheckpointKind::Last, path);
        Ok(())
    }

    /// Saves among the best. The file is whole before others make room for it.
    pub(super) fn save_best(&mut self, place: usize) -> Result<(), TrainError> {
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
}
