//! Photos to lay marks over.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use fullbore_data::DecodeLimits;
use fullbore_data::decode::{DecodeScratch, Picture as Decoded, Wanted};
use fullbore_data::source::{ends_like_picture, read_file};
use fullbore_types::{Purpose, SampleId, SampleKey, Size};

use super::config::{Split, WatermarkConfig};
use crate::SynthError;
use crate::draw::Draw;
use crate::picture::Picture;

/// As [`DecodeLimits`], but no more than 2^26 pixels (8192 x 8192), since each core holds one photo.
const LIMITS: DecodeLimits = DecodeLimits { max_pixels: 1 << 26, max_bytes: 1 << 28 };

/// The photos of a folder, each of which serves one split only.
pub(super) struct Photos {
    folder: PathBuf,
    /// Every file that ends like a picture, sorted.
    files: Vec<PathBuf>,
    /// Photos of each split, in the order of their use.
    splits: [Vec<usize>; 3],
    /// Photos that cannot be read, with the reason.
    unreadable: Mutex<BTreeMap<usize, String>>,
}

impl Photos {
    /// Lists the photos in `folder` and all folders in it, but for hidden ones, symbolic links to folders, and
    /// `output`. Reads none.
    ///
    /// # Errors
    /// When a folder cannot be read or there are fewer photos than splits.
    pub(super) fn list(folder: &Path, output: &Path, config: &WatermarkConfig) -> Result<Self, SynthError> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let unreadable = |source| SynthError::PhotosUnreadable { path: folder.clone(), source };
            for entry in fs::read_dir(&folder).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let name = entry.file_name();
                if name.as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                let path = entry.path();
                if entry.file_type().map_err(unreadable)?.is_dir() {
                    if path != output {
                        folders.push(path);
                    }
                } else if ends_like_picture(&name.to_string_lossy()) {
                    files.push(path);
                }
            }
        }
        files.sort();
        let photos = Photos {
            folder: folder.into(),
            splits: deal(files.len(), config)?,
            files,
            unreadable: Mutex::default(),
        };
        match photos.files.is_empty() {
            true => Err(SynthError::NoPhotos { folder: folder.into() }),
            false => Ok(photos),
        }
    }

    /// Photos there are, readable or not.
    pub(super) fn found(&self) -> usize {
        self.files.len()
    }

    /// What is wrong with each photo met so far that cannot be read, in the order of their names.
    pub(super) fn skipped(&self) -> Vec<String> {
        self.unreadable().values().cloned().collect()
    }

    /// A random part of image `index`'s photo, resized. The photos of a split take turns; the next readable one
    /// stands in for one that is not.
    ///
    /// # Errors
    /// When no photo of the split can be read.
    pub(super) fn crop(
        &self,
        draw: &mut Draw,
        split: Split,
        index: u32,
        size: Size,
    ) -> Result<Picture, SynthError> {
        let photos = &self.splits[split as usize];
        for turn in 0..photos.len() {
            let photo = photos[(index as usize + turn) % photos.len()];
            if self.unreadable().contains_key(&photo) {
                continue;
            }
            match load(&self.files[photo]) {
                Ok((stored, pixels)) => return Ok(cut(draw, stored, &pixels, size)),
                Err(reason) => self.unreadable().insert(photo, reason),
            };
        }
        let example = photos.first().and_then(|photo| self.unreadable().get(photo).cloned());
        Err(SynthError::NoReadablePhoto {
            folder: self.folder.clone(),
            split: split.name(),
            count: photos.len(),
            example: example.unwrap_or_default(),
        })
    }

    fn unreadable(&self) -> MutexGuard<'_, BTreeMap<usize, String>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shuffles `n` photos and shares them out to the splits by their numbers of images, at least one to each.
fn deal(n: usize, config: &WatermarkConfig) -> Result<[Vec<usize>; 3], SynthError> {
    let counts = Split::ALL.map(|split| config.count(split) as usize);
    let n_splits = counts.iter().filter(|count| **count > 0).count();
    if (1..n_splits).contains(&n) {
        return Err(SynthError::FewPhotos { found: n, splits: n_splits });
    }
    let mut order: Vec<usize> = (0..n).collect();
    let key = SampleKey { seed: config.seed, epoch: 0, sample: SampleId(0) };
    key.rng(Purpose::SynthPhotos).shuffle(&mut order);
    let spare = n.saturating_sub(n_splits);
    let total: usize = counts.iter().sum();
    let (mut images, mut given, mut sure) = (0, 0, 0);
    Ok(counts.map(|count| {
        images += count;
        sure += usize::from(count > 0);
        let end = (sure + spare * images / total).min(n);
        let photos = order[given..end.max(given)].to_vec();
        given = end.max(given);
        photos
    }))
}

/// All pixels of a photo, or what is wrong with it.
fn load(file: &Path) -> Result<(Size, Vec<u8>), String> {
    let read = || -> Result<(Size, Vec<u8>), String> {
        let mut bytes = Vec::new();
        read_file(file, LIMITS.max_bytes, &mut bytes).map_err(|e| e.to_string())?;
        let photo = Decoded::open(&bytes, file, Wanted::Rgb, &LIMITS).map_err(|e| e.to_string())?;
        let size = photo.size();
        let mut pixels = vec![0; photo.n_bytes()];
        photo.read(&mut pixels, &mut DecodeScratch::default()).map_err(|e| e.to_string())?;
        Ok((size, pixels))
    };
    // Unwind safety: nothing that the panic may have left half done is seen again.
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(format!("{} made its decoder fail unexpectedly", file.display())))
}

/// A window of the aspect of `size`, from 60 % of the largest to all of it, at times mirrored.
fn cut(draw: &mut Draw, stored: Size, pixels: &[u8], size: Size) -> Picture {
    let (width, height) = (f64::from(stored.width), f64::from(stored.height));
    let aspect = f64::from(size.width) / f64::from(size.height);
    let share = f64::from(draw.between(0.6, 1.0));
    let window = [(height * aspect).min(width) * share, (width / aspect).min(height) * share];
    let left = (width - window[0]) * f64::from(draw.unit());
    let top = (height - window[1]) * f64::from(draw.unit());
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left, top, window[0], window[1]);
    const GIVEN: &str = "the window lies within the photo";
    let source = ImageRef::new(stored.width, stored.height, pixels, PixelType::U8x3).expect(GIVEN);
    let mut target = Image::new(size.width, size.height, PixelType::U8x3);
    Resizer::new().resize(&source, &mut target, &options).expect(GIVEN);
    let mut picture = Picture::from_rgb8(size, target.buffer());
    if draw.chance(0.5) {
        picture.pixels.chunks_exact_mut(size.width as usize).for_each(<[_]>::reverse);
    }
    picture
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_photo_serves_one_split_and_every_split_has_one(
            n in 0usize..200,
            seed: u64,
            counts in [0u32..50, 0u32..50, 0u32..50],
        ) {
            prop_assume!(counts != [0; 3]);
            let [train, val, test] = counts;
            let config = WatermarkConfig { seed, train, val, test, ..WatermarkConfig::default() };
            let n_splits = counts.iter().filter(|count| **count > 0).count();
            match deal(n, &config) {
                Ok(splits) => {
                    let mut all = splits.concat();
                    all.sort();
                    prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
                    for (photos, count) in splits.iter().zip(counts) {
                        prop_assert_eq!(!photos.is_empty(), n > 0 && count > 0);
                    }
                }
                Err(_) => prop_assert!(n > 0 && n < n_splits),
            }
        }
    }
}
