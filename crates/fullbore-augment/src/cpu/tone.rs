//! From sampled channels to finished ones: colour, gamma, noise, normalisation.

use crate::params::{AugmentParams, keyed_hash, normal_of};

use super::clamp::clamp;
use super::sample::WHITE;

/// The last step per channel, `r -> scale r + summand` with `r` in 0..1. The mean always becomes 0, so that borders and
/// erased boxes are zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    scale: [f32; 3],
    summand: [f32; 3],
    /// What the mean is when all is done: 0, or its byte.
    pub(super) mean_out: [f32; 3],
}

impl Scales {
    /// For normalised numbers.
    pub(super) fn normalised(mean: &[f32], std: &[f32]) -> Self {
        Self {
            scale: per_channel(|c| 1.0 / std[c % std.len()]),
            summand: per_channel(|c| -mean[c % mean.len()] / std[c % std.len()]),
            mean_out: [0.0; 3],
        }
    }

    /// For bytes: distances from the mean, to which the mean is added when they are stored.
    pub(super) fn bytes(mean: &[f32]) -> Self {
        let mean_out = per_channel(|c| 255.0 * mean[c % mean.len()]);
        Self { scale: [255.0; 3], summand: mean_out.map(|m| -m), mean_out }
    }
}

fn per_channel(f: impl Fn(usize) -> f32) -> [f32; 3] {
    std::array::from_fn(f)
}

/// What one sample needs, in the units of the samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tone {
    channels: usize,
    /// Per channel three factors and a summand. To finished numbers when `direct`, otherwise to 0..1.
    matrix: [[f32; 4]; 3],
    /// Where direct results are clamped: black and white.
    limits: [[f32; 2]; 3],
    direct: bool,
    gamma: f32,
    noise_std: f32,
    noise_key: [u32; 2],
    scales: Scales,
}

impl Tone {
    pub(super) fn new(params: &AugmentParams, channels: usize, scales: Scales) -> Self {
        let direct = params.gamma == 1.0 && params.noise_std <= 0.0;
        let mut matrix = [[0.0; 4]; 3];
        let mut limits = [[0.0, 1.0]; 3];
        for c in 0..channels {
            let mut row: [f32; 4] = params.colour[4 * c..4 * c + 4].try_into().expect("rows of four");
            if channels == 1 {
                row = [row[0] + row[1] + row[2], 0.0, 0.0, row[3]];
            }
            let (scale, summand) = if direct { (scales.scale[c], scales.summand[c]) } else { (1.0, 0.0) };
            let [r, g, b, k] = row;
            matrix[c] = [r, g, b, k * WHITE].map(|v| v * (scale / WHITE));
            matrix[c][3] += summand;
            limits[c] = [summand, scale + summand];
        }
        let (noise_std, noise_key) = (params.noise_std, params.noise_key);
        Self { channels, matrix, limits, direct, gamma: params.gamma, noise_std, noise_key, scales }
    }

    /// How many channels there are.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }
}

/// Finishes one channel of a span of a row, whose first pixel has the index `first` in the output.
#[inline(always)]
pub(super) fn finish(tone: &Tone, channel: usize, first: u32, samples: [&[f32]; 3], out: &mut [f32]) {
    let ([kr, kg, kb, k], [lo, hi]) = (tone.matrix[channel], tone.limits[channel]);
    let factors = [kr, kg, kb];
    if (0..3).all(|c| c == channel || factors[c] == 0.0) {
        let factor = factors[channel];
        for (out, &value) in out.iter_mut().zip(samples[channel]) {
            *out = clamp(factor * value + k, lo, hi);
        }
    } else {
        let [r, g, b] = samples;
        for (out, ((&r, &g), &b)) in out.iter_mut().zip(r.iter().zip(g).zip(b)) {
            *out = clamp(kr * r + (kg * g + (kb * b + k)), lo, hi);
        }
    }
    if !tone.direct {
        finish_channel(tone, first, channel, out);
    }
}

/// Gamma, noise and normalisation of a channel in 0..1.
#[inline(always)]
fn finish_channel(tone: &Tone, first: u32, channel: usize, out: &mut [f32]) {
    if tone.gamma != 1.0 {
        for v in out.iter_mut() {
            *v = power(*v, tone.gamma);
        }
    }
    if tone.noise_std > 0.0 {
        for (i, v) in out.iter_mut().enumerate() {
            let n = 4u32.wrapping_mul(first.wrapping_add(i as u32)).wrapping_add(channel as u32);
            let noise = normal_of(keyed_hash(tone.noise_key, n));
            *v = clamp(*v + tone.noise_std * noise, 0.0, 1.0);
        }
    }
    let (scale, summand) = (tone.scales.scale[channel], tone.scales.summand[channel]);
    for v in out.iter_mut() {
        *v = *v * scale + summand;
    }
}

/// `v^g` for `v` in 0..=1 and `g > 0`, within 5e-4 for exponents up to 10, in operations that become vectors.
#[inline(always)]
fn power(v: f32, g: f32) -> f32 {
    // log2 from exponent and mantissa; the polynomial is a Chebyshev fit of log2(1 + z) / z.
    let bits = v.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let z = f32::from_bits((bits & 0x007F_FFFF) | 0x3F80_0000) - 1.0;
    let q = 0.059_945_587 * z - 0.227_712_64;
    let q = (q * z + 0.442_274_18) * z - 0.717_063_9;
    let log2 = exponent as f32 + (q * z + 1.442_615_7) * z;
    // 2^t: the whole part goes to the exponent, a Chebyshev fit takes the rest. Adding 1.5 * 2^23 rounds to whole numbers.
    const ROUND: f32 = 12_582_912.0;
    let t = (g * log2).max(-126.0);
    let rounded = t + ROUND;
    let f = t - (rounded - ROUND);
    let p = (0.009_676_037 * f + 0.055_922_036) * f + 0.240_221_07;
    let p = (p * f + 0.693_121) * f + 1.0;
    let whole = (rounded.to_bits() << 23).wrapping_add(0x3F80_0000);
    (f32::from_bits(whole) * p).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_within_an_eighth_of_a_byte_step() {
        for g in [0.1f32, 0.5, 0.8, 1.0, 1.25, 2.2, 10.0] {
            for i in 0..=20_000 {
                let v = i as f32 / 20_000.0;
                let (found, exact) = (power(v, g), v.powf(g));
                assert!((found - exact).abs() < 5e-4, "{v}^{g}: {found}, exact {exact}");
            }
        }
    }
}
