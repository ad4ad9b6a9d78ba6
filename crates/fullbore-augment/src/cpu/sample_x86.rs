//! The vector forms of the sampler.
//!
//! One load brings two neighbouring pixels of a row: 64 bits hold the six bytes of RGB, 32 bits the two of gray. Bytes are
//! spread to 16-bit lanes, upper and lower neighbours are mixed, then left and right ones. Bytes carry seven more bits on
//! the way and weights have fifteen, so that the result is within 0.02 of a byte's step.
//!
//! The lower load begins two bytes early: so the last one ends with the canvas instead of beyond it.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::sample::Canvas;

/// Longest side for which offsets and pixel indices fit their lanes.
pub(super) const MAX_SIDE: u32 = 16_384;

/// Sixteen bits for the part of a pixel.
const ONE: f32 = 65_536.0;

/// The largest coordinate in parts of a pixel. One part less than the last pixel, so that each point has a right and a
/// lower neighbour.
fn last(side: u32) -> f32 {
    let edge = (side - 1) as f32 * ONE;
    (edge - 1.0).min(edge.next_down())
}

/// The canvas's sides, after checking what the loads rely on.
fn checked(canvas: Canvas<'_>, channels: usize) -> (u32, u32) {
    let (w, h) = (canvas.size.width, canvas.size.height);
    assert!((2..=MAX_SIDE).contains(&w) && (2..=MAX_SIDE).contains(&h) && canvas.channels == channels);
    assert!(canvas.bytes.len() == channels * w as usize * h as usize);
    (w, h)
}

/// Takes two pixels of which the first begins with `byte` in each half of a register: its bytes become the upper halves of
/// lanes red, blue, green, nothing.
#[target_feature(enable = "avx2")]
fn spread_rgb(byte: i8) -> __m128i {
    let (a, b, z) = (byte, byte + 8, -1);
    _mm_setr_epi8(z, a, z, a + 2, z, a + 1, z, z, z, b, z, b + 2, z, b + 1, z, z)
}

/// Takes two gray pixels of which the first is `byte` in each quarter of a register: they become the upper halves of two
/// lanes.
#[target_feature(enable = "avx2")]
fn spread_gray(byte: i8) -> __m128i {
    let (a, z) = (byte, -1);
    _mm_setr_epi8(z, a, z, a + 1, z, a + 4, z, a + 5, z, a + 8, z, a + 9, z, a + 12, z, a + 13)
}

/// Takes the lower 16 bits of the 32-bit numbers that begin with bytes `a` and `b`: each fills four lanes.
#[target_feature(enable = "avx2")]
fn four_times(a: i8, b: i8) -> __m128i {
    _mm_setr_epi8(a, a + 1, a, a + 1, a, a + 1, a, a + 1, b, b + 1, b, b + 1, b, b + 1, b, b + 1)
}

/// Takes the lower 16 bits of each 32-bit number: it fills both lanes.
#[target_feature(enable = "avx2")]
fn twice() -> __m128i {
    _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13)
}

