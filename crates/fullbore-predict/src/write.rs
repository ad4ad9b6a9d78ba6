//! Pictures to files: PNG, each written beside its final name and then renamed, so that no half file is ever seen.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use fullbore_types::Size;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageError};

use crate::PredictError;

/// Writes 8-bit pixels as PNG: u8 `[height, width]` as gray, or `[height, width, 3]` as RGB.
///
/// # Errors
/// When the file cannot be written; nothing of it stays.
pub(crate) fn write_png(path: &Path, size: Size, pixels: &[u8]) -> Result<(), PredictError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = encode(&part, size, pixels).and_then(|()| fs::rename(&part, path));
    written.map_err(|source| {
        // Whatever is left of it helps nobody; the first error is the one to tell.
        let _ = fs::remove_file(&part);
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                PredictError::DiskFull { path, source }
            }
            _ => PredictError::Write { path, source },
        }
    })
}

fn encode(path: &Path, size: Size, pixels: &[u8]) -> io::Result<()> {
    let colour = match pixels.len() as u64 == size.area() {
        true => ExtendedColorType::L8,
        false => ExtendedColorType::Rgb8,
    };
    let mut file = BufWriter::new(File::create(path)?);
    PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Adaptive)
        .write_image(pixels, size.width, size.height, colour)
        .map_err(|error| match error {
            ImageError::IoError(error) => error,
            other => io::Error::other(other),
        })?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_nothing_else_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let size = Size::new(3, 2);
        let gray: Vec<u8> = (0..6).collect();
        let rgb: Vec<u8> = (0..18).map(|v| v * 14).collect();
        write_png(&dir.path().join("a.png"), size, &gray).unwrap();
        write_png(&dir.path().join("b.png"), size, &rgb).unwrap();
        let read = |name| image::open(dir.path().join(name)).unwrap();
        assert_eq!(read("a.png").into_luma8().into_raw(), gray);
        assert_eq!(read("b.png").into_rgb8().into_raw(), rgb);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_folder_in_the_way_is_an_error_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a.png/x")).unwrap();
        let error = write_png(&dir.path().join("a.png"), Size::new(1, 1), &[0]).unwrap_err();
        assert!(matches!(error, PredictError::Write { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
