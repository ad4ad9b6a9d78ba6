use std::fs;
use std::io::Cursor;

use image::{DynamicImage, ExtendedColorType, ImageEncoder, RgbImage};
use proptest::prelude::*;

use super::*;

type PngColor = ::png::ColorType;
type PngDepth = ::png::BitDepth;

fn limits() -> DecodeLimits {
    DecodeLimits::default()
}

fn decode(bytes: &[u8], wanted: Wanted) -> Result<(Size, Vec<u8>), DecodeError> {
    let picture = Picture::open(bytes, Path::new("p"), wanted, &limits())?;
    let size = picture.size();
    // Wrong on purpose, so that a pixel that is not written shows.
    let mut out = vec![0xAB; picture.n_bytes()];
    picture.read(&mut out, &mut DecodeScratch::default())?;
    Ok((size, out))
}

fn pixels(bytes: &[u8], wanted: Wanted) -> Vec<u8> {
    decode(bytes, wanted).unwrap().1
}

struct PngKind<'a> {
    size: (u32, u32),
    color: PngColor,
    depth: PngDepth,
    palette: &'a [u8],
    transparency: &'a [u8],
}

fn png_of(kind: PngKind, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, kind.size.0, kind.size.1);
    encoder.set_color(kind.color);
    encoder.set_depth(kind.depth);
    if !kind.palette.is_empty() {
        encoder.set_palette(kind.palette);
    }
    if !kind.transparency.is_empty() {
        encoder.set_trns(kind.transparency);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    bytes
}

fn plain_png(size: (u32, u32), color: PngColor, depth: PngDepth, data: &[u8]) -> Vec<u8> {
    png_of(PngKind { size, color, depth, palette: &[], transparency: &[] }, data)
}

fn encoded(format: ImageFormat, image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A smooth picture whose corners differ.
fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, ((x + 2 * y) * 2) as u8])
    })
}

/// A minimal EXIF block that holds nothing but an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    exif
}

fn jpeg_with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut segment = b"Exif\0\0".to_vec();
    segment.extend(exif(orientation));
    let mut bytes = b"\xff\xd8\xff\xe1".to_vec();
    bytes.extend((segment.len() as u16 + 2).to_be_bytes());
    bytes.extend(segment);
    bytes.extend(&jpeg[2..]);
    bytes
}

// PNG kinds

#[test]
fn gray_png_of_every_depth() {
    let one = plain_png((10, 1), PngColor::Grayscale, PngDepth::One, &[0b1011_0010, 0b0100_0000]);
    assert_eq!(pixels(&one, Wanted::Mask), [1, 0, 1, 1, 0, 0, 1, 0, 0, 1]);
    assert_eq!(pixels(&one, Wanted::Gray), [255, 0, 255, 255, 0, 0, 255, 0, 0, 255]);
    let two = plain_png((3, 2), PngColor::Grayscale, PngDepth::Two, &[0b0001_1000, 0b1100_0100]);
    assert_eq!(pixels(&two, Wanted::Mask), [0, 1, 2, 3, 0, 1]);
    assert_eq!(pixels(&two, Wanted::Gray), [0, 85, 170, 255, 0, 85]);
    let four = plain_png((3, 1), PngColor::Grayscale, PngDepth::Four, &[0x1F, 0x50]);
    assert_eq!(pixels(&four, Wanted::Mask), [1, 15, 5]);
    assert_eq!(pixels(&four, Wanted::Gray), [17, 255, 85]);
    let eight = plain_png((3, 1), PngColor::Grayscale, PngDepth::Eight, &[1, 200, 255]);
    assert_eq!(pixels(&eight, Wanted::Mask), [1, 200, 255]);
    assert_eq!(pixels(&eight, Wanted::Rgb), [1, 1, 1, 200, 200, 200, 255, 255, 255]);
    let sixteen = plain_png((2, 1), PngColor::Grayscale, PngDepth::Sixteen, &[0, 9, 0, 255]);
    assert_eq!(pixels(&sixteen, Wanted::Mask), [9, 255]);
    let deep = plain_png((2, 1), PngColor::Grayscale, PngDepth::Sixteen, &[0, 9, 0x12, 0xFF]);
    assert_eq!(pixels(&deep, Wanted::Gray), [0, 0x12]);
    let error = decode(&deep, Wanted::Mask).unwrap_err();
    assert!(matches!(error, DecodeError::DeepMask { x: 1, y: 0, value: 0x12FF, .. }));
}

