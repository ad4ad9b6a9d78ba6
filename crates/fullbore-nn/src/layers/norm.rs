//! Normalisation: BatchNorm over fixed groups of samples, and GroupNorm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use fullbore_torch::{BatchNorm, Device, Kind, Result, Tensor, is_recomputing};
use serde::{Deserialize, Serialize};

use crate::Scope;

/// The `norm` part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormConfig {
    /// Which layer normalises.
    pub kind: NormKind,
    /// BatchNorm: samples per statistics group; `None`: the whole batch.
    pub group: Option<u32>,
    /// GroupNorm: channel groups.
    pub groups: u32,
}

/// Which layer normalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Over samples and pixels, per channel; running statistics in evaluation.
    Batch,
    /// Over pixels and a group of channels, per sample: the same for any batch size.
    Group,
}

/// How the normalisation layers of a model behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormMode {
    /// Running statistics normalise.
    Eval,
    /// Batch statistics normalise, and update the running ones.
    Train {
        /// Samples that share statistics. A micro-batch of several groups is normalised group by group, so that
        /// splitting a batch at group borders changes nothing.
        group: i64,
        /// Samples of the whole optimizer step. A group of `n` samples moves the running statistics by
        /// `1 - (1 - momentum)^(n / step)`, so that a step moves them as far as one PyTorch batch would.
        step: i64,
    },
}

/// The [`NormMode`] that all layers of one model share. Evaluation at first.
#[derive(Debug, Default)]
pub struct NormSwitch {
    training: AtomicBool,
    group: AtomicI64,
    step: AtomicI64,
}

impl NormSwitch {
    /// Changes the mode of the whole model.
    pub fn set(&self, mode: NormMode) {
        if let NormMode::Train { group, step } = mode {
            self.group.store(group.max(1), Ordering::Relaxed);
            self.step.store(step.max(1), Ordering::Relaxed);
        }
        self.training.store(mode != NormMode::Eval, Ordering::Relaxed);
    }

    /// The present mode.
    pub fn get(&self) -> NormMode {
        if self.training.load(Ordering::Relaxed) {
            let (group, step) = (self.group.load(Ordering::Relaxed), self.step.load(Ordering::Relaxed));
            NormMode::Train { group, step }
        } else {
            NormMode::Eval
        }
    }
}

/// Either normalisation layer.
#[derive(Clone, Debug)]
pub enum Norm {
    /// `torch.nn.BatchNorm2d`.
    Batch(BatchNorm2d),
    /// `torch.nn.GroupNorm`.
    Group(GroupNorm),
}

impl Norm {
    /// The layer that `config` asks for, over `channels`. `momentum` is BatchNorm's.
    pub fn new(scope: Scope<'_>, channels: i64, config: &NormConfig, momentum: f64) -> Result<Self> {
        Ok(match config.kind {
            NormKind::Batch => Norm::Batch(BatchNorm2d::new(scope, channels, momentum)?),
            NormKind::Group => Norm::Group(GroupNorm::new(scope, channels, i64::from(config.groups))?),
        })
    }

    /// `x` `[B, C, H, W]`, same shape back, in memory of its own.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Norm::Batch(layer) => layer.forward(x),
            Norm::Group(layer) => layer.forward(x),
        }
    }

    /// The same with `added` `[B, C, H, W]` added, then ReLU.
    pub fn forward_relu(&self, x: &Tensor, added: Option<&Tensor>) -> Result<Tensor> {
        match self {
            // With several groups, each would keep its own sum for backward, beside the whole.
            Norm::Batch(layer) if added.is_none() || !layer.splits(x) => layer.forward_relu(x, added),
            _ => {
                let y = self.forward(x)?;
                if let Some(added) = added {
                    y.add_(added)?;
                }
                y.relu_()
            }
        }
    }
}

/// `torch.nn.BatchNorm2d` (eps 1e-5) with statistics over groups of samples.
#[derive(Clone, Debug)]
pub struct BatchNorm2d {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: f64,
    batches: Arc<AtomicI64>,
    mode: Arc<NormSwitch>,
}

