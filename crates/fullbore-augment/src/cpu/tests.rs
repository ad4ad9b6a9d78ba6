//! The fast code against the definition in [`crate::params`], written out plainly in f64.

use fullbore_types::{Affine, SampleId, SampleKey, Size};
use proptest::prelude::*;

use super::*;
use crate::config::{AugmentConfig, Blur, Chance, Crop, Degrees, Elastic, Erase, Noise, Ranged};
use crate::params::keyed_hash;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];
/// A step and a half of a byte.
const TOLERANCE: f64 = 1.5 / 255.0;

/// One sample as the definition has it.
struct Reference<'a> {
    params: AugmentParams,
    canvas: Size,
    out: Size,
    border: Border,
    channels: usize,
    bytes: &'a [u8],
}

impl Reference<'_> {
    fn displacement(&self, x: f64, y: f64) -> [f64; 2] {
        let p = &self.params;
        let cells = f64::from(p.elastic_cells);
        let place = |v: f64, side: u32| {
            let g = ((v + 0.5) * cells / f64::from(side)).clamp(0.0, cells);
            let i = g.floor().min(cells - 1.0);
            let f = g - i;
            (i as u32, f * f * (3.0 - 2.0 * f))
        };
        let ((i, s), (j, t)) = (place(x, self.out.width), place(y, self.out.height));
        [0, 1].map(|axis| {
            let n = |i: u32, j: u32| {
                let hash = keyed_hash(p.elastic_key, 2 * ((p.elastic_cells + 1) * j + i) + axis);
                f64::from(hash >> 8) / 8_388_608.0 - 1.0
            };
            let mixed = (1.0 - t) * ((1.0 - s) * n(i, j) + s * n(i + 1, j))
                + t * ((1.0 - s) * n(i, j + 1) + s * n(i + 1, j + 1));
            f64::from(p.elastic_alpha) * mixed
        })
    }

    /// The canvas point of an output point.
    fn source(&self, x: f64, y: f64) -> [f64; 2] {
        let [dx, dy] = match self.params.elastic_alpha > 0.0 {
            true => self.displacement(x, y),
            false => [0.0; 2],
        };
        let (u, v) = Affine(self.params.source_from_output.map(f64::from)).apply((x + dx, y + dy));
        [u, v]
    }

    fn mapped(&self, p: f64, side: u32) -> f64 {
        let side = f64::from(side);
        let mut p = p;
        if self.border == Border::Reflect {
            while !(-0.5..=side - 0.5).contains(&p) {
                p = if p < -0.5 { -1.0 - p } else { 2.0 * side - 1.0 - p };
            }
        }
        p.clamp(0.0, side - 1.0)
    }

    fn cover(&self, u: f64, v: f64) -> f64 {
        let along = |p: f64, side: u32| (p + 1.0).min(f64::from(side) - p).clamp(0.0, 1.0);
        match self.border {
            Border::Constant => along(u, self.canvas.width) * along(v, self.canvas.height),
            _ => 1.0,
        }
    }

    fn byte(&self, x: usize, y: usize, channel: usize) -> f64 {
        f64::from(self.bytes[(y * self.canvas.width as usize + x) * self.channels + channel])
    }

    fn bilinear(&self, u: f64, v: f64, channel: usize) -> f64 {
        let split = |p: f64, side: u32| {
            let low = p.floor();
            (low as usize, (low as usize + 1).min(side as usize - 1), p - low)
        };
        let ((x0, x1, s), (y0, y1, t)) = (split(u, self.canvas.width), split(v, self.canvas.height));
        let row = |y| (1.0 - s) * self.byte(x0, y, channel) + s * self.byte(x1, y, channel);
        ((1.0 - t) * row(y0) + t * row(y1)) / 255.0
    }

    /// Finished channels of a pixel, before normalisation and cover, in 0..1.
    fn tones(&self, rgb: [f64; 3], index: u32) -> [f64; 3] {
        let p = &self.params;
        std::array::from_fn(|c| {
            let k: [f64; 4] = std::array::from_fn(|i| f64::from(p.colour[4 * c + i]));
            let mut value = (k[0] * rgb[0] + k[1] * rgb[1] + k[2] * rgb[2] + k[3]).clamp(0.0, 1.0);
            if p.gamma != 1.0 {
                value = value.powf(p.gamma.into());
            }
            if p.noise_std > 0.0 {
                let hash = keyed_hash(p.noise_key, 4 * index + c as u32);
                let bytes: u32 = hash.to_le_bytes().into_iter().map(u32::from).sum();
                let normal = (f64::from(bytes) - 510.0) / 147.800_54;
                value = (value + f64::from(p.noise_std) * normal).clamp(0.0, 1.0);
            }
            value
        })
    }

    /// Distances from the mean, `[H, W, C]`: what normalisation divides by the deviation.
    fn image(&self) -> Vec<f64> {
        let mut image = Vec::new();
        for y in 0..self.out.height {
            for x in 0..self.out.width {
                let [u, v] = self.source(x.into(), y.into());
                let cover = self.cover(u, v);
                let (u, v) = (self.mapped(u, self.canvas.width), self.mapped(v, self.canvas.height));
                let rgb = std::array::from_fn(|c| self.bilinear(u, v, c % self.channels));
                let tones = self.tones(rgb, y * self.out.width + x);
                let erased =
                    self.params.erase.iter().any(|b| (b.x0..b.x1).contains(&x) && (b.y0..b.y1).contains(&y));
                for c in 0..self.channels {
                    let distance = cover * (tones[c] - f64::from(MEAN[c]));
                    image.push(if erased { 0.0 } else { distance });
                }
            }
        }
        image
    }

    /// The mask, with `None` where the source lies within 1e-3 of a cell's edge.
    fn mask(&self, mask: &[u8]) -> Vec<Option<u8>> {
        let mut found = Vec::new();
        for y in 0..self.out.height {
            for x in 0..self.out.width {
                let [u, v] = self.source(x.into(), y.into());
                let near_edge = |p: f64| ((p + 0.5) - (p + 0.5).round()).abs() < 1e-3;
                let inside = |p: f64, side: u32| p >= -0.5 && p < f64::from(side) - 0.5;
                let covered = inside(u, self.canvas.width) && inside(v, self.canvas.height);
                found.push(if near_edge(u) || near_edge(v) {
                    None
                } else if self.border == Border::Constant && !covered {
                    Some(255)
                } else {
                    let column = (self.mapped(u, self.canvas.width) + 0.5).floor() as usize;
                    let row = (self.mapped(v, self.canvas.height) + 0.5).floor() as usize;
                    Some(mask[row * self.canvas.width as usize + column])
                });
            }
        }
        found
    }

    /// The canvas blurred, rounded to bytes.
    fn blurred(&self) -> Vec<u8> {
        let sigma = f64::from(self.params.blur_sigma);
        let radius = (3.0 * sigma).ceil() as i64;
        let weight = |k: i64| (-0.5 * (k as f64 / sigma).powi(2)).exp();
        let sum: f64 = (-radius..=radius).map(weight).sum();
        let (w, h) = (i64::from(self.canvas.width), i64::from(self.canvas.height));
        let at = |p: i64, side: i64| p.clamp(0, side - 1) as usize;
        let mut bytes = Vec::new();
        for y in 0..h {
            for x in 0..w {
                for c in 0..self.channels {
                    let mut value = 0.0;
                    for j in -radius..=radius {
                        for i in -radius..=radius {
                            value += weight(i) * weight(j) * self.byte(at(x + i, w), at(y + j, h), c);
                        }
                    }
                    bytes.push((value / sum / sum).round() as u8);
                }
            }
        }
        bytes
    }
}

