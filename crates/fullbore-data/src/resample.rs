//! Pixels onto the canvas, as a [`Placement`] says.

use fast_image_resize::images::{CroppedImage, CroppedImageMut, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use fullbore_types::{IGNORE_INDEX, Size};

use crate::canvas::{Placement, Rect};
use crate::mask::IndexTable;

mod halve;

use halve::Halver;

/// Buffers that a worker keeps from sample to sample.
#[derive(Default)]
pub(crate) struct ResampleScratch {
    resizer: Resizer,
    halver: Halver,
    /// Source column of each target column.
    columns: Vec<usize>,
    /// One row of raw mask values at the target's width.
    picked: Vec<u8>,
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
    if is_half(at) {
        return match channels {
            1 => halve::<1>(pixels, at, canvas, &mut scratch.halver),
            _ => halve::<3>(pixels, at, canvas, &mut scratch.halver),
        };
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

/// True when the target is half of the window in both directions, and wide enough for [`Halver`].
fn is_half(at: &Placement) -> bool {
    let (window, target) = (at.window.size, at.target.size);
    target.width >= 2
        && u64::from(target.width) * 2 == u64::from(window.width)
        && u64::from(target.height) * 2 == u64::from(window.height)
}

fn halve<const C: usize>(pixels: &[u8], at: &Placement, canvas: &mut [u8], halver: &mut Halver) {
    let Rect { x, y, size } = at.window;
    let source = |dy: u32| row(pixels, at.source, C, x, y + dy, size.width);
    for dy in (0..size.height).step_by(2) {
        let above = (dy > 0).then(|| source(dy - 1));
        let below = (dy + 2 < size.height).then(|| source(dy + 2));
        let target = target_row(canvas, at, C, dy / 2);
        halver.row::<C>(above, [source(dy), source(dy + 1)], below, target);
    }
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
    let ResampleScratch { columns, picked, .. } = scratch;
    columns.clear();
    let (window, target) = (at.window, at.target);
    let from_x = |x| window.x + nearest(x, target.size.width, window.size.width);
    columns.extend((0..target.size.width).map(|x| from_x(x) as usize));
    for y in 0..target.size.height {
        let from_y = window.y + nearest(y, target.size.height, window.size.height);
        let source = row(values, at.source, 1, 0, from_y, at.source.width);
        picked.clear();
        picked.extend(columns.iter().map(|&from| source[from]));
        translate(picked, table, target_row(canvas, at, 1, y));
    }
}

/// Raw mask values to as many class indices.
///
/// Masks are mostly flat, so a block that equals the one before it is not translated again.
pub(crate) fn translate(values: &[u8], table: &IndexTable, indices: &mut [u8]) {
    let (blocks, rest) = values.as_chunks::<32>();
    let (to_blocks, to_rest) = indices.as_chunks_mut::<32>();
    let mut before: Option<(&[u8; 32], [u8; 32])> = None;
    for (to, from) in to_blocks.iter_mut().zip(blocks) {
        *to = match before {
            Some((same, translated)) if same == from => translated,
            _ => from.map(|value| table.index(value)),
        };
        before = Some((from, *to));
    }
    to_rest.iter_mut().zip(rest).for_each(|(to, &from)| *to = table.index(from));
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
        copy(target_row(canvas, at, channels, y), from);
    }
}

/// `width` pixels of row `y` from column `x` on.
fn row(pixels: &[u8], size: Size, channels: usize, x: u32, y: u32, width: u32) -> &[u8] {
    let start = y as usize * size.width as usize + x as usize;
    &pixels[start * channels..][..width as usize * channels]
}

/// Row `y` of the target on the canvas.
fn target_row<'c>(canvas: &'c mut [u8], at: &Placement, channels: usize, y: u32) -> &'c mut [u8] {
    let start = (at.target.y + y) as usize * at.canvas.width as usize + at.target.x as usize;
    &mut canvas[start * channels..][..at.target.size.width as usize * channels]
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

    /// A triangle twice as wide as the shrinking, cut off and normalised at the edges of the window.
    fn exact(pixels: &[u8], channels: usize, at: &Placement, x: u32, y: u32, c: usize) -> f64 {
        let taps = |place: u32, to: u32, from: u32| {
            let scale = (f64::from(from) / f64::from(to)).max(1.0);
            let centre = (f64::from(place) + 0.5) * f64::from(from) / f64::from(to) - 0.5;
            let weight = move |i: u32| (1.0 - (f64::from(i) - centre).abs() / scale).max(0.0);
            let sum: f64 = (0..from).map(weight).sum();
            (0..from).map(move |i| (i, weight(i) / sum)).filter(|(_, w)| *w > 0.0)
        };
        let (window, target) = (at.window, at.target.size);
        let value = |sx: u32, sy: u32| {
            let i = (window.y + sy) as usize * at.source.width as usize + (window.x + sx) as usize;
            f64::from(pixels[i * channels + c])
        };
        taps(y, target.height, window.size.height)
            .flat_map(|(sy, wy)| {
                taps(x, target.width, window.size.width).map(move |(sx, wx)| wx * wy * value(sx, sy))
            })
            .sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Exact halves are within rounding (0.65: once downwards at the edge, once at the end); the general
        /// resizer, which rounds between its two passes, within one and a half.
        #[test]
        fn images_agree_with_the_exact_filter(
            w in 1u32..24, h in 1u32..24, left in 0u32..3, top in 0u32..3, right in 0u32..3,
            half in any::<bool>(), cw in 1u32..40, ch in 1u32..40, gray in any::<bool>(), seed in any::<u32>(),
        ) {
            let (cw, ch) = if half { (w, h) } else { (cw, ch) };
            let (ww, wh) = if half { (2 * w, 2 * h) } else { (w, h) };
            let at = Placement {
                source: Size::new(left + ww + right, top + wh + 1),
                window: Rect { x: left, y: top, size: Size::new(ww, wh) },
                canvas: Size::new(cw + 2, ch + 3),
                target: Rect { x: 2, y: 1, size: Size::new(cw, ch) },
            };
            let channels = if gray { 1 } else { 3 };
            let mut state = seed;
            let noise = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            let pixels: Vec<u8> = std::iter::repeat_with(noise).take(at.source.area() as usize * channels).collect();
            let mut canvas = vec![9; at.canvas.area() as usize * channels];
            place_image(&pixels, channels, &at, &mut canvas, &mut ResampleScratch::default());
            let tolerance = if is_half(&at) { 0.65 } else { 1.5 };
            for (i, &got) in canvas.iter().enumerate() {
                let (pixel, c) = (i / channels, i % channels);
                let (x, y) = ((pixel as u32) % (cw + 2), (pixel as u32) / (cw + 2));
                if !(2..2 + cw).contains(&x) || !(1..1 + ch).contains(&y) {
                    prop_assert_eq!(got, PADDING);
                    continue;
                }
                let expected = exact(&pixels, channels, &at, x - 2, y - 1, c);
                prop_assert!((f64::from(got) - expected).abs() <= tolerance, "({x}, {y}, {c}): {got}, {expected}");
            }
        }

        #[test]
        fn translation_is_the_table_value_by_value(
            mut values in prop::collection::vec(prop::sample::select(vec![0u8, 0, 0, 3]), 0..200),
            flat in prop::option::of(0usize..150),
        ) {
            if let Some(from) = flat.filter(|from| *from < values.len()) {
                values[from..].fill(7);
            }
            let classes = Classes {
                names: vec!["a".into(), "b".into(), "c".into()],
                values: vec![7, 3, 0],
                void_value: None,
            };
            let tables = MaskValues::new(&classes);
            let table = tables.table_for(&values, 10, false, Path::new("m")).unwrap();
            let mut indices = vec![99; values.len()];
            translate(&values, table, &mut indices);
            let expected: Vec<u8> = values.iter().map(|&v| table.index(v)).collect();
            prop_assert_eq!(indices, expected);
        }

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
