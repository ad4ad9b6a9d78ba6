//! The vector forms of the RGB sampler.
//!
//! One 64-bit load brings the six bytes of two neighbouring pixels. Upper and lower neighbours are mixed first, for all six
//! bytes at once in 16-bit lanes; then left and right. Bytes carry six more bits on the way and weights have fifteen,
//! so that the result is within 0.03 of a byte's step.
//!
//! The lower load begins two bytes early and is shifted down: so the last one ends with the canvas instead of beyond it.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::sample::Canvas;

/// The largest 15-bit weight. A weight of 1 falls short by 2^-15, far below a step.
const FULL_WEIGHT: f32 = 32_767.0;

/// See [`super::sample::sample`]. The canvas must be at least 2 x 2.
#[target_feature(enable = "avx2,fma")]
pub(super) fn rgb_avx2(canvas: Canvas<'_>, u: &[f32], v: &[f32], out: [&mut [f32]; 3]) {
    let (w, h) = (canvas.size.width as i32, canvas.size.height as i32);
    assert!(w >= 2 && h >= 2 && canvas.bytes.len() == 3 * w as usize * h as usize);
    let [red, green, blue] = out;
    let zero = _mm256_setzero_si256();
    let (last_x, last_y) = (_mm256_set1_epi32(w - 2), _mm256_set1_epi32(h - 2));
    let width = _mm256_set1_epi32(w);
    let full = _mm256_set1_ps(FULL_WEIGHT);
    let lanes = _mm256_set1_epi16(0x3FC0);
    // Pixels 0 1 4 5 in one half and 2 3 6 7 in the other: the shuffle at the end puts them in order.
    let apart = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    let spread_a = _mm256_setr_epi32(0, 0, 1, 1, 4, 4, 5, 5);
    let spread_b = _mm256_setr_epi32(2, 2, 3, 3, 6, 6, 7, 7);
    let low_half = _mm256_set1_epi32(0xFFFF);

    let rows = red.chunks_exact_mut(8).zip(green.chunks_exact_mut(8)).zip(blue.chunks_exact_mut(8));
    for ((u, v), ((red, green), blue)) in u.chunks_exact(8).zip(v.chunks_exact(8)).zip(rows) {
        // SAFETY: the chunk has eight floats.
        let (u, v) = unsafe { (_mm256_loadu_ps(u.as_ptr()), _mm256_loadu_ps(v.as_ptr())) };
        let x = _mm256_max_epi32(_mm256_min_epi32(_mm256_cvttps_epi32(u), last_x), zero);
        let y = _mm256_max_epi32(_mm256_min_epi32(_mm256_cvttps_epi32(v), last_y), zero);
        let weight = |p, cell| {
            let part = _mm256_sub_ps(p, _mm256_cvtepi32_ps(cell));
            let weight = _mm256_cvtps_epi32(_mm256_mul_ps(part, full));
            _mm256_or_si256(weight, _mm256_slli_epi32(weight, 16))
        };
        let (wx, wy) = (weight(u, x), weight(v, y));
        let pixel = _mm256_add_epi32(_mm256_mullo_epi32(y, width), x);
        let offset = _mm256_add_epi32(_mm256_slli_epi32(pixel, 1), pixel);
        let offset = _mm256_permutevar8x32_epi32(offset, apart);

        let half = |offset: __m128i, spread: __m256i| {
            // SAFETY: 0 <= x <= w - 2 and 0 <= y <= h - 2 by the clamps above, so `offset` is at most
            // 3 ((h - 2) w + w - 2) = 3 (h - 1) w - 6. The upper load ends 8 further, within the next row of 3 w >= 6
            // bytes. The lower one begins 3 w - 2 >= 4 further and ends 3 w + 6 further: with the canvas at most.
            let (upper, lower) = unsafe {
                let upper = canvas.bytes.as_ptr();
                let lower = upper.add(3 * w as usize - 2);
                (
                    _mm256_i32gather_epi64::<1>(upper.cast(), offset),
                    _mm256_i32gather_epi64::<1>(lower.cast(), offset),
                )
            };
            let lower = _mm256_srli_epi64(lower, 16);
            let wx = _mm256_permutevar8x32_epi32(wx, spread);
            let wy = _mm256_permutevar8x32_epi32(wy, spread);
            let mix = |a, b, w| _mm256_add_epi16(a, _mm256_mulhrs_epi16(_mm256_sub_epi16(b, a), w));
            // Even bytes r0 b0 g1, odd bytes g0 r1 b1.
            let even = |q| _mm256_and_si256(_mm256_slli_epi16(q, 6), lanes);
            let odd = |q| _mm256_and_si256(_mm256_srli_epi16(q, 2), lanes);
            let even = mix(even(upper), even(lower), wy);
            let odd = mix(odd(upper), odd(lower), wy);
            // Left r0 b0 g0, right r1 b1 g1.
            let left = _mm256_blend_epi16(even, _mm256_slli_epi64(odd, 32), 0b0100_0100);
            let right = _mm256_blend_epi16(_mm256_srli_epi64(odd, 16), even, 0b0100_0100);
            _mm256_castsi256_ps(mix(left, right, wx))
        };
        let a = half(_mm256_castsi256_si128(offset), spread_a);
        let b = half(_mm256_extracti128_si256(offset, 1), spread_b);
        let red_blue = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0b1000_1000));
        let green_only = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0b1101_1101));
        let store = |to: &mut [f32], values| {
            // SAFETY: the chunk has eight floats.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtepi32_ps(values)) }
        };
        store(red, _mm256_and_si256(red_blue, low_half));
        store(green, _mm256_and_si256(green_only, low_half));
        store(blue, _mm256_srli_epi32(red_blue, 16));
    }
}

