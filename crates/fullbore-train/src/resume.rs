//! Finding a run's newest state, however the run ended.
//!
//! A kill may come at any moment: while a checkpoint is written, between the moves that give a best one its place, or after
//! a best one was saved and before the `last` of the same step was.

use std::path::{Path, PathBuf};

use fullbore_checkpoint::training::PROGRESS;
use fullbore_checkpoint::{CheckpointError, read_metadata, remove_unfinished};
use fullbore_events::RunDir;

use crate::TrainError;
use crate::best;
use crate::checkpoint::{Progress, Saved};

/// Reads the newest state of the run in `run_dir`, whichever checkpoint holds it, and makes `last` that state. Finishes or
/// removes what a kill left undone. `None` when the run has saved nothing yet.
///
/// No other process may be at work in the folder.
///
/// # Errors
/// When the newest checkpoint cannot be used, or the folder cannot be written to.
pub fn newest_state(run_dir: &RunDir) -> Result<Option<Saved>, TrainError> {
    newest_before(run_dir, u64::MAX)
}

/// The same among the states of fewer than `steps` steps.
pub(crate) fn newest_before(run_dir: &RunDir, steps: u64) -> Result<Option<Saved>, TrainError> {
    remove_unfinished(&run_dir.checkpoints());
    finish_best(run_dir)?;
    let last = run_dir.last_checkpoint();
    let mut newest: Option<((u64, u64), PathBuf)> = None;
    let bests = (0..).map(|place| run_dir.best_checkpoint(place)).take_while(|path| path.exists());
    for path in last.exists().then(|| last.clone()).into_iter().chain(bests) {
        let Progress { roll_backs, step, .. } = match progress_of(&path) {
            Ok(progress) => progress,
            Err(error) if path == last => return Err(error.into()),
            // A best checkpoint that cannot be used stands in nobody's way.
            Err(_) => continue,
        };
        // A run that has gone back has fewer steps, and is newer all the same.
        let age = (roll_backs, step);
        if step < steps && newest.as_ref().is_none_or(|(most, _)| age > *most) {
            newest = Some((age, path));
        }
    }
    let Some((_, path)) = newest else { return Ok(None) };
    let saved = Saved::read(&path)?;
    if path != last {
        saved.write(&last)?;
    }
    Ok(Some(saved))
}

/// Gives a best checkpoint that is whole but has no place yet the one that it was saved for.
fn finish_best(run_dir: &RunDir) -> Result<(), TrainError> {
    let new = best::unplaced(run_dir);
    if !new.exists() {
        return Ok(());
    }
    // One that cannot be used is overwritten by the next.
    let Ok(saved) = Saved::read(&new) else { return Ok(()) };
    let Progress { best, step, .. } = &saved.progress;
    if let Some(place) = best.iter().position(|best| best.step == *step) {
        best::put(run_dir, &new, place, saved.plan.checkpoint.keep_best)?;
    }
    Ok(())
}

fn progress_of(path: &Path) -> Result<Progress, CheckpointError> {
    let metadata = read_metadata(path)?;
    let progress = metadata.get(PROGRESS).and_then(|text| serde_json::from_str(text).ok());
    progress.ok_or_else(|| CheckpointError::NotOfTraining { path: path.into(), what: PROGRESS })
}
