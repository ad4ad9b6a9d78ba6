//! What happens to one sample, and the exact arithmetic of it.
//!
//! # Arithmetic
//!
//! Both twins compute the following for output pixel `(x, y)` of `out_w` x `out_h`, from a canvas of `w` x `h`. Pixel
//! centres are whole numbers (the convention of [`fullbore_types::Affine`]); computation is in f32, fused or not.
//!
//! 1. **Blur** (`blur_sigma > 0`), once per canvas: weights `exp(-k² / 2 sigma²)` for `|k| <= ceil(3 sigma)`, divided by
//!    their sum; along rows, then along columns; indices outside are clamped; the result is rounded to u8.
//! 2. **Elastic** (`elastic_alpha > 0`): `gx = clamp((x + 0.5) cells / out_w, 0, cells)`, `i = min(floor(gx), cells - 1)`,
//!    `f = gx - i`, `s = f² (3 - 2 f)`; likewise `gy`, `j`, `t`. Node `(i, j)` moves along axis `a` (0: x, 1: y) by
//!    `n = (keyed_hash(elastic_key, 2 ((cells + 1) j + i) + a) >> 8) / 2^23 - 1`; the displacement is `elastic_alpha` times
//!    the four nodes' `n` mixed by `(1 - s, s)` and `(1 - t, t)`. It is added to `(x, y)`.
//! 3. **Matrix**: `u = m0 x + m1 y + m2`, `v = m3 x + m4 y + m5` with `m = source_from_output`.
//! 4. **Border**: `edge` and `constant` clamp `u` to `0..=w - 1`. `reflect` mirrors `u` about -0.5 and `w - 0.5` until it lies
//!    between, then clamps. Likewise `v`.
//!    `constant` also takes the cover `c = clamp(min(u + 1, w - u), 0, 1) clamp(min(v + 1, h - v), 0, 1)` of the unclamped
//!    point; otherwise `c = 1`.
//! 5. **Sample**: bilinear in the four pixels around `(u, v)`, divided by 255. One channel counts as three equal ones.
//! 6. **Colour**: `r' = k0 r + k1 g + k2 b + k3` and so on with `k = colour`; clamped to 0..1.
//! 7. **Gamma** (`gamma != 1`): `r^gamma`.
//! 8. **Noise** (`noise_std > 0`): `r + noise_std normal_of(keyed_hash(noise_key, 4 (out_w y + x) + channel))`, clamped to
//!    0..1. Channels are 0, 1, 2; gray is 0.
//! 9. **Normalise**: `(r - mean) / std`, then multiplied by `c`: uncovered pixels are 0. In u8 output: `255 (mean + c (r -
//!    mean))`, rounded.
//! 10. **Erase**: pixels with `x0 <= x < x1` and `y0 <= y < y1` in any box are 0, in u8 output `255 mean`, rounded.
//!
//! Masks: `(u, v)` of step 3; with `constant`, 255 unless `-0.5 <= u < w - 0.5` and likewise `v`; otherwise the value at
//! `floor(u + 0.5), floor(v + 0.5)` of the point after step 4. Blur, colour, noise and erase leave them alone.
//!
//! Points go through the inverse: `p` with `source_from_output (p + displacement(p))` = the point on the canvas, in f64. With
//! `swap_landmarks`, the policy's pairs then change places with their visibility. A point outside `-0.5 <= x < out_w - 0.5`
//! (likewise y) is no longer visible.
//!
//! # How close the twins are
//!
//! Finished channels agree within 1.5/255 where white is 1, as long as gamma is at least 0.7: below, nearly black pixels
//! are too steep. A blurred pixel may be rounded to the next byte, and contrast enlarges that step. Masks are the
//! same except where `u` or `v` lies within 1e-3 of the edge between two pixels; points agree within 1e-3 px.

/// Most boxes erased from one sample.
pub const MAX_ERASE: usize = 4;

/// Numbers in a row of [`AugmentParams::to_row`].
pub const ROW_LEN: usize = 48;

