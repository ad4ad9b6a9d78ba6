//! The networks. Adding one: its file, a line in [`ModelName`], a line in [`ModelConfig::build`].

pub mod unet;

use std::path::PathBuf;

use fullbore_torch::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::layers::norm::NormConfig;
use crate::{Params, Scope};

pub use unet::{UNet, Up};

/// A network from images to a map of logits.
pub trait Model: std::fmt::Debug {
    /// `x` [B, Cin, H, W] to logits [B, Cout, H, W].
    fn forward(&self, x: &Tensor) -> Result<Tensor>;
}

/// The `model` part of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Which network.
    pub name: ModelName,
    /// Channels after the first block.
    pub base: u32,
    /// Number of down-samplings.
    pub depth: u32,
    /// How the decoder doubles the resolution.
    pub up: Up,
    /// File or run folder whose weights a run begins with; `None`: fresh ones.
    #[serde(default)]
    pub weights: Option<PathBuf>,
}

/// The networks by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelName {
    /// [`UNet`].
    Unet,
}

impl ModelConfig {
    /// Builds the network in `params`, with initial values from libtorch's default CPU generator.
    pub fn build(
        &self,
        params: &mut Params,
        channels_in: i64,
        channels_out: i64,
        norm: &NormConfig,
    ) -> Result<Box<dyn Model>> {
        let scope: Scope<'_> = params.root();
        Ok(match self.name {
            ModelName::Unet => Box::new(UNet::new(scope, self, channels_in, channels_out, norm)?),
        })
    }

    /// Sides of the network's input must be multiples of this.
    pub fn side_multiple(&self) -> u32 {
        match self.name {
            ModelName::Unet => 1 << self.depth,
        }
    }
}