impl BatchNorm2d {
    /// PyTorch's share of a batch in the running statistics.
    pub const MOMENTUM: f64 = 0.1;
    const EPS: f64 = 1e-5;

    /// A layer over `channels`: scale 1, shift 0, running mean 0 and variance 1.
    pub fn new(mut scope: Scope<'_>, channels: i64, momentum: f64) -> Result<Self> {
        let ones = Tensor::ones(&[channels], Kind::Float, Device::Cpu)?;
        let zeros = Tensor::zeros(&[channels], Kind::Float, Device::Cpu)?;
        Ok(Self {
            weight: scope.parameter("weight", &ones.copy()?)?,
            bias: scope.parameter("bias", &zeros.copy()?)?,
            running_mean: scope.buffer("running_mean", &zeros.copy()?)?,
            running_var: scope.buffer("running_var", &ones.copy()?)?,
            momentum,
            batches: scope.counter("num_batches_tracked"),
            mode: scope.norm_switch(),
        })
    }

    /// `x` `[B, C, H, W]`, same shape back, in memory of its own.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.by_groups(x, |norm, x| x.batch_norm(norm))
    }

    /// The same with `added` `[B, C, H, W]` added, unless `x` [splits](Self::splits), then ReLU.
    fn forward_relu(&self, x: &Tensor, added: Option<&Tensor>) -> Result<Tensor> {
        self.by_groups(x, |norm, x| x.batch_norm_relu(norm, added))
    }

    /// Whether `x` is more than one group of samples.
    fn splits(&self, x: &Tensor) -> bool {
        matches!(self.mode.get(), NormMode::Train { group, .. } if x.size()[0] > group)
    }

    /// Applies `normalize` to each group of samples.
    fn by_groups(
        &self,
        x: &Tensor,
        normalize: impl Fn(&BatchNorm<'_>, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        // A frozen layer keeps its statistics as well: a network whose weights stand still would drift otherwise.
        let (NormMode::Train { group, step }, true) = (self.mode.get(), self.weight.requires_grad()) else {
            return normalize(&self.with(false, 0.0), x);
        };
        let batch = x.size()[0];
        if batch <= group {
            return normalize(&self.train(batch, step), x);
        }
        let mut parts = Vec::new();
        for start in (0..batch).step_by(group as usize) {
            let n = group.min(batch - start);
            parts.push(normalize(&self.train(n, step), &x.narrow(0, start, n)?)?);
        }
        Tensor::cat(&parts.iter().collect::<Vec<_>>(), 0)
    }

    /// How a group of `n` samples of a step is normalised.
    fn train(&self, n: i64, step: i64) -> BatchNorm<'_> {
        if is_recomputing() {
            // Over the same batch as before: its statistics have been counted.
            return BatchNorm { running: None, ..self.with(true, 0.0) };
        }
        let momentum =
            if n >= step { self.momentum } else { 1.0 - (1.0 - self.momentum).powf(n as f64 / step as f64) };
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.with(true, momentum)
    }

    fn with(&self, training: bool, momentum: f64) -> BatchNorm<'_> {
        let running = Some((&self.running_mean, &self.running_var));
        BatchNorm { weight: &self.weight, bias: &self.bias, running, training, momentum, eps: Self::EPS }
    }
}

/// `torch.nn.GroupNorm` (eps 1e-5).
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
}

impl GroupNorm {
    /// A layer over `channels` in `groups`; fewer groups where the channels do not divide evenly: the largest
    /// divisor of `channels` up to `groups`.
    pub fn new(mut scope: Scope<'_>, channels: i64, groups: i64) -> Result<Self> {
        let groups = (1..=groups.clamp(1, channels)).rev().find(|g| channels % g == 0).unwrap_or(1);
        Ok(Self {
            weight: scope.parameter("weight", &Tensor::ones(&[channels], Kind::Float, Device::Cpu)?)?,
            bias: scope.parameter("bias", &Tensor::zeros(&[channels], Kind::Float, Device::Cpu)?)?,
            groups,
        })
    }

    /// `x` `[B, C, H, W]`, same shape back, in memory of its own.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.group_norm(self.groups, &self.weight, &self.bias, 1e-5)
    }
}
