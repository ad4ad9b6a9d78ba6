//! ResNet without its classifier, in torchvision's layout and names: the encoder of other networks.

use fullbore_torch::{Error, Result, Tensor};

use super::conv_norm::{ConvNorm, Style};
use super::recompute::Recomputable;
use super::residual::{Residual, ResidualKind};
use crate::Scope;

/// The blocks of a ResNet by its name's number: their kind, and how many each of the four stages has.
pub fn blocks_of(layers: u32) -> Option<(ResidualKind, [usize; 4])> {
    Some(match layers {
        18 => (ResidualKind::Basic, [2, 2, 2, 2]),
        34 => (ResidualKind::Basic, [3, 4, 6, 3]),
        50 => (ResidualKind::Bottleneck, [3, 4, 6, 3]),
        101 => (ResidualKind::Bottleneck, [3, 4, 23, 3]),
        152 => (ResidualKind::Bottleneck, [3, 8, 36, 3]),
        _ => return None,
    })
}

/// Stem and four stages. Keys `conv1`, `bn1`, `layer1.0..` to `layer4.0..`.
#[derive(Debug)]
pub struct ResNet {
    stem: Recomputable<ConvNorm>,
    stages: Vec<Vec<Recomputable<Residual>>>,
    channels: [i64; 5],
}

impl ResNet {
    /// ResNet-`layers` for images of `channels_in` channels.
    ///
    /// # Errors
    /// A number that [`blocks_of`] does not know.
    pub fn new(mut scope: Scope<'_>, layers: u32, channels_in: i64, style: &Style) -> Result<Self> {
        let (kind, counts) = blocks_of(layers).ok_or_else(|| Error::Invalid {
            op: "ResNet".into(),
            message: format!("there is none of {layers} layers"),
        })?;
        let stem = Recomputable::new(scope.here(), |scope| {
            ConvNorm::new(scope, ["conv1", "bn1"], [channels_in, 64], 7, 2, style)
        })?;
        let mut channels = [64; 5];
        let mut stages = Vec::with_capacity(counts.len());
        let mut from = 64;
        for (i, count) in counts.into_iter().enumerate() {
            let mut scope = scope.sub(format!("layer{}", i + 1));
            let planes = 64 << i;
            let mut stage = Vec::with_capacity(count);
            for j in 0..count {
                let stride = if i > 0 && j == 0 { 2 } else { 1 };
                stage.push(Recomputable::new(scope.sub(j), |scope| {
                    Residual::new(scope, kind, from, planes, stride, style)
                })?);
                from = kind.channels(planes);
            }
            stages.push(stage);
            channels[i + 1] = from;
        }
        Ok(Self { stem, stages, channels })
    }

    /// Channels of the features.
    pub fn channels(&self) -> [i64; 5] {
        self.channels
    }

    /// `x` `[B, Cin, H, W]` to features of strides 2, 4, 8, 16 and 32: the stem's result, and that of every stage.
    pub fn forward(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut features = vec![self.stem.forward([x], |stem, [x]| stem.forward_relu(x))?];
        for (i, stage) in self.stages.iter().enumerate() {
            let mut x = features[i].clone();
            for (j, block) in stage.iter().enumerate() {
                // The pooling between stem and stages is computed again with the block that it feeds.
                let pools = (i, j) == (0, 0);
                x = block.forward([&x], move |block, [x]| {
                    if pools { block.forward(&x.max_pool2d(3, 2, 1)?) } else { block.forward(x) }
                })?;
            }
            features.push(x);
        }
        Ok(features)
    }
}
