//! What a training checkpoint holds, by name: the layout that training writes and prediction reads.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Checkpoint, CheckpointError, NamedTensor};

/// Prefix of the weights as trained.
pub const MODEL: &str = "model.";
/// Prefix of their moving average, where the run kept one.
pub const EMA: &str = "ema.";
/// Prefix of the optimizer's state.
pub const OPTIMIZER: &str = "optimizer.";
/// Metadata: the run's plan, JSON.
pub const PLAN: &str = "fullbore.plan";
/// Metadata: how far the run had come, JSON.
pub const PROGRESS: &str = "fullbore.progress";

impl Checkpoint {
    /// The tensors under `prefix`, by what follows it.
    pub fn part<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a NamedTensor<'a>)> {
        self.tensors.iter().filter_map(move |(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)))
    }

    /// Prefix of the weights that the run evaluated: the average where it kept one.
    pub fn evaluated(&self) -> &'static str {
        if self.tensors.keys().any(|name| name.starts_with(EMA)) { EMA } else { MODEL }
    }

    /// A piece of metadata that training wrote as JSON. `path` names the file in the error.
    ///
    /// # Errors
    /// [`CheckpointError::NotOfTraining`] when it is not there or means nothing.
    pub fn json<T: DeserializeOwned>(&self, path: &Path, key: &'static str) -> Result<T, CheckpointError> {
        let found = self.metadata.get(key).and_then(|text| serde_json::from_str(text).ok());
        found.ok_or_else(|| CheckpointError::NotOfTraining { path: path.into(), what: key })
    }
}