/// The same with sixteen pixels at a time.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn rgb_avx512(canvas: Canvas<'_>, u: &[f32], v: &[f32], out: [&mut [f32]; 3]) {
    let (w, h) = (canvas.size.width as i32, canvas.size.height as i32);
    assert!(w >= 2 && h >= 2 && canvas.bytes.len() == 3 * w as usize * h as usize);
    let [red, green, blue] = out;
    let zero = _mm512_setzero_si512();
    let (last_x, last_y) = (_mm512_set1_epi32(w - 2), _mm512_set1_epi32(h - 2));
    let width = _mm512_set1_epi32(w);
    let full = _mm512_set1_ps(FULL_WEIGHT);
    let lanes = _mm512_set1_epi16(0x3FC0);
    let apart = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let spread_a = _mm512_setr_epi32(0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13);
    let spread_b = _mm512_setr_epi32(2, 2, 3, 3, 6, 6, 7, 7, 10, 10, 11, 11, 14, 14, 15, 15);
    let low_half = _mm512_set1_epi32(0xFFFF);
    let third_lanes = 0x4444_4444;

    let rows = red.chunks_exact_mut(16).zip(green.chunks_exact_mut(16)).zip(blue.chunks_exact_mut(16));
    for ((u, v), ((red, green), blue)) in u.chunks_exact(16).zip(v.chunks_exact(16)).zip(rows) {
        // SAFETY: the chunk has sixteen floats.
        let (u, v) = unsafe { (_mm512_loadu_ps(u.as_ptr()), _mm512_loadu_ps(v.as_ptr())) };
        let x = _mm512_max_epi32(_mm512_min_epi32(_mm512_cvttps_epi32(u), last_x), zero);
        let y = _mm512_max_epi32(_mm512_min_epi32(_mm512_cvttps_epi32(v), last_y), zero);
        let weight = |p, cell| {
            let part = _mm512_sub_ps(p, _mm512_cvtepi32_ps(cell));
            let weight = _mm512_cvtps_epi32(_mm512_mul_ps(part, full));
            _mm512_or_si512(weight, _mm512_slli_epi32(weight, 16))
        };
        let (wx, wy) = (weight(u, x), weight(v, y));
        let pixel = _mm512_add_epi32(_mm512_mullo_epi32(y, width), x);
        let offset = _mm512_add_epi32(_mm512_slli_epi32(pixel, 1), pixel);
        let offset = _mm512_permutexvar_epi32(apart, offset);

        let half = |offset: __m256i, spread: __m512i| {
            // SAFETY: as in `rgb_avx2`.
            let (upper, lower) = unsafe {
                let upper = canvas.bytes.as_ptr();
                let lower = upper.add(3 * w as usize - 2);
                (
                    _mm512_i32gather_epi64::<1>(offset, upper.cast()),
                    _mm512_i32gather_epi64::<1>(offset, lower.cast()),
                )
            };
            let lower = _mm512_srli_epi64(lower, 16);
            let wx = _mm512_permutexvar_epi32(spread, wx);
            let wy = _mm512_permutexvar_epi32(spread, wy);
            let mix = |a, b, w| _mm512_add_epi16(a, _mm512_mulhrs_epi16(_mm512_sub_epi16(b, a), w));
            let even = |q| _mm512_and_si512(_mm512_slli_epi16(q, 6), lanes);
            let odd = |q| _mm512_and_si512(_mm512_srli_epi16(q, 2), lanes);
            let even = mix(even(upper), even(lower), wy);
            let odd = mix(odd(upper), odd(lower), wy);
            let left = _mm512_mask_blend_epi16(third_lanes, even, _mm512_slli_epi64(odd, 32));
            let right = _mm512_mask_blend_epi16(third_lanes, _mm512_srli_epi64(odd, 16), even);
            _mm512_castsi512_ps(mix(left, right, wx))
        };
        let a = half(_mm512_castsi512_si256(offset), spread_a);
        let b = half(_mm512_extracti64x4_epi64(offset, 1), spread_b);
        let red_blue = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0b1000_1000));
        let green_only = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0b1101_1101));
        let store = |to: &mut [f32], values| {
            // SAFETY: the chunk has sixteen floats.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), _mm512_cvtepi32_ps(values)) }
        };
        store(red, _mm512_and_si512(red_blue, low_half));
        store(green, _mm512_and_si512(green_only, low_half));
        store(blue, _mm512_srli_epi32(red_blue, 16));
    }
}
