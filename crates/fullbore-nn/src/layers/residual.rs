//! Residual blocks (Deep Residual Learning for Image Recognition, 2015), as torchvision and HRNet name their parts.

use fullbore_torch::{Result, Tensor};

use super::conv_norm::{ConvNorm, Style};
use crate::Scope;

/// Which convolutions a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResidualKind {
    /// Two 3x3.
    Basic,
    /// 1x1, 3x3 with the stride, 1x1 to four times the planes.
    Bottleneck,
}

impl ResidualKind {
    /// Channels that come out for `planes`.
    pub fn channels(self, planes: i64) -> i64 {
        match self {
            ResidualKind::Basic => planes,
            ResidualKind::Bottleneck => 4 * planes,
        }
    }
}

/// Convolutions beside a shortcut, which has a 1x1 convolution of its own where sizes or channels differ. Keys `conv1`,
/// `bn1`, .., `downsample.0`, `downsample.1`.
#[derive(Clone, Debug)]
pub struct Residual {
    convs: Vec<ConvNorm>,
    downsample: Option<ConvNorm>,
}

impl Residual {
    /// A block from `channels_in` to [`ResidualKind::channels`] of `planes`.
    pub fn new(
        mut scope: Scope<'_>,
        kind: ResidualKind,
        channels_in: i64,
        planes: i64,
        stride: i64,
        style: &Style,
    ) -> Result<Self> {
        let out = kind.channels(planes);
        // Kernel, stride and channels of each.
        let plan: &[(i64, i64, i64)] = match kind {
            ResidualKind::Basic => &[(3, stride, planes), (3, 1, planes)],
            ResidualKind::Bottleneck => &[(1, 1, planes), (3, stride, planes), (1, 1, out)],
        };
        let keys = [["conv1", "bn1"], ["conv2", "bn2"], ["conv3", "bn3"]];
        let mut convs = Vec::with_capacity(plan.len());
        let mut from = channels_in;
        for (keys, &(kernel, stride, to)) in keys.into_iter().zip(plan) {
            convs.push(ConvNorm::new(scope.here(), keys, [from, to], kernel, stride, style)?);
            from = to;
        }
        let downsample = if stride != 1 || channels_in != out {
            let scope = scope.sub("downsample");
            Some(ConvNorm::new(scope, ["0", "1"], [channels_in, out], 1, stride, style)?)
        } else {
            None
        };
        Ok(Self { convs, downsample })
    }

    /// `x` `[B, Cin, H, W]` to `[B, Cout, H / stride, W / stride]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (last, first) = self.convs.split_last().expect("every kind has convolutions");
        let mut y = x.clone();
        for conv in first {
            y = conv.forward_relu(&y)?;
        }
        match &self.downsample {
            Some(downsample) => last.forward_add_relu(&y, &downsample.forward(x)?),
            None => last.forward_add_relu(&y, x),
        }
    }
}
