//! One sample's parameters from its key.

use std::f64::consts::PI;

use fullbore_types::{KeyedRng, Purpose, SampleKey};

use crate::params::{AugmentParams, EraseBox, MAX_ERASE};
use crate::policy::Policy;
use crate::stage::{Op, Stage};

impl Policy {
    /// What happens to one sample: a pure function of the policy and (seed, epoch, sample).
    ///
    /// Every operation takes its own fixed part of the sample's random numbers, whether it is on or not. So switching one
    /// on or changing its range never changes what another draws.
    pub fn draw(&self, key: SampleKey) -> AugmentParams {
        let stage = self.stage(key.epoch);
        let mut numbers = Numbers(key.rng(Purpose::Augment));
        // The order of these lines is part of the format: new operations go to the end.
        let hflip = numbers.chance(stage.hflip);
        let vflip = numbers.chance(stage.vflip);
        let rotate = numbers.linear(stage.rotate, 0.0);
        let scale = numbers.logarithmic(stage.scale);
        let shift = numbers.pair(stage.shift);
        let shear = numbers.linear(stage.shear, 0.0);
        let crop = numbers.crop(&stage);
        let brightness = numbers.linear(stage.brightness, 1.0);
        let contrast = numbers.linear(stage.contrast, 1.0);
        let saturation = numbers.linear(stage.saturation, 1.0);
        let hue = numbers.linear(stage.hue, 0.0);
        let gamma = numbers.logarithmic(stage.gamma);
        let noise_std = numbers.linear(stage.noise, 0.0);
        let noise_key = numbers.key();
        let blur_sigma = numbers.linear(stage.blur, 0.0);
        let elastic_share = numbers.linear(stage.elastic, 0.0);
        let elastic_key = numbers.key();
        let erase = self.erase(&stage, &mut numbers);

        let linear = source_linear(hflip, vflip, rotate, scale, shear);
        let matrix = self.source_from_output(linear, shift, crop);
        let alpha = elastic_share * self.elastic_limit_px(stage.elastic_cells);
        AugmentParams {
            source_from_output: matrix.map(|v| v as f32),
            colour: colour_matrix(brightness, contrast, saturation, hue).map(|v| v as f32),
            gamma: gamma as f32,
            noise_std: noise_std as f32,
            noise_key,
            erase,
            swap_landmarks: hflip != vflip,
            blur_sigma: blur_sigma as f32,
            elastic_alpha: alpha as f32,
            elastic_cells: stage.elastic_cells,
            elastic_key,
        }
    }

    /// Output pixels to canvas pixels: from the output's centre, back by the shift, stretched to the window, turned by
    /// `linear`, from the window's centre.
    fn source_from_output(&self, linear: [f64; 4], shift: [f64; 2], window: Window) -> [f64; 6] {
        let [out_w, out_h] = [self.out().width, self.out().height].map(f64::from);
        let [w, h] = [self.canvas().width, self.canvas().height].map(f64::from);
        let (sx, sy) = (window.width * w / out_w, window.height * h / out_h);
        let [a, b, d, e] = linear;
        let [a, b, d, e] = [a * sx, b * sy, d * sx, e * sy];
        let (from_x, from_y) = ((0.5 + shift[0]) * out_w - 0.5, (0.5 + shift[1]) * out_h - 0.5);
        let to_x = (window.x + 0.5 * window.width) * w - 0.5;
        let to_y = (window.y + 0.5 * window.height) * h - 0.5;
        [a, b, to_x - a * from_x - b * from_y, d, e, to_y - d * from_x - e * from_y]
    }

    fn erase(&self, stage: &Stage, numbers: &mut Numbers) -> [EraseBox; MAX_ERASE] {
        let happens = numbers.chance(stage.erase.p);
        let count = 1 + (numbers.unit() * f64::from(stage.erase_count)) as usize;
        std::array::from_fn(|i| {
            let area = between(stage.erase.range, numbers.unit());
            let aspect = log_between(stage.erase_aspect, numbers.unit());
            let (at_x, at_y) = (numbers.unit(), numbers.unit());
            if !happens || i >= count {
                return EraseBox::default();
            }
            let side = |share: f64, side: u32| (share.min(1.0) * f64::from(side)).round() as u32;
            let width = side((area * aspect).sqrt(), self.out().width);
            let height = side((area / aspect).sqrt(), self.out().height);
            let start = |at: f64, room: u32| (at * f64::from(room + 1)) as u32;
            let x0 = start(at_x, self.out().width - width);
            let y0 = start(at_y, self.out().height - height);
            EraseBox { x0, y0, x1: x0 + width, y1: y0 + height }
        })
    }
}

