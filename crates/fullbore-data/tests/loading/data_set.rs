//! Small data sets made on the spot.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fullbore_data::source::{self, Part, Source, SourceError};
use fullbore_data::{FaultPolicy, Format, HostBatch, LoaderConfig, Resize};
use fullbore_types::{Classes, SampleId, Size};
use image::{GrayImage, ImageEncoder, Luma, Rgb, RgbImage};

pub(crate) const CLASSES: [(&str, u8); 2] = [("background", 0), ("thing", 255)];

pub(crate) fn classes() -> Classes {
    Classes {
        names: CLASSES.iter().map(|(name, _)| (*name).to_owned()).collect(),
        values: CLASSES.iter().map(|(_, value)| *value).collect(),
        void_value: None,
    }
}

/// Batches of 12x8 canvases. The first bad sample ends the stream.
pub(crate) fn config(batch_size: usize) -> LoaderConfig {
    LoaderConfig {
        resize: Resize::Crop,
        seed: 5,
        epochs: 2,
        faults: FaultPolicy { max_bad: 0, ..FaultPolicy::default() },
        ..LoaderConfig::new(batch_size, Size::new(12, 8), Some(classes()))
    }
}

pub(crate) fn png(width: u32, height: u32, color: image::ExtendedColorType, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes).write_image(pixels, width, height, color).unwrap();
    bytes
}

/// The image of sample `i`: its number in red, its pixel's place in green and blue.
pub(crate) fn image_of(i: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([i as u8, x as u8, y as u8]))
}

/// The mask of sample `i`: the left `i % width + 1` columns.
pub(crate) fn mask_of(i: u32, width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, _| Luma([if x <= i % width { 255 } else { 0 }]))
}

/// Samples held in memory, 20x16 pixels each.
pub(crate) struct InMemory {
    files: Vec<[Vec<u8>; 2]>,
}

impl InMemory {
    pub(crate) fn new(n: u32) -> Self {
        let sample = |i| {
            let image = png(20, 16, image::ExtendedColorType::Rgb8, &image_of(i, 20, 16));
            [image, png(20, 16, image::ExtendedColorType::L8, &mask_of(i, 20, 16))]
        };
        InMemory { files: (0..n).map(sample).collect() }
    }

    /// Replaces a part of a sample.
    pub(crate) fn with(mut self, i: usize, part: Part, bytes: Vec<u8>) -> Self {
        self.files[i][usize::from(part == Part::Target)] = bytes;
        self
    }

    pub(crate) fn shared(self) -> Arc<dyn Source> {
        Arc::new(self)
    }
}

impl Source for InMemory {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, id: SampleId) -> String {
        format!("s{}", id.0)
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        format!("{part:?}/s{}", id.0).into()
    }

    fn read(&self, id: SampleId, part: Part, _: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        bytes.clear();
        bytes.extend(&self.files[id.0 as usize][usize::from(part == Part::Target)]);
        Ok(())
    }
}

/// A folder with images/ and masks/.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("images")).unwrap();
        fs::create_dir(dir.path().join("masks")).unwrap();
        Folder(dir)
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> &Self {
        fs::write(self.0.path().join(name), bytes).unwrap();
        self
    }

    /// A proper pair of PNGs.
    pub(crate) fn pair(&self, stem: &str, i: u32, width: u32, height: u32) -> &Self {
        let image = png(width, height, image::ExtendedColorType::Rgb8, &image_of(i, width, height));
        let mask = png(width, height, image::ExtendedColorType::L8, &mask_of(i, width, height));
        self.put(&format!("images/{stem}.png"), &image).put(&format!("masks/{stem}.png"), &mask)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn source(&self) -> Arc<dyn Source> {
        source::open(self.path(), Format::Auto, Some(&classes())).unwrap()
    }
}

/// All that a consumer can see of a batch.
pub(crate) type Seen = (u64, u64, Vec<u32>, Vec<u8>, Vec<u8>, String);

pub(crate) fn seen(batch: &HostBatch) -> Seen {
    (
        batch.position().epoch,
        batch.position().batch,
        batch.ids().iter().map(|id| id.0).collect(),
        batch.images().to_vec(),
        batch.masks().to_vec(),
        format!("{:?} {:?} {:?}", batch.frames(), batch.points(), batch.visibility()),
    )
}