#[test]
fn colour_png_with_and_without_alpha() {
    let rgb = plain_png((2, 1), PngColor::Rgb, PngDepth::Eight, &[255, 0, 0, 9, 9, 9]);
    assert_eq!(pixels(&rgb, Wanted::Rgb), [255, 0, 0, 9, 9, 9]);
    assert_eq!(pixels(&rgb, Wanted::Gray), [76, 9]);
    let rgba = plain_png((2, 1), PngColor::Rgba, PngDepth::Eight, &[1, 2, 3, 0, 9, 9, 9, 128]);
    assert_eq!(pixels(&rgba, Wanted::Rgb), [1, 2, 3, 9, 9, 9]);
    let gray_alpha = plain_png((2, 1), PngColor::GrayscaleAlpha, PngDepth::Eight, &[7, 0, 8, 255]);
    assert_eq!(pixels(&gray_alpha, Wanted::Rgb), [7, 7, 7, 8, 8, 8]);
    assert_eq!(pixels(&gray_alpha, Wanted::Gray), [7, 8]);
    assert_eq!(pixels(&gray_alpha, Wanted::Mask), [7, 8]);
    let deep = plain_png((1, 1), PngColor::Rgba, PngDepth::Sixteen, &[1, 255, 2, 0, 3, 0, 0, 0]);
    assert_eq!(pixels(&deep, Wanted::Rgb), [1, 2, 3]);
    let deep = plain_png((1, 1), PngColor::GrayscaleAlpha, PngDepth::Sixteen, &[0, 5, 3, 3]);
    assert_eq!(pixels(&deep, Wanted::Mask), [5]);
}

#[test]
fn a_mask_in_rgb_needs_equal_channels() {
    let equal = plain_png((2, 1), PngColor::Rgba, PngDepth::Eight, &[4, 4, 4, 0, 9, 9, 9, 255]);
    assert_eq!(pixels(&equal, Wanted::Mask), [4, 9]);
    let red = plain_png((1, 2), PngColor::Rgb, PngDepth::Eight, &[4, 4, 4, 128, 0, 0]);
    let error = decode(&red, Wanted::Mask).unwrap_err();
    assert_eq!(error.to_string(), "mask p is coloured: pixel (0, 1) is [128, 0, 0]");
    let deep = plain_png((1, 1), PngColor::Rgb, PngDepth::Sixteen, &[0, 4, 0, 4, 0, 4]);
    assert_eq!(pixels(&deep, Wanted::Mask), [4]);
}

#[test]
fn palettes_are_colours_in_images_and_indices_in_masks() {
    let palette = [255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 10, 10];
    for (depth, data) in [
        (PngDepth::Two, &[0b1100_0110][..]),
        (PngDepth::Four, &[0x30, 0x12]),
        (PngDepth::Eight, &[3, 0, 1, 2]),
    ] {
        for transparency in [&[][..], &[0, 128]] {
            let kind =
                PngKind { size: (4, 1), color: PngColor::Indexed, depth, palette: &palette, transparency };
            let bytes = png_of(kind, data);
            assert_eq!(pixels(&bytes, Wanted::Mask), [3, 0, 1, 2], "{depth:?}");
            assert_eq!(pixels(&bytes, Wanted::Rgb), [10, 10, 10, 255, 0, 0, 0, 255, 0, 0, 0, 255]);
            assert_eq!(pixels(&bytes, Wanted::Gray), [10, 76, 150, 29]);
        }
    }
    let black_and_white = [0, 0, 0, 255, 255, 255];
    let (color, depth) = (PngColor::Indexed, PngDepth::One);
    let kind = PngKind { size: (2, 1), color, depth, palette: &black_and_white, transparency: &[] };
    assert_eq!(pixels(&png_of(kind, &[0b0100_0000]), Wanted::Mask), [0, 1]);
}

