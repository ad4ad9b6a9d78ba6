//! A batch on its way: from the host to the device, and from there to ready micro-batches.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use fullbore_augment::{AugmentParams, Policy};
use fullbore_data::{HostBatch, PixelKind};
use fullbore_torch::{Device, Error, Kind, Result, Tensor};
use fullbore_types::{Position, SampleKey};

use crate::Normalize;
use crate::augment::{DeviceTwin, Points};
use crate::landmarks::{HeatmapBatch, Landmarks};

/// A batch on the device, still in bytes where the device finishes it: a quarter of what floats would hold.
#[derive(Debug)]
pub struct DeviceBatch {
    /// u8 or f32 [B, H, W, C]
    images: Tensor,
    targets: Targets,
    position: Position,
    left: Left,
}

/// What a batch is trained towards, augmented already.
#[derive(Clone, Debug)]
pub enum Targets {
    /// u8 `[B, H, W]`, class indices, 255 = ignore.
    Masks(Tensor),
    /// All landmarks of the source, in pixels of the network's input.
    Points(Points),
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
    /// f32 `[b, C, H, W]`, channels_last, normalised.
    pub images: Tensor,
    /// What it is compared with.
    pub targets: MicroTargets,
}

/// What a forward pass is compared with.
#[derive(Debug)]
pub enum MicroTargets {
    /// u8 `[b, H, W]`, class indices, 255 = ignore.
    Masks(Tensor),
    /// Heat-maps of the landmarks.
    Heatmaps(HeatmapBatch),
}

/// What finishing needs beside the batch.
#[derive(Debug)]
pub struct Finish {
    /// Bytes to network input.
    pub normalize: Normalize,
    /// Points to heat-maps, where landmarks are trained.
    pub landmarks: Option<Landmarks>,
}

