use std::error::Error;
use std::io::{self, Cursor, ErrorKind};
use std::path::Path;

use fullbore_types::Size;
use image::error::LimitErrorKind;
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::pixels::{self, RawLayout, Sample};
use super::{DecodeError, DecodeLimits, Header, Wanted, damaged};

/// A TIFF, WebP or BMP whose header has been read.
pub(super) struct Body<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    layout: RawLayout,
    about: About,
}

/// What messages need to know.
#[derive(Clone, Copy)]
struct About {
    format: &'static str,
    max_alloc: u64,
    /// The container says that the file should be longer.
    cut: bool,
}

/// Bytes of the largest pixel that is read: RGBA of 16 bits.
const MAX_PIXEL_BYTES: u64 = 8;

pub(super) fn open<'a>(
    bytes: &'a [u8],
    file: &Path,
    format: ImageFormat,
    limits: &DecodeLimits,
) -> Result<Header<'a>, DecodeError> {
    let max_alloc = limits.max_pixels.saturating_mul(MAX_PIXEL_BYTES);
    let about = match format {
        ImageFormat::Tiff => About { format: "TIFF", max_alloc, cut: false },
        ImageFormat::WebP => About { format: "WebP", max_alloc, cut: webp_is_cut(bytes) },
        _ => About { format: "BMP", max_alloc, cut: false },
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut image_limits = Limits::default();
    image_limits.max_alloc = Some(max_alloc);
    reader.limits(image_limits);
    let mut decoder: Box<dyn ImageDecoder + 'a> =
        Box::new(reader.into_decoder().map_err(|e| problem(e, file, about))?);
    let (width, height) = decoder.dimensions();
    let layout = match decoder.color_type() {
        ColorType::L8 => RawLayout { channels: 1, sample: Sample::U8 },
        ColorType::La8 => RawLayout { channels: 2, sample: Sample::U8 },
        ColorType::Rgb8 => RawLayout { channels: 3, sample: Sample::U8 },
        ColorType::Rgba8 => RawLayout { channels: 4, sample: Sample::U8 },
        ColorType::L16 => RawLayout { channels: 1, sample: Sample::U16Native },
        ColorType::La16 => RawLayout { channels: 2, sample: Sample::U16Native },
        ColorType::Rgb16 => RawLayout { channels: 3, sample: Sample::U16Native },
        ColorType::Rgba16 => RawLayout { channels: 4, sample: Sample::U16Native },
        other => {
            return Err(DecodeError::Unsupported {
                file: file.into(),
                what: format!("{} samples of type {other:?}", about.format),
            });
        }
    };
    // A damaged orientation tag does not make the pixels unreadable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let lossy = format == ImageFormat::WebP && webp_is_lossy(bytes);
    let body = super::Body::General(Body { decoder, layout, about });
    Ok(Header { stored: Size::new(width, height), orientation, lossy, body })
}

impl Body<'_> {
    pub(super) fn read(
        self,
        file: &Path,
        wanted: Wanted,
        size: Size,
        out: &mut [u8],
        raw: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let Body { decoder, layout, about } = self;
        let read = |into: &mut [u8]| decoder.read_image_boxed(into).map_err(|e| problem(e, file, about));
        if layout.stride() == wanted.channels() {
            return read(out);
        }
        raw.resize(size.area() as usize * layout.stride(), 0);
        read(raw)?;
        pixels::convert(raw, layout, wanted, file, size.width, out)
    }
}

/// True when the pixel data lies in a `VP8 ` chunk; lossless pictures use `VP8L`.
fn webp_is_lossy(bytes: &[u8]) -> bool {
    let mut chunks = bytes.get(12..).unwrap_or_default();
    while let Some((&[a, b, c, d, n0, n1, n2, n3], rest)) = chunks.split_first_chunk::<8>() {
        match &[a, b, c, d] {
            b"VP8L" => return false,
            b"VP8 " | b"ANMF" => return true,
            _ => {}
        }
        let length = u32::from_le_bytes([n0, n1, n2, n3]) as usize;
        chunks = rest.get(length + length % 2..).unwrap_or_default();
    }
    true
}

/// True when the file is shorter than its RIFF header says.
fn webp_is_cut(bytes: &[u8]) -> bool {
    let declared = bytes.get(4..).and_then(|rest| rest.first_chunk()).map(|n| u32::from_le_bytes(*n));
    declared.is_none_or(|n| u64::from(n) + 8 > bytes.len() as u64)
}

fn problem(error: ImageError, file: &Path, about: About) -> DecodeError {
    let About { format, max_alloc, cut } = about;
    if cut || ended_early(&error) {
        return DecodeError::Truncated { file: file.into(), format };
    }
    match error {
        ImageError::Unsupported(what) => {
            DecodeError::Unsupported { file: file.into(), what: format!("a {format} feature ({what})") }
        }
        ImageError::Limits(limit) if limit.kind() != LimitErrorKind::DimensionError => {
            damaged(file, format, format!("decoding it asks for more than {max_alloc} bytes of memory"))
        }
        other => damaged(file, format, other),
    }
}

/// True when some cause of the error is the end of the file.
fn ended_early(error: &ImageError) -> bool {
    let mut cause = match error {
        ImageError::IoError(e) => Some(e as &(dyn Error + 'static)),
        other => other.source(),
    };
    while let Some(e) = cause {
        if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = e.source();
    }
    false
}
