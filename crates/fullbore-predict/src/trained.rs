use std::path::Path;

use fullbore_checkpoint::training::PLAN;
use fullbore_data::{Crop, DataConfig, Resize};
use fullbore_feed::Normalize;
use fullbore_nn::compute::{DeviceChoice, PrecisionChoice};
use fullbore_nn::decode::MapReader;
use fullbore_nn::landmarks::LandmarksConfig;
use fullbore_nn::losses::{LossConfig, Task};
use fullbore_nn::mirror::Mirror;
use fullbore_nn::models::{Model, ModelConfig};
use fullbore_nn::optim::SettingError;
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
    #[serde(default)]
    landmarks: LandmarksConfig,
    #[serde(default)]
    augment: Swaps,
    #[serde(default)]
    eval: Looks,
    precision: PrecisionChoice,
}

/// Of a plan's augmentation, what holds beyond training.
#[derive(Debug, Default, Deserialize)]
struct Swaps {
    #[serde(default)]
    flip_pairs: Option<Vec<[usize; 2]>>,
}

/// Of how it was scored, what decides on what is seen.
#[derive(Debug, Default, Deserialize)]
struct Looks {
    #[serde(default)]
    mirror: Mirror,
}

/// The landmarks that a model finds.
#[derive(Debug)]
struct Landmarks {
    names: Vec<String>,
    reader: MapReader,
}

/// A trained model, ready to be asked.
#[derive(Debug)]
pub struct Trained {
    params: Params,
    model: Box<dyn Model>,
    normalize: Normalize,
    precision: Option<Kind>,
    /// `None`: it finds masks.
    landmarks: Option<Landmarks>,
    recipe: Recipe,
}

impl Recipe {
    /// The landmarks that are trained; `None` where masks are.
    fn landmarks(&self) -> std::result::Result<Option<Landmarks>, SettingError> {
        let loss = self.loss.name;
        if loss.task() == Task::Masks {
            return Ok(None);
        }
        self.landmarks.check()?;
        let chosen = self.landmarks.choose(self.augment.flip_pairs.as_deref())?;
        let multiple = self.model.side_multiple();
        let reader = self.landmarks.reader(&chosen, multiple, loss.maps_are_logits());
        Ok(Some(Landmarks { names: chosen.names, reader }))
    }
}

impl Trained {
    /// Reads the weights that the run evaluated: the average where it kept one.
    ///
    /// # Errors
    /// When the file is no whole training checkpoint, the device is not there, or memory is lacking.
    pub fn load(checkpoint: &Path, device: DeviceChoice) -> std::result::Result<Self, PredictError> {
        let file = fullbore_checkpoint::read(checkpoint)?;
        let recipe: Recipe = file.json(checkpoint, PLAN)?;
        let wrong = |wrong| PredictError::Plan { path: checkpoint.into(), wrong };
        recipe.model.check().map_err(wrong)?;
        let landmarks = recipe.landmarks().map_err(wrong)?;
        let classes = recipe.data.classes.len();
        let channels_out = match &landmarks {
            Some(landmarks) => Some(landmarks.names.len() as i64),
            None => recipe.loss.name.channels(classes),
        };
        let channels_out =
            channels_out.ok_or_else(|| PredictError::Classes { path: checkpoint.into(), classes })?;
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
        let precision = recipe.precision.resolve(device);
        Ok(Self { params, model, normalize, precision, landmarks, recipe })
    }

    /// Logits f32 `[n, C, height, width]` for bytes u8 `[n, height, width, channels]` on the model's device, averaged over the
    /// mirrors that the run was scored with.
    ///
    /// # Errors
    /// When memory runs out or the device fails.
    pub fn logits(&self, bytes: &Tensor) -> Result<Tensor> {
        self.recipe.eval.mirror.average(&self.normalize.apply(bytes)?, |images| self.network(images))
    }

    /// Landmarks f32 `[n, K, 3]` on the CPU for the same bytes: x and y in pixels of the canvas, and the height of the peak
    /// that they were read from. `None` where the model finds masks.
    ///
    /// # Errors
    /// When memory runs out or the device fails.
    pub fn points(&self, bytes: &Tensor) -> Result<Option<Tensor>> {
        let Some(Landmarks { reader, .. }) = &self.landmarks else { return Ok(None) };
        let images = self.normalize.apply(bytes)?;
        let found = reader.read(&self.network(&images)?, &images, |images| self.network(images))?;
        // All come to the host at once.
        Tensor::cat(&[&found.points, &found.scores.unsqueeze(2)?], 2)?.to_device(Device::Cpu).map(Some)
    }

    fn network(&self, images: &Tensor) -> Result<Tensor> {
        let maps = {
            let _autocast = Autocast::new(self.device(), self.precision)?;
            self.model.forward(images)?
        };
        maps.to_kind(Kind::Float)
    }

    /// The landmarks that it finds, by name; `None` where it finds masks.
    pub fn landmark_names(&self) -> Option<&[String]> {
        self.landmarks.as_ref().map(|landmarks| &landmarks.names[..])
    }

    /// How much of its image a sample showed in training, and the margin around it.
    pub fn crop(&self) -> (Crop, f64) {
        (self.recipe.data.crop, self.recipe.data.crop_margin)
    }

    /// Coordinate of the first pixel's centre in the lists of points that it learnt from.
    pub(crate) fn first_pixel(&self) -> f64 {
        self.recipe.data.first_pixel
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

    /// Images per forward pass at most: one where they keep their own sizes, `None` where memory alone decides.
    pub fn batch(&self) -> Option<usize> {
        (self.resize() == Resize::Crop).then_some(1)
    }
}
