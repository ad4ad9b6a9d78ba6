use std::path::Path;

use fullbore_checkpoint::training::PLAN;
use fullbore_data::{DataConfig, Resize};
use fullbore_feed::Normalize;
use fullbore_nn::compute::{DeviceChoice, PrecisionChoice};
use fullbore_nn::losses::LossConfig;
use fullbore_nn::models::{Model, ModelConfig};
use fullbore_nn::weights::{self, MismatchError};
use fullbore_nn::{NormConfig, NormMode, Params};
use fullbore_torch::{Autocast, Device, Kind, Result, Tensor};
use fullbore_types::{Classes, Size};
use serde::Deserialize;

use crate::PredictError;

/// The parts of a run's plan that its model needs when it is used. What else stands there is passed over.
#[derive(Debug, Deserialize)]
struct Recipe {
    data: DataConfig,
    model: ModelConfig,
    norm: NormConfig,
    loss: LossConfig,
    precision: PrecisionChoice,
    batch: Batch,
}

#[derive(Debug, Deserialize)]
struct Batch {
    size: usize,
}

/// A trained model, ready to be asked.
#[derive(Debug)]
pub struct Trained {
    params: Params,
    model: Box<dyn Model>,
    normalize: Normalize,
    precision: Option<Kind>,
    recipe: Recipe,
}

impl Trained {
    /// Reads the weights that the run evaluated: the average where it kept one.
    ///
    /// # Errors
    /// When the file is no whole training checkpoint, the device is not there, or memory is lacking.
    pub fn load(checkpoint: &Path, device: DeviceChoice) -> std::result::Result<Self, PredictError> {
        let file = fullbore_checkpoint::read(checkpoint)?;
        let recipe: Recipe = file.json(checkpoint, PLAN)?;
        let classes = recipe.data.classes.len();
        let channels_out = recipe.loss.name.channels(classes);
        let channels_out =
            channels_out.ok_or_else(|| PredictError::Classes { path: checkpoint.into(), classes })?;
        recipe.model.check().map_err(|wrong| PredictError::Model { path: checkpoint.into(), wrong })?;
        let device = device.resolve()?;
        recipe.precision.apply()?;
        let mut params = Params::new(device);
        let channels = i64::from(recipe.data.channels);
        let model = recipe.model.build(&mut params, channels, channels_out, &recipe.norm)?;
        let report = weights::load(&params, file.part(file.evaluated()))?;
        if !report.is_complete() {
            return Err(MismatchError { path: checkpoint.display().to_string(), report }.into());
        }
        params.norm().set(NormMode::Eval);
        let normalize = Normalize::new(&recipe.data.mean, &recipe.data.std, device)?;
        Ok(Self { params, model, normalize, precision: recipe.precision.resolve(device), recipe })
    }

    /// Logits f32 `[n, C, height, width]` for bytes u8 `[n, height, width, channels]` on the model's device.
    pub fn logits(&self, bytes: &Tensor) -> Result<Tensor> {
        let images = self.normalize.apply(bytes)?;
        let logits = {
            let _autocast = Autocast::new(self.device(), self.precision)?;
            self.model.forward(&images)?
        };
        logits.to_kind(Kind::Float)
    }

    /// Where the model lives.
    pub fn device(&self) -> Device {
        self.params.device()
    }

    /// The classes by index, and the value that each has in mask files.
    pub fn classes(&self) -> Classes {
        self.recipe.data.classes()
    }

    /// Size of the canvas that images come onto.
    pub fn canvas(&self) -> Size {
        self.recipe.data.size.into()
    }

    /// How they come onto it.
    pub fn resize(&self) -> Resize {
        self.recipe.data.resize
    }

    /// Channels of an image: 3 (RGB) or 1 (gray).
    pub fn channels(&self) -> u8 {
        self.recipe.data.channels
    }

    /// Sides of a canvas must be multiples of this.
    pub fn side_multiple(&self) -> u32 {
        self.recipe.model.side_multiple()
    }

    /// Images per forward pass to begin with: the batch size of training, or one where images keep their own sizes.
    pub fn batch(&self) -> usize {
        match self.recipe.data.resize {
            Resize::Crop => 1,
            _ => self.recipe.batch.size,
        }
    }
}
