//! The networks. Adding one: its file, and a line in the registry below.

pub mod config;
pub mod hrnet;
pub mod resnet_deconv;
pub mod resnet_unet;
pub mod unet;

use fullbore_torch::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::Scope;
use crate::layers::norm::NormConfig;
use crate::optim::SettingError;

pub use config::{ModelConfig, ModelSize};
pub use hrnet::{Head, Width};
pub use unet::Up;

/// A network from images to a map of logits.
pub trait Model: std::fmt::Debug {
    /// `x` `[B, Cin, H, W]` to logits `[B, Cout, H / s, W / s]`, where `s` is [`ModelConfig::output_stride`].
    fn forward(&self, x: &Tensor) -> Result<Tensor>;

    /// Logits at the resolutions that have a head, finest first: what [`Model::forward`] gives, then those of
    /// `model.deep_supervision`, each with half the sides of the one before.
    fn forward_levels(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        Ok(vec![self.forward(x)?])
    }
}

type Build = fn(Scope<'_>, &ModelConfig, [i64; 2], &NormConfig) -> Result<Box<dyn Model>>;

/// What the registry knows of a network.
struct Family {
    /// Keys of the `model` part that it has, besides `name` and `size`.
    keys: &'static [&'static str],
    /// Checks the values of those.
    check: fn(&ModelConfig) -> std::result::Result<(), SettingError>,
    /// Builds it: place, numbers, channels in and out, normalisation.
    build: Build,
    /// Sides of its input must be multiples of this.
    side_multiple: fn(&ModelConfig) -> u32,
    /// Keys of the layers that have one row for each output.
    heads: &'static [&'static str],
    /// How many times smaller than the input its logits are.
    output_stride: u32,
}

macro_rules! registry {
    ($($(#[$doc:meta])* $key:literal $name:ident $family:path,)*) => {
        /// The networks by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum ModelName {
            $($(#[$doc])* #[serde(rename = $key)] $name,)*
        }

        impl ModelName {
            /// All of them.
            pub const ALL: &[ModelName] = &[$(ModelName::$name),*];

            /// As it is written in settings.
            pub fn key(self) -> &'static str {
                match self { $(ModelName::$name => $key),* }
            }

            fn family(self) -> &'static Family {
                match self { $(ModelName::$name => &$family),* }
            }
        }
    };
}

registry! {
    /// [`unet::UNet`].
    "unet" Unet unet::FAMILY,
    /// [`resnet_unet::ResNetUnet`].
    "resnet_unet" ResnetUnet resnet_unet::FAMILY,
    /// [`hrnet::HrNet`].
    "hrnet" Hrnet hrnet::FAMILY,
    /// [`resnet_deconv::ResNetDeconv`].
    "resnet_deconv" ResnetDeconv resnet_deconv::FAMILY,
}