/// See [`super::sample::sample`]: sides from 2 to [`MAX_SIDE`], three channels.
#[target_feature(enable = "avx2,fma")]
pub(super) fn rgb_avx2(canvas: Canvas<'_>, u: &[f32], v: &[f32], out: [&mut [f32]; 3]) {
    let (w, h) = checked(canvas, 3);
    let (last_u, last_v) = (_mm256_set1_ps(last(w)), _mm256_set1_ps(last(h)));
    let (zero, one) = (_mm256_setzero_ps(), _mm256_set1_ps(ONE));
    let pitch = _mm256_set1_epi32((w << 16 | 1) as i32);
    let everywhere = |lane| _mm256_broadcastsi128_si256(lane);
    let upper_left = everywhere(spread_rgb(0));
    let upper_right = everywhere(spread_rgb(3));
    let lower_left = everywhere(spread_rgb(2));
    let lower_right = everywhere(spread_rgb(5));
    let low_half = _mm256_set1_epi32(0xFFFF);
    // Pixels 0 1 4 5 in one half and 2 3 6 7 in the other: the shuffle at the end puts them in order.
    let apart = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    let (first_weights, second_weights) = (everywhere(four_times(0, 4)), everywhere(four_times(8, 12)));

    let [red, green, blue] = out;
    let rows = red.chunks_exact_mut(8).zip(green.chunks_exact_mut(8)).zip(blue.chunks_exact_mut(8));
    for ((u, v), ((red, green), blue)) in u.chunks_exact(8).zip(v.chunks_exact(8)).zip(rows) {
        // SAFETY: the chunk has eight floats.
        let (u, v) = unsafe { (_mm256_loadu_ps(u.as_ptr()), _mm256_loadu_ps(v.as_ptr())) };
        // The maximum of NaN and 0 is 0: whatever comes in, a place on the canvas comes out.
        let parts =
            |p, last| _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(_mm256_mul_ps(p, one), zero), last));
        let (u, v) = (parts(u, last_u), parts(v, last_v));
        let x_and_y = _mm256_blend_epi16(_mm256_srli_epi32(u, 16), v, 0b1010_1010);
        let pixel = _mm256_madd_epi16(x_and_y, pitch);
        let offset = _mm256_add_epi32(_mm256_add_epi32(pixel, pixel), pixel);
        let offset = _mm256_permutevar8x32_epi32(offset, apart);
        let (wx, wy) = (_mm256_srli_epi16(u, 1), _mm256_srli_epi16(v, 1));

        let half = |offset: __m128i, weights: __m256i| {
            // SAFETY: 0 <= x <= w - 2 and 0 <= y <= h - 2 by `parts`, so `offset` is at most 3 (h - 1) w - 6. The upper
            // load ends 8 further, within the last row of 3 w >= 6 bytes. The lower one begins 3 w - 2 further and
            // ends 3 w + 6 further: with the canvas at most.
            let (upper, lower) = unsafe {
                let upper = canvas.bytes.as_ptr();
                let lower = upper.add(3 * w as usize - 2);
                (
                    _mm256_i32gather_epi64::<1>(upper.cast(), offset),
                    _mm256_i32gather_epi64::<1>(lower.cast(), offset),
                )
            };
            let take = |bytes, lanes| _mm256_srli_epi16(_mm256_shuffle_epi8(bytes, lanes), 1);
            let mix = |a, b, w| _mm256_add_epi16(a, _mm256_mulhrs_epi16(_mm256_sub_epi16(b, a), w));
            let wx = _mm256_shuffle_epi8(wx, weights);
            let wy = _mm256_shuffle_epi8(wy, weights);
            let left = mix(take(upper, upper_left), take(lower, lower_left), wy);
            let right = mix(take(upper, upper_right), take(lower, lower_right), wy);
            _mm256_castsi256_ps(mix(left, right, wx))
        };
        let a = half(_mm256_castsi256_si128(offset), first_weights);
        let b = half(_mm256_extracti128_si256(offset, 1), second_weights);
        let red_blue = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0b1000_1000));
        let green_only = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0b1101_1101));
        let store = |to: &mut [f32], values| {
            // SAFETY: the chunk has eight floats.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtepi32_ps(values)) }
        };
        store(red, _mm256_and_si256(red_blue, low_half));
        store(green, green_only);
        store(blue, _mm256_srli_epi32(red_blue, 16));
    }
}

/// The same with sixteen pixels at a time.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn rgb_avx512(canvas: Canvas<'_>, u: &[f32], v: &[f32], out: [&mut [f32]; 3]) {
    let (w, h) = checked(canvas, 3);
    let (last_u, last_v) = (_mm512_set1_ps(last(w)), _mm512_set1_ps(last(h)));
    let (zero, one) = (_mm512_setzero_ps(), _mm512_set1_ps(ONE));
    let pitch = _mm512_set1_epi32((w << 16 | 1) as i32);
    let everywhere = |lane| _mm512_broadcast_i32x4(lane);
    let upper_left = everywhere(spread_rgb(0));
    let upper_right = everywhere(spread_rgb(3));
    let lower_left = everywhere(spread_rgb(2));
    let lower_right = everywhere(spread_rgb(5));
    let low_half = _mm512_set1_epi32(0xFFFF);
    let apart = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let (first_weights, second_weights) = (everywhere(four_times(0, 4)), everywhere(four_times(8, 12)));

    let [red, green, blue] = out;
    let rows = red.chunks_exact_mut(16).zip(green.chunks_exact_mut(16)).zip(blue.chunks_exact_mut(16));
    for ((u, v), ((red, green), blue)) in u.chunks_exact(16).zip(v.chunks_exact(16)).zip(rows) {
        // SAFETY: the chunk has sixteen floats.
        let (u, v) = unsafe { (_mm512_loadu_ps(u.as_ptr()), _mm512_loadu_ps(v.as_ptr())) };
        let parts =
            |p, last| _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(p, one), zero), last));
        let (u, v) = (parts(u, last_u), parts(v, last_v));
        let x_and_y = _mm512_mask_blend_epi16(0xAAAA_AAAA, _mm512_srli_epi32(u, 16), v);
        let pixel = _mm512_madd_epi16(x_and_y, pitch);
        let offset = _mm512_add_epi32(_mm512_add_epi32(pixel, pixel), pixel);
        let offset = _mm512_permutexvar_epi32(apart, offset);
        let (wx, wy) = (_mm512_srli_epi16(u, 1), _mm512_srli_epi16(v, 1));

        let half = |offset: __m256i, weights: __m512i| {
            // SAFETY: as in `rgb_avx2`.
            let (upper, lower) = unsafe {
                let upper = canvas.bytes.as_ptr();
                let lower = upper.add(3 * w as usize - 2);
                (
                    _mm512_i32gather_epi64::<1>(offset, upper.cast()),
                    _mm512_i32gather_epi64::<1>(offset, lower.cast()),
                )
            };
            let take = |bytes, lanes| _mm512_srli_epi16(_mm512_shuffle_epi8(bytes, lanes), 1);
            let mix = |a, b, w| _mm512_add_epi16(a, _mm512_mulhrs_epi16(_mm512_sub_epi16(b, a), w));
            let wx = _mm512_shuffle_epi8(wx, weights);
            let wy = _mm512_shuffle_epi8(wy, weights);
            let left = mix(take(upper, upper_left), take(lower, lower_left), wy);
            let right = mix(take(upper, upper_right), take(lower, lower_right), wy);
            _mm512_castsi512_ps(mix(left, right, wx))
        };
        let a = half(_mm512_castsi512_si256(offset), first_weights);
        let b = half(_mm512_extracti64x4_epi64(offset, 1), second_weights);
        let red_blue = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0b1000_1000));
        let green_only = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0b1101_1101));
        let store = |to: &mut [f32], values| {
            // SAFETY: the chunk has sixteen floats.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), _mm512_cvtepi32_ps(values)) }
        };
        store(red, _mm512_and_si512(red_blue, low_half));
        store(green, green_only);
        store(blue, _mm512_srli_epi32(red_blue, 16));
    }
}

