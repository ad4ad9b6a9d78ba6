//! Conversions between what decoders give and what a [`Wanted`] asks for.

use std::path::Path;

use fullbore_types::Size;
use image::metadata::Orientation;

use super::{DecodeError, Wanted};

/// How a decoder lays out its samples: interleaved channels of 8 or 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawLayout {
    /// 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
    pub(super) channels: usize,
    /// Width and byte order of a sample.
    pub(super) sample: Sample,
}

/// Width and byte order of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sample {
    /// One byte.
    U8,
    /// Two bytes, high byte first.
    U16Big,
    /// Two bytes in the order of this machine.
    U16Native,
}

impl Sample {
    fn bytes(self) -> usize {
        match self {
            Sample::U8 => 1,
            Sample::U16Big | Sample::U16Native => 2,
        }
    }

    fn value(self, bytes: &[u8]) -> u16 {
        match self {
            Sample::U8 => u16::from(bytes[0]),
            Sample::U16Big => u16::from_be_bytes([bytes[0], bytes[1]]),
            Sample::U16Native => u16::from_ne_bytes([bytes[0], bytes[1]]),
        }
    }

    fn high_byte(self, bytes: &[u8]) -> u8 {
        match self {
            Sample::U8 | Sample::U16Big => bytes[0],
            Sample::U16Native => (self.value(bytes) >> 8) as u8,
        }
    }
}

impl RawLayout {
    /// Bytes per pixel.
    pub(super) fn stride(self) -> usize {
        self.channels * self.sample.bytes()
    }
}

/// BT.601 luma, rounded, as PIL computes it.
pub(super) fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}

/// Raw samples to pixels as wanted.
pub(super) fn convert(
    raw: &[u8],
    layout: RawLayout,
    wanted: Wanted,
    file: &Path,
    width: u32,
    out: &mut [u8],
) -> Result<(), DecodeError> {
    match wanted {
        Wanted::Mask => return mask_values(raw, layout, file, width, out),
        Wanted::Gray => to_gray(raw, layout, out),
        Wanted::Rgb => to_rgb(raw, layout, out),
    }
    Ok(())
}

fn rgb_of(pixel: &[u8], sample: Sample) -> [u8; 3] {
    let step = sample.bytes();
    [0, 1, 2].map(|c| sample.high_byte(&pixel[c * step..]))
}

fn to_gray(raw: &[u8], layout: RawLayout, out: &mut [u8]) {
    let pixels = raw.chunks_exact(layout.stride());
    if layout.channels < 3 {
        out.iter_mut().zip(pixels).for_each(|(o, p)| *o = layout.sample.high_byte(p));
    } else {
        out.iter_mut().zip(pixels).for_each(|(o, p)| *o = luma(rgb_of(p, layout.sample)));
    }
}

fn to_rgb(raw: &[u8], layout: RawLayout, out: &mut [u8]) {
    let pixels = raw.chunks_exact(layout.stride());
    let out = out.chunks_exact_mut(3);
    if layout.channels < 3 {
        out.zip(pixels).for_each(|(o, p)| o.fill(layout.sample.high_byte(p)));
    } else {
        out.zip(pixels).for_each(|(o, p)| o.copy_from_slice(&rgb_of(p, layout.sample)));
    }
}

fn mask_values(
    raw: &[u8],
    layout: RawLayout,
    file: &Path,
    width: u32,
    out: &mut [u8],
) -> Result<(), DecodeError> {
    let step = layout.sample.bytes();
    let place = |i: usize| (i as u32 % width, i as u32 / width);
    for (i, (o, pixel)) in out.iter_mut().zip(raw.chunks_exact(layout.stride())).enumerate() {
        let value = layout.sample.value(pixel);
        if layout.channels >= 3 {
            let rgb = [0, 1, 2].map(|c| layout.sample.value(&pixel[c * step..]));
            if rgb[1] != value || rgb[2] != value {
                let (x, y) = place(i);
                return Err(DecodeError::ColouredMask { file: file.into(), x, y, rgb });
            }
        }
        let Ok(value8) = u8::try_from(value) else {
            let (x, y) = place(i);
            return Err(DecodeError::DeepMask { file: file.into(), x, y, value });
        };
        *o = value8;
    }
    Ok(())
}

