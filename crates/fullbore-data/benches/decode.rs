//! Time per sample of the usual case: 512x512 JPEG at quality 90 with an 8-bit PNG mask.

use std::path::Path;

use divan::Bencher;
use fullbore_data::DecodeLimits;
use fullbore_data::decode::{DecodeScratch, Picture, Wanted};
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
