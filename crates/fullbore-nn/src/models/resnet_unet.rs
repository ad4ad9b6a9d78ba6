//! U-Net whose encoder is a ResNet, in the layout of segmentation_models.pytorch, whose state-dict keys it shares.

use fullbore_torch::{Result, Tensor};

use super::{Family, Model, ModelConfig};
use crate::Scope;
use crate::layers::conv::{Conv2d, ConvConfig, Init};
use crate::layers::conv_norm::{ConvNorm, Style};
use crate::layers::norm::NormConfig;
use crate::layers::recompute::Recomputable;
use crate::layers::resnet::ResNet;
use crate::optim::{SettingError, refuse};

pub(super) const FAMILY: Family = Family {
    keys: &["model.layers", "model.deep_supervision"],
    check,
    build: |scope, config, channels, norm| Ok(Box::new(ResNetUnet::new(scope, config, channels, norm)?)),
    side_multiple: |_| 32,
    heads: &["segmentation_head.0", "deep"],
    output_stride: 1,
};

/// Channels of the decoder's levels, coarsest first.
const DECODER: [i64; 5] = [256, 128, 64, 32, 16];

fn check(config: &ModelConfig) -> std::result::Result<(), SettingError> {
    let layers = config.resnet_layers();
    if !matches!(layers, 18 | 34 | 50 | 101) {
        return Err(refuse("model.layers", layers, "18, 34, 50 or 101"));
    }
    let coarser = DECODER.len() as u32 - 1;
    if config.deep_supervision > coarser {
        let allowed = format!("0 to {coarser}, the decoder's levels below the finest");
        return Err(refuse("model.deep_supervision", config.deep_supervision, allowed));
    }
    Ok(())
}

/// Encoder, five decoder blocks with skip connections from the first four features, 3x3 head.
#[derive(Debug)]
pub struct ResNetUnet {
    encoder: ResNet,
    blocks: Vec<Recomputable<Decoder>>,
    /// By level, the finest first.
    heads: Vec<Conv2d>,
}

impl ResNetUnet {
    /// Builds the network from `channels[0]` to `channels[1]`. Keys: `encoder`, `decoder.blocks`,
    /// `segmentation_head.0`, `deep`.
    pub fn new(
        mut scope: Scope<'_>,
        config: &ModelConfig,
        channels: [i64; 2],
        norm: &NormConfig,
    ) -> Result<Self> {
        let style = Style::new(Init::KaimingFanOut, norm);
        let encoder = ResNet::new(scope.sub("encoder"), config.resnet_layers(), channels[0], &style)?;
        let style = Style { init: Init::KaimingFanIn, ..style };
        let features = encoder.channels();
        let mut from = features[4];
        let mut blocks = Vec::with_capacity(DECODER.len());
        for (i, out) in DECODER.into_iter().enumerate() {
            let skip = 3usize.checked_sub(i).map_or(0, |level| features[level]);
            blocks.push(Recomputable::new(scope.sub(format!("decoder.blocks.{i}")), |mut scope| {
                let mut conv =
                    |name, from| ConvNorm::new(scope.sub(name), ["0", "1"], [from, out], 3, 1, &style);
                Ok(Decoder { convs: [conv("conv1", from + skip)?, conv("conv2", out)?] })
            })?);
            from = out;
        }
        let head = |kernel| ConvConfig { kernel, stride: 1, bias: true, init: Init::Xavier };
        let mut heads = vec![Conv2d::new(scope.sub("segmentation_head.0"), from, channels[1], head(3))?];
        for (i, &width) in DECODER.iter().rev().skip(1).take(config.deep_supervision as usize).enumerate() {
            heads.push(Conv2d::new(scope.sub(format!("deep.{i}")), width, channels[1], head(1))?);
        }
        Ok(Self { encoder, blocks, heads })
    }

    /// Logits of the finest levels, one for each of `heads`.
    fn decode(&self, x: &Tensor, heads: &[Conv2d]) -> Result<Vec<Tensor>> {
        let mut features = self.encoder.forward(x)?;
        let mut y = features.pop().expect("the encoder gives five features");
        let mut logits = Vec::with_capacity(heads.len());
        for (level, block) in (0..self.blocks.len()).rev().zip(&self.blocks) {
            y = match features.pop() {
                Some(skip) => block.forward([&y, &skip], |block, [x, skip]| block.forward(x, Some(skip)))?,
                None => block.forward([&y], |block, [x]| block.forward(x, None))?,
            };
            if let Some(head) = heads.get(level) {
                logits.push(head.forward(&y)?);
            }
        }
        logits.reverse();
        Ok(logits)
    }
}

impl Model for ResNetUnet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.decode(x, &self.heads[..1])?.remove(0))
    }

    fn forward_levels(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        self.decode(x, &self.heads)
    }
}

/// Doubles the resolution by repeating pixels, joins the skip connection (skip last), convolves twice.
#[derive(Clone, Debug)]
struct Decoder {
    convs: [ConvNorm; 2],
}

impl Decoder {
    fn forward(&self, x: &Tensor, skip: Option<&Tensor>) -> Result<Tensor> {
        let mut x = x.repeat_pixels(2)?;
        if let Some(skip) = skip {
            x = Tensor::cat(&[&x, skip], 1)?;
        }
        self.convs[1].forward_relu(&self.convs[0].forward_relu(&x)?)
    }
}