/// Where the fields lie in a row of [`AugmentParams::to_row`].
pub mod row {
    use std::ops::Range;

    /// `source_from_output`, row by row.
    pub const SOURCE_FROM_OUTPUT: Range<usize> = 0..6;
    /// `colour`, row by row.
    pub const COLOUR: Range<usize> = 6..18;
    /// `gamma`.
    pub const GAMMA: usize = 18;
    /// `noise_std`.
    pub const NOISE_STD: usize = 19;
    /// `noise_key`: two whole numbers below 2^24.
    pub const NOISE_KEY: Range<usize> = 20..22;
    /// `erase`: four times `x0, y0, x1, y1`.
    pub const ERASE: Range<usize> = 22..38;
    /// `swap_landmarks`: 0 or 1.
    pub const SWAP_LANDMARKS: usize = 38;
    /// `blur_sigma`.
    pub const BLUR_SIGMA: usize = 39;
    /// `elastic_alpha`.
    pub const ELASTIC_ALPHA: usize = 40;
    /// `elastic_cells`.
    pub const ELASTIC_CELLS: usize = 41;
    /// `elastic_key`: two whole numbers below 2^24.
    pub const ELASTIC_KEY: Range<usize> = 42..44;
}

/// Everything that augmentation does to one sample. The [module text](self) defines how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentParams {
    /// Maps output pixels to canvas pixels, rows `[a b c; d e f]`.
    pub source_from_output: [f32; 6],
    /// Maps RGB in 0..1 to RGB, three rows of three factors and a summand.
    pub colour: [f32; 12],
    /// Exponent on values in 0..1; 1 does nothing.
    pub gamma: f32,
    /// Standard deviation of the noise where white is 1; 0 is none.
    pub noise_std: f32,
    /// Key of the noise, each number below 2^24 and so exact in f32.
    pub noise_key: [u32; 2],
    /// Boxes set to the normalisation mean; unused ones are empty.
    pub erase: [EraseBox; MAX_ERASE],
    /// Mirrored: the policy's landmark pairs change places.
    pub swap_landmarks: bool,
    /// Standard deviation of the blur in canvas pixels; 0 is none.
    pub blur_sigma: f32,
    /// Largest displacement along each axis in output pixels; 0 is none.
    pub elastic_alpha: f32,
    /// Cells along each side of the displacement grid.
    pub elastic_cells: u32,
    /// Key of the displacements, each number below 2^24 and so exact in f32.
    pub elastic_key: [u32; 2],
}

/// A box in whole output pixels: columns `x0..x1`, rows `y0..y1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EraseBox {
    /// First column.
    pub x0: u32,
    /// First row.
    pub y0: u32,
    /// Column after the last.
    pub x1: u32,
    /// Row after the last.
    pub y1: u32,
}

impl EraseBox {
    /// True when no pixel lies inside.
    pub fn is_empty(&self) -> bool {
        self.x0 >= self.x1 || self.y0 >= self.y1
    }
}

