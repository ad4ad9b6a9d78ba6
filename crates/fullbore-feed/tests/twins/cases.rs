//! Random policies, batches under them, and both twins' answers.

use fullbore_augment::cpu::{Augmenter, Layout, PixelsMut};
use fullbore_augment::{
    AugmentConfig, AugmentParams, Blur, Border, Chance, Crop, Degrees, Elastic, Erase, Noise, Policy, Ranged,
    keyed_hash,
};
use fullbore_feed::augment::{Augmented, DeviceTwin, Points, Way};
use fullbore_torch::{Device, Kind, Tensor, Threads, start};
use fullbore_types::{SampleId, SampleKey, Size};
use proptest::prelude::*;

pub(crate) const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
pub(crate) const STD: [f32; 3] = [0.229, 0.224, 0.225];
/// Landmarks of a sample.
pub(crate) const K: usize = 5;

pub(crate) fn device() -> Device {
    let runtime = start();
    match std::env::var("FULLBORE_TEST_DEVICE") {
        Ok(name) if name.starts_with("cuda") => runtime.check_device(Device::Cuda(0)).unwrap(),
        _ => Device::Cpu,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) config: AugmentConfig,
    pub(crate) canvas: Size,
    pub(crate) out: Size,
    pub(crate) channels: usize,
    pub(crate) samples: usize,
    pub(crate) seed: u32,
}

fn any_config() -> impl Strategy<Value = AugmentConfig> {
    let border = prop::sample::select(vec![Border::Constant, Border::Reflect, Border::Edge]);
    let on = prop::collection::vec(any::<bool>(), 16);
    (border, on, 1u32..7).prop_map(|(border, on, grid)| {
        let mut on = on.into_iter().map(|on| Some(if on { 0.7 } else { 0.0 }));
        let mut p = || on.next().flatten();
        let ranged = |p, lo, hi| Ranged { p, range: Some([lo, hi]) };
        AugmentConfig {
            border,
            flip_pairs: Some(vec![[0, 3], [2, 1]]),
            hflip: Chance { p: p() },
            vflip: Chance { p: p() },
            rotate: Degrees { p: p(), degrees: Some([-180.0, 180.0]) },
            scale: ranged(p(), 0.4, 2.5),
            shift: ranged(p(), -0.4, 0.4),
            shear: Degrees { p: p(), degrees: Some([-40.0, 40.0]) },
            crop: Crop { p: p(), area: Some([0.1, 1.0]), aspect: Some([0.4, 2.5]) },
            brightness: ranged(p(), 0.6, 1.4),
            contrast: ranged(p(), 0.6, 1.4),
            saturation: ranged(p(), 0.0, 2.0),
            hue: Degrees { p: p(), degrees: Some([-180.0, 180.0]) },
            gamma: ranged(p(), 0.7, 1.5),
            noise: Noise { p: p(), std: Some([0.0, 0.2]) },
            erase: Erase { p: p(), area: Some([0.0, 0.5]), aspect: Some([0.2, 5.0]), count: Some(4) },
            blur: Blur { p: p(), sigma: Some([0.2, 2.5]) },
            elastic: Elastic { p: p(), alpha: None, grid: Some(grid) },
            ..AugmentConfig::default()
        }
    })
}

pub(crate) fn any_case() -> impl Strategy<Value = Case> {
    let side = || prop_oneof![1u32..4, 1u32..60];
    let channels = prop::sample::select(vec![1usize, 3, 3]);
    (any_config(), side(), side(), side(), side(), channels, 1usize..5, 0u32..100_000).prop_map(
        |(config, w, h, out_w, out_h, channels, samples, seed)| Case {
            config,
            canvas: Size::new(w, h),
            out: Size::new(out_w, out_h),
            channels,
            samples,
            seed,
        },
    )
}

/// Deterministic bytes without structure: the hardest canvas to sample.
pub(crate) fn bytes(n: usize, seed: u32) -> Vec<u8> {
    (0..n as u32).map(|i| keyed_hash([seed, 1], i) as u8).collect()
}

/// A batch on the host.
pub(crate) struct Batch {
    pub(crate) policy: Policy,
    pub(crate) channels: usize,
    pub(crate) params: Vec<AugmentParams>,
    pub(crate) images: Vec<u8>,
    pub(crate) masks: Vec<u8>,
    pub(crate) places: Vec<[f32; 2]>,
    pub(crate) visibility: Vec<u8>,
}

/// What a twin made of a batch: pixels normalised `[b, C, h, w]`.
pub(crate) struct Answer {
    pub(crate) images: Vec<f32>,
    pub(crate) masks: Vec<u8>,
    pub(crate) places: Vec<[f32; 2]>,
    pub(crate) visibility: Vec<u8>,
}

