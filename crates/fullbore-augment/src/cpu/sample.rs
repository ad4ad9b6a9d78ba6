//! Bilinear samples of a row of canvas points, as one buffer per channel.

use fullbore_types::Size;

use super::clamp::{clamp, whole_part};
use super::isa::Isa;
use super::sample_x86;

/// A canvas of bytes with `channels` per pixel.
#[derive(Clone, Copy)]
pub(super) struct Canvas<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) size: Size,
    pub(super) channels: usize,
}

/// What a white pixel is in the samples: bytes with seven more bits, as the vector code computes them.
pub(super) const WHITE: f32 = 255.0 * 128.0;

/// Fills the first `canvas.channels` of `out` with the samples at `(u, v)`. Points outside `0..=w - 1` and `0..=h - 1` are
/// clamped to it. All slices are equally long, whole blocks of 16.
#[allow(unsafe_code)]
pub(super) fn sample(isa: Isa, canvas: Canvas<'_>, u: &[f32], v: &[f32], out: [&mut [f32]; 3]) {
    let usual = 2..=sample_x86::MAX_SIDE;
    if !usual.contains(&canvas.size.width) || !usual.contains(&canvas.size.height) {
        return portable(canvas, u, v, out);
    }
    match (isa, canvas.channels) {
        // SAFETY: an augmenter is only made with instruction sets that the machine has.
        (Isa::Avx512, 3) => unsafe { sample_x86::rgb_avx512(canvas, u, v, out) },
        // SAFETY: the same.
        (Isa::Avx2, 3) => unsafe { sample_x86::rgb_avx2(canvas, u, v, out) },
        // SAFETY: the same; AVX2 is part of what counts as AVX-512.
        (Isa::Avx2 | Isa::Avx512, 1) => unsafe {
            let [gray, _, _] = out;
            sample_x86::gray_avx2(canvas, u, v, gray)
        },
        _ => portable(canvas, u, v, out),
    }
}

fn portable(canvas: Canvas<'_>, u: &[f32], v: &[f32], out: [&mut [f32]; 3]) {
    let points = u.iter().zip(v);
    let [first, second, third] = out;
    if canvas.channels == 1 {
        for (gray, (&u, &v)) in first.iter_mut().zip(points) {
            [*gray] = pixel(canvas, u, v);
        }
    } else {
        let rgb = first.iter_mut().zip(second).zip(third);
        for (((r, g), b), (&u, &v)) in rgb.zip(points) {
            [*r, *g, *b] = pixel(canvas, u, v);
        }
    }
}

#[inline(always)]
fn pixel<const C: usize>(canvas: Canvas<'_>, u: f32, v: f32) -> [f32; C] {
    let width = canvas.size.width as usize;
    let (right, bottom) = (canvas.size.width - 1, canvas.size.height - 1);
    let (u, v) = (clamp(u, 0.0, right as f32), clamp(v, 0.0, bottom as f32));
    let (x, y) = (whole_part(u, right as f32), whole_part(v, bottom as f32));
    let (fx, fy) = (u - x as f32, v - y as f32);
    let beside = if x < right { C } else { 0 };
    let below = if y < bottom { C * width } else { 0 };
    let start = (y as usize * width + x as usize) * C;
    let at = |start: usize| &canvas.bytes[start..start + C];
    let (a, b, c, d) = (at(start), at(start + beside), at(start + below), at(start + below + beside));
    std::array::from_fn(|i| {
        let [a, b, c, d] = [a[i], b[i], c[i], d[i]].map(f32::from);
        let top = a + (b - a) * fx;
        let low = c + (d - c) * fx;
        (top + (low - top) * fy) * (WHITE / 255.0)
    })
}