/// A part of the canvas, in shares of its sides.
#[derive(Clone, Copy)]
struct Window {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// A sample's random numbers. Each method takes a fixed count of them.
struct Numbers(KeyedRng);

impl Numbers {
    fn unit(&mut self) -> f64 {
        self.0.unit()
    }

    fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform in the operation's range, or `idle`.
    fn linear(&mut self, op: Op, idle: f64) -> f64 {
        let (happens, u) = (self.chance(op.p), self.unit());
        if happens { between(op.range, u) } else { idle }
    }

    /// Log-uniform in the operation's range, or 1.
    fn logarithmic(&mut self, op: Op) -> f64 {
        let (happens, u) = (self.chance(op.p), self.unit());
        if happens { log_between(op.range, u) } else { 1.0 }
    }

    fn pair(&mut self, op: Op) -> [f64; 2] {
        let (happens, u) = (self.chance(op.p), [self.unit(), self.unit()]);
        if happens { u.map(|u| between(op.range, u)) } else { [0.0; 2] }
    }

    fn crop(&mut self, stage: &Stage) -> Window {
        let happens = self.chance(stage.crop.p);
        let area = between(stage.crop.range, self.unit());
        let aspect = log_between(stage.crop_aspect, self.unit());
        let (at_x, at_y) = (self.unit(), self.unit());
        if !happens {
            return Window { x: 0.0, y: 0.0, width: 1.0, height: 1.0 };
        }
        let width = (area * aspect).sqrt().min(1.0);
        let height = (area / aspect).sqrt().min(1.0);
        Window { x: at_x * (1.0 - width), y: at_y * (1.0 - height), width, height }
    }

