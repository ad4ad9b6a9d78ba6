//! From the host to the device: upload, augmentation of targets, and of images where data and model have a device each.

use std::sync::Arc;

use fullbore_augment::{AugmentParams, Policy};
use fullbore_data::{HostBatch, PixelKind};
use fullbore_torch::{Device, Kind, Result, Tensor};
use fullbore_types::SampleKey;

use crate::augment::{DeviceTwin, Points};
use crate::batch::{DeviceBatch, Left, Targets};

/// How batches come to the device. For training batches only: nothing else is augmented.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Prepares batches.
    pub data: Device,
    /// Trains on them.
    pub model: Device,
    /// Whether what is handed over is augmented already: data and model are two devices, or play it.
    pub hands_over: bool,
    /// Augmentation on the device. `None`: there is none, or the loader's workers do it.
    pub augment: Option<OnDevice>,
}

/// What happens to training samples on the device.
#[derive(Clone, Debug)]
pub struct OnDevice {
    /// Draws for each sample.
    pub policy: Arc<Policy>,
    /// The run's seed.
    pub seed: u64,
    /// Subtracted from values in 0..1, for each channel.
    pub mean: Vec<f32>,
    /// Divided by.
    pub std: Vec<f32>,
}

impl OnDevice {
    /// What does it, on a device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn twin(&self, device: Device) -> Result<DeviceTwin> {
        DeviceTwin::new(&self.policy, &self.mean, &self.std, Kind::Float, device)
    }

    /// The draws of a batch, pure functions of seed, epoch and sample: a repeated batch is the same batch.
    fn draw(&self, batch: &HostBatch) -> Vec<AugmentParams> {
        let (seed, epoch) = (self.seed, batch.position().epoch);
        batch.ids().iter().map(|&sample| self.policy.draw(SampleKey { seed, epoch, sample })).collect()
    }
}

/// Brings batches to the device.
#[derive(Debug)]
pub struct Stage {
    config: StageConfig,
    augment: Option<(OnDevice, DeviceTwin)>,
}

impl Stage {
    /// Makes what it works with on the data device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(config: &StageConfig) -> Result<Self> {
        let augment = config.augment.clone().map(|on| on.twin(config.data).map(|twin| (on, twin)));
        Ok(Self { config: config.clone(), augment: augment.transpose()? })
    }

    /// Where its work on a batch ends.
    pub(crate) fn last_device(&self) -> Device {
        self.config.model
    }

    /// Brings a host batch to the device. On the CPU nothing is copied: the batch's slab stays lent until the last tensor
    /// over it is gone.
    ///
    /// # Errors
    /// When memory runs out, and [`fullbore_torch::Error::Invalid`] when the source's points are too few for the policy's
    /// pairs.
    pub fn bring(&self, batch: &Arc<HostBatch>) -> Result<DeviceBatch> {
        let (data, model) = (self.config.data, self.config.model);
        let layout = batch.layout();
        let (n, h, w, c) =
            (batch.len() as i64, layout.height as i64, layout.width as i64, layout.channels as i64);
        let (kind, left) = match layout.kind {
            PixelKind::U8 => (Kind::Uint8, Left::Normalize),
            PixelKind::F32 => (Kind::Float, Left::Nothing),
        };
        let images = Tensor::from_owner(Images(batch.clone()), &[n, h, w, c], kind)?.to_device(data)?;
        let targets = if layout.masks {
            let masks = Tensor::from_owner(Masks(batch.clone()), &[n, h, w], Kind::Uint8)?;
            Targets::Masks(masks.to_device(data)?)
        } else {
            Targets::Points(upload_points(batch, data)?)
        };
        let position = batch.position();
        let Some((on, twin)) = self.augment.as_ref().filter(|_| layout.kind == PixelKind::U8) else {
            return DeviceBatch::new(images, targets, position, left).move_to(model);
        };
        let params = on.draw(batch);
        let targets = match targets {
            Targets::Masks(masks) => Targets::Masks(twin.masks(&masks, &params)?),
            Targets::Points(points) => Targets::Points(twin.points(&points, &params)?),
        };
        if !self.config.hands_over {
            return DeviceBatch::new(images, targets, position, Left::Augment(params)).move_to(model);
        }
        let images = to_bytes(&twin.apply(&images, None, None, &params)?.images, on)?;
        DeviceBatch::new(images, targets, position, Left::Normalize).move_to(model)
    }
}

/// Normalised images `[b, C, H, W]` back to bytes u8 `[b, H, W, C]`: a quarter of the way between two devices.
fn to_bytes(images: &Tensor, on: &OnDevice) -> Result<Tensor> {
    let per_channel = |values: &[f32]| {
        let values: Vec<f32> = values.iter().map(|value| 255.0 * value).collect();
        Tensor::from_slice(&values)?.send_to(images.device())
    };
    let bytes = images.permute(&[0, 2, 3, 1])?.mul(&per_channel(&on.std)?)?;
    bytes.add_(&per_channel(&on.mean)?)?;
    // Rounded to the nearest.
    bytes.add_scalar_(0.5)?;
    bytes.clamp_(0.0, 255.0)?;
    bytes.to_kind(Kind::Uint8)?.contiguous()
}

/// Points are so few bytes that they are copied on every device.
fn upload_points(batch: &HostBatch, device: Device) -> Result<Points> {
    let (n, k) = (batch.len() as i64, (batch.visibility().len() / batch.len().max(1)) as i64);
    Ok(Points {
        places: Tensor::from_slice(batch.points())?.reshape(&[n, k, 2])?.send_to(device)?,
        visibility: Tensor::from_slice(batch.visibility())?.reshape(&[n, k])?.send_to(device)?,
    })
}

struct Images(Arc<HostBatch>);

impl AsRef<[u8]> for Images {
    fn as_ref(&self) -> &[u8] {
        self.0.images()
    }
}

struct Masks(Arc<HostBatch>);

impl AsRef<[u8]> for Masks {
    fn as_ref(&self) -> &[u8] {
        self.0.masks()
    }
}
