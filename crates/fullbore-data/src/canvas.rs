//! Where a source image lies on its canvas: pure geometry, in whole pixels.

use fullbore_types::{Affine, Frame, Purpose, SampleKey, Size};

use crate::bounds::Bounds;
use crate::config::Resize;

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns and rows.
    pub size: Size,
}

/// A rectangle of whole pixels that may reach beyond its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// First column; negative ones lie left of the image.
    pub x: i32,
    /// First row; negative ones lie above the image.
    pub y: i32,
    /// Columns and rows.
    pub size: Size,
}

impl Window {
    /// The square about the middle of `bounds` whose side is the longer side of `bounds`, with `margin` of it added on
    /// each side, rounded to whole pixels.
    pub fn around(bounds: Bounds, margin: f64) -> Self {
        let Bounds { left, top, width, height } = bounds;
        let side = (f64::from(width.max(height)) * (1.0 + 2.0 * margin)).round().max(1.0);
        let start = |start: f32, length: f32| f64::from(start) + f64::from(length) / 2.0 - side / 2.0;
        let (x, y) = (start(left, width).round() as i32, start(top, height).round() as i32);
        Window { x, y, size: Size::new(side as u32, side as u32) }
    }

    /// True when a pixel of an image of `size` lies in the window.
    pub fn meets(self, size: Size) -> bool {
        let meets = |start: i32, length: u32, side: u32| {
            i64::from(start) < i64::from(side) && i64::from(start) + i64::from(length) > 0
        };
        meets(self.x, self.size.width, size.width) && meets(self.y, self.size.height, size.height)
    }

    /// The window without what lies outside of an image of `size`.
    fn cut_off(self, size: Size) -> Self {
        let Placement { window: Rect { x, y, size }, .. } =
            Placement::stretch(self.size, self.size).of_part(self, size);
        Window { x: x as i32, y: y as i32, size }
    }
}

/// Which part of the source goes where on the canvas. The part is resampled when the two sizes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Size of the source image, upright.
    pub source: Size,
    /// The part of the source that is shown.
    pub window: Rect,
    /// Size of the canvas.
    pub canvas: Size,
    /// The part of the canvas that shows it. The rest is padding: 0 in images, `IGNORE_INDEX` in masks.
    pub target: Rect,
}

impl Placement {
    /// Placement for a training sample. Only [`Resize::Crop`] draws: its corner is a pure function of `key`.
    pub fn training(resize: Resize, source: Size, canvas: Size, key: SampleKey) -> Self {
        match resize {
            Resize::Stretch => Self::stretch(source, canvas),
            Resize::Letterbox => Self::letterbox(source, canvas),
            Resize::Crop => Self::random_crop(source, canvas, key),
        }
    }

    /// Placement for evaluation. [`Resize::Crop`] keeps the whole image at its native size, padded on the right
    /// and at the bottom to multiples of `pad_multiple`; the others are as in training.
    ///
    /// # Panics
    /// When `pad_multiple` is zero.
    pub fn evaluation(resize: Resize, source: Size, canvas: Size, pad_multiple: u32) -> Self {
        match resize {
            Resize::Stretch => Self::stretch(source, canvas),
            Resize::Letterbox => Self::letterbox(source, canvas),
            Resize::Crop => {
                let padded = |side: u32| side.div_ceil(pad_multiple).saturating_mul(pad_multiple);
                let canvas = Size::new(padded(source.width), padded(source.height));
                Placement { source, window: whole(source), canvas, target: whole(source) }
            }
        }
    }

