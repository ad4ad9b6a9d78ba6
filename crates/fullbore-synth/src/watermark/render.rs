//! One image and its mask.

use fullbore_types::{Purpose, SampleId, SampleKey, Size};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::config::{Split, WatermarkConfig};
use super::mark::lay_marks;
use super::photos::Photos;
use crate::SynthError;
use crate::draw::Draw;
use crate::scene;

/// The two files of a sample.
pub(super) struct Rendered {
    pub(super) jpeg: Vec<u8>,
    pub(super) png: Vec<u8>,
    /// True when no pixel of the mask is set.
    pub(super) is_clean: bool,
}

/// Image `index` of a split: a pure function of settings and photos.
///
/// # Errors
/// When no photo can be read, or an encoder fails.
pub(super) fn render(
    config: &WatermarkConfig,
    photos: Option<&Photos>,
    split: Split,
    index: u32,
) -> Result<Rendered, SynthError> {
    let size = Size::from(config.size);
    let key = SampleKey { seed: config.seed, epoch: split as u64, sample: SampleId(index) };
    let mut draw = Draw::new(key.rng(Purpose::SynthScene));
    let quality = draw.count(50, 95) as u8;
    let sampling = *draw.pick(&[SamplingFactor::F_1_1, SamplingFactor::F_2_2]);
    let mut picture = match photos {
        Some(photos) => photos.crop(&mut draw, split, index, size)?,
        None => scene::photograph(size, &mut draw),
    };
    let mut draw = Draw::new(key.rng(Purpose::SynthMark));
    let mask: Vec<u8> = match draw.chance(config.clean as f32) {
        true => vec![0; picture.pixels.len()],
        false => lay_marks(&mut picture, &mut draw, config, split)
            .into_iter()
            .map(|covered| if covered > 0.5 { 255 } else { 0 })
            .collect(),
    };
    let failed = |what: &'static str, detail: String| SynthError::Encode { what, detail };
    Ok(Rendered {
        jpeg: jpeg(&picture.to_rgb8(), size, quality, sampling).map_err(|e| failed("JPEG", e.to_string()))?,
        png: png(&mask, size).map_err(|e| failed("PNG", e.to_string()))?,
        is_clean: mask.iter().all(|&value| value == 0),
    })
}

fn jpeg(
    rgb: &[u8],
    size: Size,
    quality: u8,
    sampling: SamplingFactor,
) -> Result<Vec<u8>, jpeg_encoder::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(sampling);
    // Sides are at most MAX_SIDE.
    encoder.encode(rgb, size.width as u16, size.height as u16, ColorType::Rgb)?;
    Ok(bytes)
}

/// 8-bit gray.
fn png(gray: &[u8], size: Size) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.width, size.height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    encoder.write_header()?.write_image_data(gray)?;
    Ok(bytes)
}