#[test]
fn transparent_colours_change_nothing() {
    let (color, depth) = (PngColor::Grayscale, PngDepth::Eight);
    let kind = PngKind { size: (2, 1), color, depth, palette: &[], transparency: &[0, 7] };
    let bytes = png_of(kind, &[7, 8]);
    assert_eq!(pixels(&bytes, Wanted::Mask), [7, 8]);
    assert_eq!(pixels(&bytes, Wanted::Gray), [7, 8]);
    let (color, depth) = (PngColor::Rgb, PngDepth::Eight);
    let kind = PngKind { size: (1, 1), color, depth, palette: &[], transparency: &[0, 1, 0, 2, 0, 3] };
    assert_eq!(pixels(&png_of(kind, &[1, 2, 3]), Wanted::Rgb), [1, 2, 3]);
}

/// One PNG chunk.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    let crc = !body.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 })
    });
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc.to_be_bytes()].concat()
}

/// Zlib without compression.
fn stored_zlib(data: &[u8]) -> Vec<u8> {
    let n = data.len() as u16;
    let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), &v| {
        let a = (a + u32::from(v)) % 65521;
        (a, (b + a) % 65521)
    });
    let head = [&[0x78, 0x01, 1][..], &n.to_le_bytes(), &(!n).to_le_bytes()].concat();
    [&head[..], data, &((b << 16) | a).to_be_bytes()].concat()
}

#[test]
fn interlaced_png() {
    // Adam7 passes as (first column, first row, column step, row step).
    const PASSES: [(usize, usize, usize, usize); 7] =
        [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)];
    let (width, height) = (11, 9);
    let picture: Vec<u8> = (0..width * height).map(|i| i as u8 * 2).collect();
    let mut rows = Vec::new();
    for (x0, y0, dx, dy) in PASSES {
        for y in (y0..height).step_by(dy) {
            rows.push(0);
            rows.extend((x0..width).step_by(dx).map(|x| picture[y * width + x]));
        }
    }
    let mut header = [(width as u32).to_be_bytes(), (height as u32).to_be_bytes()].concat();
    header.extend([8, 0, 0, 0, 1]);
    let bytes = [
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(b"IHDR", &header),
        &chunk(b"IDAT", &stored_zlib(&rows)),
        &chunk(b"IEND", &[]),
    ]
    .concat();
    assert_eq!(pixels(&bytes, Wanted::Mask), picture);
    assert_eq!(pixels(&bytes, Wanted::Gray), picture);
}

// JPEG and the others

#[test]
fn jpeg_agrees_with_libjpeg() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut n = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "jpg") {
            continue;
        }
        n += 1;
        let expected = pixels(&fs::read(path.with_extension("png")).unwrap(), Wanted::Rgb);
        let bytes = fs::read(&path).unwrap();
        let rgb = pixels(&bytes, Wanted::Rgb);
        let differences: Vec<u32> =
            rgb.iter().zip(&expected).map(|(a, b)| u32::from(a.abs_diff(*b))).collect();
        let mean = f64::from(differences.iter().sum::<u32>()) / differences.len() as f64;
        let most = differences.iter().max().unwrap();
        assert!(mean <= 1.5 && *most <= 40, "{}: mean {mean}, most {most}", path.display());
        let luma: Vec<u8> = rgb.as_chunks::<3>().0.iter().map(|&p| pixels::luma(p)).collect();
        let gray = pixels(&bytes, Wanted::Gray);
        // Luma from the decoder has not been through RGB, whose clipping moves it where colours are strong.
        let off = gray.iter().zip(&luma).filter(|(a, b)| a.abs_diff(**b) > 3).count();
        assert!(off * 50 <= gray.len(), "{}: {off} of {}", path.display(), gray.len());
    }
    assert_eq!(n, 9);
}

#[test]
fn a_gray_mask_may_be_stored_as_jpeg() {
    let step = |x: u32| if x < 16 { 0u8 } else { 255 };
    let gray = DynamicImage::ImageLuma8(image::GrayImage::from_fn(32, 16, |x, _| image::Luma([step(x)])));
    let expected = gray.as_bytes().to_vec();
    for image in [gray.clone(), DynamicImage::ImageRgb8(gray.to_rgb8())] {
        let bytes = encoded(ImageFormat::Jpeg, &image);
        assert!(Picture::open(&bytes, Path::new("p"), Wanted::Mask, &limits()).unwrap().is_lossy());
        let got = pixels(&bytes, Wanted::Mask);
        assert!(got.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 8), "{got:?}");
    }
    let red = DynamicImage::ImageRgb8(RgbImage::from_pixel(16, 16, image::Rgb([200, 20, 20])));
    let error = decode(&encoded(ImageFormat::Jpeg, &red), Wanted::Mask).unwrap_err();
    assert!(matches!(error, DecodeError::ColouredMask { x: 0, y: 0, .. }), "{error}");
}

