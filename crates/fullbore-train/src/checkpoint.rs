//! A run's state in one file: weights, average, optimizer, progress, and the plan that made them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use fullbore_checkpoint::training::{EMA, MODEL, OPTIMIZER, PLAN, PROGRESS};
use fullbore_checkpoint::{Checkpoint, CheckpointError, NamedTensor};
use fullbore_governor::GovernorState;
use fullbore_nn::heads::rows_by_name;
use fullbore_nn::weights::{self, LoadReport, MismatchError};
use fullbore_torch::{NoGrad, Tensor};
use fullbore_types::{Position, SampleId};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::metric::Waiting;
use crate::plan::Plan;
use crate::schedule::Plateau;
use crate::step::Engine;

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// The next batch to train on.
    pub position: Position,
    /// The best evaluations so far, the best first, as many as `checkpoint.keep_best`.
    pub best: Vec<Best>,
    /// What the plateau schedule has seen.
    #[serde(default)]
    pub plateau: Plateau,
    /// What early stopping has seen.
    #[serde(default)]
    pub early_stop: Waiting,
    /// Steps done when an epoch was last ended: evaluated, if it was its turn.
    #[serde(default)]
    pub ended: u64,
    /// Training samples that could not be loaded: they stay replaced by the same others after a resume.
    #[serde(default)]
    pub bad_samples: Vec<SampleId>,
    /// How often the run has gone back because it had diverged.
    #[serde(default)]
    pub roll_backs: u64,
    /// What the governor of the memory has learnt.
    #[serde(default)]
    pub governor: Option<GovernorState>,
}

impl Progress {
    /// What the learning rate of the schedule is multiplied by: halved whenever the run goes back.
    pub(crate) fn lr_factor(&self) -> f64 {
        0.5f64.powf(self.roll_backs as f64)
    }
}

/// An evaluation whose checkpoint is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Value of `checkpoint.metric`.
    pub value: f64,
    /// Zero-based epoch.
    pub epoch: u64,
    /// Optimizer steps done.
    pub step: u64,
}

/// Writes everything that a run needs to go on, atomically: a crash leaves the previous file.
pub fn save(path: &Path, engine: &Engine, plan: &Plan, progress: &Progress) -> Result<(), TrainError> {
    let mut tensors = weights::save(&engine.params, MODEL)?;
    if let Some(ema) = &engine.ema {
        add(&mut tensors, EMA, ema.state()?)?;
    }
    add(&mut tensors, OPTIMIZER, engine.optimizer.state()?)?;
    let metadata = BTreeMap::from([
        (PLAN.to_string(), to_json(plan)),
        (PROGRESS.to_string(), to_json(progress)),
        ("fullbore.version".to_string(), env!("CARGO_PKG_VERSION").to_string()),
    ]);
    fullbore_checkpoint::write(path, &tensors, &metadata)?;
    Ok(())
}

fn add(
    tensors: &mut Vec<NamedTensor<'static>>,
    prefix: &str,
    state: Vec<(String, Tensor)>,
) -> fullbore_torch::Result<()> {
    for (name, tensor) in state {
        tensors.push(weights::to_named(format!("{prefix}{name}"), &tensor)?);
    }
    Ok(())
}

/// The same tensor without a copy of its elements.
fn borrowed<'a>(tensor: &'a NamedTensor<'_>) -> NamedTensor<'a> {
    let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
    NamedTensor { name, dtype: tensor.dtype, shape, bytes: Cow::Borrowed(&tensor.bytes) }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plans and progress are plain data")
}

/// A checkpoint read from disk.
#[derive(Debug)]
pub struct Saved {
    file: Checkpoint,
    path: String,
    /// The plan of the run that wrote it.
    pub plan: Plan,
    /// How far that run had come.
    pub progress: Progress,
}