impl AugmentParams {
    /// Changes nothing where the output is as large as the canvas.
    pub const IDENTITY: AugmentParams = AugmentParams {
        source_from_output: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        colour: [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        gamma: 1.0,
        noise_std: 0.0,
        noise_key: [0; 2],
        erase: [EraseBox { x0: 0, y0: 0, x1: 0, y1: 0 }; MAX_ERASE],
        swap_landmarks: false,
        blur_sigma: 0.0,
        elastic_alpha: 0.0,
        elastic_cells: 1,
        elastic_key: [0; 2],
    };

    /// The parameters as one row for upload, laid out as in [`row`]; the rest is 0. Every whole number is stored as a
    /// number, not as bits: all are below 2^24.
    pub fn to_row(&self) -> [f32; ROW_LEN] {
        let mut out = [0.0; ROW_LEN];
        out[row::SOURCE_FROM_OUTPUT].copy_from_slice(&self.source_from_output);
        out[row::COLOUR].copy_from_slice(&self.colour);
        out[row::GAMMA] = self.gamma;
        out[row::NOISE_STD] = self.noise_std;
        out[row::NOISE_KEY].copy_from_slice(&self.noise_key.map(|k| k as f32));
        for (to, b) in out[row::ERASE].chunks_exact_mut(4).zip(&self.erase) {
            to.copy_from_slice(&[b.x0, b.y0, b.x1, b.y1].map(|v| v as f32));
        }
        out[row::SWAP_LANDMARKS] = f32::from(u8::from(self.swap_landmarks));
        out[row::BLUR_SIGMA] = self.blur_sigma;
        out[row::ELASTIC_ALPHA] = self.elastic_alpha;
        out[row::ELASTIC_CELLS] = self.elastic_cells as f32;
        out[row::ELASTIC_KEY].copy_from_slice(&self.elastic_key.map(|k| k as f32));
        out
    }
}

/// The `n`-th 32-bit number of a keyed sequence: a multiply-xorshift mix, all operations modulo 2^32 and shifts logical.
#[inline(always)]
pub fn keyed_hash(key: [u32; 2], n: u32) -> u32 {
    let mut h = n.wrapping_mul(0x9E37_79B1).wrapping_add(key[0]);
    h = (h ^ (h >> 16)).wrapping_mul(0x7FEB_352D);
    h = (h ^ (h >> 15) ^ key[1]).wrapping_mul(0x846C_A68B);
    h ^ (h >> 16)
}

/// A nearly normal number from a hash: the sum of its four bytes less 510, divided by 147.80054, that sum's standard
/// deviation. Mean 0, variance 1, never beyond 3.46.
#[inline(always)]
pub fn normal_of(hash: u32) -> f32 {
    let sum = (hash & 0xFF) + ((hash >> 8) & 0xFF) + ((hash >> 16) & 0xFF) + (hash >> 24);
    (sum as i32 - 510) as f32 * (1.0 / 147.800_54)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_every_field_where_it_says() {
        let mut params = AugmentParams::IDENTITY;
        params.noise_key = [0xFF_FFFF, 1];
        params.erase[3] = EraseBox { x0: 1, y0: 2, x1: 3, y1: 16_384 };
        params.swap_landmarks = true;
        params.elastic_key = [7, 0xFF_FFFE];
        let row = params.to_row();
        assert_eq!(row[row::SOURCE_FROM_OUTPUT], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(row[row::NOISE_KEY], [16_777_215.0, 1.0]);
        assert_eq!(row[34..38], [1.0, 2.0, 3.0, 16_384.0]);
        assert_eq!(row[row::SWAP_LANDMARKS], 1.0);
        assert_eq!(row[row::ELASTIC_KEY].iter().map(|&k| k as u32).collect::<Vec<_>>(), params.elastic_key);
        assert_eq!(row[44..], [0.0; 4]);
    }

    #[test]
    fn hashes_of_neighbours_make_uncorrelated_normal_noise() {
        for key in [[0, 0], [1, 0], [0, 1], [0xFF_FFFF, 0x12_3456]] {
            let z: Vec<f64> = (0..40_000).map(|n| f64::from(normal_of(keyed_hash(key, n)))).collect();
            let moment = |f: &dyn Fn(usize) -> f64| (0..39_000).map(f).sum::<f64>() / 39_000.0;
            assert!(moment(&|i| z[i]).abs() < 0.02, "{key:?}");
            assert!((moment(&|i| z[i] * z[i]) - 1.0).abs() < 0.03, "{key:?}");
            for lag in [1, 2, 4, 64, 512] {
                assert!(moment(&|i| z[i] * z[i + lag]).abs() < 0.02, "{key:?} at lag {lag}");
            }
        }
        let other = |key| (0..1000).map(|n| normal_of(keyed_hash(key, n))).collect::<Vec<_>>();
        assert_ne!(other([5, 6]), other([6, 5]));
    }
}
