//! Weights in and out: named bytes for files, and a report of what a file gave a model.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;

use fullbore_checkpoint::{Dtype, NamedTensor};
use fullbore_torch::{Kind, NoGrad, Result, Tensor};

use crate::Params;
use crate::params::Entry;

/// How many names of each kind a report shows.
const SHOWN: usize = 5;

/// What loading did. Names that differ are reported, never guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Entries of the model that got their values from the file.
    pub applied: usize,
    /// Entries of the model that the file lacks, the first few with the nearest unused name in the file.
    pub missing: Vec<(String, Option<String>)>,
    /// Names in the file that the model lacks.
    pub unused: Vec<String>,
    /// Entries whose shapes differ: name, the model's shape, the file's.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl LoadReport {
    /// Entries of the model.
    pub fn entries(&self) -> usize {
        self.applied + self.missing.len() + self.mismatched.len()
    }

    /// True when every entry of the model was found. Missing counters do not count: other tools leave them out.
    pub fn is_complete(&self) -> bool {
        self.mismatched.is_empty() && self.missing.iter().all(|(name, _)| is_counter(name))
    }
}

/// Whether `name` is that of a BatchNorm's counter, which no result depends on.
pub fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} applied, {} missing, {} unused, {} of another shape",
            self.applied,
            self.missing.len(),
            self.unused.len(),
            self.mismatched.len()
        )?;
        for (name, nearest) in self.missing.iter().take(SHOWN) {
            write!(f, "\n  missing {name}")?;
            if let Some(nearest) = nearest {
                write!(f, " (nearest in the file: {nearest})")?;
            }
        }
        for name in self.unused.iter().take(SHOWN) {
            write!(f, "\n  unused {name}")?;
        }
        for (name, model, file) in self.mismatched.iter().take(SHOWN) {
            write!(f, "\n  {name}: the model has {model:?}, the file {file:?}")?;
        }
        Ok(())
    }
}

/// A file whose tensors are not those of the model.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{path} does not fit the model: {report}")]
#[diagnostic(
    code(data::checkpoint_mismatch),
    help("use the checkpoint with the plan that made it (plan.yaml beside it)")
)]
pub struct MismatchError {
    /// The file.
    pub path: String,
    /// What was found.
    pub report: LoadReport,
}

/// A tensor as named bytes, row-major. Makes the host wait for the device.
pub fn to_named(name: impl Into<String>, tensor: &Tensor) -> Result<NamedTensor<'static>> {
    let (tensor, dtype) = match tensor.kind() {
        Kind::Half => (tensor.clone(), Dtype::F16),
        Kind::BFloat16 => (tensor.clone(), Dtype::BF16),
        Kind::Int64 => (tensor.clone(), Dtype::I64),
        Kind::Uint8 => (tensor.clone(), Dtype::U8),
        _ => (tensor.to_kind(Kind::Float)?, Dtype::F32),
    };
    Ok(NamedTensor {
        name: name.into(),
        dtype,
        shape: tensor.size().iter().map(|&s| s as usize).collect(),
        bytes: tensor.to_bytes()?.into(),
    })
}

/// A CPU tensor from named bytes.
pub fn from_named(named: &NamedTensor<'_>) -> Result<Tensor> {
    let kind = match named.dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::U8 => Kind::Uint8,
        Dtype::Bool => Kind::Bool,
    };
    let shape: Vec<i64> = named.shape.iter().map(|&s| s as i64).collect();
    Tensor::from_bytes(&named.bytes, &shape, kind)
}

/// All weights, buffers and counters of a model under `prefix`. Makes the host wait for the device.
pub fn save(params: &Params, prefix: &str) -> Result<Vec<NamedTensor<'static>>> {
    params
        .entries()
        .map(|(name, entry)| {
            let name = format!("{prefix}{name}");
            match entry {
                Entry::Parameter(tensor) | Entry::Buffer(tensor) => to_named(name, tensor),
                Entry::Counter(cell) => Ok(NamedTensor {
                    name,
                    dtype: Dtype::I64,
                    shape: vec![],
                    bytes: cell.load(Ordering::Relaxed).to_ne_bytes().to_vec().into(),
                }),
            }
        })
        .collect()
}

/// Copies values from named tensors into a model; names and shapes must be equal, types and layouts are converted.
/// The model's own type, device and layout stay. Values that do not fit are left alone and reported.
pub fn load<'a>(
    params: &Params,
    file: impl IntoIterator<Item = (&'a str, &'a NamedTensor<'a>)>,
) -> Result<LoadReport> {
    let _no_grad = NoGrad::new();
    let mut unused: BTreeMap<&str, &NamedTensor<'_>> = file.into_iter().collect();
    let mut report = LoadReport::default();
    let mut missing = Vec::new();
    for (name, entry) in params.entries() {
        let Some(found) = unused.remove(name) else {
            missing.push(name.to_string());
            continue;
        };
        match entry {
            Entry::Parameter(tensor) | Entry::Buffer(tensor) => {
                let shape: Vec<usize> = tensor.size().iter().map(|&s| s as usize).collect();
                if shape == found.shape {
                    tensor.copy_(&from_named(found)?)?;
                    report.applied += 1;
                } else {
                    report.mismatched.push((name.to_string(), shape, found.shape.clone()));
                }
            }
            Entry::Counter(cell) => {
                if found.shape.iter().product::<usize>() == 1 {
                    let value = from_named(found)?.reshape(&[])?.item()?;
                    cell.store(value as i64, Ordering::Relaxed);
                    report.applied += 1;
                } else {
                    report.mismatched.push((name.to_string(), vec![], found.shape.clone()));
                }
            }
        }
    }
    report.unused = unused.keys().map(|name| name.to_string()).collect();
    // Comparing every name with every other takes seconds in a large model.
    let nearest = |(place, name): (usize, String)| {
        let nearest = if place < SHOWN { nearest(&name, &report.unused) } else { None };
        (name, nearest)
    };
    report.missing = missing.into_iter().enumerate().map(nearest).collect();
    Ok(report)
}

/// Makes a file's first convolution on three channels fit a model on one, by adding its weights up over the channels: a gray
/// image in all three would give the same, where their normalisation is the same. Gives the entry's name if it was done.
pub fn sum_input_channels(
    params: &Params,
    file: &mut BTreeMap<String, NamedTensor<'static>>,
) -> Result<Option<String>> {
    let Some((name, first)) = params.parameters().find(|(_, tensor)| tensor.size().len() == 4) else {
        return Ok(None);
    };
    let size = first.size();
    let Some(found) = file.get_mut(name) else { return Ok(None) };
    let in_colour: Vec<usize> =
        size.iter().enumerate().map(|(axis, &side)| if axis == 1 { 3 } else { side as usize }).collect();
    if size[1] != 1 || found.shape != in_colour {
        return Ok(None);
    }
    let summed = from_named(found)?.to_kind(Kind::Float)?.sum_dims(&[1], Kind::Float)?.reshape(&size)?;
    *found = to_named(name, &summed)?;
    Ok(Some(name.to_string()))
}

/// The most similar candidate, if one is similar at all.
fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    let comparable = |candidate: &&String| candidate.len() <= 4 * name.len();
    candidates
        .iter()
        .filter(comparable)
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.clone())
}