/// Deterministic bytes without structure: the hardest canvas to sample.
fn bytes(n: usize, seed: u32) -> Vec<u8> {
    (0..n as u32).map(|i| keyed_hash([seed, 1], i) as u8).collect()
}

#[derive(Clone, Debug)]
struct Case {
    config: AugmentConfig,
    canvas: Size,
    out: Size,
    channels: usize,
    seed: u32,
}

fn any_config() -> impl Strategy<Value = AugmentConfig> {
    let border = prop::sample::select(vec![Border::Constant, Border::Reflect, Border::Edge]);
    let on = prop::collection::vec(any::<bool>(), 16);
    (border, on).prop_map(|(border, on)| {
        let mut on = on.into_iter().map(|on| Some(if on { 0.7 } else { 0.0 }));
        let mut p = || on.next().flatten();
        let ranged = |p, lo, hi| Ranged { p, range: Some([lo, hi]) };
        AugmentConfig {
            border,
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
            elastic: Elastic { p: p(), alpha: None, grid: Some(3) },
            ..AugmentConfig::default()
        }
    })
}

fn any_case() -> impl Strategy<Value = Case> {
    let side = || prop_oneof![1u32..4, 1u32..60];
    let channels = prop::sample::select(vec![1usize, 3, 3]);
    (any_config(), side(), side(), side(), side(), channels, 0u32..100_000).prop_map(
        |(config, w, h, out_w, out_h, channels, seed)| Case {
            config,
            canvas: Size::new(w, h),
            out: Size::new(out_w, out_h),
            channels,
            seed,
        },
    )
}