impl Saved {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let file = fullbore_checkpoint::read(path)?;
        let plan = file.json(path, PLAN)?;
        let progress = file.json(path, PROGRESS)?;
        Ok(Self { file, path: path.display().to_string(), plan, progress })
    }

    /// Writes the file again, to another place.
    pub(crate) fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let tensors: Vec<_> = self.file.tensors.values().map(borrowed).collect();
        fullbore_checkpoint::write(path, &tensors, &self.file.metadata)
    }

    /// Puts weights, average and optimizer state into an engine of the same plan.
    ///
    /// # Errors
    /// [`MismatchError`]; the engine is then partly overwritten and must not be used.
    pub fn restore(&self, engine: &Engine) -> Result<(), TrainError> {
        self.restore_weights(&engine.params, Weights::Raw)?;
        if let Some(ema) = &engine.ema {
            self.restore_state(EMA, ema.state()?)?;
        }
        self.restore_state(OPTIMIZER, engine.optimizer.state()?)
    }

    /// Puts weights into a model; everything must be there.
    pub fn restore_weights(&self, params: &fullbore_nn::Params, which: Weights) -> Result<(), TrainError> {
        let report = self.load_weights(params, which)?;
        if report.is_complete() { Ok(()) } else { Err(self.mismatch(report)) }
    }

    /// Puts those weights into a model that fit.
    pub(crate) fn load_weights(
        &self,
        params: &fullbore_nn::Params,
        which: Weights,
    ) -> fullbore_torch::Result<LoadReport> {
        let prefix = match which {
            Weights::Raw => MODEL,
            Weights::Evaluated => self.file.evaluated(),
        };
        weights::load(params, self.file.part(prefix))
    }

    /// Puts the evaluated weights into a model of `plan` that fit; a head for other landmarks takes those that both have,
    /// by name. Gives the number of head tensors that were chosen so.
    pub(crate) fn load_for(
        &self,
        plan: &Plan,
        params: &fullbore_nn::Params,
    ) -> Result<(LoadReport, usize), TrainError> {
        let prefix = self.file.evaluated();
        let names =
            |plan: &Plan| Ok::<_, TrainError>(plan.chosen()?.map_or(Vec::new(), |chosen| chosen.names));
        let found: BTreeMap<_, _> = self.file.part(prefix).collect();
        let find = |name: &str| found.get(name).copied();
        let rows = rows_by_name(params, plan.model.heads(), find, &names(&self.plan)?, &names(plan)?)?;
        let tensors = found.iter().map(|(&name, &tensor)| (name, rows.get(name).unwrap_or(tensor)));
        Ok((weights::load(params, tensors)?, rows.len()))
    }

    /// Whether the run kept an average of its weights.
    pub(crate) fn has_average(&self) -> bool {
        self.file.evaluated() == EMA
    }

    /// The file that was read.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn restore_state(&self, prefix: &str, state: Vec<(String, Tensor)>) -> Result<(), TrainError> {
        let _no_grad = NoGrad::new();
        let found: BTreeMap<_, _> = self.file.part(prefix).collect();
        let mut report = LoadReport::default();
        for (name, tensor) in state {
            let Some(named) = found.get(name.as_str()) else {
                report.missing.push((format!("{prefix}{name}"), None));
                continue;
            };
            let shape: Vec<usize> = tensor.size().iter().map(|&s| s as usize).collect();
            if shape == named.shape {
                tensor.copy_(&weights::from_named(named)?)?;
                report.applied += 1;
            } else {
                report.mismatched.push((format!("{prefix}{name}"), shape, named.shape.clone()));
            }
        }
        if report.is_complete() { Ok(()) } else { Err(self.mismatch(report)) }
    }

    fn mismatch(&self, report: LoadReport) -> TrainError {
        MismatchError { path: self.path.clone(), report }.into()
    }
}

/// Which weights of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// The ones that were trained.
    Raw,
    /// Their average where the run kept one: the ones that were evaluated.
    Evaluated,
}

impl From<CheckpointError> for TrainError {
    fn from(error: CheckpointError) -> Self {
        TrainError::Checkpoint(Box::new(error))
    }
}
