//! Host batches to ready micro-batches on the device. Bytes travel as u8 in NHWC order; normalisation and layout
//! happen on the device. [`whole_images`] is the way of validation and prediction.

pub mod augment;
mod pin;
pub mod whole_images;

pub use pin::pin_for;

use std::ops::Range;
use std::sync::Arc;

use fullbore_data::HostBatch;
use fullbore_torch::{Device, Kind, Result, Tensor};
use fullbore_types::Position;

/// A batch on the device, still in bytes: a quarter of what finished floats would hold.
#[derive(Debug)]
pub struct DeviceBatch {
    /// u8 [B, H, W, C]
    images: Tensor,
    /// u8 [B, H, W]
    masks: Tensor,
    position: Position,
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
    /// tensor over it is gone.
    pub fn upload(batch: HostBatch, device: Device) -> Result<Self> {
        let layout = batch.layout();
        let (n, h, w, c) =
            (batch.len() as i64, layout.height as i64, layout.width as i64, layout.channels as i64);
        let position = batch.position();
        let batch = Arc::new(batch);
        let images = Tensor::from_owner(Images(batch.clone()), &[n, h, w, c])?.to_device(device)?;
        let masks = Tensor::from_owner(Masks(batch), &[n, h, w])?.to_device(device)?;
        Ok(Self { images, masks, position })
    }

    /// A batch made from tensors: images u8 [B, H, W, C], masks u8 [B, H, W], on the device already.
    pub fn from_tensors(images: Tensor, masks: Tensor, position: Position) -> Self {
        Self { images, masks, position }
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
        Ok(MicroBatch {
            images: normalize.apply(&self.images.narrow(0, start, n)?)?,
            masks: self.masks.narrow(0, start, n)?,
        })
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