    /// Placement of what a window shows of an image, or of all of it. `place` tells where a source of the window's
    /// size lies.
    ///
    /// Where the window reaches beyond the image there is padding, so that squares stay squares: the border lies on
    /// the nearest edge between two pixels of the canvas, and what is seen is stretched to it by less than one of
    /// them. With [`Resize::Crop`], whose pixels are native, the window is cut off at the border instead. A window
    /// that lies outside as a whole shows the nearest pixel.
    pub fn of_window(
        image: Size,
        window: Option<Window>,
        resize: Resize,
        place: impl FnOnce(Size) -> Placement,
    ) -> Self {
        let window = match (window, resize) {
            (None, _) => return place(image),
            (Some(window), Resize::Crop) => window.cut_off(image),
            (Some(window), Resize::Stretch | Resize::Letterbox) => window,
        };
        place(window.size).of_part(window, image)
    }

    /// The same placement where its source is a window of an image, which need not hold it.
    fn of_part(self, part: Window, image: Size) -> Self {
        let (window, target) = (self.window, self.target);
        let columns = (i64::from(part.x) + i64::from(window.x), window.size.width);
        let rows = (i64::from(part.y) + i64::from(window.y), window.size.height);
        let (x, width, to_x, to_width) = seen(columns, (target.x, target.size.width), image.width);
        let (y, height, to_y, to_height) = seen(rows, (target.y, target.size.height), image.height);
        Placement {
            source: image,
            window: Rect { x, y, size: Size::new(width, height) },
            target: Rect { x: to_x, y: to_y, size: Size::new(to_width, to_height) },
            ..self
        }
    }

    /// True when the canvas is the source image, pixel for pixel.
    pub fn is_identity(&self) -> bool {
        self.source == self.canvas && self.window == whole(self.source) && self.target == whole(self.source)
    }

    /// The map back from the canvas to the source.
    pub fn frame(&self) -> Frame {
        let (window, target) = (self.window, self.target);
        let sx = f64::from(target.size.width) / f64::from(window.size.width);
        let sy = f64::from(target.size.height) / f64::from(window.size.height);
        let tx = f64::from(target.x) - sx * f64::from(window.x);
        let ty = f64::from(target.y) - sy * f64::from(window.y);
        let canvas_from_source = Affine::scale_shift(sx, sy, tx, ty);
        Frame { source_size: self.source, canvas_from_source, mm_per_px: None }
    }

    fn stretch(source: Size, canvas: Size) -> Self {
        Placement { source, window: whole(source), canvas, target: whole(canvas) }
    }

    fn letterbox(source: Size, canvas: Size) -> Self {
        // The side that fills its canvas is found without rounding; the other is rounded, at least one pixel.
        let scaled = |side: u32, to: u32, from: u32| {
            let (side, to, from) = (u64::from(side), u64::from(to), u64::from(from));
            ((2 * side * to + from) / (2 * from)).max(1) as u32
        };
        let wide = u64::from(source.width) * u64::from(canvas.height)
            >= u64::from(source.height) * u64::from(canvas.width);
        let size = match wide {
            true => {
                let height = scaled(source.height, canvas.width, source.width);
                Size::new(canvas.width, height.min(canvas.height))
            }
            false => {
                let width = scaled(source.width, canvas.height, source.height);
                Size::new(width.min(canvas.width), canvas.height)
            }
        };
        let target = Rect { x: (canvas.width - size.width) / 2, y: (canvas.height - size.height) / 2, size };
        Placement { source, window: whole(source), canvas, target }
    }

    fn random_crop(source: Size, canvas: Size, key: SampleKey) -> Self {
        let size = Size::new(source.width.min(canvas.width), source.height.min(canvas.height));
        let mut rng = key.rng(Purpose::Crop);
        let mut corner = |room: u32| rng.below(u64::from(room) + 1) as u32;
        let x = corner(source.width - size.width);
        let y = corner(source.height - size.height);
        Placement { source, window: Rect { x, y, size }, canvas, target: whole(size) }
    }
}

