//! Time per sample of the usual case: 512x512 JPEG at quality 90 with an 8-bit PNG mask.
//!
//! `raw` is reading and decoding alone; `loaded` is the whole of a loader without workers, onto a canvas of the given
//! side. Their difference is what the loader costs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
use fullbore_data::decode::{DecodeScratch, Picture, Wanted};
use fullbore_data::source::{Part, Source, SourceError};
use fullbore_data::yardstick::RawDecoder;
use fullbore_data::{DecodeLimits, Loader, LoaderConfig};
use fullbore_types::{Classes, Position, SampleId, Size};
use image::{GrayImage, ImageEncoder, Luma, Rgb, RgbImage};

fn main() {
    divan::main();
}

/// Smooth colours with some grain, so that it compresses like a photograph.
fn jpeg() -> Vec<u8> {
    let mut state = 1u32;
    let picture = RgbImage::from_fn(512, 512, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let grain = (state >> 28) as i32 - 8;
        Rgb([x / 2, y / 2, (x + y) / 4].map(|v| (v as i32 + grain).clamp(0, 255) as u8))
    });
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&picture).unwrap();
    bytes
}

fn png_mask() -> Vec<u8> {
    let inside = |x: i64, y: i64| (x - 256).pow(2) + (y - 256).pow(2) < 30_000;
    let mask = GrayImage::from_fn(512, 512, |x, y| Luma([if inside(x.into(), y.into()) { 255 } else { 0 }]));
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.write_image(&mask, 512, 512, image::ExtendedColorType::L8).unwrap();
    bytes
}

fn decode(bencher: Bencher, bytes: Vec<u8>, wanted: Wanted) {
    let mut scratch = DecodeScratch::default();
    let mut out = vec![0; 512 * 512 * wanted.channels()];
    bencher.bench_local(|| {
        let picture = Picture::open(&bytes, Path::new("p"), wanted, &DecodeLimits::default()).unwrap();
        picture.read(&mut out, &mut scratch).unwrap();
    });
}

#[divan::bench]
fn jpeg_512_rgb(bencher: Bencher) {
    decode(bencher, jpeg(), Wanted::Rgb);
}

#[divan::bench]
fn jpeg_512_gray(bencher: Bencher) {
    decode(bencher, jpeg(), Wanted::Gray);
}

#[divan::bench]
fn png_512_mask(bencher: Bencher) {
    decode(bencher, png_mask(), Wanted::Mask);
}

/// The same sample under every id, held in memory.
struct Same {
    image: Vec<u8>,
    mask: Vec<u8>,
}

impl Source for Same {
    fn len(&self) -> usize {
        1 << 20
    }

    fn name(&self, _: SampleId) -> String {
        "same".into()
    }

    fn file(&self, _: SampleId, _: Part) -> PathBuf {
        "same".into()
    }

    fn read(&self, _: SampleId, part: Part, _: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        bytes.clear();
        bytes.extend(if part == Part::Image { &self.image } else { &self.mask });
        Ok(())
    }
}

fn same() -> Arc<Same> {
    Arc::new(Same { image: jpeg(), mask: png_mask() })
}

#[divan::bench]
fn raw(bencher: Bencher) {
    let source = same();
    let mut decoder = RawDecoder::new(3, DecodeLimits::default());
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| decoder.decode(&*source, SampleId(0)).unwrap());
}

#[divan::bench(args = [512, 384, 256, 128])]
fn loaded(bencher: Bencher, side: u32) {
    const BATCH: usize = 8;
    let classes = Classes { names: vec!["a".into(), "b".into()], values: vec![0, 255], void_value: None };
    let config = LoaderConfig {
        workers: 0,
        prefetch: 1,
        ..LoaderConfig::new(BATCH, Size::new(side, side), Some(classes))
    };
    let mut loader = Loader::start(same(), config, Position::default()).unwrap();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| loader.next().unwrap().unwrap());
}
