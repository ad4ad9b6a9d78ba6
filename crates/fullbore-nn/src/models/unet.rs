//! U-Net in the layout of milesial/Pytorch-UNet, whose state-dict keys it shares
//! (U-Net: Convolutional Networks for Biomedical Image Segmentation, 2015).

use fullbore_torch::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Model, ModelConfig};
use crate::Scope;
use crate::layers::conv::{Conv2d, ConvConfig, Upconv2};
use crate::layers::norm::{Norm, NormConfig};
use crate::layers::recompute::Recomputable;

/// How the decoder doubles the resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Up {
    /// A 2x2 transposed convolution with stride 2.
    Transposed,
    /// Bilinear interpolation with aligned corners; no weights, half the width at the bottom.
    Bilinear,
}

/// Encoder of `depth` poolings, decoder with skip connections, 1x1 head.
#[derive(Debug)]
pub struct UNet {
    inc: Recomputable<DoubleConv>,
    downs: Vec<Recomputable<DoubleConv>>,
    ups: Vec<Recomputable<Decoder>>,
    outc: Conv2d,
}

impl UNet {
    /// Builds the network. Keys: `inc`, `down1..`, `up1..`, `outc`.
    pub fn new(
        mut scope: Scope<'_>,
        config: &ModelConfig,
        channels_in: i64,
        channels_out: i64,
        norm: &NormConfig,
    ) -> Result<Self> {
        let depth = config.depth as usize;
        let width = |level: usize| i64::from(config.base) << level;
        let narrowing = if config.up == Up::Bilinear { 2 } else { 1 };

        let double_conv = |scope: Scope<'_>, from: i64, to: i64| {
            Recomputable::new(scope, |scope| DoubleConv::new(scope, from, to, to, norm))
        };
        let inc = double_conv(scope.sub("inc.double_conv"), channels_in, width(0))?;
        let mut downs = Vec::with_capacity(depth);
        for level in 1..=depth {
            let out = if level == depth { width(level) / narrowing } else { width(level) };
            let scope = scope.sub(format!("down{level}.maxpool_conv.1.double_conv"));
            downs.push(double_conv(scope, width(level - 1), out)?);
        }
        let mut ups = Vec::with_capacity(depth);
        for (number, level) in (1..=depth).zip((0..depth).rev()) {
            let out = if level == 0 { width(0) } else { width(level) / narrowing };
            ups.push(Recomputable::new(scope.sub(format!("up{number}")), |scope| {
                Decoder::new(scope, config.up, width(level + 1), out, norm)
            })?);
        }
        let head = ConvConfig { kernel: 1, stride: 1, padding: 0, bias: true };
        let outc = Conv2d::new(scope.sub("outc.conv"), width(0), channels_out, head)?;
        Ok(Self { inc, downs, ups, outc })
    }
}

impl Model for UNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut features = vec![self.inc.forward([x], |block, [x]| block.forward(x))?];
        for down in &self.downs {
            let above = &features[features.len() - 1];
            features.push(down.forward([above], |block, [x]| block.forward(&x.max_pool2()?))?);
        }
        let mut skips = features.into_iter().rev();
        let mut y = skips.next().expect("the stem always gives one feature map");
        for (up, skip) in self.ups.iter().zip(skips) {
            y = up.forward([&y, &skip], |block, [x, skip]| block.forward(x, skip))?;
        }
        self.outc.forward(&y)
    }
}

/// (3x3 convolution, normalisation, ReLU) twice. Keys 0, 1, 3, 4.
#[derive(Clone, Debug)]
struct DoubleConv {
    convs: [Conv2d; 2],
    norms: [Norm; 2],
}

impl DoubleConv {
    fn new(mut scope: Scope<'_>, channels_in: i64, middle: i64, out: i64, norm: &NormConfig) -> Result<Self> {
        let conv = ConvConfig { kernel: 3, stride: 1, padding: 1, bias: false };
        let first = Conv2d::new(scope.sub(0), channels_in, middle, conv)?;
        let first_norm = Norm::new(scope.sub(1), middle, norm)?;
        let second = Conv2d::new(scope.sub(3), middle, out, conv)?;
        let second_norm = Norm::new(scope.sub(4), out, norm)?;
        Ok(Self { convs: [first, second], norms: [first_norm, second_norm] })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (conv, norm) in self.convs.iter().zip(&self.norms) {
            x = norm.forward(&conv.forward(&x)?)?.relu_()?;
        }
        Ok(x)
    }
}

/// Doubles the resolution, joins the skip connection (skip first), convolves.
#[derive(Clone, Debug)]
struct Decoder {
    up: Option<Upconv2>,
    conv: DoubleConv,
}

impl Decoder {
    fn new(mut scope: Scope<'_>, up: Up, channels_in: i64, out: i64, norm: &NormConfig) -> Result<Self> {
        let (up, middle) = match up {
            Up::Transposed => (Some(Upconv2::new(scope.sub("up"), channels_in, channels_in / 2)?), out),
            Up::Bilinear => (None, channels_in / 2),
        };
        let conv = DoubleConv::new(scope.sub("conv.double_conv"), channels_in, middle, out, norm)?;
        Ok(Self { up, conv })
    }

    fn forward(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        let x = match &self.up {
            Some(up) => up.forward(x)?,
            None => {
                let size = x.size();
                x.upsample_bilinear(2 * size[2], 2 * size[3], true)?
            }
        };
        let x = pad_to(&x, skip)?;
        self.conv.forward(&Tensor::cat(&[skip, &x], 1)?)
    }
}

/// Zero-pads `x` to the height and width of `like`; the smaller half goes left and top, as in the original.
fn pad_to(x: &Tensor, like: &Tensor) -> Result<Tensor> {
    let (size, wanted) = (x.size(), like.size());
    let (down, right) = (wanted[2] - size[2], wanted[3] - size[3]);
    if down == 0 && right == 0 {
        return Ok(x.clone());
    }
    x.pad2d(right / 2, right - right / 2, down / 2, down - down / 2)
}
