//! Masks packed by run length.
//!
//! Masks are mostly flat: runs take a hundredth of the pixels and unpack as fast as memory is filled. A run is
//! its value and its length in groups of seven bits, lowest first, the high bit telling that more follow. A mask
//! that runs would not make smaller is kept as it is: packed and unpacked length are the same then.

use crate::mask::IndexTable;

/// Appends `values`, translated by `table`, to `out`.
pub(super) fn pack(values: &[u8], table: &IndexTable, out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = values;
    while let Some(&value) = rest.first() {
        let length = run_length(rest, value);
        rest = &rest[length..];
        out.push(table.index(value));
        let mut left = length;
        while left >= 0x80 {
            out.push(left as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
        if out.len() - start >= values.len() {
            out.truncate(start);
            out.extend(values.iter().map(|&value| table.index(value)));
            return;
        }
    }
}

/// Values at the start of `values` that equal `value`.
fn run_length(values: &[u8], value: u8) -> usize {
    let (blocks, _) = values.as_chunks::<32>();
    let flat = blocks.iter().take_while(|block| **block == [value; 32]).count() * 32;
    flat + values[flat..].iter().take_while(|&&v| v == value).count()
}

/// True when `packed` holds exactly `n_pixels` pixels.
pub(super) fn holds(packed: &[u8], n_pixels: usize) -> bool {
    if packed.len() == n_pixels {
        return true;
    }
    let mut runs = Runs(packed);
    let total = runs.by_ref().try_fold(0usize, |sum, (_, length)| sum.checked_add(length));
    total == Some(n_pixels) && runs.0.is_empty()
}

/// Fills `out` with what was packed.
///
/// # Panics
/// When `packed` does not hold exactly as many pixels, see [`holds`].
pub(super) fn unpack(packed: &[u8], out: &mut [u8]) {
    if packed.len() == out.len() {
        return out.copy_from_slice(packed);
    }
    let mut at = 0;
    for (value, length) in Runs(packed) {
        out[at..at + length].fill(value);
        at += length;
    }
    assert_eq!(at, out.len(), "a mask is checked before it is unpacked");
}

/// Values and lengths in turn; ends early where the bytes are no run.
struct Runs<'a>(&'a [u8]);

impl Iterator for Runs<'_> {
    type Item = (u8, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let (&value, mut rest) = self.0.split_first()?;
        let mut length = 0;
        // Four groups hold 2^28 pixels, five every mask that could be.
        for shift in [0, 7, 14, 21, 28] {
            let (&group, after) = rest.split_first()?;
            rest = after;
            length |= usize::from(group & 0x7f) << shift;
            if group < 0x80 {
                self.0 = rest;
                return Some((value, length));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(values: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        pack(values, &IndexTable::IDENTITY, &mut out);
        out.split_off(6)
    }

    fn unpacked(packed: &[u8], n: usize) -> Vec<u8> {
        assert!(holds(packed, n));
        let mut out = vec![99; n];
        unpack(packed, &mut out);
        out
    }

    #[test]
    fn flat_masks_shrink_and_noise_stays_as_it_is() {
        assert_eq!(packed(&[7; 300]), [7, 0xac, 2]);
        let noise: Vec<u8> = (0..200).map(|i| i as u8).collect();
        assert_eq!(packed(&noise), noise);
        assert_eq!(packed(&[5]), [5]);
    }

    proptest! {
        #[test]
        fn every_mask_comes_back(runs in prop::collection::vec((any::<u8>(), 1usize..200), 1..40)) {
            let mask: Vec<u8> = runs.iter().flat_map(|&(value, n)| std::iter::repeat_n(value, n)).collect();
            let packed = packed(&mask);
            prop_assert!(packed.len() <= mask.len());
            prop_assert_eq!(unpacked(&packed, mask.len()), mask);
        }

        #[test]
        fn any_bytes_are_a_whole_mask_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..20), n in 1usize..500) {
            if holds(&bytes, n) {
                unpacked(&bytes, n);
            }
        }
    }
}