/// Of the pixels `start..start + length` that go to `to..to + to_length`, those between 0 and `side`, at least one, and
/// where they go: start and length of both.
fn seen((start, length): (i64, u32), (to, to_length): (u32, u32), side: u32) -> (u32, u32, u32, u32) {
    let (side, length) = (i64::from(side), i64::from(length));
    let first = start.clamp(0, side - 1);
    let end = (start + length).clamp(first + 1, side);
    let place = |at: i64| {
        let share = 2 * (at - start).clamp(0, length) * i64::from(to_length);
        ((share + length) / (2 * length)) as u32
    };
    let to_first = place(first).min(to_length - 1);
    let to_end = place(end).max(to_first + 1);
    (first as u32, (end - first) as u32, to + to_first, to_end - to_first)
}

fn whole(size: Size) -> Rect {
    Rect { x: 0, y: 0, size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fullbore_types::SampleId;
    use proptest::prelude::*;

    fn key(epoch: u64, sample: u32) -> SampleKey {
        SampleKey { seed: 1, epoch, sample: SampleId(sample) }
    }

    /// The frame must take the window's outer pixel edges to the target's.
    fn assert_edges_meet(p: &Placement) {
        let map = p.frame().canvas_from_source;
        let edge = |r: &Rect| {
            let (x, y) = (f64::from(r.x) - 0.5, f64::from(r.y) - 0.5);
            [(x, y), (x + f64::from(r.size.width), y + f64::from(r.size.height))]
        };
        for (from, to) in edge(&p.window).into_iter().zip(edge(&p.target)) {
            let (x, y) = map.apply(from);
            assert!((x - to.0).abs() < 1e-6 && (y - to.1).abs() < 1e-6, "{p:?}: {from:?} -> {x} {y}");
        }
        let inverse = map.inverse().unwrap();
        let (x, y) = inverse.apply(map.apply((3.0, 5.0)));
        assert!((x - 3.0).abs() < 1e-6 && (y - 5.0).abs() < 1e-6);
    }

    #[test]
    fn letterbox_centres_the_image() {
        let p = Placement::training(Resize::Letterbox, Size::new(200, 100), Size::new(64, 64), key(0, 0));
        assert_eq!(p.target, Rect { x: 0, y: 16, size: Size::new(64, 32) });
        let p = Placement::training(Resize::Letterbox, Size::new(100, 300), Size::new(64, 60), key(0, 0));
        assert_eq!(p.target, Rect { x: 22, y: 0, size: Size::new(20, 60) });
        let p = Placement::training(Resize::Letterbox, Size::new(16384, 1), Size::new(64, 64), key(0, 0));
        assert_eq!(p.target.size, Size::new(64, 1));
    }

    #[test]
    fn crops_repeat_by_key_and_move_with_the_epoch() {
        let crop = |key| Placement::training(Resize::Crop, Size::new(512, 512), Size::new(64, 64), key);
        assert_eq!(crop(key(3, 9)), crop(key(3, 9)));
        let corners: std::collections::HashSet<_> =
            (0..20).map(|epoch| crop(key(epoch, 9)).window).map(|w| (w.x, w.y)).collect();
        assert!(corners.len() > 15, "{corners:?}");
    }

    #[test]
    fn small_images_are_padded_right_and_below() {
        let p = Placement::training(Resize::Crop, Size::new(40, 100), Size::new(64, 64), key(0, 0));
        assert_eq!((p.window.x, p.window.size, p.target.x, p.target.y), (0, Size::new(40, 64), 0, 0));
        assert_eq!(p.target.size, p.window.size);
    }

    #[test]
    fn evaluation_keeps_native_pixels_when_training_crops() {
        let p = Placement::evaluation(Resize::Crop, Size::new(100, 64), Size::new(32, 32), 16);
        assert_eq!((p.canvas, p.target, p.window), (Size::new(112, 64), p.window, whole(p.source)));
        assert!(!p.is_identity());
        let p = Placement::evaluation(Resize::Crop, Size::new(512, 512), Size::new(32, 32), 16);
        assert!(p.is_identity());
    }

    fn window(x: i32, y: i32, w: u32, h: u32) -> Window {
        Window { x, y, size: Size::new(w, h) }
    }

    #[test]
    fn windows_are_squares_around_boxes() {
        let bounds = |left, top, width, height| Bounds { left, top, width, height };
        assert_eq!(Window::around(bounds(10.0, 20.0, 8.0, 4.0), 0.25), window(8, 16, 12, 12));
        assert_eq!(Window::around(bounds(-3.0, 0.5, 2.0, 5.0), 0.0), window(-5, 1, 5, 5));
        assert_eq!(Window::around(bounds(7.25, 7.25, 0.1, 0.1), 0.0), window(7, 7, 1, 1));
    }

    #[test]
    fn windows_without_a_pixel_of_the_image_are_told() {
        let size = Size::new(10, 8);
        let inside = [window(2, 3, 4, 5), window(9, 7, 1, 1), window(-4, -4, 5, 5), window(-9, -9, 99, 99)];
        assert_eq!(inside.map(|w| w.meets(size)), [true; 4]);
        let outside =
            [window(10, 0, 1, 1), window(0, 8, 1, 1), window(-5, 0, 5, 5), window(0, i32::MIN, 1, 9)];
        assert_eq!(outside.map(|w| w.meets(size)), [false; 4]);
    }

    #[test]
    fn beyond_the_image_there_is_padding() {
        let (image, canvas) = (Size::new(10, 8), Size::new(24, 24));
        let placed = |resize, window| {
            Placement::of_window(image, Some(window), resize, |part| {
                Placement::evaluation(resize, part, canvas, 4)
            })
        };
        let rect = |x, y, w, h| Rect { x, y, size: Size::new(w, h) };
        // Columns -2 to 9 of twelve, rows 4 to 15: all but two columns and four rows, at twice their size.
        let p = placed(Resize::Stretch, window(-2, 4, 12, 12));
        assert_eq!((p.window, p.target, p.source), (rect(0, 4, 10, 4), rect(4, 0, 20, 8), image));
        assert_eq!(p.frame().canvas_from_source, Affine::scale_shift(2.0, 2.0, 4.0, -8.0));
        let p = placed(Resize::Crop, window(-2, 4, 12, 12));
        assert_eq!((p.window, p.target), (rect(0, 4, 10, 4), rect(0, 0, 10, 4)));
        assert_eq!(p.canvas, Size::new(12, 4), "native pixels grow no further than the image");
        let p = placed(Resize::Letterbox, window(3, 2, 5, 5));
        assert_eq!((p.window, p.target), (rect(3, 2, 5, 5), whole(canvas)));
        let far = placed(Resize::Stretch, window(1 << 20, -9, 3, 3));
        assert_eq!((far.window, far.target.size), (rect(9, 0, 1, 1), Size::new(1, 1)));
    }

    proptest! {
        #[test]
        fn every_placement_stays_inside_and_maps_edges_to_edges(
            source in (1u32..3000, 1u32..3000),
            canvas in (1u32..700, 1u32..700),
            sample in 0u32..100,
            part in (-4000i32..4000, -4000i32..4000, 1u32..5000, 1u32..5000),
        ) {
            let part = window(part.0, part.1, part.2, part.3);
            let (source, canvas) = (Size::new(source.0, source.1), Size::new(canvas.0, canvas.1));
            for resize in [Resize::Stretch, Resize::Letterbox, Resize::Crop] {
                let training = |source| Placement::training(resize, source, canvas, key(0, sample));
                for p in [
                    training(source),
                    Placement::of_window(source, Some(part), resize, training),
                    Placement::evaluation(resize, source, canvas, 16),
                ] {
                    for (rect, outer) in [(p.window, p.source), (p.target, p.canvas)] {
                        prop_assert!(rect.size.width >= 1 && rect.size.height >= 1);
                        prop_assert!(rect.x + rect.size.width <= outer.width, "{p:?}");
                        prop_assert!(rect.y + rect.size.height <= outer.height, "{p:?}");
                    }
                    assert_edges_meet(&p);
                }
            }
        }
    }
}
