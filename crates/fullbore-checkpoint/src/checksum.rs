use std::ops::Range;

use crate::CRC_KEY;

/// Stands where the digits will be while the checksum is computed.
pub(crate) const PLACEHOLDER: &str = "00000000";

/// Where the eight digits of the checksum lie in the header's text.
///
/// Looking at the raw bytes is safe: inside a JSON string the quotes would be escaped, and a tensor of this name
/// would be followed by an object, not by text.
pub(crate) fn digits_in(header: &[u8]) -> Option<Range<usize>> {
    let marker = format!("\"{CRC_KEY}\":\"");
    let start = header.windows(marker.len()).position(|window| window == marker.as_bytes())? + marker.len();
    let end = start + PLACEHOLDER.len();
    (header.get(end) == Some(&b'"')).then_some(start..end)
}

/// CRC-32 (IEEE) over the length prefix and the header, with the digits at `digits` read as zeros. Tensor bytes
/// are added by the caller in file order.
pub(crate) fn over_header(header: &[u8], digits: &Range<usize>) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(header.len() as u64).to_le_bytes());
    hasher.update(&header[..digits.start]);
    hasher.update(PLACEHOLDER.as_bytes());
    hasher.update(&header[digits.end..]);
    hasher
}

/// The checksum as the eight digits that the file holds.
pub(crate) fn to_digits(checksum: u32) -> String {
    format!("{checksum:08x}")
}