#[test]
fn tiff_webp_and_bmp() {
    let picture = gradient(13, 7);
    let gray = DynamicImage::ImageRgb8(picture.clone()).to_luma8();
    for format in [ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Bmp] {
        let rgb = encoded(format, &DynamicImage::ImageRgb8(picture.clone()));
        assert_eq!(pixels(&rgb, Wanted::Rgb), picture.as_raw()[..], "{format:?}");
        let rgba = encoded(format, &DynamicImage::ImageRgb8(picture.clone()).to_rgba8().into());
        assert_eq!(pixels(&rgba, Wanted::Rgb), picture.as_raw()[..], "{format:?}");
        let mask = encoded(format, &DynamicImage::ImageLuma8(gray.clone()));
        assert_eq!(pixels(&mask, Wanted::Mask), gray.as_raw()[..], "{format:?}");
        let opened = Picture::open(&mask, Path::new("p"), Wanted::Mask, &limits()).unwrap();
        assert!(!opened.is_lossy(), "{format:?}");
        let error = decode(&rgb, Wanted::Mask).unwrap_err();
        assert!(matches!(error, DecodeError::ColouredMask { .. }), "{format:?}: {error}");
    }
}

#[test]
fn sixteen_bit_tiff_in_either_role() {
    let picture = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(3, 1, vec![5u16, 255, 0x1234]).unwrap();
    let bytes = encoded(ImageFormat::Tiff, &DynamicImage::ImageLuma16(picture));
    assert_eq!(pixels(&bytes, Wanted::Gray), [0, 0, 0x12]);
    let error = decode(&bytes, Wanted::Mask).unwrap_err();
    assert!(matches!(error, DecodeError::DeepMask { x: 2, y: 0, value: 0x1234, .. }));
}

#[test]
fn float_samples_are_named_as_unsupported() {
    let picture = image::Rgb32FImage::from_pixel(2, 2, image::Rgb([0.5; 3]));
    let bytes = encoded(ImageFormat::Tiff, &DynamicImage::ImageRgb32F(picture));
    let error = decode(&bytes, Wanted::Rgb).unwrap_err();
    assert!(matches!(&error, DecodeError::Unsupported { what, .. } if what.contains("Rgb32F")), "{error}");
}

// Orientation

#[test]
fn exif_orientation_is_applied_in_jpeg_png_and_webp() {
    let stored = gradient(24, 16);
    let jpeg = encoded(ImageFormat::Jpeg, &DynamicImage::ImageRgb8(stored.clone()));
    let from_jpeg = RgbImage::from_raw(24, 16, pixels(&jpeg, Wanted::Rgb)).unwrap();
    for value in 1..=8 {
        let orientation = Orientation::from_exif(value).unwrap();
        let upright = |image: &RgbImage| {
            let mut image = DynamicImage::ImageRgb8(image.clone());
            image.apply_orientation(orientation);
            (Size::new(image.width(), image.height()), image.into_bytes())
        };
        let bytes = jpeg_with_exif(&jpeg, value);
        assert_eq!(decode(&bytes, Wanted::Rgb).unwrap(), upright(&from_jpeg), "JPEG {value}");

        let mut info = ::png::Info::with_size(24, 16);
        info.color_type = PngColor::Rgb;
        info.bit_depth = PngDepth::Eight;
        info.exif_metadata = Some(exif(value).into());
        let mut bytes = Vec::new();
        let encoder = ::png::Encoder::with_info(&mut bytes, info).unwrap();
        encoder.write_header().unwrap().write_image_data(stored.as_raw()).unwrap();
        assert_eq!(decode(&bytes, Wanted::Rgb).unwrap(), upright(&stored), "PNG {value}");

        let mut bytes = Vec::new();
        let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut bytes);
        encoder.set_exif_metadata(exif(value)).unwrap();
        encoder.write_image(stored.as_raw(), 24, 16, ExtendedColorType::Rgb8).unwrap();
        assert_eq!(decode(&bytes, Wanted::Rgb).unwrap(), upright(&stored), "WebP {value}");
    }
}

