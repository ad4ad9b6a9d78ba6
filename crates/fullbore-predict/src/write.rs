//! Results to files: each is written beside its final name and then renamed, so that no half file is ever seen.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use fullbore_types::Size;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageError};

use crate::PredictError;

/// A file that appears under its name when it is whole. Dropped before [`finish`](Self::finish), it leaves nothing.
pub(crate) struct PartFile {
    path: PathBuf,
    part: PathBuf,
    /// `None` once it is finished.
    file: Option<BufWriter<File>>,
}

impl PartFile {
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Self, PredictError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let file = File::create(&part).map_err(|error| failed(path, error))?;
        Ok(Self { path: path.into(), part, file: Some(BufWriter::new(file)) })
    }

    /// Writes more.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn write(
        &mut self,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), PredictError> {
        let Self { path, file, .. } = self;
        file.as_mut().map_or(Ok(()), |file| write(file).map_err(|error| failed(path, error)))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the disk does not take the rest, or something is in the way.
    pub(crate) fn finish(mut self) -> Result<(), PredictError> {
        self.write(|file| file.flush())?;
        fs::rename(&self.part, &self.path).map_err(|error| failed(&self.path, error))?;
        self.file = None;
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Whatever is left of it helps nobody; the error that led here is the one to tell.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Writes a whole file at once.
///
/// # Errors
/// When it cannot be written; nothing of it stays.
pub(crate) fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), PredictError> {
    let mut file = PartFile::create(path)?;
    file.write(write)?;
    file.finish()
}

/// Writes 8-bit pixels as PNG: u8 `[height, width]` as gray, or `[height, width, 3]` as RGB.
///
/// # Errors
/// As [`write_file`].
pub(crate) fn write_png(path: &Path, size: Size, pixels: &[u8]) -> Result<(), PredictError> {
    let colour = match pixels.len() as u64 == size.area() {
        true => ExtendedColorType::L8,
        false => ExtendedColorType::Rgb8,
    };
    write_file(path, |file| {
        PngEncoder::new_with_quality(file, CompressionType::Fast, FilterType::Adaptive)
            .write_image(pixels, size.width, size.height, colour)
            .map_err(|error| match error {
                ImageError::IoError(error) => error,
                other => io::Error::other(other),
            })
    })
}

fn failed(path: &Path, source: io::Error) -> PredictError {
    let path = path.into();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PredictError::DiskFull { path, source },
        _ => PredictError::Write { path, source },
    }
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

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = PartFile::create(&dir.path().join("a.csv")).unwrap();
        file.write(|file| file.write_all(b"half")).unwrap();
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
