//! Host batches to ready micro-batches on the device. Bytes travel as u8 in NHWC order; normalisation and layout
//! happen on the device. [`whole_images`] is the way of validation and prediction.

pub mod augment;
mod pin;
pub mod whole_images;

pub use pin::pin_for;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use augment::DeviceTwin;
use fullbore_augment::{AugmentParams, Policy};
use fullbore_data::{HostBatch, PixelKind};
use fullbore_torch::{Device, Kind, Result, Tensor};
use fullbore_types::{Position, SampleKey};

/// A batch on the device, still in bytes where the device finishes it: a quarter of what floats would hold.
#[derive(Debug)]
pub struct DeviceBatch {
    /// u8 or f32 [B, H, W, C]
    images: Tensor,
    /// u8 [B, h, w], augmented already.
    masks: Tensor,
    position: Position,
    left: Left,
}

/// What is left to do for images.
#[derive(Debug)]
enum Left {
    /// Bytes: normalise.
    Normalize,
    /// Floats, finished by the loader's workers.
    Nothing,
    /// Bytes: augment and normalise.
    Augment { twin: Rc<DeviceTwin>, params: Vec<AugmentParams> },
}

/// Augmentation on the device, for training batches only: nothing else is uploaded with it.
#[derive(Clone, Debug)]
pub struct OnDevice {
    /// Draws for each sample.
    pub policy: Arc<Policy>,
    /// Does what was drawn.
    pub twin: Rc<DeviceTwin>,
    /// The run's seed.
    pub seed: u64,
}

impl OnDevice {
    /// The draws of a batch, pure functions of seed, epoch and sample: a repeated batch is the same batch.
    fn draw(&self, batch: &HostBatch) -> Vec<AugmentParams> {
        let (seed, epoch) = (self.seed, batch.position().epoch);
        batch.ids().iter().map(|&sample| self.policy.draw(SampleKey { seed, epoch, sample })).collect()
    }
}

/// What one forward pass gets.
#[derive(Debug)]
pub struct MicroBatch {
    /// f32 [b, C, H, W], channels_last, normalised.
    pub images: Tensor,
    /// u8 [b, H, W], class indices, 255 = ignore.
    pub masks: Tensor,
}

impl DeviceBatch {
    /// Brings a host batch to the device. On the CPU nothing is copied: the batch's slab stays lent until the last
    /// tensor over it is gone. With `augment`, masks are augmented here and images as they are finished.
    pub fn upload(batch: HostBatch, device: Device, augment: Option<&OnDevice>) -> Result<Self> {
        let layout = batch.layout();
        let (n, h, w, c) =
            (batch.len() as i64, layout.height as i64, layout.width as i64, layout.channels as i64);
        let position = batch.position();
        let left = match (layout.kind, augment) {
            (PixelKind::F32, _) => Left::Nothing,
            (PixelKind::U8, None) => Left::Normalize,
            (PixelKind::U8, Some(augment)) => {
                Left::Augment { twin: augment.twin.clone(), params: augment.draw(&batch) }
            }
        };
        let kind = match layout.kind {
            PixelKind::U8 => Kind::Uint8,
            PixelKind::F32 => Kind::Float,
        };
        let batch = Arc::new(batch);
        let images = Tensor::from_owner(Images(batch.clone()), &[n, h, w, c], kind)?.to_device(device)?;
        let masks = Tensor::from_owner(Masks(batch), &[n, h, w], Kind::Uint8)?.to_device(device)?;
        let masks = match &left {
            Left::Augment { twin, params } => twin.masks(&masks, params)?,
            _ => masks,
        };
        Ok(Self { images, masks, position, left })
    }

    /// A batch made from tensors: images u8 [B, H, W, C], masks u8 [B, H, W], on the device already.
    pub fn from_tensors(images: Tensor, masks: Tensor, position: Position) -> Self {
        Self { images, masks, position, left: Left::Normalize }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.images.size()[0] as usize
    }

    /// True for a batch without samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where this batch stands in the run.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Targets of the whole batch, u8 [B, H, W].
    pub fn masks(&self) -> &Tensor {
        &self.masks
    }

    /// The ready micro-batch of some of the samples.
    pub fn finish(&self, samples: Range<usize>, normalize: &Normalize) -> Result<MicroBatch> {
        let (start, n) = (samples.start as i64, samples.len() as i64);
        let images = self.images.narrow(0, start, n)?;
        let images = match &self.left {
            Left::Normalize => normalize.apply(&images)?,
            // NHWC memory seen as NCHW is channels_last.
            Left::Nothing => images.permute(&[0, 3, 1, 2])?,
            Left::Augment { twin, params } => twin.apply(&images, None, None, &params[samples])?.images,
        };
        Ok(MicroBatch { images, masks: self.masks.narrow(0, start, n)? })
    }
}

/// Bytes to network input: `(x / 255 - mean) / std` per channel.
#[derive(Debug)]
pub struct Normalize {
    /// 1 / (255 std), [1, C, 1, 1]
    scale: Tensor,
    /// mean / std, [1, C, 1, 1]
    shift: Tensor,
}

impl Normalize {
    /// The map for channels with these means and standard deviations (of values in 0..1).
    pub fn new(mean: &[f32], std: &[f32], device: Device) -> Result<Self> {
        let per_channel = |values: Vec<f32>| {
            Tensor::from_slice(&values)?.reshape(&[1, values.len() as i64, 1, 1])?.to_device(device)
        };
        Ok(Self {
            scale: per_channel(std.iter().map(|s| 1.0 / (255.0 * s)).collect())?,
            shift: per_channel(mean.iter().zip(std).map(|(m, s)| m / s).collect())?,
        })
    }

    /// `bytes` u8 [b, H, W, C] to f32 [b, C, H, W] in channels_last layout.
    pub fn apply(&self, bytes: &Tensor) -> Result<Tensor> {
        // NHWC memory seen as NCHW is channels_last: a view, and the conversion keeps the order.
        let images = bytes.permute(&[0, 3, 1, 2])?.to_kind(Kind::Float)?.channels_last()?;
        images.mul_(&self.scale)?;
        images.sub_(&self.shift)?;
        Ok(images)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finishing_normalises_into_channels_last() {
        let bytes: Vec<u8> = (0..2 * 2 * 3 * 3).map(|i| (i * 7) as u8).collect();
        let images = Tensor::from_bytes(&bytes, &[2, 2, 3, 3], Kind::Uint8).unwrap();
        let masks = Tensor::from_bytes(&[1; 12], &[2, 2, 3], Kind::Uint8).unwrap();
        let batch = DeviceBatch::from_tensors(images, masks, Position::default());
        let (mean, std) = ([0.5, 0.25, 0.0], [0.5, 1.0, 2.0]);
        let ready = batch.finish(1..2, &Normalize::new(&mean, &std, Device::Cpu).unwrap()).unwrap();
        assert_eq!(ready.images.size(), [1, 3, 2, 3]);
        assert!(ready.images.is_channels_last().unwrap());
        assert_eq!(ready.masks.size(), [1, 2, 3]);
        let values = ready.images.to_vec_f32().unwrap();
        for c in 0..3 {
            for p in 0..6 {
                let byte = f32::from(bytes[18 + p * 3 + c]);
                let expected = (byte / 255.0 - mean[c]) / std[c];
                assert!((values[c * 6 + p] - expected).abs() < 1e-6, "channel {c} pixel {p}");
            }
        }
    }
}
