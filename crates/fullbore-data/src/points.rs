//! Points of interest: where they lie, and how they come onto a canvas.
//!
//! One convention holds everywhere in this project: coordinates are pixels of the *upright* image (after EXIF
//! orientation, as annotation tools show it), x to the right, y down, and (0, 0) is the *centre* of the top-left
//! pixel, so that its edges lie at -0.5 and 0.5. Every source translates on reading where its format has it
//! otherwise, and says so.

use fullbore_types::{Frame, Size};

/// Largest coordinate, in pixels, that an annotation may hold; beyond it lies a damaged file, not a picture.
pub const MAX_COORDINATE: f64 = 1e6;
/// Most points of one sample.
pub const MAX_POINTS: usize = 4_096;

/// What is known of a point, with the numbers that COCO gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Visibility {
    /// Nobody said where it is. Its coordinates are (0, 0) and mean nothing.
    NotLabelled = 0,
    /// Labelled, but not to be seen: hidden by something, or outside of the canvas.
    Hidden = 1,
    /// Labelled and to be seen.
    Visible = 2,
}

/// One point of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Column in pixels; 0 is the centre of the first.
    pub x: f32,
    /// Row in pixels; 0 is the centre of the first.
    pub y: f32,
    /// What is known of it.
    pub visibility: Visibility,
}

impl Point {
    /// A point that nobody labelled.
    pub const NOT_LABELLED: Point = Point { x: 0.0, y: 0.0, visibility: Visibility::NotLabelled };

    /// A point that can be seen.
    pub fn visible(x: f32, y: f32) -> Self {
        Point { x, y, visibility: Visibility::Visible }
    }

    /// A point as a file gives it: pixels, and 0, 1 or 2 as COCO has it.
    ///
    /// # Errors
    /// In words, with what was expected.
    pub(crate) fn read(x: f64, y: f64, visibility: f64) -> Result<Self, String> {
        let visibility = match visibility {
            0.0 => return Ok(Self::NOT_LABELLED),
            1.0 => Visibility::Hidden,
            2.0 => Visibility::Visible,
            other => return Err(format!("a visibility of {other}; expected 0, 1 or 2")),
        };
        match [x, y].iter().find(|v| v.is_nan() || v.abs() > MAX_COORDINATE) {
            Some(far) => Err(format!("a coordinate of {far}; expected pixels, at most {MAX_COORDINATE}")),
            None => Ok(Point { x: x as f32, y: y as f32, visibility }),
        }
    }

    /// Where this point of a source image lies on a canvas.
    ///
    /// A labelled point outside of the canvas keeps its exact coordinates and becomes [`Visibility::Hidden`]. The
    /// canvas ends at the outer edges of its pixels, and its padding is a part of it. Computed in f64, rounded once.
    pub fn on_canvas(self, frame: &Frame, canvas: Size) -> Point {
        if self.visibility == Visibility::NotLabelled {
            return Self::NOT_LABELLED;
        }
        let (x, y) = frame.canvas_from_source.apply((self.x.into(), self.y.into()));
        let within = |v: f64, side: u32| (-0.5..f64::from(side) - 0.5).contains(&v);
        let seen = within(x, canvas.width) && within(y, canvas.height);
        let visibility = if seen { self.visibility } else { Visibility::Hidden };
        Point { x: x as f32, y: y as f32, visibility }
    }
}

/// Points of a batch of `n` samples, on their canvases. Both are empty where the source has none. They are so few
/// bytes that they do not live in the slab.
pub(crate) struct BatchPoints {
    /// `[n, k, 2]`
    pub(crate) xy: Vec<f32>,
    /// `[n, k]`
    pub(crate) visibility: Vec<u8>,
}

impl BatchPoints {
    pub(crate) fn not_labelled(n: usize, k: usize) -> Self {
        BatchPoints { xy: vec![0.0; n * k * 2], visibility: vec![0; n * k] }
    }