impl DeviceBatch {
    /// Brings a host batch to the device. On the CPU nothing is copied: the batch's slab stays lent until the last
    /// tensor over it is gone. With `augment`, targets are augmented here and images as they are finished.
    ///
    /// # Errors
    /// When memory runs out, and [`Error::Invalid`] when the source's points are too few for the policy's pairs.
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
        let points = (!layout.masks).then(|| upload_points(&batch, device)).transpose()?;
        let batch = Arc::new(batch);
        let images = Tensor::from_owner(Images(batch.clone()), &[n, h, w, c], kind)?.to_device(device)?;
        let targets = match points {
            Some(points) => Targets::Points(points),
            None => {
                Targets::Masks(Tensor::from_owner(Masks(batch), &[n, h, w], Kind::Uint8)?.to_device(device)?)
            }
        };
        let targets = match (&left, targets) {
            (Left::Augment { twin, params }, Targets::Masks(masks)) => {
                Targets::Masks(twin.masks(&masks, params)?)
            }
            (Left::Augment { twin, params }, Targets::Points(points)) => {
                Targets::Points(twin.points(&points, params)?)
            }
            (_, targets) => targets,
        };
        Ok(Self { images, targets, position, left })
    }

    /// A batch made from tensors: images u8 `[B, H, W, C]` and their targets, on the device already.
    pub fn from_tensors(images: Tensor, targets: Targets, position: Position) -> Self {
        Self { images, targets, position, left: Left::Normalize }
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

    /// Targets of the whole batch.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The ready micro-batch of some of the samples.
    ///
    /// # Errors
    /// When memory runs out, and [`Error::Invalid`] for points without [`Finish::landmarks`].
    pub fn finish(&self, samples: Range<usize>, finish: &Finish) -> Result<MicroBatch> {
        let (start, n) = (samples.start as i64, samples.len() as i64);
        let targets = match (&self.targets, &finish.landmarks) {
            (Targets::Masks(masks), _) => MicroTargets::Masks(masks.narrow(0, start, n)?),
            (Targets::Points(points), Some(landmarks)) => {
                MicroTargets::Heatmaps(landmarks.render(&points.narrow(start, n)?)?)
            }
            (Targets::Points(_), None) => {
                let message = "points have come, and nothing says which heat-maps they make".into();
                return Err(Error::Invalid { op: "finish".into(), message });
            }
        };
        let images = self.images.narrow(0, start, n)?;
        let images = match &self.left {
            Left::Normalize => finish.normalize.apply(&images)?,
            // NHWC memory seen as NCHW is channels_last.
            Left::Nothing => images.permute(&[0, 3, 1, 2])?,
            Left::Augment { twin, params } => twin.apply(&images, None, None, &params[samples])?.images,
        };
        Ok(MicroBatch { images, targets })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use fullbore_types::Size;

    fn bytes(size: &[i64]) -> (Vec<u8>, Tensor) {
        let bytes: Vec<u8> = (0..size.iter().product::<i64>()).map(|i| (i * 7) as u8).collect();
        let tensor = Tensor::from_bytes(&bytes, size, Kind::Uint8).unwrap();
        (bytes, tensor)
    }

    #[test]
    fn finishing_normalises_into_channels_last() {
        let (bytes, images) = bytes(&[2, 2, 3, 3]);
        let masks = Targets::Masks(Tensor::from_bytes(&[1; 12], &[2, 2, 3], Kind::Uint8).unwrap());
        let batch = DeviceBatch::from_tensors(images, masks, Position::default());
        let (mean, std) = ([0.5, 0.25, 0.0], [0.5, 1.0, 2.0]);
        let normalize = Normalize::new(&mean, &std, Device::Cpu).unwrap();
        let ready = batch.finish(1..2, &Finish { normalize, landmarks: None }).unwrap();
        assert_eq!(ready.images.size(), [1, 3, 2, 3]);
        assert!(ready.images.is_channels_last().unwrap());
        let MicroTargets::Masks(masks) = ready.targets else { panic!("masks stay masks") };
        assert_eq!(masks.size(), [1, 2, 3]);
        let values = ready.images.to_vec_f32().unwrap();
        for c in 0..3 {
            for p in 0..6 {
                let byte = f32::from(bytes[18 + p * 3 + c]);
                let expected = (byte / 255.0 - mean[c]) / std[c];
                assert!((values[c * 6 + p] - expected).abs() < 1e-6, "channel {c} pixel {p}");
            }
        }
    }

    #[test]
    fn points_become_heat_maps_of_their_samples() {
        let (_, images) = bytes(&[2, 8, 8, 3]);
        let points = Points {
            places: Tensor::from_slice(&[0f32, 0.0, 3.5, 5.5]).unwrap().reshape(&[2, 1, 2]).unwrap(),
            visibility: Tensor::from_slice(&[2u8, 1]).unwrap().reshape(&[2, 1]).unwrap(),
        };
        let batch = DeviceBatch::from_tensors(images, Targets::Points(points), Position::default());
        let landmarks =
            Landmarks::new(None, &[1.0], &[3.0], Size::new(8, 8), Size::new(2, 2), Device::Cpu).unwrap();
        let normalize = Normalize::new(&[0.5; 3], &[0.25; 3], Device::Cpu).unwrap();
        let ready = batch.finish(1..2, &Finish { normalize, landmarks: Some(landmarks) }).unwrap();
        let MicroTargets::Heatmaps(heatmaps) = ready.targets else { panic!("points become heat-maps") };
        // Each pixel of a map covers four of the image.
        assert_eq!(heatmaps.points.to_vec_f32().unwrap(), [0.5, 1.0]);
        assert_eq!(heatmaps.weights.to_vec_f32().unwrap(), [3.0]);
        let (near, far) = ((-0.125f32).exp(), (-0.625f32).exp());
        let maps = heatmaps.maps.to_vec_f32().unwrap();
        assert!(maps.iter().zip([far, far, near, near]).all(|(a, b)| (a - b).abs() < 1e-6), "{maps:?}");
    }

    #[test]
    fn points_without_heat_maps_are_refused() {
        let (_, images) = bytes(&[1, 2, 2, 3]);
        let points = Points {
            places: Tensor::from_slice(&[0f32, 0.0]).unwrap().reshape(&[1, 1, 2]).unwrap(),
            visibility: Tensor::from_slice(&[2u8]).unwrap().reshape(&[1, 1]).unwrap(),
        };
        let batch = DeviceBatch::from_tensors(images, Targets::Points(points), Position::default());
        let normalize = Normalize::new(&[0.5; 3], &[0.25; 3], Device::Cpu).unwrap();
        let refused = batch.finish(0..1, &Finish { normalize, landmarks: None });
        assert!(matches!(refused, Err(Error::Invalid { .. })));
    }
}
