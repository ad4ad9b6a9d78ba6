//! When a run has diverged, and how it goes back.

use fullbore_events::Event;

use super::Run;
use crate::TrainError;
use crate::checkpoint::Progress;
use crate::log_window::LogWindow;
use crate::resume::newest_before;

impl Run<'_> {
    /// Whether nothing good can come of further steps, or none is left.
    pub(super) fn has_diverged(&self) -> bool {
        let ended = self.ground.progress.step >= self.steps_total;
        self.log.skipped_in_row >= self.plan.run.max_skipped || (ended && !self.log.is_finite())
    }

    /// Puts the newest good checkpoint into place, from which the run goes on with half the learning rate.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] when it has gone back as often as it may, or has no such checkpoint.
    pub(super) fn roll_back(&mut self) -> Result<(), TrainError> {
        let (from, in_row) = (self.ground.progress.step, self.log.skipped_in_row);
        let roll_backs = self.ground.progress.roll_backs;
        let may = roll_backs < self.plan.run.roll_backs;
        // No step has counted since the state after the last one that did: from there the same would fail again.
        let saved = if may { newest_before(self.run_dir, from.saturating_sub(in_row))? } else { None };
        let Some(saved) = saved else {
            return Err(TrainError::Diverged { in_row, step: from, saved: self.saved.clone() });
        };
        saved.restore(&self.ground.engine)?;
        let progress = &mut self.ground.progress;
        // The best checkpoints are still there, and what was learnt of the memory stays true.
        let (best, governor) = (std::mem::take(&mut progress.best), progress.governor.take());
        *progress = Progress { roll_backs: roll_backs + 1, best, governor, ..saved.progress };
        let (to, lr_factor) = (progress.step, progress.lr_factor());
        self.log = LogWindow::new(self.ground.device, self.ground.engine.optimizer.gate())?;
        self.scores = None;
        if self.phase_is_over() {
            self.enter_phase()?;
        }
        self.reporter.emit(Event::RolledBack { from, to, lr_factor });
        // At once: whoever goes on from here must not try the same learning rate again.
        self.save_last()
    }
}
