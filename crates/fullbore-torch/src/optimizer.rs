//! One optimizer step over all parameters in one crossing, on PyTorch's fused kernels.

use std::ptr::{null, null_mut};

use crate::error::Result;
use crate::ffi::{self, CGroup, CUpdate};
use crate::{Device, Kind, Tensor, TensorList};

/// How gradients become updates. The lists run parallel to the parameters and begin as zeros.
#[derive(Clone, Copy, Debug)]
pub enum UpdateRule<'a> {
    /// `torch.optim.AdamW(fused=True)`: weight decay apart from the gradient.
    AdamW(Moments<'a>),
    /// `torch.optim.Adam(fused=True)`: weight decay is added to the gradient.
    Adam(Moments<'a>),
    /// `torch.optim.SGD(fused=True)`, dampening 0.
    Sgd {
        /// Momentum buffers; `None`: momentum 0.
        buffers: Option<&'a TensorList>,
        /// Share of the buffer that a step keeps.
        momentum: f64,
        /// Looks ahead by one step of the buffer.
        nesterov: bool,
    },
    /// `torch.optim.RMSprop`, not centred.
    RmsProp {
        /// Averages of squared gradients.
        square_avgs: &'a TensorList,
        /// Momentum buffers; `None`: momentum 0.
        buffers: Option<&'a TensorList>,
        /// Share of the average that a step keeps.
        alpha: f64,
        /// Added to the denominator.
        eps: f64,
        /// Share of the buffer that a step keeps.
        momentum: f64,
    },
}

/// State and numbers of Adam and AdamW.
#[derive(Clone, Copy, Debug)]
pub struct Moments<'a> {
    /// First moments.
    pub exp_avgs: &'a TensorList,
    /// Second moments.
    pub exp_avg_sqs: &'a TensorList,
    /// Decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
}

/// Neighbouring parameters with the same numbers.
#[derive(Clone, Copy, Debug)]
pub struct UpdateGroup {
    /// One past the group's last parameter; it begins where the group before ends.
    pub end: usize,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

/// What keeps gradients small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// Nothing.
    Off,
    /// All gradients by one factor, so that their global norm is at most this (`clip_grad_norm_`).
    Norm(f64),
    /// Every element to plus or minus this (`clip_grad_value_`).
    Value(f64),
}

/// Counts on the device which steps counted, and the loss scale of fp16. Reading a tensor makes the host wait. A clone shares
/// the tensors.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Updates so far, 0-dim f32.
    pub step: Tensor,
    /// 1 when the last step changed nothing, else 0; 0-dim f32.
    pub found_inf: Tensor,
    /// Steps in a row, up to the last one, that changed nothing; 0-dim f32.
    pub skipped_in_row: Tensor,
    /// Steps that changed nothing, in all; 0-dim f32.
    pub skipped: Tensor,
    /// Loss scale.
    pub scaler: Option<Scaler>,
}

/// The loss scale of fp16: halved when a gradient is not finite, doubled after 2000 steps that were
/// (`torch.amp.GradScaler`).
#[derive(Clone, Debug)]
pub struct Scaler {
    /// What the loss is multiplied by before backward, 0-dim f32.
    pub scale: Tensor,
    /// Finite steps since it last changed, 0-dim i32.
    pub growth: Tensor,
}

impl Gate {
    /// First loss scale of `torch.amp.GradScaler`.
    pub const FIRST_SCALE: f64 = 65536.0;

    /// A gate before the first step, with a loss scale or without.
    pub fn new(device: Device, scaled: bool) -> Result<Self> {
        let zero = || Tensor::zeros(&[], Kind::Float, device);
        let scaler = || -> Result<Scaler> {
            let scale = zero()?;
            scale.fill_(Self::FIRST_SCALE)?;
            Ok(Scaler { scale, growth: Tensor::zeros(&[], Kind::Int, device)? })
        };
        Ok(Self {
            step: zero()?,
            found_inf: zero()?,
            skipped_in_row: zero()?,
            skipped: zero()?,
            scaler: scaled.then(scaler).transpose()?,
        })
    }

    /// The loss to call backward on: times the loss scale where there is one.
    pub fn scale_loss(&self, loss: &Tensor) -> Result<Tensor> {
        match &self.scaler {
            Some(scaler) => loss.mul(&scaler.scale),
            None => Ok(loss.clone()),
        }
    }
}

/// One step on the parameters that have a gradient: takes the loss scale off, clips, updates, all without a host
/// sync. Returns the gradient norm before clipping and without the scale, a 0-dim f32 tensor on the device.
///
/// When the norm or `loss` (0-dim) is not finite, parameters, state and `gate.step` stay as they are; the device
/// decides and counts. Gradients are scratch afterwards. No memory of the parameters' size is needed.
///
/// # Errors
/// [`crate::Error::Invalid`] when a gradient or a state differs from its parameter in strides or type (the fused
/// kernels would silently compute wrong weights), or when the groups do not cover the parameters.
pub fn optimizer_step(
    params: &TensorList,
    rule: UpdateRule<'_>,
    groups: &[UpdateGroup],
    clip: Clip,
    loss: &Tensor,
    gate: &Gate,
) -> Result<Tensor> {
    let groups: Vec<_> = groups
        .iter()
        .map(|&UpdateGroup { end, lr, weight_decay }| CGroup { end, lr, weight_decay })
        .collect();
    let list = |list: Option<&TensorList>| list.map_or(null(), |list| list.0.cast_const());
    let pointer = |tensor: Option<&Tensor>| tensor.map_or(null_mut(), Tensor::pointer);
    let mut update = CUpdate {
        rule: 0,
        params: params.0,
        momentum: null(),
        squares: null(),
        groups: groups.as_ptr(),
        n_groups: groups.len(),
        beta1: 0.0,
        beta2: 0.0,
        eps: 0.0,
        nesterov: 0,
        max_norm: if let Clip::Norm(most) = clip { most } else { 0.0 },
        max_value: if let Clip::Value(most) = clip { most } else { 0.0 },
        loss: loss.pointer(),
        step: gate.step.pointer(),
        found_inf: gate.found_inf.pointer(),
        skipped_in_row: gate.skipped_in_row.pointer(),
        skipped: gate.skipped.pointer(),
        scale: pointer(gate.scaler.as_ref().map(|s| &s.scale)),
        growth: pointer(gate.scaler.as_ref().map(|s| &s.growth)),
    };
    match rule {
        UpdateRule::AdamW(moments) | UpdateRule::Adam(moments) => {
            update.rule = if matches!(rule, UpdateRule::AdamW(_)) { ffi::ADAMW } else { ffi::ADAM };
            update.momentum = moments.exp_avgs.0;
            update.squares = moments.exp_avg_sqs.0;
            (update.beta1, update.beta2) = moments.betas;
            update.eps = moments.eps;
        }
        UpdateRule::Sgd { buffers, momentum, nesterov } => {
            update.rule = ffi::SGD;
            update.momentum = list(buffers);
            update.beta1 = momentum;
            update.nesterov = nesterov.into();
        }
        UpdateRule::RmsProp { square_avgs, buffers, alpha, eps, momentum } => {
            update.rule = ffi::RMSPROP;
            update.momentum = list(buffers);
            update.squares = square_avgs.0;
            (update.beta1, update.beta2) = (momentum, alpha);
            update.eps = eps;
        }
    }
    // SAFETY: all pointers are null or of live lists, tensors and groups; the shim checks lengths, strides and types
    // before it touches memory, and keeps nothing.
    Tensor::from_shim("optimizer_step", |out| unsafe { ffi::fb_optimizer_step(&update, out) })
}
