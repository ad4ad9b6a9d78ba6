//! Bytes to pixels. The content decides the format, never the file's extension.
//!
//! A [`Picture`] is opened first (header only, so that sizes and limits are checked before anything is
//! allocated) and read second, straight into the caller's buffer. What comes out is always upright: EXIF
//! orientation is applied.
//!
//! | format | decoder | notes |
//! | --- | --- | --- |
//! | JPEG | zune-jpeg | baseline and progressive, gray, YCbCr, RGB, CMYK |
//! | PNG | png | 1 to 16 bit, gray, palette, RGB, alpha, interlaced; of an animation the still image |
//! | TIFF, WebP, BMP | image | 8 and 16 bit integers; of a multi-page TIFF the first page |
//!
//! *Images* become 8 bit with 1 or 3 channels. 16-bit samples keep their high byte (as OpenCV and libpng do),
//! palettes become colours, 1/2/4-bit gray is scaled to 0..255. Alpha is dropped, not composited: the colours
//! are those in the file. RGB becomes gray by BT.601 luma, gray becomes RGB by repetition.
//!
//! *Masks* become one raw value per pixel. Palettes give their indices, not their colours. Gray gives the
//! stored samples: 1/2/4-bit gray is NOT scaled up, so a 1-bit mask holds 0 and 1. Alpha is dropped. RGB is
//! accepted where the three channels agree everywhere. 16-bit samples are accepted up to 255.

mod general;
mod jpeg;
mod pixels;
mod png;

use std::path::{Path, PathBuf};

use fullbore_types::Size;
use image::ImageFormat;
use image::metadata::Orientation;

/// How much one file may ask for, so that no input can exhaust memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Most pixels of one image: width times height, read from its header.
    pub max_pixels: u64,
    /// Most bytes of one file.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    /// 2^28 pixels (16384 x 16384) and 1 GiB.
    fn default() -> Self {
        Self { max_pixels: 1 << 28, max_bytes: 1 << 30 }
    }
}

/// What a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// An image with 1 channel, u8.
    Gray,
    /// An image with 3 channels, u8, interleaved.
    Rgb,
    /// A mask: one raw value per pixel, u8.
    Mask,
}

impl Wanted {
    /// Bytes per pixel of the result.
    pub fn channels(self) -> usize {
        match self {
            Wanted::Gray | Wanted::Mask => 1,
            Wanted::Rgb => 3,
        }
    }
}

/// A picture whose header has been read and whose pixels have not.
pub struct Picture<'a> {
    file: &'a Path,
    wanted: Wanted,
    stored: Size,
    orientation: Orientation,
    lossy: bool,
    body: Body<'a>,
}