impl Case {
    pub(crate) fn batch(&self) -> Batch {
        let policy = self.config.resolve(self.canvas, self.out, Some(K)).unwrap();
        let draw = |i| policy.draw(SampleKey { seed: 5, epoch: 0, sample: SampleId(self.seed + i) });
        let params: Vec<_> = (0..self.samples as u32).map(draw).collect();
        let area = self.canvas.area() as usize * self.samples;
        let part = |i: u32| keyed_hash([self.seed, 2], i) as f32 / u32::MAX as f32;
        let place = |i: u32| {
            [part(2 * i) * self.canvas.width as f32 - 0.5, part(2 * i + 1) * self.canvas.height as f32 - 0.5]
        };
        Batch {
            policy,
            channels: self.channels,
            params,
            images: bytes(area * self.channels, self.seed),
            masks: bytes(area, self.seed + 1),
            places: (0..(self.samples * K) as u32).map(place).collect(),
            visibility: (0..self.samples * K).map(|i| (i % 3) as u8).collect(),
        }
    }
}

impl Batch {
    /// Gives the images slopes of a few steps per pixel instead of noise.
    pub(crate) fn smooth(&mut self) {
        let (width, height) = (self.policy.canvas().width as usize, self.policy.canvas().height as usize);
        for (i, byte) in self.images.iter_mut().enumerate() {
            let (pixel, c) = (i / self.channels, i % self.channels);
            let way = (3 * (pixel % width) + 2 * (pixel / width % height) + 60 * c) % 510;
            *byte = way.min(510 - way) as u8;
        }
    }

    pub(crate) fn on_cpu_twin(&self) -> Answer {
        let mut twin = Augmenter::new(&self.policy, &MEAN[..self.channels], &STD[..self.channels]);
        let (from, to) = (self.policy.canvas().area() as usize, self.policy.out().area() as usize);
        let n = self.params.len();
        let mut answer = Answer {
            images: vec![f32::NAN; n * to * self.channels],
            masks: vec![0; n * to],
            places: self.places.clone(),
            visibility: self.visibility.clone(),
        };
        for (i, params) in self.params.iter().enumerate() {
            let c = self.channels;
            let image = &mut answer.images[i * to * c..][..to * c];
            twin.image(
                params,
                &self.images[i * from * c..][..from * c],
                Layout::Planar,
                PixelsMut::F32(image),
            );
            twin.mask(params, &self.masks[i * from..][..from], &mut answer.masks[i * to..][..to]);
            let points = i * K..(i + 1) * K;
            twin.points(params, &mut answer.places[points.clone()], &mut answer.visibility[points]);
        }
        answer
    }

    pub(crate) fn device_twin(&self, way: Way, kind: Kind) -> DeviceTwin {
        let c = self.channels;
        let twin = DeviceTwin::with_way(&self.policy, &MEAN[..c], &STD[..c], kind, device(), way).unwrap();
        assert_eq!(twin.without_kernel().is_none(), way == Way::Kernel, "{:?}", twin.without_kernel());
        twin
    }

    /// Images, masks and points on the device.
    pub(crate) fn upload(&self) -> (Tensor, Tensor, Points) {
        let (n, canvas) = (self.params.len() as i64, self.policy.canvas());
        let [w, h] = [canvas.width, canvas.height].map(i64::from);
        let bytes = |bytes: &[u8], size: &[i64]| {
            Tensor::from_bytes(bytes, size, Kind::Uint8).unwrap().to_device(device()).unwrap()
        };
        let places = Tensor::from_slice(self.places.as_flattened()).unwrap();
        let points = Points {
            places: places.reshape(&[n, K as i64, 2]).unwrap().to_device(device()).unwrap(),
            visibility: bytes(&self.visibility, &[n, K as i64]),
        };
        (bytes(&self.images, &[n, h, w, self.channels as i64]), bytes(&self.masks, &[n, h, w]), points)
    }

    pub(crate) fn on_device_twin(&self, way: Way, kind: Kind) -> Answer {
        // The images are tiny: threads would only wait for each other.
        let _one = Threads::new(1);
        let (images, masks, points) = self.upload();
        let twin = self.device_twin(way, kind);
        let alone = twin.masks(&masks, &self.params).unwrap();
        let Augmented { images, masks, points } =
            twin.apply(&images, Some(&masks), Some(&points), &self.params).unwrap();
        assert!(alone.equal(masks.as_ref().unwrap()).unwrap());
        assert!(images.kind() == kind && images.is_channels_last().unwrap());
        let (masks, points) = (masks.unwrap(), points.unwrap());
        let places = points.places.to_vec_f32().unwrap();
        Answer {
            images: images.to_vec_f32().unwrap(),
            masks: masks.to_vec_u8().unwrap(),
            places: places.as_chunks().0.to_vec(),
            visibility: points.visibility.to_vec_u8().unwrap(),
        }
    }
}
