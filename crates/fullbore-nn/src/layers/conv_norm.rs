//! A convolution and the normalisation after it: what most layers of most networks are.

use fullbore_torch::{Result, Tensor};

use super::conv::{Conv2d, ConvConfig, Init};
use super::norm::{BatchNorm2d, Norm, NormConfig};
use crate::Scope;

/// What the layers of a network have in common.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// What convolutions begin with.
    pub init: Init,
    /// What comes after them.
    pub norm: NormConfig,
    /// BatchNorm's momentum.
    pub momentum: f64,
}

impl Style {
    /// Normalisation with PyTorch's momentum.
    pub fn new(init: Init, norm: &NormConfig) -> Self {
        Self { init, norm: *norm, momentum: BatchNorm2d::MOMENTUM }
    }
}

/// A convolution without bias, then a normalisation.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    conv: Conv2d,
    norm: Norm,
}

impl ConvNorm {
    /// The layers lie below `scope` under the names `keys`. `channels`: in and out.
    pub fn new(
        mut scope: Scope<'_>,
        keys: [&str; 2],
        channels: [i64; 2],
        kernel: i64,
        stride: i64,
        style: &Style,
    ) -> Result<Self> {
        let config = ConvConfig { kernel, stride, bias: false, init: style.init };
        let conv = Conv2d::new(scope.sub(keys[0]), channels[0], channels[1], config)?;
        let norm = Norm::new(scope.sub(keys[1]), channels[1], &style.norm, style.momentum)?;
        Ok(Self { conv, norm })
    }

    /// `x` `[B, Cin, H, W]` to `[B, Cout, H / stride, W / stride]`, in memory of its own that autograd does not need:
    /// it may be changed in place.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(x)?)
    }

    /// The same, then ReLU.
    pub fn forward_relu(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward_relu(&self.conv.forward(x)?, None)
    }

    /// The same with `added`, of the output's shape, added before ReLU.
    pub fn forward_add_relu(&self, x: &Tensor, added: &Tensor) -> Result<Tensor> {
        self.norm.forward_relu(&self.conv.forward(x)?, Some(added))
    }
}
