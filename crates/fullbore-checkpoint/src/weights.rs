//! Weights to begin with, from a file of any origin, under the names that a network would give them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::training::{OPTIMIZER, PLAN};
use crate::{CheckpointError, NamedTensor, PthError, pth, read};

/// What wrappers of a network put before every name: DistributedDataParallel, torch.compile, trainers.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];
/// Most of them that are taken off, one after another.
const MAX_PREFIXES: usize = 4;

/// Weights as a file has them, without what trainers wrap around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignWeights {
    /// The tensors by name.
    pub tensors: BTreeMap<String, NamedTensor<'static>>,
    /// What stood before all names, outermost first: keys of dictionaries (`state_dict`) and prefixes (`module.`).
    pub stripped: Vec<String>,
    /// Names of what is no weight: `epoch`, `optimizer`, `mask_values`.
    pub passed_over: Vec<String>,
}

/// Why a file gives no weights.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum WeightsError {
    /// A safetensors file, or any file that cannot be opened.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkpoint(Box<CheckpointError>),
    /// A PyTorch file.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pth(Box<PthError>),
}

impl From<CheckpointError> for WeightsError {
    fn from(error: CheckpointError) -> Self {
        WeightsError::Checkpoint(Box::new(error))
    }
}

impl From<PthError> for WeightsError {
    fn from(error: PthError) -> Self {
        WeightsError::Pth(Box::new(error))
    }
}

/// Reads a safetensors file, a checkpoint of fullbore (the weights that its run evaluated) or a file of `torch.save`; which
/// one is told by its first bytes.
///
/// # Errors
/// Each way such a file can be wrong; see [`CheckpointError`] and [`PthProblem`](crate::PthProblem).
pub fn read_weights(path: &Path) -> Result<ForeignWeights, WeightsError> {
    let mut weights = if is_safetensors(path)? { from_safetensors(path)? } else { from_pth(path)? };
    for _ in 0..MAX_PREFIXES {
        let Some(prefix) = PREFIXES.into_iter().find(|prefix| is_before_all(prefix, &weights.tensors)) else {
            break;
        };
        weights.strip(prefix);
    }
    Ok(weights)
}

/// A safetensors header begins with `{` after its length; no PyTorch file has that byte there.
fn is_safetensors(path: &Path) -> Result<bool, CheckpointError> {
    let (file, _) = read::open(path)?;
    let mut start = Vec::new();
    file.take(9)
        .read_to_end(&mut start)
        .map_err(|source| CheckpointError::Unreadable { path: path.into(), source })?;
    Ok(start.get(8) == Some(&b'{') || path.extension().is_some_and(|ending| ending == "safetensors"))
}

fn from_safetensors(path: &Path) -> Result<ForeignWeights, CheckpointError> {
    let file = read::read(path)?;
    let mut weights = ForeignWeights::default();
    if !file.metadata.contains_key(PLAN) {
        weights.tensors = file.tensors;
        return Ok(weights);
    }
    let prefix = file.evaluated();
    weights.tensors = file.tensors.into_iter().filter(|(name, _)| name.starts_with(prefix)).collect();
    weights.passed_over.push(OPTIMIZER.trim_end_matches('.').to_string());
    weights.strip(prefix);
    Ok(weights)
}

fn from_pth(path: &Path) -> Result<ForeignWeights, WeightsError> {
    let pth::PthContent { tensors, within, passed_over } = pth::read(path)?;
    Ok(ForeignWeights { tensors, stripped: within, passed_over })
}

fn is_before_all(prefix: &str, tensors: &BTreeMap<String, NamedTensor<'static>>) -> bool {
    !tensors.is_empty() && tensors.keys().all(|name| name.len() > prefix.len() && name.starts_with(prefix))
}

impl ForeignWeights {
    /// Takes `prefix` from every name; all have it.
    fn strip(&mut self, prefix: &str) {
        self.tensors = std::mem::take(&mut self.tensors)
            .into_iter()
            .map(|(name, tensor)| {
                let name = name[prefix.len()..].to_string();
                (name.clone(), NamedTensor { name, ..tensor })
            })
            .collect();
        self.stripped.push(prefix.to_string());
    }
}
