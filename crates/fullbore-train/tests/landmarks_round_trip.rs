//! One convention of coordinates from file to prediction: what the picture shows, where its points lie, the heat-maps made of
//! them, and what is read from those and brought back to the picture, all agree to a twentieth of a pixel, with crops and
//! augmentation on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fullbore_augment::{AugmentConfig, AugmentParams, Border, Chance, Degrees, Policy, Preset, Ranged};
use fullbore_data::source::Cropped;
use fullbore_data::{
    Crop, HostBatch, Loader, LoaderConfig, Part, Point, Resize, Source, SourceError, Target, TargetKind,
};
use fullbore_feed::{Finish, Landmarks, MicroBatch, MicroTargets, Normalize, OnDevice, Stage, StageConfig};
use fullbore_nn::decode::{Decode, MapReader, TestTime};
use fullbore_torch::Device;
use fullbore_types::{Affine, Position, SampleId, SampleKey, Size};

const PICTURE: Size = Size { width: 160, height: 120 };
const CANVAS: Size = Size { width: 128, height: 96 };
const OUT: Size = Size { width: 112, height: 84 };
const MAP: Size = Size { width: 28, height: 21 };
const SEED: u64 = 5;

/// Pictures with three bells of light, one in each colour, whose middles are the points.
struct Bells(Vec<[Point; 3]>);

impl Bells {
    fn new(n: u32) -> Arc<Self> {
        let near = |x: f32, y: f32, i: u32| Point::visible(x + 0.37 * i as f32, y - 0.23 * i as f32);
        Arc::new(Self(
            (0..n).map(|i| [near(62.3, 61.8, i), near(91.6, 49.2, i), near(75.0, 73.5, i)]).collect(),
        ))
    }
}

impl Source for Bells {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Points { k: 3 }
    }

    fn name(&self, id: SampleId) -> String {
        id.0.to_string()
    }

    fn file(&self, id: SampleId, _: Part) -> PathBuf {
        id.0.to_string().into()
    }

    fn read(&self, id: SampleId, _: Part, _: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        // A bitmap: header, then rows from the bottom, blue before red.
        let Size { width, height } = PICTURE;
        let size = 3 * width * height;
        let header = [54 + size, 0, 54, 40, width, height, 1 | 24 << 16, 0, size, 0, 0, 0, 0];
        bytes.clear();
        bytes.extend(b"BM");
        bytes.extend(header.iter().flat_map(|word| word.to_le_bytes()));
        for y in (0..height).rev() {
            for x in 0..width {
                bytes.extend(self.0[id.0 as usize].iter().rev().map(|bell| {
                    let (dx, dy) = (x as f32 - bell.x, y as f32 - bell.y);
                    (240.0 * (-(dx * dx + dy * dy) / (2.0 * 3.0 * 3.0)).exp()).round() as u8
                }));
            }
        }
        Ok(())
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        Target::Points(&self.0[id.0 as usize])
    }
}

/// Flips, turns, scales and shifts.
fn policy() -> Policy {
    let ranged = |from, to| Ranged { p: Some(1.0), range: Some([from, to]) };
    let config = AugmentConfig {
        border: Border::Constant,
        // The first two change places; the third is its own partner.
        flip_pairs: Some(vec![[0, 1]]),
        hflip: Chance { p: Some(0.5) },
        rotate: Degrees { p: Some(1.0), degrees: Some([-30.0, 30.0]) },
        scale: ranged(0.8, 1.25),
        shift: ranged(-0.05, 0.05),
        ..AugmentConfig::of(Preset::None)
    };
    config.resolve(CANVAS, OUT, Some(3)).unwrap()
}