#[test]
fn a_turned_gray_image_takes_the_slow_way_too() {
    let jpeg = encoded(ImageFormat::Jpeg, &DynamicImage::ImageRgb8(gradient(24, 16)));
    let (size, gray) = decode(&jpeg_with_exif(&jpeg, 6), Wanted::Gray).unwrap();
    let straight = pixels(&jpeg, Wanted::Gray);
    assert_eq!(size, Size::new(16, 24));
    assert_eq!((gray[15], gray[0]), (straight[0], straight[15 * 24]));
}

// What is not a picture

fn message(bytes: &[u8]) -> String {
    decode(bytes, Wanted::Rgb).unwrap_err().to_string()
}

#[test]
fn other_content_is_told_by_its_start() {
    assert_eq!(message(b""), "p is an empty file");
    assert_eq!(message(b"hello\nworld"), "p is not an image: it starts with `hello\\nworld`");
    assert_eq!(message(b"\0\x01\xfe"), "p is not an image: it starts with `\\x00\\x01\\xfe`");
    assert_eq!(message(b"GIF89a...."), "p uses the GIF format, which is not supported");
    assert!(message(b"\0\0\0\x1cftypavif").contains("HEIC or AVIF"));
    assert!(message(b"\x89PN").contains("truncated"));
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    let small = DecodeLimits { max_pixels: 100, ..limits() };
    let picture = DynamicImage::ImageRgb8(gradient(11, 10));
    for format in
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Bmp]
    {
        let bytes = encoded(format, &picture);
        let error = Picture::open(&bytes, Path::new("p"), Wanted::Rgb, &small).err().unwrap();
        assert!(
            matches!(
                error,
                DecodeError::TooManyPixels { limit: 100, size: Size { width: 11, height: 10 }, .. }
            ),
            "{format:?}: {error}"
        );
    }
    // A bomb: a header that promises far more than there is.
    let mut header = [100_000u32.to_be_bytes(), 100_000u32.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    let bytes = [
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(b"IHDR", &header),
        &chunk(b"IDAT", &stored_zlib(&[0; 10])),
        &chunk(b"IEND", &[]),
    ]
    .concat();
    assert!(message(&bytes).contains("more than the limit"));
}

/// Small files of every format.
fn samples() -> Vec<(ImageFormat, Vec<u8>)> {
    let picture = DynamicImage::ImageRgb8(gradient(40, 30));
    let formats =
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Bmp];
    let mut files: Vec<_> = formats.into_iter().map(|f| (f, encoded(f, &picture))).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for name in ["progressive_420.jpg", "baseline_420.jpg", "restart_420.jpg", "cmyk.jpg", "gray.jpg"] {
        files.push((ImageFormat::Jpeg, fs::read(folder.join(name)).unwrap()));
    }
    files
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    for (format, bytes) in samples() {
        for length in 0..bytes.len() - 20 {
            let result = decode(&bytes[..length], Wanted::Rgb);
            assert!(result.is_err(), "{format:?} cut to {length} of {} bytes", bytes.len());
        }
        let half = decode(&bytes[..bytes.len() / 2], Wanted::Rgb).unwrap_err();
        // What a TIFF lacks when cut is its directory, at the end.
        let known = matches!(half, DecodeError::Truncated { .. }) || format == ImageFormat::Tiff;
        assert!(known, "{format:?}: {half:?}");
    }
    for (format, bytes) in samples() {
        if format == ImageFormat::Jpeg {
            for length in bytes.len() - 20..bytes.len() {
                let error = decode(&bytes[..length], Wanted::Rgb).unwrap_err();
                assert!(matches!(error, DecodeError::Truncated { .. }), "cut to {length}: {error}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_never_panic(
        which in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        wanted in prop::sample::select(vec![Wanted::Gray, Wanted::Rgb, Wanted::Mask]),
    ) {
        thread_local!(static SAMPLES: Vec<(ImageFormat, Vec<u8>)> = samples());
        let mut bytes = SAMPLES.with(|samples| samples[which.index(samples.len())].1.clone());
        for (at, value) in &flips {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let small = DecodeLimits { max_pixels: 1 << 22, max_bytes: 1 << 24 };
        if let Ok(picture) = Picture::open(&bytes, Path::new("p"), wanted, &small) {
            let mut out = vec![0; picture.n_bytes()];
            let _ = picture.read(&mut out, &mut DecodeScratch::default());
        }
    }
}
