//! U-Net in the layout of milesial/Pytorch-UNet, whose state-dict keys it shares
//! (U-Net: Convolutional Networks for Biomedical Image Segmentation, 2015).

use fullbore_torch::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Family, Model, ModelConfig, ModelSize};
use crate::Scope;
use crate::layers::conv::{Conv2d, ConvConfig, Init, Upconv};
use crate::layers::conv_norm::{ConvNorm, Style};
use crate::layers::norm::NormConfig;
use crate::layers::recompute::Recomputable;
use crate::optim::{SettingError, refuse};

pub(super) const FAMILY: Family = Family {
    keys: &["model.base", "model.depth", "model.up", "model.deep_supervision"],
    check,
    build: |scope, config, channels, norm| Ok(Box::new(UNet::new(scope, config, channels, norm)?)),
    side_multiple: |config| 1 << depth(config),
    heads: &["outc.conv", "deep"],
    output_stride: 1,
};

/// Most channels of a layer. One 3x3 convolution between two such layers has 2.4 GB of weights already.
const MAX_CHANNELS: u64 = 8192;

fn base(config: &ModelConfig) -> u32 {
    config.base.unwrap_or(match config.size {
        ModelSize::Small => 16,
        ModelSize::Base => 32,
        ModelSize::Large => 64,
    })
}

fn depth(config: &ModelConfig) -> u32 {
    config.depth.unwrap_or(4)
}

fn check(config: &ModelConfig) -> std::result::Result<(), SettingError> {
    let (base, depth) = (base(config), depth(config));
    for (key, value, most) in [("model.base", base, 1024), ("model.depth", depth, 8)] {
        if value == 0 || value > most {
            return Err(refuse(key, value, format!("at least 1, at most {most}")));
        }
    }
    let widest = u64::from(base) << depth;
    if widest > MAX_CHANNELS {
        let allowed = format!("model.depth {depth} makes {widest} channels of it, at most {MAX_CHANNELS}");
        return Err(refuse("model.base", base, allowed));
    }
    if config.deep_supervision >= depth {
        let allowed = format!("0 to {}, the decoder's levels below the finest (model.depth)", depth - 1);
        return Err(refuse("model.deep_supervision", config.deep_supervision, allowed));
    }
    Ok(())
}

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
    /// By level, the finest first.
    heads: Vec<Conv2d>,
}

impl UNet {
    /// Builds the network from `channels[0]` to `channels[1]`. Keys: `inc`, `down1..`, `up1..`, `outc`, `deep`.
    pub fn new(
        mut scope: Scope<'_>,
        config: &ModelConfig,
        channels: [i64; 2],
        norm: &NormConfig,
    ) -> Result<Self> {
        let (depth, base) = (depth(config) as usize, i64::from(base(config)));
        let up = config.up.unwrap_or(Up::Transposed);
        let narrowing = if up == Up::Bilinear { 2 } else { 1 };
        let style = Style::new(Init::Torch, norm);
        let width = |level: usize| base << level;
        // What the decoder gives at a level; at the lowest, the encoder.
        let decoded = |level: usize| if level == 0 { base } else { width(level) / narrowing };

        let double_conv = |scope: Scope<'_>, from: i64, to: i64| {
            Recomputable::new(scope, |scope| DoubleConv::new(scope, from, to, to, &style))
        };
        let inc = double_conv(scope.sub("inc.double_conv"), channels[0], width(0))?;
        let mut downs = Vec::with_capacity(depth);
        for level in 1..=depth {
            let out = if level == depth { decoded(level) } else { width(level) };
            let scope = scope.sub(format!("down{level}.maxpool_conv.1.double_conv"));
            downs.push(double_conv(scope, width(level - 1), out)?);
        }
        let mut ups = Vec::with_capacity(depth);
        for (number, level) in (1..=depth).zip((0..depth).rev()) {
            ups.push(Recomputable::new(scope.sub(format!("up{number}")), |scope| {
                Decoder::new(scope, up, width(level + 1), decoded(level), &style)
            })?);
        }
        let head = ConvConfig { kernel: 1, stride: 1, bias: true, init: style.init };
        let mut heads = vec![Conv2d::new(scope.sub("outc.conv"), decoded(0), channels[1], head)?];
        for i in 0..config.deep_supervision as usize {
            heads.push(Conv2d::new(scope.sub(format!("deep.{i}")), decoded(i + 1), channels[1], head)?);
        }
        Ok(Self { inc, downs, ups, heads })
    }

    /// Logits of the finest levels, one for each of `heads`.
    fn decode(&self, x: &Tensor, heads: &[Conv2d]) -> Result<Vec<Tensor>> {
        let mut features = vec![self.inc.forward([x], |block, [x]| block.forward(x))?];
        for down in &self.downs {
            let above = &features[features.len() - 1];
            features.push(down.forward([above], |block, [x]| block.forward(&x.max_pool2()?))?);
        }
        let mut skips = features.into_iter().rev();
        let mut y = skips.next().expect("the stem always gives one feature map");
        let mut logits = Vec::with_capacity(heads.len());
        for ((level, up), skip) in (0..self.ups.len()).rev().zip(&self.ups).zip(skips) {
            y = up.forward([&y, &skip], |block, [x, skip]| block.forward(x, skip))?;
            if let Some(head) = heads.get(level) {
                logits.push(head.forward(&y)?);
            }
        }
        logits.reverse();
        Ok(logits)
    }
}

impl Model for UNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.decode(x, &self.heads[..1])?.remove(0))
    }

    fn forward_levels(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        self.decode(x, &self.heads)
    }
}

/// (3x3 convolution, normalisation, ReLU) twice. Keys 0, 1, 3, 4.
#[derive(Clone, Debug)]
struct DoubleConv {
    convs: [ConvNorm; 2],
}

impl DoubleConv {
    fn new(mut scope: Scope<'_>, channels_in: i64, middle: i64, out: i64, style: &Style) -> Result<Self> {
        let mut conv = |keys, channels| ConvNorm::new(scope.here(), keys, channels, 3, 1, style);
        Ok(Self { convs: [conv(["0", "1"], [channels_in, middle])?, conv(["3", "4"], [middle, out])?] })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.convs[1].forward_relu(&self.convs[0].forward_relu(x)?)
    }
}

/// Doubles the resolution, joins the skip connection (skip first), convolves.
#[derive(Clone, Debug)]
struct Decoder {
    up: Option<Upconv>,
    conv: DoubleConv,
}

impl Decoder {
    fn new(mut scope: Scope<'_>, up: Up, channels_in: i64, out: i64, style: &Style) -> Result<Self> {
        let (up, middle) = match up {
            Up::Transposed => {
                let config = ConvConfig { kernel: 2, stride: 2, bias: true, init: style.init };
                (Some(Upconv::new(scope.sub("up"), channels_in, channels_in / 2, config)?), out)
            }
            Up::Bilinear => (None, channels_in / 2),
        };
        let conv = DoubleConv::new(scope.sub("conv.double_conv"), channels_in, middle, out, style)?;
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
