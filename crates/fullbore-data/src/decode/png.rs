use std::io::{Cursor, ErrorKind};
use std::path::Path;

use fullbore_types::Size;
use image::metadata::Orientation;
use png::{BitDepth, ColorType, DecodingError, Limits, Transformations};

use super::pixels::{self, RawLayout, Sample};
use super::{DecodeError, DecodeLimits, Header, Wanted, damaged};

/// A PNG whose header has been read.
pub(super) struct Body<'a> {
    reader: Box<png::Reader<Cursor<&'a [u8]>>>,
    color: ColorType,
    depth: BitDepth,
}

pub(super) fn open<'a>(
    bytes: &'a [u8],
    file: &Path,
    wanted: Wanted,
    limits: &DecodeLimits,
) -> Result<Header<'a>, DecodeError> {
    // The decoder counts what it allocates itself: rows and chunks, no whole picture.
    let bytes_limit = usize::try_from(limits.max_bytes).unwrap_or(usize::MAX);
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: bytes_limit });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(match wanted {
        Wanted::Mask => Transformations::IDENTITY,
        Wanted::Gray | Wanted::Rgb => Transformations::EXPAND | Transformations::STRIP_16,
    });
    let reader = Box::new(decoder.read_info().map_err(|e| problem(e, file))?);
    let (color, depth) = reader.output_color_type();
    let info = reader.info();
    let stored = Size::new(info.width, info.height);
    let exif = info.exif_metadata.as_deref();
    let orientation = exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let body = super::Body::Png(Body { reader, color, depth });
    Ok(Header { stored, orientation, lossy: false, body })
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
        let layout = RawLayout {
            channels: self.color.samples(),
            sample: if self.depth == BitDepth::Sixteen { Sample::U16Big } else { Sample::U8 },
        };
        let bits = self.depth as usize;
        if bits >= 8 && layout.stride() == wanted.channels() {
            return self.frame(file, out);
        }
        let n_bytes = self.reader.output_buffer_size();
        let n_bytes = n_bytes.ok_or_else(|| damaged(file, "PNG", "its rows are too long"))?;
        raw.resize(n_bytes, 0);
        self.frame(file, raw)?;
        if bits < 8 {
            pixels::unpack_bits(raw, bits, size, out);
            return Ok(());
        }
        pixels::convert(raw, layout, wanted, file, size.width, out)
    }

    fn frame(&mut self, file: &Path, into: &mut [u8]) -> Result<(), DecodeError> {
        self.reader.next_frame(into).map(drop).map_err(|e| problem(e, file))
    }
}

fn problem(error: DecodingError, file: &Path) -> DecodeError {
    match error {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { file: file.into(), format: "PNG" }
        }
        other => damaged(file, "PNG", other),
    }
}
