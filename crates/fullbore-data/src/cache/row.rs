//! One line of a pack's index: 64 bytes, little-endian, that vouch for themselves and for the pixels they name.

use fullbore_types::Size;
use twox_hash::XxHash3_64;

use super::key::Key;
use super::shape::Shape;

/// Bytes of a row, and of the header before the first one. Divides the size of a page, so that a row is never
/// written in two parts.
pub(super) const ROW_BYTES: usize = 64;
/// Bytes of a row that its own checksum covers.
const CHECKED: usize = ROW_BYTES - 8;
const MAGIC: &[u8; 16] = b"fullbore cache 1";

/// Where one sample lies in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) shape: Shape,
    /// First byte of its pixels.
    pub(super) offset: u64,
    /// Over the pixels, bound to key and shape.
    pub(super) checksum: u64,
}

impl Row {
    pub(super) fn new(key: Key, shape: Shape, offset: u64, payload: &[u8]) -> Self {
        Row { key, shape, offset, checksum: checksum(key, shape, payload) }
    }

    /// True when `payload` is what the row was made for.
    pub(super) fn vouches_for(&self, payload: &[u8]) -> bool {
        self.checksum == checksum(self.key, self.shape, payload)
    }

    /// First byte after its pixels; `None` when that cannot be counted.
    pub(super) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.shape.bytes() as u64)
    }

    pub(super) fn to_bytes(self) -> [u8; ROW_BYTES] {
        let Row { key, shape, offset, checksum } = self;
        let mut bytes = [0; ROW_BYTES];
        bytes[..40].copy_from_slice(&named(key, shape));
        bytes[40..48].copy_from_slice(&offset.to_le_bytes());
        bytes[48..56].copy_from_slice(&checksum.to_le_bytes());
        seal(bytes)
    }

    /// `None` when the bytes are no whole row.
    pub(super) fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Option<Self> {
        if !is_sealed(bytes) {
            return None;
        }
        let (place, rest) = bytes.split_first_chunk()?;
        let u32_at = |at: usize| Some(u32::from_le_bytes(*rest[at..].first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(*rest[at..].first_chunk()?));
        let source = Size::new(u32_at(8)?, u32_at(12)?);
        Some(Row {
            key: Key { place: u128::from_le_bytes(*place), state: u64_at(0)? },
            shape: Shape { source, image_bytes: u32_at(16)?, mask_bytes: u32_at(20)? },
            offset: u64_at(24)?,
            checksum: u64_at(32)?,
        })
    }
}

/// The first row of an index: format and recipe.
pub(super) fn header(recipe: u128) -> [u8; ROW_BYTES] {
    let mut bytes = [0; ROW_BYTES];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..32].copy_from_slice(&recipe.to_le_bytes());
    seal(bytes)
}

fn named(key: Key, shape: Shape) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..16].copy_from_slice(&key.place.to_le_bytes());
    bytes[16..24].copy_from_slice(&key.state.to_le_bytes());
    bytes[24..28].copy_from_slice(&shape.source.width.to_le_bytes());
    bytes[28..32].copy_from_slice(&shape.source.height.to_le_bytes());
    bytes[32..36].copy_from_slice(&shape.image_bytes.to_le_bytes());
    bytes[36..].copy_from_slice(&shape.mask_bytes.to_le_bytes());
    bytes
}

fn checksum(key: Key, shape: Shape, payload: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(&named(key, shape)), payload)
}

fn seal(mut bytes: [u8; ROW_BYTES]) -> [u8; ROW_BYTES] {
    let sum = XxHash3_64::oneshot(&bytes[..CHECKED]);
    bytes[CHECKED..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn is_sealed(bytes: &[u8; ROW_BYTES]) -> bool {
    bytes[CHECKED..] == XxHash3_64::oneshot(&bytes[..CHECKED]).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let shape = Shape { source: Size::new(7, 9), image_bytes: 3, mask_bytes: 1 };
        Row::new(Key { place: u128::MAX / 3, state: 11 }, shape, 1 << 40, b"abcd")
    }

    #[test]
    fn a_row_reads_back_and_vouches_for_its_own_pixels_only() {
        let row = row();
        assert_eq!(Row::from_bytes(&row.to_bytes()), Some(row));
        assert!(row.vouches_for(b"abcd") && !row.vouches_for(b"abce") && !row.vouches_for(b"abc"));
        let moved = Row { key: Key { state: 12, ..row.key }, ..row };
        assert!(!moved.vouches_for(b"abcd"), "the pixels of another file");
        assert_eq!(row.end(), Some((1 << 40) + 4));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = row().to_bytes();
        for bit in 0..ROW_BYTES * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Row::from_bytes(&bytes), None, "bit {bit}");
        }
        assert_eq!(Row::from_bytes(&[0; ROW_BYTES]), None);
        assert_eq!(Row::from_bytes(&[0xff; ROW_BYTES]), None);
    }

    #[test]
    fn a_header_is_no_row_of_another_recipe() {
        assert_ne!(header(1), header(2));
        assert!(is_sealed(&header(1)));
    }
}