fn policy(case: &Case) -> Policy {
    case.config.resolve(case.canvas, case.out, None).unwrap()
}

fn draw(policy: &Policy, case: &Case) -> AugmentParams {
    policy.draw(SampleKey { seed: 5, epoch: 0, sample: SampleId(case.seed) })
}

fn augmenter(policy: &Policy, channels: usize, isa: Isa) -> Augmenter {
    Augmenter::with_isa(policy, &MEAN[..channels], &STD[..channels], isa)
}

fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn images_follow_the_definition(case in any_case()) {
        let policy = policy(&case);
        let params = draw(&policy, &case);
        let (area, channels) = (case.out.area() as usize, case.channels);
        let canvas = bytes(case.canvas.area() as usize * channels, case.seed);
        let mut reference = Reference {
            params, canvas: case.canvas, out: case.out, border: case.config.border, channels, bytes: &canvas,
        };
        let blurred;
        let mut tolerance = TOLERANCE;
        if params.blur_sigma > 0.0 {
            blurred = reference.blurred();
            reference.bytes = &blurred;
            // A blurred pixel between two bytes may be rounded either way, and contrast enlarges the step.
            tolerance += 2.0 / 255.0;
        }
        let expected = reference.image();
        for isa in available() {
            let mut augmenter = augmenter(&policy, channels, isa);
            let mut planar = vec![f32::NAN; channels * area];
            augmenter.image(&params, &canvas, Layout::Planar, PixelsMut::F32(&mut planar));
            for (i, &expected) in expected.iter().enumerate() {
                let (pixel, c) = (i / channels, i % channels);
                let found = f64::from(planar[c * area + pixel] * STD[c]);
                prop_assert!((found - expected).abs() <= tolerance,
                    "{isa:?}, pixel {pixel}, channel {c}: {found}, expected {expected}, {params:?}");
            }

            let mut interleaved = vec![f32::NAN; channels * area];
            augmenter.image(&params, &canvas, Layout::Interleaved, PixelsMut::F32(&mut interleaved));
            let mut halves = vec![0; channels * area];
            augmenter.image(&params, &canvas, Layout::Interleaved, PixelsMut::Bf16(&mut halves));
            let mut whole = vec![0; channels * area];
            augmenter.image(&params, &canvas, Layout::Planar, PixelsMut::U8(&mut whole));
            for (i, &value) in interleaved.iter().enumerate() {
                let (pixel, c) = (i / channels, i % channels);
                prop_assert_eq!(value, planar[c * area + pixel]);
                let half = f32::from_bits(u32::from(halves[i]) << 16);
                prop_assert!((half - value).abs() <= value.abs() / 256.0, "{half} for {value}");
                let byte = 255.0 * (value * STD[c] + MEAN[c]);
                prop_assert!((f32::from(whole[c * area + pixel]) - byte).abs() <= 0.51);
            }
        }
    }

    #[test]
    fn masks_follow_the_definition(case in any_case()) {
        let policy = policy(&case);
        let params = draw(&policy, &case);
        let mask = bytes(case.canvas.area() as usize, case.seed);
        let reference = Reference {
            params, canvas: case.canvas, out: case.out, border: case.config.border, channels: 1, bytes: &mask,
        };
        let expected = reference.mask(&mask);
        for isa in available() {
            let mut found = vec![0; expected.len()];
            augmenter(&policy, 1, isa).mask(&params, &mask, &mut found);
            for (i, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
                prop_assert!(expected.is_none_or(|e| e == found), "{isa:?}, pixel {i}: {found}, expected {expected:?}");
            }
        }
    }

    #[test]
    fn points_land_where_their_pixels_do(case in any_case(), x in -0.5f32..59.5, y in -0.5f32..59.5) {
        let policy = policy(&case);
        let params = draw(&policy, &case);
        let reference = Reference {
            params, canvas: case.canvas, out: case.out, border: case.config.border, channels: 1, bytes: &[],
        };
        let mut points = [[x, y]];
        let mut visibility = [2];
        augmenter(&policy, 1, Isa::Portable).points(&params, &mut points, &mut visibility);
        let [found_x, found_y] = points[0].map(f64::from);
        let [u, v] = reference.source(found_x, found_y);
        // What a thousandth of an output pixel is on the canvas.
        let per_px = params.source_from_output.iter().fold(1.0f32, |a, m| a.max(m.abs()));
        let px = 1e-3 * f64::from(per_px).min(40.0);
        prop_assert!((u - f64::from(x)).abs() < px && (v - f64::from(y)).abs() < px, "{u} {v} for {x} {y}");
        let inside = |p: f64, side: u32| (-0.5..f64::from(side) - 0.5).contains(&p);
        prop_assert_eq!(visibility[0] == 2, inside(found_x, case.out.width) && inside(found_y, case.out.height));
    }
}

