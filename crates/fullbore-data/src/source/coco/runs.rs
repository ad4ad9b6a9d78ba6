//! COCO's compressed run lengths.

/// At most `limit` run lengths from the compressed string.
///
/// Each length is a signed number in groups of 5 bits, the lowest first, one character from `0` (48) on for each;
/// bit 6 says that another group follows, and the highest bit of the last group is the sign. From the fourth on, the
/// number is the difference to the length two before.
///
/// # Errors
/// In words, for other characters, for lengths that are cut off, negative or too large, and for too many of them.
pub(crate) fn decompress(text: &str, limit: usize) -> Result<Vec<u32>, String> {
    const MORE: u8 = 0x20;
    const SIGN: u8 = 0x10;
    let mut runs: Vec<u32> = Vec::new();
    let (mut value, mut shift) = (0i64, 0);
    for (at, byte) in text.bytes().enumerate() {
        let group = byte.wrapping_sub(b'0');
        if group > 63 || shift > 35 {
            return Err(format!("a run-length code is damaged at character {}", at + 1));
        }
        value |= i64::from(group & 0x1f) << shift;
        shift += 5;
        if group & MORE != 0 {
            continue;
        }
        if group & SIGN != 0 {
            value |= -1 << shift;
        }
        if runs.len() > 2 {
            value += i64::from(runs[runs.len() - 2]);
        }
        let run =
            u32::try_from(value).map_err(|_| format!("a run of {value} pixels in a run-length code"))?;
        if runs.len() == limit {
            return Err(format!("a run-length code of more than {limit} runs"));
        }
        runs.push(run);
        (value, shift) = (0, 0);
    }
    match shift {
        0 => Ok(runs),
        _ => Err("a run-length code is cut off".into()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn damaged_codes_are_refused() {
        let decompress = |text: &str| super::decompress(text, 9);
        assert_eq!(decompress("").unwrap(), [0u32; 0]);
        assert_eq!(decompress(&"0".repeat(9)).unwrap().len(), 9);
        assert!(decompress(&"0".repeat(10)).unwrap_err().contains("of more than 9 runs"));
        assert_eq!(decompress("5\u{7f}").unwrap_err(), "a run-length code is damaged at character 2");
        assert_eq!(decompress("5 ").unwrap_err(), "a run-length code is damaged at character 2");
        assert_eq!(decompress("5\u{e9}").unwrap_err(), "a run-length code is damaged at character 2");
        assert_eq!(decompress("5Q").unwrap_err(), "a run-length code is cut off");
        assert_eq!(decompress("O").unwrap_err(), "a run of -1 pixels in a run-length code");
        assert!(decompress(&"o".repeat(1000)).unwrap_err().contains("damaged at character 9"));
        assert!(decompress("ooooooo?").unwrap_err().contains("a run of"));
    }
}