enum Body<'a> {
    Jpeg(jpeg::Body<'a>),
    Png(png::Body<'a>),
    General(general::Body<'a>),
}

/// What a format's header says.
struct Header<'a> {
    stored: Size,
    orientation: Orientation,
    lossy: bool,
    body: Body<'a>,
}

/// Buffers that a worker keeps from picture to picture.
#[derive(Default)]
pub struct DecodeScratch {
    /// Samples as the decoder gives them, where they need converting.
    raw: Vec<u8>,
    /// Converted pixels, where they need turning upright.
    unturned: Vec<u8>,
}

impl<'a> Picture<'a> {
    /// Reads the header of `bytes`. `file` only appears in messages.
    ///
    /// # Errors
    /// When the bytes are no picture, of an unsupported kind, cut off within the header, or beyond the limits.
    pub fn open(
        bytes: &'a [u8],
        file: &'a Path,
        wanted: Wanted,
        limits: &DecodeLimits,
    ) -> Result<Self, DecodeError> {
        let header = match recognise(bytes, file)? {
            ImageFormat::Jpeg => jpeg::open(bytes, file, wanted)?,
            ImageFormat::Png => png::open(bytes, file, wanted, limits)?,
            format => general::open(bytes, file, format, limits)?,
        };
        let Header { stored, orientation, lossy, body } = header;
        if stored.area() > limits.max_pixels {
            return Err(DecodeError::TooManyPixels {
                file: file.into(),
                size: stored,
                limit: limits.max_pixels,
            });
        }
        if stored.area() == 0 {
            return Err(damaged(file, "picture", format!("its size is {stored}")));
        }
        Ok(Picture { file, wanted, stored, orientation, lossy, body })
    }

    /// Size after EXIF orientation.
    pub fn size(&self) -> Size {
        match pixels::swaps_sides(self.orientation) {
            true => Size::new(self.stored.height, self.stored.width),
            false => self.stored,
        }
    }

    /// True when the format may change pixel values (JPEG, lossy WebP): mask values are then only near the
    /// ones that were meant.
    pub fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Bytes that [`read`](Self::read) fills: height x width x channels.
    pub fn n_bytes(&self) -> usize {
        self.stored.area() as usize * self.wanted.channels()
    }

    /// Decodes into `out`, row by row from the top left, upright.
    ///
    /// # Errors
    /// When the pixel data is cut off, damaged, or (masks) holds what no mask can hold.
    ///
    /// # Panics
    /// When `out` is not [`n_bytes`](Self::n_bytes) long.
    pub fn read(self, out: &mut [u8], scratch: &mut DecodeScratch) -> Result<(), DecodeError> {
        assert_eq!(out.len(), self.n_bytes(), "the buffer must hold exactly the picture");
        let DecodeScratch { raw, unturned } = scratch;
        let Picture { file, wanted, stored, orientation, body, .. } = self;
        let turned = orientation != Orientation::NoTransforms;
        let target = match turned {
            true => {
                unturned.resize(out.len(), 0);
                &mut unturned[..]
            }
            false => &mut *out,
        };
        match body {
            Body::Jpeg(body) => body.read(file, wanted, stored, target, raw)?,
            Body::Png(body) => body.read(file, wanted, stored, target, raw)?,
            Body::General(body) => body.read(file, wanted, stored, target, raw)?,
        }
        if turned {
            pixels::turn_upright(unturned, stored, wanted.channels(), orientation, out);
        }
        Ok(())
    }
}

/// Tells the format from the first bytes.
fn recognise(bytes: &[u8], file: &Path) -> Result<ImageFormat, DecodeError> {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
    const JPEG: &[u8] = b"\xff\xd8\xff";
    if bytes.is_empty() {
        return Err(DecodeError::Empty { file: file.into() });
    }
    let brand = bytes.get(8..12);
    if bytes.starts_with(JPEG) {
        return Ok(ImageFormat::Jpeg);
    }
    if bytes.starts_with(PNG) {
        return Ok(ImageFormat::Png);
    }
    if bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*") {
        return Ok(ImageFormat::Tiff);
    }
    if bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+") {
        return Ok(ImageFormat::Tiff);
    }
    if bytes.starts_with(b"RIFF") && brand == Some(b"WEBP") {
        return Ok(ImageFormat::WebP);
    }
    if bytes.starts_with(b"BM") && bytes.len() > 2 {
        return Ok(ImageFormat::Bmp);
    }
    if PNG.starts_with(bytes) || JPEG.starts_with(bytes) {
        return Err(DecodeError::Truncated { file: file.into(), format: "picture" });
    }
    let known = match bytes {
        [b'G', b'I', b'F', b'8', ..] => Some("GIF"),
        [0xff, 0x0a, ..] => Some("JPEG XL"),
        [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => Some("JPEG XL"),
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] => Some("JPEG 2000"),
        [b'8', b'B', b'P', b'S', ..] => Some("Photoshop"),
        [b'v', b'/', b'1', 1, ..] => Some("OpenEXR"),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Some("NumPy array"),
        [b'%', b'P', b'D', b'F', ..] => Some("PDF"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some("HEIC or AVIF"),
        _ if bytes.get(128..132) == Some(b"DICM") => Some("DICOM"),
        _ => None,
    };
    Err(match known {
        Some(what) => DecodeError::Unsupported { file: file.into(), what: format!("the {what} format") },
        None => DecodeError::NotAnImage { file: file.into(), starts_with: printable_start(bytes) },
    })
}