#[test]
fn nothing_drawn_is_plain_normalisation() {
    let size = Size::new(21, 9);
    let policy = AugmentConfig::default().resolve(size, size, None).unwrap();
    let canvas = bytes(21 * 9 * 3, 8);
    for isa in available() {
        let mut augmenter = augmenter(&policy, 3, isa);
        let mut out = vec![0.0; canvas.len()];
        augmenter.image(&AugmentParams::IDENTITY, &canvas, Layout::Interleaved, PixelsMut::F32(&mut out));
        for (i, (&found, &byte)) in out.iter().zip(&canvas).enumerate() {
            let expected = (f32::from(byte) / 255.0 - MEAN[i % 3]) / STD[i % 3];
            assert!((found - expected).abs() < 5e-4, "{isa:?}: {found}, expected {expected}");
        }
        let mut again = vec![0; canvas.len()];
        augmenter.image(&AugmentParams::IDENTITY, &canvas, Layout::Interleaved, PixelsMut::U8(&mut again));
        assert_eq!(again, canvas, "{isa:?}");
    }
}

#[test]
fn mirrored_landmarks_change_places_with_their_visibility() {
    let mut config = AugmentConfig { flip_pairs: Some(vec![[0, 2]]), ..AugmentConfig::default() };
    config.hflip.p = Some(1.0);
    let size = Size::new(10, 10);
    let policy = config.resolve(size, size, Some(3)).unwrap();
    let params = policy.draw(SampleKey { seed: 0, epoch: 0, sample: SampleId(0) });
    let mut points = [[1.0, 2.0], [4.5, 5.0], [7.0, 3.0]];
    let mut visibility = [1, 2, 0];
    augmenter(&policy, 3, Isa::detect()).points(&params, &mut points, &mut visibility);
    assert_eq!((points, visibility), ([[2.0, 3.0], [4.5, 5.0], [8.0, 2.0]], [0, 2, 1]));
}

#[test]
fn hostile_matrices_read_nothing_outside() {
    let size = Size::new(40, 30);
    let policy = AugmentConfig { border: Border::Edge, ..AugmentConfig::default() };
    let policy = policy.resolve(size, size, None).unwrap();
    let canvas = bytes(40 * 30 * 3, 1);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30] {
        for position in 0..6 {
            let mut params = AugmentParams::IDENTITY;
            params.source_from_output[position] = value;
            for isa in available() {
                let mut augmenter = augmenter(&policy, 3, isa);
                let mut out = vec![0; canvas.len()];
                augmenter.image(&params, &canvas, Layout::Planar, PixelsMut::U8(&mut out));
                augmenter.mask(&params, &canvas[..1200], &mut out[..1200]);
                augmenter.points(&params, &mut [[3.0, 4.0]], &mut [1]);
            }
        }
    }
}
