//! Pixels onto the canvas, as a [`Placement`] says.

use fast_image_resize::images::{CroppedImage, CroppedImageMut, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use fullbore_types::{IGNORE_INDEX, Size};

use crate::canvas::{Placement, Rect};
use crate::mask::IndexTable;

/// Buffers that a worker keeps from sample to sample.
#[derive(Default)]
pub(crate) struct ResampleScratch {
    resizer: Resizer,
    /// Source column of each target column.
    columns: Vec<usize>,
}

/// Value of image pixels that show no part of the source.
const PADDING: u8 = 0;

/// Puts `pixels` (u8, `channels` interleaved, size `at.source`) on the canvas.
///
/// Resampling is a triangle filter whose support grows when shrinking, so it does not alias (as PIL's BILINEAR,
/// and torch's `interpolate(antialias=True)`).
pub(crate) fn place_image(
    pixels: &[u8],
    channels: usize,
    at: &Placement,
    canvas: &mut [u8],
    scratch: &mut ResampleScratch,
) {
    if at.target.size != at.canvas {
        canvas.fill(PADDING);
    }
    if at.window.size == at.target.size {
        return copy_rows(pixels, channels, at, canvas, |to, from| to.copy_from_slice(from));
    }
    const GIVEN: &str = "sizes and buffers come from one placement";
    let kind = if channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    let source = ImageRef::new(at.source.width, at.source.height, pixels, kind).expect(GIVEN);
    let Rect { x, y, size } = at.window;
    let window = CroppedImage::new(&source, x, y, size.width, size.height).expect(GIVEN);
    let mut canvas = Image::from_slice_u8(at.canvas.width, at.canvas.height, canvas, kind).expect(GIVEN);
    let Rect { x, y, size } = at.target;
    let mut target = CroppedImageMut::new(&mut canvas, x, y, size.width, size.height).expect(GIVEN);
    scratch.resizer.resize(&window, &mut target, &options).expect(GIVEN);
}

/// Puts mask `values` (raw, one per pixel, size `at.source`) on the canvas as class indices; padding becomes
/// `IGNORE_INDEX`. Resampling takes the nearest pixel by half-pixel centres: `floor((x + 0.5) * scale)`.
pub(crate) fn place_mask(
    values: &[u8],
    table: &IndexTable,
    at: &Placement,
    canvas: &mut [u8],
    scratch: &mut ResampleScratch,
) {
    if at.target.size != at.canvas {
        canvas.fill(IGNORE_INDEX);
    }
    if at.window.size == at.target.size {
        return copy_rows(values, 1, at, canvas, |to, from| translate(from, table, to));
    }
    let ResampleScratch { columns, .. } = scratch;
    columns.clear();
    let (window, target) = (at.window, at.target);
    let from_x = |x| window.x + nearest(x, target.size.width, window.size.width);
    columns.extend((0..target.size.width).map(|x| from_x(x) as usize));
    for y in 0..target.size.height {
        let from_y = window.y + nearest(y, target.size.height, window.size.height);
        let source = row(values, at.source, 1, 0, from_y, at.source.width);
        let start = (target.y + y) as usize * at.canvas.width as usize + target.x as usize;
        for (to, &from) in canvas[start..].iter_mut().zip(columns.iter()) {
            *to = table.index(source[from]);
        }
    }
}

/// Raw mask values to class indices, pixel by pixel.
pub(crate) fn translate(values: &[u8], table: &IndexTable, indices: &mut [u8]) {
    indices.iter_mut().zip(values).for_each(|(to, &from)| *to = table.index(from));
}

/// Source pixel under the centre of target pixel `x`, in exact arithmetic.
fn nearest(x: u32, target: u32, source: u32) -> u32 {
    let (x, target, source) = (u64::from(x), u64::from(target), u64::from(source));
    ((2 * x + 1) * source / (2 * target)) as u32
}

fn copy_rows(
    pixels: &[u8],
    channels: usize,
    at: &Placement,
    canvas: &mut [u8],
    copy: impl Fn(&mut [u8], &[u8]),
) {
    let width = at.window.size.width;
    for y in 0..at.window.size.height {
        let from = row(pixels, at.source, channels, at.window.x, at.window.y + y, width);
        let start = (at.target.y + y) as usize * at.canvas.width as usize + at.target.x as usize;
        copy(&mut canvas[start * channels..][..from.len()], from);
    }
}

/// `width` pixels of row `y` from column `x` on.
fn row(pixels: &[u8], size: Size, channels: usize, x: u32, y: u32, width: u32) -> &[u8] {
    let start = y as usize * size.width as usize + x as usize;
    &pixels[start * channels..][..width as usize * channels]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Resize;
    use crate::mask::MaskValues;
    use fullbore_types::{Classes, SampleId, SampleKey};
    use proptest::prelude::*;
    use std::path::Path;

    const KEY: SampleKey = SampleKey { seed: 0, epoch: 0, sample: SampleId(0) };

    /// A table that leaves every value below 255 as it is.
    fn identity_table() -> MaskValues {
        let values: Vec<u8> = (0..255).collect();
        let names = values.iter().map(u8::to_string).collect();
        MaskValues::new(&Classes { names, values, void_value: None })
    }

    fn mask_on_canvas(values: &[u8], at: &Placement) -> Vec<u8> {
        let tables = identity_table();
        let table = tables.table_for(values, at.source.width, false, Path::new("m")).unwrap();
        let mut canvas = vec![99; at.canvas.area() as usize];
        place_mask(values, table, at, &mut canvas, &mut ResampleScratch::default());
        canvas
    }

    #[test]
    fn shrinking_averages_and_does_not_alias() {
        // A checkerboard of single pixels is gray from afar.
        let pixels: Vec<u8> = (0..64 * 64).map(|i| if (i + i / 64) % 2 == 0 { 0 } else { 200 }).collect();
        let at = Placement::training(Resize::Stretch, Size::new(64, 64), Size::new(16, 16), KEY);
        let mut canvas = vec![0; 256];
        place_image(&pixels, 1, &at, &mut canvas, &mut ResampleScratch::default());
        assert!(canvas.iter().all(|v| (98..=102).contains(v)), "{canvas:?}");
    }

    #[test]
    fn letterbox_pads_images_with_zero_and_masks_with_ignore() {
        let at = Placement::training(Resize::Letterbox, Size::new(4, 2), Size::new(4, 4), KEY);
        let mut canvas = vec![9; 16];
        place_image(&[7; 8], 1, &at, &mut canvas, &mut ResampleScratch::default());
        assert_eq!(canvas, [0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0]);
        let canvas = mask_on_canvas(&[7; 8], &at);
        assert_eq!(canvas, [255, 255, 255, 255, 7, 7, 7, 7, 7, 7, 7, 7, 255, 255, 255, 255]);
    }

    #[test]
    fn resampling_reads_only_the_window_and_writes_only_the_target() {
        let source = Size::new(8, 8);
        let at = Placement {
            source,
            window: Rect { x: 2, y: 2, size: Size::new(4, 4) },
            canvas: Size::new(6, 6),
            target: Rect { x: 1, y: 1, size: Size::new(2, 2) },
        };
        let inside = |i: usize| (2..6).contains(&(i % 8)) && (2..6).contains(&(i / 8));
        let pixels: Vec<u8> = (0..64).map(|i| if inside(i) { 50 } else { 250 }).collect();
        let mut image = vec![3; 36];
        place_image(&pixels, 1, &at, &mut image, &mut ResampleScratch::default());
        let mask = mask_on_canvas(&pixels, &at);
        for i in 0..36 {
            let shown = (1..3).contains(&(i % 6)) && (1..3).contains(&(i / 6));
            assert_eq!((image[i], mask[i]), if shown { (50, 50) } else { (0, 255) }, "pixel {i}");
        }
    }

    #[test]
    fn colours_stay_in_their_channels() {
        let at = Placement::training(Resize::Stretch, Size::new(8, 8), Size::new(3, 5), KEY);
        let pixels = [10, 20, 30].repeat(64);
        let mut canvas = vec![0; 45];
        place_image(&pixels, 3, &at, &mut canvas, &mut ResampleScratch::default());
        assert_eq!(canvas, [10, 20, 30].repeat(15));
    }

    proptest! {
        #[test]
        fn masks_take_the_pixel_that_the_frame_points_at(
            w in 1u32..40, h in 1u32..40, cw in 1u32..40, ch in 1u32..40,
            which in prop::sample::select(vec![Resize::Stretch, Resize::Letterbox, Resize::Crop]),
        ) {
            let at = Placement::training(which, Size::new(w, h), Size::new(cw, ch), KEY);
            let values: Vec<u8> = (0..w * h).map(|i| (i % 251) as u8).collect();
            let canvas = mask_on_canvas(&values, &at);
            let back = at.frame().canvas_from_source.inverse().unwrap();
            let shown = |i: u32, start: u32, n: u32| (start..start + n).contains(&i);
            for y in 0..ch {
                for x in 0..cw {
                    let got = canvas[(y * cw + x) as usize];
                    let t = at.target;
                    if !shown(x, t.x, t.size.width) || !shown(y, t.y, t.size.height) {
                        prop_assert_eq!(got, IGNORE_INDEX);
                        continue;
                    }
                    let (sx, sy) = back.apply((f64::from(x), f64::from(y)));
                    // A hair upwards: exact ties go to the right, as floor(x + 0.5) has it.
                    let (sx, sy) = ((sx + 0.5 + 1e-9).floor() as u32, (sy + 0.5 + 1e-9).floor() as u32);
                    prop_assert_eq!(got, values[(sy * w + sx) as usize]);
                }
            }
        }
    }
}
