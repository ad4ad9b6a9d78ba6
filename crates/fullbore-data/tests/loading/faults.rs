//! Bad samples: each is reported in its place, by name, and nothing hangs.

use std::path::PathBuf;
use std::sync::Arc;

use fullbore_data::source::{Part, Source, SourceError};
use fullbore_data::{DataError, EvalLoader, Loader, LoaderConfig};
use fullbore_types::{Position, SampleId};

use crate::data_set::{Folder, InMemory, config, image_of, mask_of, png};
use crate::eval::eval_config;

/// Batches delivered before the first error, and that error.
fn until_error(source: Arc<dyn Source>, config: LoaderConfig) -> (usize, DataError) {
    let mut loader = Loader::start(source, config, Position::default()).unwrap();
    let mut n = 0;
    let error = loop {
        match loader.next().expect("an error comes before the end") {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(loader.next().is_none(), "the stream ends with its error");
    (n, error)
}

fn error_of(folder: &Folder) -> String {
    let message = until_error(folder.source(), config(1)).1.to_string();
    // The temporary folder's name is of no interest.
    message.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn an_error_is_delivered_in_its_place_whatever_the_workers() {
    for bad in 0..9 {
        let source = InMemory::new(9).with(bad, Part::Image, b"no picture".to_vec()).shared();
        let order: Vec<u32> = Loader::start(InMemory::new(9).shared(), config(2), Position::default())
            .unwrap()
            .flat_map(|batch| batch.unwrap().ids().iter().map(|id| id.0).collect::<Vec<_>>())
            .collect();
        let place = order.iter().position(|&id| id == bad as u32).unwrap();
        for workers in [0, 1, 4] {
            let (n, error) = until_error(source.clone(), LoaderConfig { workers, ..config(2) });
            assert_eq!(n, place / 2, "workers {workers}");
            assert!(error.to_string().contains(&format!("Image/s{bad} is not an image")), "{error}");
        }
    }
}

#[test]
fn of_several_bad_samples_the_first_in_order_is_reported() {
    let source = |n| {
        let mut source = InMemory::new(n);
        for i in 0..n as usize {
            source = source.with(i, Part::Image, b"no picture".to_vec());
        }
        source.shared()
    };
    let expected = until_error(source(8), LoaderConfig { workers: 0, ..config(8) }).1.to_string();
    for _ in 0..50 {
        let (n, error) = until_error(source(8), LoaderConfig { workers: 4, ..config(8) });
        assert_eq!((n, error.to_string()), (0, expected.clone()));
    }
}

/// Panics when sample 3 is read.
struct Trap(InMemory);

impl Source for Trap {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn name(&self, id: SampleId) -> String {
        self.0.name(id)
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        self.0.file(id, part)
    }

    fn read(&self, id: SampleId, part: Part, max: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        assert!(id.0 != 3, "the trap of sample {}", id.0);
        self.0.read(id, part, max, bytes)
    }
}

#[test]
fn a_panic_is_contained_and_named() {
    for workers in [0, 1, 3] {
        let source = Arc::new(Trap(InMemory::new(6)));
        let error = until_error(source.clone(), LoaderConfig { workers, ..config(2) }).1;
        let expected = "loading sample `s3` (Image/s3) failed unexpectedly: the trap of sample 3";
        assert_eq!(error.to_string(), expected);
        let eval = EvalLoader::start(source, fullbore_data::EvalConfig { workers, ..eval_config() });
        let results: Vec<_> = eval.unwrap().collect();
        assert_eq!(results.iter().filter(|sample| sample.is_ok()).count(), 5);
        assert_eq!(results[3].as_ref().unwrap_err().to_string(), expected);
    }
}

#[test]
fn contents_that_are_no_pictures() {
    let folder = Folder::new();
    folder.pair("a", 0, 20, 16).put("images/a.png", b"name,age\n");
    assert_eq!(error_of(&folder), "images/a.png is not an image: it starts with `name,age\\n`");
    folder.put("images/a.png", b"");
    assert_eq!(error_of(&folder), "images/a.png is an empty file");
    let whole = png(20, 16, image::ExtendedColorType::Rgb8, &image_of(1, 20, 16));
    folder.put("images/a.png", &whole[..whole.len() / 2]);
    assert_eq!(error_of(&folder), "images/a.png is truncated: the PNG ends before its last pixel");
}

#[test]
fn a_mask_of_another_size() {
    let folder = Folder::new();
    folder.pair("a", 0, 20, 16);
    folder.put("masks/a.png", &png(20, 15, image::ExtendedColorType::L8, &mask_of(0, 20, 15)));
    assert_eq!(error_of(&folder), "mask masks/a.png is 20x15 but its image images/a.png is 20x16");
}

#[test]
fn an_undeclared_mask_value() {
    let folder = Folder::new();
    let mut mask = mask_of(0, 20, 16);
    mask.put_pixel(13, 9, image::Luma([4]));
    folder.pair("a", 0, 20, 16).put("masks/a.png", &png(20, 16, image::ExtendedColorType::L8, &mask));
    assert_eq!(
        error_of(&folder),
        "mask masks/a.png holds 4 at pixel (13, 9); declared are background 0, thing 255"
    );
}

#[test]
fn a_file_that_vanished_after_listing() {
    let folder = Folder::new();
    let source = folder.pair("a", 0, 20, 16).source();
    std::fs::remove_file(folder.path().join("masks/a.png")).unwrap();
    let error = until_error(source, config(1)).1;
    assert!(error.to_string().ends_with("masks/a.png does not exist"), "{error}");
}

#[test]
fn content_decides_the_format() {
    let folder = Folder::new();
    folder.pair("a", 7, 20, 16);
    let path = folder.path().join("images");
    std::fs::rename(path.join("a.png"), path.join("a.jpg")).unwrap();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut jpeg).encode_image(&image_of(7, 20, 16)).unwrap();
    folder.pair("b", 7, 20, 16).put("images/b.png", &jpeg);
    let loader = Loader::start(folder.source(), config(2), Position::default()).unwrap();
    for batch in loader {
        let batch = batch.unwrap();
        assert!(batch.images().chunks_exact(3).all(|pixel| pixel[0].abs_diff(7) < 12));
    }
}
