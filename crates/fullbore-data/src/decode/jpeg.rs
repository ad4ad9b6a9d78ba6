use std::path::Path;

use fullbore_types::Size;
use image::metadata::Orientation;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::pixels::{self, RawLayout, Sample};
use super::{DecodeError, Header, Wanted, damaged};

/// Largest side that the format can declare.
const MAX_SIDE: usize = u16::MAX as usize;
/// How far the channels of one pixel may lie apart in a gray mask that was stored as colour JPEG.
const GRAY_SPREAD: u8 = 32;

/// A JPEG whose header has been read.
pub(super) struct Body<'a> {
    bytes: &'a [u8],
    decoder: Box<JpegDecoder<ZCursor<&'a [u8]>>>,
    /// True when the decoder gives RGB; false when it gives luma.
    gives_rgb: bool,
}

pub(super) fn open<'a>(bytes: &'a [u8], file: &Path, wanted: Wanted) -> Result<Header<'a>, DecodeError> {
    // Strict: otherwise a file that is cut off decodes to gray without a word.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = Box::new(JpegDecoder::new_with_options(ZCursor::new(bytes), options));
    decoder.decode_headers().map_err(|e| problem(e, bytes, file))?;
    let info = decoder.info().ok_or_else(|| damaged(file, "JPEG", "it has no frame header"))?;
    let stored = Size::new(u32::from(info.width), u32::from(info.height));
    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif))
        .unwrap_or(Orientation::NoTransforms);
    // Luma straight from the decoder saves the colour conversion; it offers that only for these inputs.
    let gives_rgb = match (wanted, decoder.input_colorspace()) {
        (Wanted::Rgb, _) => true,
        (_, Some(ColorSpace::Luma)) | (Wanted::Gray, Some(ColorSpace::YCbCr)) => false,
        _ => true,
    };
    if !gives_rgb {
        decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::Luma));
    }
    let body = super::Body::Jpeg(Body { bytes, decoder, gives_rgb });
    Ok(Header { stored, orientation, lossy: true, body })
}

impl Body<'_> {
    pub(super) fn read(
        mut self,
        file: &Path,
        wanted: Wanted,
        size: Size,
        out: &mut [u8],
        raw: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let direct = self.gives_rgb == (wanted == Wanted::Rgb);
        let target = if direct {
            &mut *out
        } else {
            raw.resize(out.len() * 3, 0);
            &mut raw[..]
        };
        self.decoder.decode_into(target).map_err(|e| problem(e, self.bytes, file))?;
        // The decoder does not notice a cut within the last row of blocks.
        if !has_end(self.bytes) {
            return Err(DecodeError::Truncated { file: file.into(), format: "JPEG" });
        }
        if direct {
            return Ok(());
        }
        if wanted == Wanted::Mask {
            return gray_mask(raw, file, size.width, out);
        }
        pixels::convert(raw, RawLayout { channels: 3, sample: Sample::U8 }, wanted, file, size.width, out)
    }
}

/// Luma of a colour JPEG that holds a gray mask; compression leaves only a slight tint there.
fn gray_mask(rgb: &[u8], file: &Path, width: u32, out: &mut [u8]) -> Result<(), DecodeError> {
    for (i, (o, pixel)) in out.iter_mut().zip(rgb.as_chunks::<3>().0).enumerate() {
        let [r, g, b] = *pixel;
        if r.max(g).max(b) - r.min(g).min(b) > GRAY_SPREAD {
            let (x, y) = (i as u32 % width, i as u32 / width);
            return Err(DecodeError::ColouredMask { file: file.into(), x, y, rgb: pixel.map(u16::from) });
        }
        *o = pixels::luma(*pixel);
    }
    Ok(())
}

/// True when the end-of-image marker is there. Searched from the end, where it nearly always is.
fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).rev().any(|pair| pair == [0xff, 0xd9])
}

fn problem(error: DecodeErrors, bytes: &[u8], file: &Path) -> DecodeError {
    match error {
        DecodeErrors::Unsupported(scheme) => {
            DecodeError::Unsupported { file: file.into(), what: format!("{scheme:?} JPEG") }
        }
        _ if !has_end(bytes) => DecodeError::Truncated { file: file.into(), format: "JPEG" },
        other => damaged(file, "JPEG", other),
    }
}