/// The first bytes as text, for a message.
fn printable_start(bytes: &[u8]) -> String {
    bytes.iter().take(16).flat_map(|&b| std::ascii::escape_default(b)).map(char::from).collect()
}

fn damaged(file: &Path, format: &'static str, detail: impl ToString) -> DecodeError {
    DecodeError::Damaged { file: file.into(), format, detail: detail.to_string() }
}

/// A file that cannot be turned into pixels.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("{} is an empty file", file.display())]
    #[diagnostic(code(data::decode::empty), help("copy the file again, or remove the sample"))]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The content is of no format that this program knows.
    #[error("{} is not an image: it starts with `{starts_with}`", file.display())]
    #[diagnostic(
        code(data::decode::not_an_image),
        help("PNG, JPEG, TIFF, WebP and BMP can be read; replace the file or remove the sample")
    )]
    NotAnImage {
        /// The file.
        file: PathBuf,
        /// Its first bytes, escaped.
        starts_with: String,
    },
    /// The file ends before the picture does.
    #[error("{} is truncated: the {format} ends before its last pixel", file.display())]
    #[diagnostic(code(data::decode::truncated), help("copy the file again, or remove the sample"))]
    Truncated {
        /// The file.
        file: PathBuf,
        /// What it is.
        format: &'static str,
    },
    /// The file breaks the rules of its format.
    #[error("{} is a damaged {format}: {detail}", file.display())]
    #[diagnostic(
        code(data::decode::damaged),
        help("copy the file again, save it anew with an image editor, or remove the sample")
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What it is.
        format: &'static str,
        /// The decoder's complaint.
        detail: String,
    },
    /// A valid picture of a kind that this program does not read.
    #[error("{} uses {what}, which is not supported", file.display())]
    #[diagnostic(code(data::decode::unsupported), help("convert it to PNG: `magick {} out.png`", file.display()))]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The format or feature.
        what: String,
    },
    /// More pixels than [`DecodeLimits::max_pixels`].
    #[error("{} has {size} pixels, more than the limit of {limit} in all", file.display())]
    #[diagnostic(code(data::decode::too_many_pixels), help("cut it into tiles, or scale it down beforehand"))]
    TooManyPixels {
        /// The file.
        file: PathBuf,
        /// Size that its header declares.
        size: Size,
        /// Most pixels allowed.
        limit: u64,
    },
    /// A mask whose channels differ, so that it has no single value per pixel.
    #[error("mask {} is coloured: pixel ({x}, {y}) is {rgb:?}", file.display())]
    #[diagnostic(
        code(data::decode::coloured_mask),
        help("masks hold one value per class: save it as gray or palette PNG whose values are the classes'")
    )]
    ColouredMask {
        /// The file.
        file: PathBuf,
        /// Column of the first coloured pixel, as stored.
        x: u32,
        /// Row of the first coloured pixel, as stored.
        y: u32,
        /// Its red, green and blue.
        rgb: [u16; 3],
    },
    /// A 16-bit mask with a value that no class can have.
    #[error("mask {} holds {value} at pixel ({x}, {y}); mask values go up to 255", file.display())]
    #[diagnostic(code(data::decode::deep_mask), help("save the mask as 8-bit gray PNG"))]
    DeepMask {
        /// The file.
        file: PathBuf,
        /// Column of the first such pixel, as stored.
        x: u32,
        /// Row of the first such pixel, as stored.
        y: u32,
        /// Its value.
        value: u16,
    },
}

#[cfg(test)]
mod tests;
