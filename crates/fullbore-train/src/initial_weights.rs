//! Weights that a run begins with instead of fresh ones: `model.weights`.

use std::path::{Path, PathBuf};

use fullbore_checkpoint::read_weights;
use fullbore_events::{LoadedWeights, RunDir};
use fullbore_nn::Params;
use fullbore_nn::weights::{self, LoadReport, is_counter};

use crate::TrainError;

/// A file that gives the model less than half of its weights: most likely another network's.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{} does not fit the model: {report}", path.display())]
#[diagnostic(
    code(data::weights_mismatch),
    help(
        "set the model.* keys to the network of that file (names and shapes above), or model.weights to null; at least \
         half of the model's entries must be found by name and shape"
    )
)]
pub struct InitialWeightsError {
    /// The file.
    pub path: PathBuf,
    /// What was found.
    pub report: LoadReport,
}

/// Loads what fits, by exact name and shape: a head for other classes keeps its fresh values. A run folder means its best
/// checkpoint, or its last when it has not been evaluated yet. Gives the report.
///
/// # Errors
/// When there are no weights at `path`, or they give the model less than half of its entries.
pub fn load(path: &Path, params: &Params) -> Result<LoadedWeights, TrainError> {
    let path = file_of(path)?;
    let mut file = read_weights(&path)?;
    let summed = weights::sum_input_channels(params, &mut file.tensors)?;
    let mut report =
        weights::load(params, file.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
    // Averages have no counters, nor have files of some other tools.
    report.missing.retain(|(name, _)| !is_counter(name));
    if report.applied == 0 || report.applied * 2 < report.entries() {
        return Err(InitialWeightsError { path, report }.into());
    }
    Ok(LoadedWeights {
        path: path.display().to_string(),
        applied: report.applied as u64,
        entries: report.entries() as u64,
        stripped: file.stripped,
        passed_over: file.passed_over,
        summed,
        mismatched: report
            .mismatched
            .iter()
            .map(|(name, model, file)| format!("{name}: the model has {model:?}, the file {file:?}"))
            .collect(),
        missing: report.missing.into_iter().map(|(name, _)| name).collect(),
        unused: report.unused,
    })
}

fn file_of(path: &Path) -> Result<PathBuf, TrainError> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    let run = RunDir::open(path)?;
    let best = run.best_checkpoint(0);
    Ok(if best.exists() { best } else { run.last_checkpoint() })
}