    /// Writes all points of sample `at`.
    pub(crate) fn put(&mut self, at: usize, (places, visibility): (&[[f32; 2]], &[u8])) {
        let k = places.len();
        self.xy[2 * k * at..][..2 * k].copy_from_slice(places.as_flattened());
        self.visibility[k * at..][..k].copy_from_slice(visibility);
    }
}

/// The same K named points of many samples.
#[derive(Debug, Default)]
pub(crate) struct PointTable {
    pub(crate) names: Vec<String>,
    /// K of them for each sample.
    pub(crate) points: Vec<Point>,
}

impl PointTable {
    /// Points called by their numbers.
    pub(crate) fn numbered(k: usize) -> Self {
        PointTable { names: (0..k).map(|i| i.to_string()).collect(), points: Vec::new() }
    }

    /// Moves all points from coordinates in which the centre of the first pixel is `first_pixel`.
    pub(crate) fn count_from(&mut self, first_pixel: f64) {
        for point in self.points.iter_mut().filter(|p| p.visibility != Visibility::NotLabelled) {
            point.x = (f64::from(point.x) - first_pixel) as f32;
            point.y = (f64::from(point.y) - first_pixel) as f32;
        }
    }

    pub(crate) fn k(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn of(&self, sample: usize) -> &[Point] {
        &self.points[sample * self.k()..][..self.k()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Placement;
    use crate::config::Resize;
    use fullbore_types::{SampleId, SampleKey};
    use proptest::prelude::*;

    #[test]
    fn points_outside_the_canvas_keep_their_place_and_are_hidden() {
        let frame = Placement::evaluation(Resize::Stretch, Size::new(10, 10), Size::new(20, 20), 1).frame();
        let place = |x, y, visibility| {
            let p = Point { x, y, visibility }.on_canvas(&frame, Size::new(20, 20));
            (p.x, p.y, p.visibility)
        };
        assert_eq!(place(0.0, 9.0, Visibility::Visible), (0.5, 18.5, Visibility::Visible));
        assert_eq!(place(0.0, 9.0, Visibility::Hidden), (0.5, 18.5, Visibility::Hidden));
        assert_eq!(place(-0.5, 9.25, Visibility::Visible), (-0.5, 19.0, Visibility::Visible));
        assert_eq!(place(-1.0, 9.0, Visibility::Visible), (-1.5, 18.5, Visibility::Hidden));
        assert_eq!(place(9.5, 9.0, Visibility::Visible), (19.5, 18.5, Visibility::Hidden));
        assert_eq!(place(3.0, 4.0, Visibility::NotLabelled), (0.0, 0.0, Visibility::NotLabelled));
    }

    proptest! {
        #[test]
        fn a_placed_point_maps_back(
            source in (1u32..5000, 1u32..5000), canvas in (1u32..1500, 1u32..1500), at in (0.0f64..1.0, 0.0f64..1.0),
            resize in prop::sample::select(vec![Resize::Stretch, Resize::Letterbox, Resize::Crop]), epoch in 0u64..9,
        ) {
            let (source, canvas) = (Size::new(source.0, source.1), Size::new(canvas.0, canvas.1));
            let key = SampleKey { seed: 3, epoch, sample: SampleId(7) };
            let frame = Placement::training(resize, source, canvas, key).frame();
            let x = (at.0 * f64::from(source.width)) as f32;
            let y = (at.1 * f64::from(source.height)) as f32;
            let placed = Point::visible(x, y).on_canvas(&frame, canvas);
            let back = frame.canvas_from_source.inverse().unwrap();
            let (bx, by) = back.apply((placed.x.into(), placed.y.into()));
            // Rounding to f32 on the canvas, seen at the scale of the source.
            let scale = frame.canvas_from_source.0;
            let reach = |scale: f64| 1e-3f64.max(4096.0 * f64::from(f32::EPSILON) / scale);
            prop_assert!((bx - f64::from(x)).abs() < reach(scale[0]), "{bx} {x}");
            prop_assert!((by - f64::from(y)).abs() < reach(scale[4]), "{by} {y}");
        }
    }
}
