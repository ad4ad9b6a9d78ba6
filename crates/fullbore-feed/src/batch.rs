//! A batch on its way: from the host to the device, and from there to ready micro-batches.

use std::ops::Range;

use fullbore_augment::AugmentParams;
use fullbore_torch::{Device, Error, Result, Tensor};
use fullbore_types::Position;

use crate::Normalize;
use crate::augment::{DeviceTwin, Points};
use crate::landmarks::{HeatmapBatch, Landmarks};

/// A batch on the device, still in bytes where the device finishes it: a quarter of what floats would hold.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub(crate) enum Left {
    /// Bytes: normalise.
    Normalize,
    /// Floats, finished by the loader's workers.
    Nothing,
    /// Bytes: augment by these draws, and normalise.
    Augment(Vec<AugmentParams>),
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

impl MicroBatch {
    /// The same micro-batch in memory of its own.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn copy(&self) -> Result<Self> {
        let targets = match &self.targets {
            MicroTargets::Masks(masks) => MicroTargets::Masks(masks.copy()?),
            MicroTargets::Heatmaps(HeatmapBatch { maps, points, weights }) => {
                let (maps, points, weights) = (maps.copy()?, points.copy()?, weights.copy()?);
                MicroTargets::Heatmaps(HeatmapBatch { maps, points, weights })
            }
        };
        // A plain copy is not channels_last.
        Ok(Self { images: self.images.copy()?.channels_last()?, targets })
    }

    /// Images and targets.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let targets = match &self.targets {
            MicroTargets::Masks(masks) => [Some(masks), None, None],
            MicroTargets::Heatmaps(HeatmapBatch { maps, points, weights }) => {
                [Some(maps), Some(points), Some(weights)]
            }
        };
        [Some(&self.images)].into_iter().chain(targets).flatten()
    }
}

/// What finishing needs beside the batch.
#[derive(Debug)]
pub struct Finish {
    /// Bytes to network input.
    pub normalize: Normalize,
    /// Augments what has only been drawn, where the device augments.
    pub twin: Option<DeviceTwin>,
    /// Points to heat-maps, where landmarks are trained.
    pub landmarks: Option<Landmarks>,
}

impl DeviceBatch {
    pub(crate) fn new(images: Tensor, targets: Targets, position: Position, left: Left) -> Self {
        Self { images, targets, position, left }
    }

    /// A batch made from tensors: images u8 `[B, H, W, C]` and their targets, on the device already.
    pub fn from_tensors(images: Tensor, targets: Targets, position: Position) -> Self {
        Self { images, targets, position, left: Left::Normalize }
    }

    /// The batch on another device, or as it is.
    pub(crate) fn move_to(self, device: Device) -> Result<Self> {
        self.map(|tensor| tensor.to_device(device))
    }

    /// The same batch in memory of its own. A clone shares it, on the CPU with the loader, which waits until it is free.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn copy(&self) -> Result<Self> {
        self.clone().map(Tensor::copy)
    }

    /// The same done to all tensors.
    fn map(self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let targets = match &self.targets {
            Targets::Masks(masks) => Targets::Masks(f(masks)?),
            Targets::Points(points) => Targets::Points(points.map(&f)?),
        };
        Ok(Self { images: f(&self.images)?, targets, ..self })
    }

    /// Bytes that it holds on the device.
    pub fn bytes(&self) -> u64 {
        self.tensors().map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
    }

    /// Keeps its memory until this thread's work on it is done, also when another thread's stream has made it.
    pub(crate) fn used_here(&self) -> Result<()> {
        self.tensors().try_for_each(Tensor::used_here)
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let targets = match &self.targets {
            Targets::Masks(masks) => [Some(masks), None],
            Targets::Points(points) => [Some(&points.places), Some(&points.visibility)],
        };
        [Some(&self.images)].into_iter().chain(targets).flatten()
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
    /// When memory runs out, and [`Error::Invalid`] for points without [`Finish::landmarks`] and draws without
    /// [`Finish::twin`].
    pub fn finish(&self, samples: Range<usize>, finish: &Finish) -> Result<MicroBatch> {
        let (start, n) = (samples.start as i64, samples.len() as i64);
        let targets = match (&self.targets, &finish.landmarks) {
            (Targets::Masks(masks), _) => MicroTargets::Masks(masks.narrow(0, start, n)?),
            (Targets::Points(points), Some(landmarks)) => {
                MicroTargets::Heatmaps(landmarks.render(&points.narrow(start, n)?)?)
            }
            (Targets::Points(_), None) => {
                return Err(refused("points have come, and nothing says which heat-maps they make"));
            }
        };
        let images = self.images.narrow(0, start, n)?;
        let images = match (&self.left, &finish.twin) {
            (Left::Normalize, _) => finish.normalize.apply(&images)?,
            // NHWC memory seen as NCHW is channels_last.
            (Left::Nothing, _) => images.permute(&[0, 3, 1, 2])?,
            (Left::Augment(params), Some(twin)) => twin.apply(&images, None, None, &params[samples])?.images,
            (Left::Augment(_), None) => {
                return Err(refused("draws have come, and nothing says how images follow them"));
            }
        };
        Ok(MicroBatch { images, targets })
    }
}

fn refused(message: &str) -> Error {
    Error::Invalid { op: "finish".into(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fullbore_torch::Kind;
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
        let ready = batch.finish(1..2, &Finish { normalize, twin: None, landmarks: None }).unwrap();
        assert_eq!(ready.images.size(), [1, 3, 2, 3]);
        assert!(ready.images.is_channels_last().unwrap());
        let copy = ready.copy().unwrap();
        assert!(copy.images.is_channels_last().unwrap());
        let same = |(a, b): (&Tensor, &Tensor)| a.to_vec_f32().unwrap() == b.to_vec_f32().unwrap();
        assert!(same((&copy.images, &ready.images)));
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
        let ready =
            batch.finish(1..2, &Finish { normalize, twin: None, landmarks: Some(landmarks) }).unwrap();
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
        let refused = batch.finish(0..1, &Finish { normalize, twin: None, landmarks: None });
        assert!(matches!(refused, Err(Error::Invalid { .. })));
    }
}