/// Spreads rows of 1, 2 or 4 bit samples (each row starting on a byte) to one byte per sample, unscaled.
pub(super) fn unpack_bits(packed: &[u8], bits: usize, size: Size, out: &mut [u8]) {
    let width = size.width as usize;
    let row_bytes = (width * bits).div_ceil(8);
    let per_byte = 8 / bits;
    let low_bits = (1u16 << bits) as u8 - 1;
    for (row, out) in packed.chunks_exact(row_bytes).zip(out.chunks_exact_mut(width)) {
        for (x, o) in out.iter_mut().enumerate() {
            let shift = 8 - bits * (x % per_byte + 1);
            *o = (row[x / per_byte] >> shift) & low_bits;
        }
    }
}

/// True when the upright picture is as wide as the stored one is high.
pub(super) fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::*;
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Copies `stored` (of size `size`, `channels` bytes per pixel) to `out` as EXIF says it is to be seen.
pub(super) fn turn_upright(
    stored: &[u8],
    size: Size,
    channels: usize,
    orientation: Orientation,
    out: &mut [u8],
) {
    let (w, h) = (size.width as isize, size.height as isize);
    // Stored index of the upright pixel (x, y): start + x * right + y * down.
    let (start, right, down) = match orientation {
        Orientation::NoTransforms => (0, 1, w),
        Orientation::FlipHorizontal => (w - 1, -1, w),
        Orientation::Rotate180 => (w * h - 1, -1, -w),
        Orientation::FlipVertical => (w * (h - 1), 1, -w),
        Orientation::Rotate90FlipH => (0, w, 1),
        Orientation::Rotate90 => (w * (h - 1), -w, 1),
        Orientation::Rotate270FlipH => (w * h - 1, -w, -1),
        Orientation::Rotate270 => (w - 1, w, -1),
    };
    let upright_width = if swaps_sides(orientation) { h } else { w } as usize;
    for (y, row) in out.chunks_exact_mut(upright_width * channels).enumerate() {
        let mut from = start + y as isize * down;
        for pixel in row.chunks_exact_mut(channels) {
            let at = from as usize * channels;
            pixel.copy_from_slice(&stored[at..at + channels]);
            from += right;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_unpack_row_by_row_without_scaling() {
        let mut out = [0; 10];
        unpack_bits(&[0b1010_1000, 0b0111_1000], 1, Size::new(5, 2), &mut out);
        assert_eq!(out, [1, 0, 1, 0, 1, 0, 1, 1, 1, 1]);
        let mut out = [0; 3];
        unpack_bits(&[0b1101_1000], 2, Size::new(3, 1), &mut out);
        assert_eq!(out, [3, 1, 2]);
        let mut out = [0; 3];
        unpack_bits(&[0xA5, 0xF0], 4, Size::new(3, 1), &mut out);
        assert_eq!(out, [10, 5, 15]);
    }

    #[test]
    fn every_orientation_agrees_with_the_image_crate() {
        let size = Size::new(5, 3);
        let stored: Vec<u8> = (0..45).collect();
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let mut out = vec![0; stored.len()];
            turn_upright(&stored, size, 3, orientation, &mut out);
            let rgb = image::RgbImage::from_raw(5, 3, stored.clone()).unwrap();
            let mut expected = image::DynamicImage::ImageRgb8(rgb);
            expected.apply_orientation(orientation);
            assert_eq!(expected.width() == 3, swaps_sides(orientation));
            assert_eq!(out, expected.into_bytes(), "orientation {exif}");
        }
    }

    #[test]
    fn luma_keeps_gray_and_weighs_green_most() {
        for v in [0, 1, 127, 254, 255] {
            assert_eq!(luma([v, v, v]), v);
        }
        assert_eq!([luma([255, 0, 0]), luma([0, 255, 0]), luma([0, 0, 255])], [76, 150, 29]);
    }
}
