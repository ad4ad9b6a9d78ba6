//! The `model` part of a plan.

use std::path::PathBuf;

use fullbore_torch::Result as TorchResult;
use serde::{Deserialize, Serialize};

use super::{Head, Model, ModelName, Up, Width};
use crate::Params;
use crate::layers::norm::NormConfig;
use crate::optim::{SettingError, refuse};

/// Which network, and its numbers. `None` follows `size`; what the named network does not have must be `None`, or 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Which network.
    pub name: ModelName,
    /// How large it is.
    #[serde(default)]
    pub size: ModelSize,
    /// U-Net: channels after the first block (16, 32, 64).
    pub base: Option<u32>,
    /// U-Net: number of down-samplings (4).
    pub depth: Option<u32>,
    /// U-Net: how the decoder doubles the resolution (transposed).
    pub up: Option<Up>,
    /// ResNets: which one (18, 34, 50).
    pub layers: Option<u32>,
    /// HRNet: which one (W18, W32, W48).
    pub width: Option<Width>,
    /// HRNet: what makes maps of its branches (concatenated).
    pub head: Option<Head>,
    /// U-Nets: coarser decoder levels that have a head of their own.
    #[serde(default)]
    pub deep_supervision: u32,
    /// File or run folder whose weights a run begins with; `None`: fresh ones.
    #[serde(default)]
    pub weights: Option<PathBuf>,
}

/// Names for sizes that mean about the same for every network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSize {
    /// For little memory or few images.
    Small,
    /// For most.
    #[default]
    Base,
    /// For the best scores that memory and time allow.
    Large,
}

impl ModelConfig {
    /// A network of size `base`.
    pub fn new(name: ModelName) -> Self {
        Self {
            name,
            size: ModelSize::Base,
            base: None,
            depth: None,
            up: None,
            layers: None,
            width: None,
            head: None,
            deep_supervision: 0,
            weights: None,
        }
    }

    /// Checks every number, and that none is set that the network does not have.
    pub fn check(&self) -> Result<(), SettingError> {
        let family = self.name.family();
        for (key, value) in self.set() {
            if !family.keys.contains(&key) {
                let who = ModelName::ALL.iter().filter(|name| name.family().keys.contains(&key));
                let who: Vec<_> = who.map(|name| name.key()).collect();
                let none = if key == "model.deep_supervision" { "0" } else { "null" };
                let allowed = format!(
                    "{none}, because model.name is {}; {} may set it",
                    self.name.key(),
                    who.join(" and ")
                );
                return Err(refuse(key, value, allowed));
            }
        }
        (family.check)(self)
    }

    /// Builds the network in `params`, with initial values from libtorch's default CPU generator. The configuration has
    /// been [checked](Self::check).
    pub fn build(
        &self,
        params: &mut Params,
        channels_in: i64,
        channels_out: i64,
        norm: &NormConfig,
    ) -> TorchResult<Box<dyn Model>> {
        (self.name.family().build)(params.root(), self, [channels_in, channels_out], norm)
    }

    /// Sides of the network's input must be multiples of this.
    pub fn side_multiple(&self) -> u32 {
        (self.name.family().side_multiple)(self)
    }

    /// Keys of the layers that have one row for each output.
    pub fn heads(&self) -> &'static [&'static str] {
        self.name.family().heads
    }

    /// How many times smaller than the input the network's logits are.
    pub fn output_stride(&self) -> u32 {
        self.name.family().output_stride
    }

    /// `layers`, or what `size` makes of it.
    pub(super) fn resnet_layers(&self) -> u32 {
        self.layers.unwrap_or(match self.size {
            ModelSize::Small => 18,
            ModelSize::Base => 34,
            ModelSize::Large => 50,
        })
    }

    /// The keys that are set, as they are written.
    fn set(&self) -> impl Iterator<Item = (&'static str, String)> {
        fn written<T: Serialize>(value: Option<T>) -> Option<String> {
            let value = serde_json::to_value(value?).unwrap_or_default();
            Some(value.as_str().map_or_else(|| value.to_string(), str::to_string))
        }
        let deep = (self.deep_supervision > 0).then_some(self.deep_supervision);
        [
            ("model.base", written(self.base)),
            ("model.depth", written(self.depth)),
            ("model.up", written(self.up)),
            ("model.layers", written(self.layers)),
            ("model.width", written(self.width)),
            ("model.head", written(self.head)),
            ("model.deep_supervision", written(deep)),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
    }
}

