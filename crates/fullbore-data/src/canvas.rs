//! Where a source image lies on its canvas: pure geometry, in whole pixels.

use fullbore_types::{Affine, Frame, Purpose, SampleKey, Size};

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

impl Rect {
    /// The part of this rectangle that lies within an image of `size`; `None` when there is none.
    pub fn within(self, size: Size) -> Option<Rect> {
        let end = |start: u32, length: u32, side: u32| start.saturating_add(length).min(side);
        let width = end(self.x, self.size.width, size.width).checked_sub(self.x)?;
        let height = end(self.y, self.size.height, size.height).checked_sub(self.y)?;
        (width > 0 && height > 0).then_some(Rect { size: Size::new(width, height), ..self })
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

    /// The same placement where its source is only a part of a larger image.
    pub fn of_part(self, part: Rect, image: Size) -> Self {
        let window = Rect { x: self.window.x + part.x, y: self.window.y + part.y, ..self.window };
        Placement { source: image, window, ..self }
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

    #[test]
    fn rectangles_are_cut_to_the_image() {
        let rect = |x, y, w, h| Rect { x, y, size: Size::new(w, h) };
        let size = Size::new(10, 8);
        assert_eq!(rect(2, 3, 4, 5).within(size), Some(rect(2, 3, 4, 5)));
        assert_eq!(rect(2, 3, 90, u32::MAX).within(size), Some(rect(2, 3, 8, 5)));
        assert_eq!(
            [rect(10, 0, 1, 1), rect(0, 9, 1, 1), rect(0, 0, 0, 3)].map(|r| r.within(size)),
            [None; 3]
        );
    }

    proptest! {
        #[test]
        fn every_placement_stays_inside_and_maps_edges_to_edges(
            source in (1u32..3000, 1u32..3000),
            canvas in (1u32..700, 1u32..700),
            sample in 0u32..100,
        ) {
            let (source, canvas) = (Size::new(source.0, source.1), Size::new(canvas.0, canvas.1));
            for resize in [Resize::Stretch, Resize::Letterbox, Resize::Crop] {
                let part = Rect { x: 7, y: 300, size: source };
                let image = Size::new(source.width + 9, source.height + 300);
                for p in [
                    Placement::training(resize, source, canvas, key(0, sample)),
                    Placement::training(resize, source, canvas, key(0, sample)).of_part(part, image),
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
