//! Bytes to network input.

use fullbore_torch::{Device, Kind, Result, Tensor};

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
