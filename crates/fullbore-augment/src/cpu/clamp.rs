//! Clamping as the machine does it: the library's forms check more, and keep loops from becoming vectors.

/// `v` within `lo..=hi`. NaN, or ends in the wrong order, give one of the ends.
#[inline(always)]
pub(super) fn clamp(v: f32, lo: f32, hi: f32) -> f32 {
    let v = if v < hi { v } else { hi };
    if v > lo { v } else { lo }
}

/// The whole part of `v` after clamping it to `0..=largest`. NaN gives 0 or `largest`.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn whole_part(v: f32, largest: f32) -> u32 {
    const LIMIT: f32 = (1u32 << 30) as f32;
    let v = clamp(v, 0.0, if largest < LIMIT { largest } else { LIMIT });
    // SAFETY: the comparisons leave a number from 0 to 2^30, whatever came in; its whole part is an i32.
    unsafe { v.to_int_unchecked::<i32>() as u32 }
}

#[cfg(test)]
mod tests {
    use super::whole_part;

    #[test]
    fn anything_becomes_a_whole_number_in_range() {
        for (v, largest, whole) in [
            (3.99, 10.0, 3),
            (-2.0, 10.0, 0),
            (11.0, 10.0, 10),
            (f32::INFINITY, 255.0, 255),
            (f32::NEG_INFINITY, 255.0, 0),
            (5.0, -1.0, 0),
            (1e30, f32::INFINITY, 1 << 30),
            (1e30, f32::NAN, 1 << 30),
        ] {
            assert_eq!(whole_part(v, largest), whole, "{v} up to {largest}");
        }
        assert_eq!(whole_part(f32::NAN, 10.0), 10);
    }
}
