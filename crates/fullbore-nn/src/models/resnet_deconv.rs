//! ResNet and three up-convolutions to heat-maps, in the layout of Simple Baselines for Human Pose Estimation and
//! Tracking (2018), whose state-dict keys it shares.

use fullbore_torch::{Result, Tensor};

use super::{Family, Model, ModelConfig};
use crate::Scope;
use crate::layers::conv::{Conv2d, ConvConfig, Init, Upconv};
use crate::layers::conv_norm::Style;
use crate::layers::norm::{Norm, NormConfig};
use crate::layers::recompute::Recomputable;
use crate::layers::resnet::ResNet;
use crate::optim::{SettingError, refuse};

pub(super) const FAMILY: Family = Family {
    keys: &["model.layers"],
    check,
    build: |scope, config, channels, norm| Ok(Box::new(ResNetDeconv::new(scope, config, channels, norm)?)),
    side_multiple: |_| 32,
    heads: &["final_layer"],
    output_stride: 4,
};

fn check(config: &ModelConfig) -> std::result::Result<(), SettingError> {
    match config.resnet_layers() {
        18 | 34 | 50 | 101 | 152 => Ok(()),
        other => Err(refuse("model.layers", other, "18, 34, 50, 101 or 152")),
    }
}

/// Encoder, three up-convolutions to 256 channels, 1x1 head.
#[derive(Debug)]
pub struct ResNetDeconv {
    encoder: ResNet,
    ups: Vec<Recomputable<Up>>,
    head: Conv2d,
}

impl ResNetDeconv {
    /// Builds the network from `channels[0]` to `channels[1]`. Keys: ResNet's, `deconv_layers`, `final_layer`.
    pub fn new(
        mut scope: Scope<'_>,
        config: &ModelConfig,
        channels: [i64; 2],
        norm: &NormConfig,
    ) -> Result<Self> {
        const UP_CHANNELS: i64 = 256;
        let style = Style::new(Init::KaimingFanOut, norm);
        let encoder = ResNet::new(scope.here(), config.resnet_layers(), channels[0], &style)?;
        let style = Style { init: Init::Normal(0.001), ..style };
        let mut from = encoder.channels()[4];
        let mut ups = Vec::with_capacity(3);
        for i in 0..3 {
            ups.push(Recomputable::new(scope.sub("deconv_layers"), |mut scope| {
                let config = ConvConfig { kernel: 4, stride: 2, bias: false, init: style.init };
                let conv = Upconv::new(scope.sub(3 * i), from, UP_CHANNELS, config)?;
                let norm = Norm::new(scope.sub(3 * i + 1), UP_CHANNELS, &style.norm, style.momentum)?;
                Ok(Up { conv, norm })
            })?);
            from = UP_CHANNELS;
        }
        let head = ConvConfig { kernel: 1, stride: 1, bias: true, init: style.init };
        let head = Conv2d::new(scope.sub("final_layer"), from, channels[1], head)?;
        Ok(Self { encoder, ups, head })
    }
}

impl Model for ResNetDeconv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = self.encoder.forward(x)?.pop().expect("the encoder gives five features");
        for up in &self.ups {
            y = up.forward([&y], |up, [x]| up.norm.forward_relu(&up.conv.forward(x)?, None))?;
        }
        self.head.forward(&y)
    }
}

/// Doubles the resolution; normalisation and ReLU follow.
#[derive(Clone, Debug)]
struct Up {
    conv: Upconv,
    norm: Norm,
}