    /// Two whole numbers below 2^24.
    fn key(&mut self) -> [u32; 2] {
        [(); 2].map(|()| self.0.below(1 << 24) as u32)
    }
}

fn between([lo, hi]: [f64; 2], u: f64) -> f64 {
    lo + (hi - lo) * u
}

fn log_between([lo, hi]: [f64; 2], u: f64) -> f64 {
    lo * (hi / lo).powf(u)
}

/// The 2x2 part from output to source. The image is mirrored, sheared, scaled and turned, in this order; this is the way
/// back.
fn source_linear(hflip: bool, vflip: bool, degrees: f64, scale: f64, shear_degrees: f64) -> [f64; 4] {
    let (sin, cos) = (degrees / 180.0 * PI).sin_cos();
    let shear = (shear_degrees / 180.0 * PI).tan();
    // Rows point down: a counter-clockwise turn as seen takes (x, y) to (c x + s y, -s x + c y); its inverse is here.
    let (a, b, d, e) = (cos / scale, -sin / scale, sin / scale, cos / scale);
    let (a, b) = (a - shear * d, b - shear * e);
    let (mx, my) = (if hflip { -1.0 } else { 1.0 }, if vflip { -1.0 } else { 1.0 });
    [mx * a, mx * b, my * d, my * e]
}

/// Brightness, then contrast about mid-gray, then saturation and hue: these scale and turn the chroma plane of Rec. 601
/// and leave gray alone, so one matrix and one summand hold all four.
fn colour_matrix(brightness: f64, contrast: f64, saturation: f64, hue_degrees: f64) -> [f64; 12] {
    const LUMA: [f64; 3] = [0.299, 0.587, 0.114];
    let (sin, cos) = (hue_degrees / 180.0 * PI).sin_cos();
    let factor = brightness * contrast;
    let summand = 0.5 - 0.5 * contrast;
    let mut matrix = [0.0; 12];
    for channel in 0..3 {
        let unit = |c: usize| if c == channel { 1.0 } else { 0.0 };
        let luma = LUMA[channel];
        // One column: what a unit of this channel becomes. Cb and Cr are its offsets along blue and red.
        let cb = (unit(2) - luma) / 1.772;
        let cr = (unit(0) - luma) / 1.402;
        let (cb, cr) = (saturation * (cos * cb - sin * cr), saturation * (sin * cb + cos * cr));
        let red = luma + 1.402 * cr;
        let blue = luma + 1.772 * cb;
        let green = (luma - LUMA[0] * red - LUMA[2] * blue) / LUMA[1];
        for (row, value) in [red, green, blue].into_iter().enumerate() {
            matrix[4 * row + channel] = factor * value;
        }
    }
    for row in 0..3 {
        matrix[4 * row + 3] = summand;
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AugmentConfig, Preset};
    use fullbore_types::{Affine, SampleId, Size};
    use proptest::prelude::*;

    const SIDE: Size = Size { width: 64, height: 48 };

    fn key(epoch: u64, sample: u32) -> SampleKey {
        SampleKey { seed: 11, epoch, sample: SampleId(sample) }
    }

    fn policy(config: &AugmentConfig) -> Policy {
        config.resolve(SIDE, SIDE, None).unwrap()
    }

    fn apply(matrix: [f64; 6], x: f64, y: f64) -> (f64, f64) {
        Affine(matrix).apply((x, y))
    }

    fn near(found: (f64, f64), expected: (f64, f64)) {
        let d = (found.0 - expected.0).abs().max((found.1 - expected.1).abs());
        assert!(d < 1e-9, "{found:?}, expected {expected:?}");
    }

    const WHOLE: Window = Window { x: 0.0, y: 0.0, width: 1.0, height: 1.0 };

    #[test]
    fn without_operations_nothing_happens() {
        let params = policy(&AugmentConfig::default()).draw(key(0, 0));
        let keys = AugmentParams {
            noise_key: params.noise_key,
            elastic_key: params.elastic_key,
            elastic_cells: params.elastic_cells,
            ..AugmentParams::IDENTITY
        };
        assert_eq!(params, keys);
    }

    #[test]
    fn a_draw_is_a_pure_function_of_its_key() {
        let policy = policy(&AugmentConfig::of(Preset::Strong));
        assert_eq!(policy.draw(key(3, 5)), policy.draw(key(3, 5)));
        assert_ne!(policy.draw(key(3, 5)), policy.draw(key(4, 5)));
        assert_ne!(policy.draw(key(3, 5)), policy.draw(key(3, 6)));
    }

    #[test]
    fn the_draws_never_change_between_versions() {
        let params = policy(&AugmentConfig::of(Preset::Strong)).draw(key(1, 2));
        let row: Vec<String> = params.to_row()[..22].iter().map(|v| format!("{v:.4}")).collect();
        assert_eq!(row.join(" "), GOLDEN);
    }

    const GOLDEN: &str = "0.9785 0.1913 -3.8172 -0.1913 0.9785 6.5324 0.7723 0.1673 0.0325 0.0000 0.0852 0.8544 \
        0.0325 0.0000 0.0852 0.1673 0.7195 0.0000 1.0000 0.0166 12021292.0000 11286632.0000";

    #[test]
    fn one_operation_never_shifts_the_draws_of_another() {
        let standard = policy(&AugmentConfig::of(Preset::Standard));
        let mut config = AugmentConfig::of(Preset::Standard);
        config.vflip.p = Some(0.0);
        config.brightness.p = Some(0.0);
        config.crop.p = Some(0.0);
        config.noise.p = Some(1.0);
        config.erase.p = Some(1.0);
        let other = policy(&config);
        for sample in 0..50 {
            let (a, b) = (standard.draw(key(0, sample)), other.draw(key(0, sample)));
            assert_eq!(a.source_from_output, b.source_from_output);
            assert_eq!((a.noise_key, a.elastic_key), (b.noise_key, b.elastic_key));
            assert_ne!(a.colour, b.colour);
            assert!(b.noise_std > 0.0 && a.noise_std == 0.0);
        }
    }

    #[test]
    fn flips_shifts_and_windows_go_where_they_say() {
        let policy = policy(&AugmentConfig::default());
        let matrix = |linear, shift, window| policy.source_from_output(linear, shift, window);
        let straight = source_linear(false, false, 0.0, 1.0, 0.0);
        near(
            apply(matrix(source_linear(true, false, 0.0, 1.0, 0.0), [0.0; 2], WHOLE), 0.0, 5.0),
            (63.0, 5.0),
        );
        near(
            apply(matrix(source_linear(false, true, 0.0, 1.0, 0.0), [0.0; 2], WHOLE), 7.0, 0.0),
            (7.0, 47.0),
        );
        // A shift by a quarter of the width: output column 16 shows canvas column 0.
        near(apply(matrix(straight, [0.25, 0.0], WHOLE), 16.0, 3.0), (0.0, 3.0));
        // The right half: its outer pixel edges are the output's.
        let right = Window { x: 0.5, y: 0.0, width: 0.5, height: 1.0 };
        near(apply(matrix(straight, [0.0; 2], right), -0.5, -0.5), (31.5, -0.5));
        near(apply(matrix(straight, [0.0; 2], right), 63.5, 47.5), (63.5, 47.5));
        // Scale 2 enlarges: a step in the output is half a step on the canvas.
        let m = matrix(source_linear(false, false, 0.0, 2.0, 0.0), [0.0; 2], WHOLE);
        near((m[0], m[4]), (0.5, 0.5));
    }

    #[test]
    fn positive_angles_turn_counter_clockwise_and_shear_below_to_the_right() {
        let forward = |linear: [f64; 4]| {
            Affine([linear[0], linear[1], 0.0, linear[2], linear[3], 0.0]).inverse().unwrap()
        };
        // Rows point down: what is right of the centre comes to lie above it.
        near(forward(source_linear(false, false, 90.0, 1.0, 0.0)).apply((1.0, 0.0)), (0.0, -1.0));
        near(forward(source_linear(false, false, 0.0, 1.0, 45.0)).apply((0.0, 1.0)), (1.0, 1.0));
        // Mirrored first, then turned.
        near(forward(source_linear(true, false, 90.0, 1.0, 0.0)).apply((1.0, 0.0)), (0.0, 1.0));
    }

    #[test]
    fn mirrored_samples_swap_landmarks_and_turned_ones_do_not() {
        let mut config = AugmentConfig::default();
        config.hflip.p = Some(1.0);
        assert!(policy(&config).draw(key(0, 0)).swap_landmarks);
        config.vflip.p = Some(1.0);
        assert!(!policy(&config).draw(key(0, 0)).swap_landmarks, "both flips are half a turn");
    }

    #[test]
    fn colours_follow_their_formulas() {
        let rgb = |m: [f64; 12], [r, g, b]: [f64; 3]| {
            std::array::from_fn::<f64, 3, _>(|i| {
                m[4 * i] * r + m[4 * i + 1] * g + m[4 * i + 2] * b + m[4 * i + 3]
            })
        };
        let near = |a: [f64; 3], b: [f64; 3]| {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?}, expected {b:?}");
        };
        near(rgb(colour_matrix(1.2, 1.0, 1.0, 0.0), [0.1, 0.5, 0.8]), [0.12, 0.6, 0.96]);
        near(rgb(colour_matrix(1.0, 1.5, 1.0, 0.0), [0.1, 0.5, 0.8]), [-0.1, 0.5, 0.95]);
        let luma = 0.299 * 0.1 + 0.587 * 0.5 + 0.114 * 0.8;
        near(rgb(colour_matrix(1.0, 1.0, 0.0, 33.0), [0.1, 0.5, 0.8]), [luma; 3]);
        near(rgb(colour_matrix(0.9, 1.1, 1.7, 77.0), [0.3; 3]), [(0.27 - 0.5) * 1.1 + 0.5; 3]);
        // Half a turn of the hue and back again.
        let once = rgb(colour_matrix(1.0, 1.0, 1.0, 180.0), [0.9, 0.2, 0.1]);
        assert!(once[0] < once[2], "red and blue change sides: {once:?}");
        near(rgb(colour_matrix(1.0, 1.0, 1.0, 180.0), once), [0.9, 0.2, 0.1]);
    }

    proptest! {
        #[test]
        fn strong_draws_stay_inside_their_limits(sample in 0u32..10_000, epoch in 0u64..5) {
            let mut config = AugmentConfig::of(Preset::Strong);
            config.crop.aspect = Some([0.1, 10.0]);
            config.erase = crate::config::Erase { p: Some(1.0), area: Some([0.0, 1.0]), aspect: Some([0.1, 10.0]), count: Some(4) };
            let params = policy(&config).draw(key(epoch, sample));
            prop_assert!(params.to_row().iter().all(|v| v.is_finite()));
            prop_assert!(params.noise_key.iter().chain(&params.elastic_key).all(|&k| k < 1 << 24));
            for b in params.erase {
                prop_assert!(b.x1 <= SIDE.width && b.y1 <= SIDE.height && b.x0 <= b.x1 && b.y0 <= b.y1);
            }
            let matrix = Affine(params.source_from_output.map(f64::from));
            prop_assert!(matrix.inverse().is_some());
            prop_assert!(params.elastic_alpha <= SIDE.height as f32 / 4.0 / 8.0);
        }
    }
}
