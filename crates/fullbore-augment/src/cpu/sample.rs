//! Bilinear samples of a row of canvas points, as one buffer per channel.

use fullbore_types::Size;

use super::isa::Isa;
use super::sample_x86;

/// A canvas of bytes with `channels` per pixel.
#[derive(Clone, Copy)]
pub(super) struct Canvas<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) size: Size,
    pub(super) channels: usize,
}

/// What a white pixel is in the samples: bytes with six more bits, as the vector code computes them.
pub(super) const WHITE: f32 = 255.0 * 64.0;

/// Fills the first `canvas.channels` of `out` with the samples at `(u, v)`. Points must lie within `0..=w - 1` and
/// `0..=h - 1`; others give some pixel of the canvas. All slices are equally long, whole blocks of 16.
#[allow(unsafe_code)]
pub(super) fn sample(isa: Isa, canvas: Canvas<'_>, u: &[f32], v: &[f32], out: [&mut [f32]; 3]) {
    // The vector code reads two pixels at a time in each direction.
    let narrow = canvas.size.width < 2 || canvas.size.height < 2;
    match (isa, canvas.channels) {
        _ if narrow => portable(canvas, u, v, out),
        // SAFETY: an augmenter is only made with instruction sets that the machine has.
        (Isa::Avx512, 3) => unsafe { sample_x86::rgb_avx512(canvas, u, v, out) },
        // SAFETY: the same.
        (Isa::Avx2, 3) => unsafe { sample_x86::rgb_avx2(canvas, u, v, out) },
        _ => portable(canvas, u, v, out),
    }
}

fn portable(canvas: Canvas<'_>, u: &[f32], v: &[f32], out: [&mut [f32]; 3]) {
    let [first, second, third] = out;
    match canvas.channels {
        1 => {
            for (i, (&u, &v)) in u.iter().zip(v).enumerate() {
                [first[i]] = pixel(canvas, u, v);
            }
        }
        _ => {
            for (i, (&u, &v)) in u.iter().zip(v).enumerate() {
                [first[i], second[i], third[i]] = pixel(canvas, u, v);
            }
        }
    }
}

#[inline(always)]
fn pixel<const C: usize>(canvas: Canvas<'_>, u: f32, v: f32) -> [f32; C] {
    let last = |side: u32| side as usize - 1;
    let (right, bottom) = (last(canvas.size.width), last(canvas.size.height));
    let (x, y) = ((u as usize).min(right), (v as usize).min(bottom));
    let (fx, fy) = (u - x as f32, v - y as f32);
    let at = |x: usize, y: usize| {
        let start = (y * canvas.size.width as usize + x) * C;
        &canvas.bytes[start..start + C]
    };
    let (x1, y1) = ((x + 1).min(right), (y + 1).min(bottom));
    let (a, b, c, d) = (at(x, y), at(x1, y), at(x, y1), at(x1, y1));
    std::array::from_fn(|i| {
        let [a, b, c, d] = [a[i], b[i], c[i], d[i]].map(f32::from);
        let top = a + (b - a) * fx;
        let low = c + (d - c) * fx;
        (top + (low - top) * fy) * (WHITE / 255.0)
    })
}
