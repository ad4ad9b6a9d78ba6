//! Evaluation samples.

use std::sync::Arc;
use std::time::Duration;

use fullbore_data::source::Part;
use fullbore_data::{DecodeLimits, EvalConfig, EvalLoader, Resize};
use fullbore_types::Size;

use crate::data_set::{Folder, InMemory, classes, image_of, mask_of};

pub(crate) fn eval_config() -> EvalConfig {
    EvalConfig {
        size: Size::new(8, 8),
        resize: Resize::Crop,
        pad_multiple: 16,
        channels: 3,
        classes: Some(classes()),
        keep_native: false,
        workers: 2,
        prefetch: 3,
        limits: DecodeLimits::default(),
        read_timeout: Duration::from_secs(60),
        cache: None,
    }
}

#[test]
fn samples_come_in_order_with_native_masks() {
    for workers in [0, 1, 2, 7] {
        let config = EvalConfig { workers, ..eval_config() };
        let samples: Vec<_> =
            EvalLoader::start(InMemory::new(9).shared(), config).unwrap().map(Result::unwrap).collect();
        assert_eq!(samples.len(), 9);
        for (i, sample) in samples.iter().enumerate() {
            let i = i as u32;
            assert_eq!((sample.id.0, sample.name.as_str()), (i, format!("s{i}").as_str()));
            assert_eq!(sample.canvas, Size::new(32, 16));
            assert_eq!((sample.valid.x, sample.valid.y, sample.valid.size), (0, 0, Size::new(20, 16)));
            let mask: Vec<u8> = mask_of(i, 20, 16).iter().map(|v| u8::from(*v == 255)).collect();
            assert_eq!(sample.mask, mask);
            let image = image_of(i, 20, 16);
            for (p, pixel) in sample.image.chunks_exact(3).enumerate() {
                let (x, y) = (p as u32 % 32, p as u32 / 32);
                let expected = if x < 20 { image.get_pixel(x, y).0 } else { [0; 3] };
                assert_eq!(pixel, expected);
            }
        }
    }
}

#[test]
fn stretch_and_letterbox_keep_the_mask_native() {
    for (resize, valid_height) in [(Resize::Stretch, 8), (Resize::Letterbox, 6)] {
        let config = EvalConfig { resize, ..eval_config() };
        let sample = EvalLoader::start(InMemory::new(1).shared(), config).unwrap().next().unwrap().unwrap();
        assert_eq!((sample.canvas, sample.image.len()), (Size::new(8, 8), 192));
        assert_eq!(sample.valid.size, Size::new(8, valid_height));
        assert_eq!(sample.mask.len(), 20 * 16);
        let centre = sample.frame.canvas_from_source.apply((9.5, 7.5));
        assert!((centre.0 - 3.5).abs() < 1e-9 && (centre.1 - 3.5).abs() < 1e-9);
    }
}

#[test]
fn sizes_may_differ_from_sample_to_sample() {
    let folder = Folder::new();
    folder.pair("a", 0, 20, 16).pair("b", 1, 33, 5).pair("c", 2, 16, 16);
    let loader = EvalLoader::start(folder.source(), eval_config()).unwrap();
    let canvases: Vec<_> = loader.map(|sample| sample.unwrap().canvas).collect();
    assert_eq!(canvases, [Size::new(32, 16), Size::new(48, 16), Size::new(16, 16)]);
}

#[test]
fn an_error_comes_in_its_place_and_the_rest_follows() {
    for workers in [0, 3] {
        let source = InMemory::new(9).with(4, Part::Target, b"text".to_vec()).shared();
        let mut loader = EvalLoader::start(source, EvalConfig { workers, ..eval_config() }).unwrap();
        assert_eq!(loader.by_ref().take(4).filter(Result::is_ok).count(), 4);
        let error = loader.next().unwrap().unwrap_err().to_string();
        assert_eq!(error, "Target/s4 is not an image: it starts with `text`");
        assert_eq!(loader.map(|sample| sample.unwrap().id.0).collect::<Vec<_>>(), [5, 6, 7, 8]);
    }
}

#[test]
fn prediction_needs_no_masks_and_keeps_the_native_image() {
    for (resize, side) in [(Resize::Stretch, 8), (Resize::Crop, 16)] {
        let source = InMemory::new(3).with(1, Part::Target, b"no mask at all".to_vec()).shared();
        let config =
            EvalConfig { resize, classes: None, keep_native: true, pad_multiple: 4, ..eval_config() };
        let samples: Vec<_> = EvalLoader::start(source, config).unwrap().map(Result::unwrap).collect();
        assert_eq!(samples.len(), 3);
        for (i, sample) in samples.iter().enumerate() {
            assert_eq!(sample.canvas.height, side);
            assert_eq!((&sample.mask, &sample.native), (&vec![], &image_of(i as u32, 20, 16).into_raw()));
        }
    }
}

#[test]
fn an_empty_source_gives_nothing() {
    assert!(EvalLoader::start(InMemory::new(0).shared(), eval_config()).unwrap().next().is_none());
}

#[test]
fn dropping_at_any_point_joins_the_threads() {
    for round in 0..200 {
        let source = InMemory::new(6).shared();
        let config = EvalConfig { workers: round % 4, prefetch: round % 5, ..eval_config() };
        let mut loader = EvalLoader::start(source.clone(), config).unwrap();
        loader.by_ref().take(round % 8).for_each(|sample| drop(sample.unwrap()));
        drop(loader);
        assert_eq!(Arc::strong_count(&source), 1, "round {round}");
    }
}