/// See [`super::sample::sample`]: sides from 2 to [`MAX_SIDE`], one channel. AVX-512 machines take it too: the loads are
/// what costs here.
#[target_feature(enable = "avx2,fma")]
pub(super) fn gray_avx2(canvas: Canvas<'_>, u: &[f32], v: &[f32], out: &mut [f32]) {
    let (w, h) = checked(canvas, 1);
    let (last_u, last_v) = (_mm256_set1_ps(last(w)), _mm256_set1_ps(last(h)));
    let (zero, one) = (_mm256_setzero_ps(), _mm256_set1_ps(ONE));
    let pitch = _mm256_set1_epi32((w << 16 | 1) as i32);
    let everywhere = |lane| _mm256_broadcastsi128_si256(lane);
    let (upper_pair, lower_pair) = (everywhere(spread_gray(0)), everywhere(spread_gray(2)));
    let both = everywhere(twice());
    // Weights of the left pixel are 1 - w: with 15 bits, the complement.
    let left_lanes = _mm256_set1_epi32(0x7FFF);

    for ((u, v), out) in u.chunks_exact(8).zip(v.chunks_exact(8)).zip(out.chunks_exact_mut(8)) {
        // SAFETY: the chunk has eight floats.
        let (u, v) = unsafe { (_mm256_loadu_ps(u.as_ptr()), _mm256_loadu_ps(v.as_ptr())) };
        let parts =
            |p, last| _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(_mm256_mul_ps(p, one), zero), last));
        let (u, v) = (parts(u, last_u), parts(v, last_v));
        let x_and_y = _mm256_blend_epi16(_mm256_srli_epi32(u, 16), v, 0b1010_1010);
        let offset = _mm256_madd_epi16(x_and_y, pitch);
        // SAFETY: `offset` is at most (h - 1) w - 2. The upper load ends 4 further, within the last row of w >= 2 bytes.
        // The lower one begins w - 2 further and ends w + 2 further: with the canvas at most.
        let (upper, lower) = unsafe {
            let upper = canvas.bytes.as_ptr();
            let lower = upper.add(w as usize - 2);
            (
                _mm256_i32gather_epi32::<1>(upper.cast(), offset),
                _mm256_i32gather_epi32::<1>(lower.cast(), offset),
            )
        };
        let take = |bytes, lanes| _mm256_srli_epi16(_mm256_shuffle_epi8(bytes, lanes), 1);
        let (upper, lower) = (take(upper, upper_pair), take(lower, lower_pair));
        let weight = |p| _mm256_shuffle_epi8(_mm256_srli_epi16(p, 1), both);
        let difference = _mm256_sub_epi16(lower, upper);
        let mixed = _mm256_add_epi16(upper, _mm256_mulhrs_epi16(difference, weight(v)));
        let sum = _mm256_madd_epi16(mixed, _mm256_xor_si256(weight(u), left_lanes));
        let gray = _mm256_cvtepi32_ps(_mm256_srli_epi32(sum, 15));
        // SAFETY: the chunk has eight floats.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), gray) }
    }
}