#[cfg(test)]
mod tests {
    use super::ModelName::{Hrnet, ResnetDeconv, ResnetUnet, Unet};
    use super::*;

    #[test]
    fn what_a_network_does_not_have_is_refused() {
        let plain = ModelConfig::new(Unet);
        let set: [(&str, &str, ModelConfig, &[ModelName]); 7] = [
            ("model.base", "8", ModelConfig { base: Some(8), ..plain.clone() }, &[Unet]),
            ("model.depth", "3", ModelConfig { depth: Some(3), ..plain.clone() }, &[Unet]),
            ("model.up", "bilinear", ModelConfig { up: Some(Up::Bilinear), ..plain.clone() }, &[Unet]),
            (
                "model.layers",
                "50",
                ModelConfig { layers: Some(50), ..plain.clone() },
                &[ResnetUnet, ResnetDeconv],
            ),
            (
                "model.width",
                "small_v1",
                ModelConfig { width: Some(Width::SmallV1), ..plain.clone() },
                &[Hrnet],
            ),
            ("model.head", "pose", ModelConfig { head: Some(Head::Pose), ..plain.clone() }, &[Hrnet]),
            (
                "model.deep_supervision",
                "1",
                ModelConfig { deep_supervision: 1, ..plain.clone() },
                &[Unet, ResnetUnet],
            ),
        ];
        for (key, written, config, who) in set {
            for &name in ModelName::ALL {
                match (ModelConfig { name, ..config.clone() }).check() {
                    Ok(()) => assert!(who.contains(&name), "{key} with {name:?}"),
                    Err(error) => {
                        assert!(!who.contains(&name) && error.key == key, "{error:?}");
                        assert_eq!(error.value, written);
                        assert!(error.allowed.contains(name.key()) && error.allowed.contains(who[0].key()));
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_their_key() {
        let unet = ModelConfig::new(Unet);
        let resnet = ModelConfig::new(ResnetUnet);
        for (key, config) in [
            ("model.base", ModelConfig { base: Some(0), ..unet.clone() }),
            ("model.base", ModelConfig { base: Some(1025), ..unet.clone() }),
            ("model.base", ModelConfig { base: Some(1024), ..unet.clone() }),
            ("model.depth", ModelConfig { depth: Some(0), ..unet.clone() }),
            ("model.depth", ModelConfig { depth: Some(u32::MAX), ..unet.clone() }),
            ("model.deep_supervision", ModelConfig { deep_supervision: 4, ..unet.clone() }),
            ("model.layers", ModelConfig { layers: Some(152), ..resnet.clone() }),
            ("model.layers", ModelConfig { layers: Some(0), ..resnet.clone() }),
            ("model.layers", ModelConfig { layers: Some(20), name: ResnetDeconv, ..resnet.clone() }),
            ("model.deep_supervision", ModelConfig { deep_supervision: 5, ..resnet.clone() }),
        ] {
            assert_eq!(config.check().unwrap_err().key, key, "{config:?}");
        }
        for fine in [
            ModelConfig { base: Some(32), depth: Some(8), ..unet.clone() },
            ModelConfig { deep_supervision: 3, ..unet.clone() },
            ModelConfig { layers: Some(101), deep_supervision: 4, ..resnet.clone() },
            ModelConfig { layers: Some(152), name: ResnetDeconv, ..resnet.clone() },
        ] {
            fine.check().unwrap();
        }
    }

    #[test]
    fn plans_from_before_there_were_other_networks_are_read() {
        let old = r#"{"name": "unet", "base": 16, "depth": 3, "up": "bilinear"}"#;
        let read: ModelConfig = serde_json::from_str(old).unwrap();
        let expected = ModelConfig {
            base: Some(16),
            depth: Some(3),
            up: Some(Up::Bilinear),
            ..ModelConfig::new(ModelName::Unet)
        };
        assert_eq!(read, expected);
        read.check().unwrap();
    }
}