/// Middles of light of `images` `[b, 3, h, w]`, x before y, one for each colour.
fn middles(batch: &MicroBatch) -> Vec<[f64; 2]> {
    let (size, values) = (batch.images.size(), batch.images.contiguous().unwrap().to_vec_f32().unwrap());
    let (h, w) = (size[2] as usize, size[3] as usize);
    let middle = |plane: &[f32]| {
        let mut sums = [0.0; 3];
        for (i, &light) in plane.iter().enumerate() {
            let light = f64::from(light);
            sums = [sums[0] + light, sums[1] + light * (i % w) as f64, sums[2] + light * (i / w) as f64];
        }
        [sums[1] / sums[0], sums[2] / sums[0]]
    };
    values.chunks_exact(h * w).map(middle).collect()
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Largest distance in pixels of the picture between the points read from heat-maps and the true ones, and in pixels of the
/// network's input between the light and the points there.
fn worst(host: HostBatch, stage: &Stage, finish: &Finish, policy: &Policy) -> (f64, f64) {
    let host = Arc::new(host);
    let truth = Bells::new(8);
    let batch = stage.bring(&host).unwrap().finish(0..host.len(), finish).unwrap();
    let MicroTargets::Heatmaps(targets) = &batch.targets else { panic!("points give heat-maps") };
    let reader =
        MapReader { decode: Decode::Dark, sigma_px: 1.5, test_time: TestTime::default(), are_logits: false };
    let found = reader.read(&targets.maps, &batch.images, |_| unreachable!("nothing is averaged")).unwrap();
    let found = found.points.to_vec_f32().unwrap();
    let lights = middles(&batch);
    let (mut of_picture, mut of_input) = (0.0f64, 0.0f64);
    for (i, (&sample, frame)) in host.ids().iter().zip(host.frames()).enumerate() {
        let AugmentParams { source_from_output, swap_landmarks, .. } =
            policy.draw(SampleKey { seed: SEED, epoch: host.position().epoch, sample });
        let partner = if swap_landmarks { [1, 0, 2] } else { [0, 1, 2] };
        for k in 0..3 {
            let at = 2 * (3 * i + k);
            let found = (f64::from(found[at]), f64::from(found[at + 1]));
            let on_canvas = Affine(source_from_output.map(f64::from)).apply(found);
            let Point { x, y, .. } = truth.0[sample.0 as usize][partner[k]];
            of_picture = of_picture.max(distance(frame.to_source(on_canvas.into()), [x.into(), y.into()]));
            // Light of one colour stays that point's, whatever it is called after a flip.
            of_input = of_input.max(distance(found.into(), lights[3 * i + partner[k]]));
        }
    }
    (of_picture, of_input)
}

#[test]
fn points_come_back_to_where_the_picture_shows_them() {
    let policy = policy();
    let on = OnDevice { policy: Arc::new(policy.clone()), seed: SEED, mean: vec![0.0; 3], std: vec![1.0; 3] };
    let config =
        StageConfig { data: Device::Cpu, model: Device::Cpu, hands_over: false, augment: Some(on.clone()) };
    let finish = Finish {
        normalize: Normalize::new(&[0.0; 3], &[1.0; 3], Device::Cpu).unwrap(),
        twin: Some(on.twin(Device::Cpu).unwrap()),
        landmarks: Some(Landmarks::new(None, &[1.5; 3], &[1.0; 3], OUT, MAP, Device::Cpu).unwrap()),
    };
    let stage = Stage::new(&config).unwrap();
    let ways = [
        (Crop::None, Resize::Letterbox),
        (Crop::None, Resize::Stretch),
        (Crop::Points, Resize::Letterbox),
        (Crop::Points, Resize::Stretch),
    ];
    for (crop, resize) in ways {
        let source = Cropped::new(Bells::new(8), crop, 1.0, Path::new("bells")).unwrap();
        let loading = LoaderConfig { epochs: 6, resize, seed: SEED, ..LoaderConfig::new(4, CANVAS, None) };
        for host in Loader::start(Arc::new(source), loading, Position::default()).unwrap() {
            let (of_picture, of_input) = worst(host.unwrap(), &stage, &finish, &policy);
            assert!(of_picture < 0.05, "{crop} {resize:?}: {of_picture} pixels of the picture");
            assert!(of_input < 0.1, "{crop} {resize:?}: {of_input} pixels of the input from the light");
        }
    }
}
