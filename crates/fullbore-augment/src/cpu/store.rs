//! Finished rows into the output's type and layout.

use super::clamp::whole_part;

/// A type that images are stored in.
pub(super) trait Number: Copy {
    /// From a finished number; `mean_out` is added in bytes.
    fn of(value: f32, mean_out: f32) -> Self;

    /// The numbers themselves, where they are stored as they are finished.
    fn floats(_out: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

impl Number for f32 {
    #[inline(always)]
    fn of(value: f32, _mean_out: f32) -> Self {
        value
    }

    fn floats(out: &mut [f32]) -> Option<&mut [f32]> {
        Some(out)
    }
}

/// The bits of bfloat16, rounded to nearest even.
impl Number for u16 {
    #[inline(always)]
    fn of(value: f32, _mean_out: f32) -> Self {
        let bits = value.to_bits();
        (bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16) as u16
    }
}

impl Number for u8 {
    #[inline(always)]
    fn of(value: f32, mean_out: f32) -> Self {
        whole_part(value + mean_out + 0.5, 255.0) as u8
    }
}

/// One channel of a row.
#[inline(always)]
pub(super) fn planar<T: Number>(row: &[f32], mean_out: f32, out: &mut [T]) {
    for (out, &value) in out.iter_mut().zip(row) {
        *out = T::of(value, mean_out);
    }
}

/// All three channels of a row, pixel by pixel.
#[inline(always)]
pub(super) fn interleaved<T: Number>(rows: [&[f32]; 3], mean_out: [f32; 3], out: &mut [T]) {
    let n = out.len() / 3;
    let [r, g, b] = rows.map(|row| &row[..n]);
    for (out, ((&r, &g), &b)) in out.chunks_exact_mut(3).zip(r.iter().zip(g).zip(b)) {
        out[0] = T::of(r, mean_out[0]);
        out[1] = T::of(g, mean_out[1]);
        out[2] = T::of(b, mean_out[2]);
    }
}
