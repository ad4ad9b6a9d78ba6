//! A model's weights and buffers by name, in the order in which the layers were built.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use fullbore_torch::{Device, NoGrad, Result, Tensor, TensorList};

use crate::layers::norm::NormSwitch;

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Trained by the optimizer; a leaf that requires a gradient.
    Parameter(Tensor),
    /// Updated by the forward pass: running statistics.
    Buffer(Tensor),
    /// Counted on the host: BatchNorm's `num_batches_tracked`, an i64 scalar in files.
    Counter(Arc<AtomicI64>),
}

/// All weights and buffers of a model. Names are PyTorch's state-dict keys.
#[derive(Debug)]
pub struct Params {
    device: Device,
    entries: Vec<(String, Entry)>,
    norm: Arc<NormSwitch>,
    recompute: Arc<AtomicBool>,
}

impl Params {
    /// An empty store; layers built in it live on `device`.
    pub fn new(device: Device) -> Self {
        Self { device, entries: Vec::new(), norm: Arc::default(), recompute: Arc::default() }
    }

    /// The place for a model's outermost layers.
    pub fn root(&mut self) -> Scope<'_> {
        Scope { params: self, prefix: String::new() }
    }

    /// Where the weights live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Names and entries in building order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Names and parameters in building order.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries().filter_map(|(name, entry)| match entry {
            Entry::Parameter(tensor) => Some((name, tensor)),
            _ => None,
        })
    }

    /// Number of trainable values.
    pub fn count(&self) -> usize {
        self.parameters().map(|(_, t)| t.numel()).sum()
    }

    /// The parameters as one list, storage shared.
    pub fn parameter_list(&self) -> Result<TensorList> {
        TensorList::new(self.parameters().map(|(_, t)| t))
    }

    /// The buffers as one list, storage shared.
    pub fn buffer_list(&self) -> Result<TensorList> {
        TensorList::new(self.entries().filter_map(|(_, entry)| match entry {
            Entry::Buffer(tensor) => Some(tensor),
            _ => None,
        }))
    }

    /// How normalisation layers behave from now on: training or evaluation.
    pub fn norm(&self) -> &NormSwitch {
        &self.norm
    }

    /// Whether the network's blocks are computed again in backward instead of kept, from the next forward pass on. Off
    /// at first.
    pub fn set_recompute(&self, on: bool) {
        self.recompute.store(on, Ordering::Relaxed);
    }

    /// Whether they are.
    pub fn recomputes(&self) -> bool {
        self.recompute.load(Ordering::Relaxed)
    }

    /// The counters' values, in building order.
    pub fn counters(&self) -> Vec<i64> {
        self.counter_cells().map(|c| c.load(Ordering::Relaxed)).collect()
    }

    /// Puts counters back to values from [`Params::counters`].
    pub fn set_counters(&self, values: &[i64]) {
        for (cell, &value) in self.counter_cells().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    fn counter_cells(&self) -> impl Iterator<Item = &AtomicI64> {
        self.entries().filter_map(|(_, entry)| match entry {
            Entry::Counter(cell) => Some(&**cell),
            _ => None,
        })
    }
}

/// A place in [`Params`]: layers add their tensors under its name.
#[derive(Debug)]
pub struct Scope<'a> {
    params: &'a mut Params,
    prefix: String,
}

impl Scope<'_> {
    /// The place one level down, `self.name`.
    pub fn sub(&mut self, name: impl std::fmt::Display) -> Scope<'_> {
        let prefix = self.name(name);
        Scope { params: self.params, prefix }
    }

    /// This place, for a part that takes its scope.
    pub fn here(&mut self) -> Scope<'_> {
        Scope { params: self.params, prefix: self.prefix.clone() }
    }

    /// Adds a parameter with initial values drawn on the CPU, so that a seed means the same weights on every device.
    /// 4-D weights are stored channels_last.
    pub fn parameter(&mut self, name: &str, initial: &Tensor) -> Result<Tensor> {
        let _no_grad = NoGrad::new();
        let mut tensor = initial.to_device(self.params.device)?;
        if tensor.size().len() == 4 {
            tensor = tensor.channels_last()?;
        }
        let tensor = tensor.set_requires_grad(true)?;
        self.add(name, Entry::Parameter(tensor.clone()));
        Ok(tensor)
    }

    /// Adds a buffer.
    pub fn buffer(&mut self, name: &str, initial: &Tensor) -> Result<Tensor> {
        let tensor = initial.to_device(self.params.device)?;
        self.add(name, Entry::Buffer(tensor.clone()));
        Ok(tensor)
    }

    /// Adds a counter that starts at zero.
    pub fn counter(&mut self, name: &str) -> Arc<AtomicI64> {
        let cell = Arc::new(AtomicI64::new(0));
        self.add(name, Entry::Counter(cell.clone()));
        cell
    }

    /// The switch that all normalisation layers of this model share.
    pub(crate) fn norm_switch(&self) -> Arc<NormSwitch> {
        self.params.norm.clone()
    }

    /// The switch that all blocks of this model share.
    pub(crate) fn recompute_switch(&self) -> Arc<AtomicBool> {
        self.params.recompute.clone()
    }

    /// Builds a part of a model here, and gives the parameters that it added.
    pub(crate) fn collect<B>(self, build: impl FnOnce(Scope<'_>) -> Result<B>) -> Result<(B, Vec<Tensor>)> {
        let before = self.params.parameters().count();
        let part = build(Scope { params: &mut *self.params, prefix: self.prefix })?;
        Ok((part, self.params.parameters().skip(before).map(|(_, tensor)| tensor.clone()).collect()))
    }

    fn add(&mut self, name: &str, entry: Entry) {
        let name = self.name(name);
        self.params.entries.push((name, entry));
    }

    fn name(&self, name: impl std::fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}
