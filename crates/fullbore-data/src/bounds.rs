use crate::points::{MAX_COORDINATE, Point, Visibility};

/// The box around an object, in pixels of the upright image that count from the outer edge of the first one: the centre
/// of the first pixel lies at 0.5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Above 0.
    pub width: f32,
    /// Above 0.
    pub height: f32,
}

impl Bounds {
    /// A box as a file gives it: left, top, width, height.
    ///
    /// # Errors
    /// In words, with what was expected.
    pub(crate) fn read(bounds: [f64; 4]) -> Result<Self, String> {
        let [left, top, width, height] = bounds.map(|v| v as f32);
        let sensible = bounds.iter().all(|v| v.abs() <= MAX_COORDINATE) && width > 0.0 && height > 0.0;
        match sensible {
            true => Ok(Bounds { left, top, width, height }),
            false => Err(format!(
                "a box of {bounds:?} (left, top, width, height); expected pixels, with width and height above 0"
            )),
        }
    }

    /// The smallest box with the centres of all labelled points; `None` when its sides are below one pixel, as that of
    /// a single point.
    pub fn of_points(points: &[Point]) -> Option<Self> {
        let labelled = || points.iter().filter(|point| point.visibility != Visibility::NotLabelled);
        let range = |of: fn(&Point) -> f32| {
            labelled()
                .map(of)
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let ((left, right), (top, bottom)) = (range(|point| point.x), range(|point| point.y));
        let (width, height) = (right - left, bottom - top);
        // Points count from the centre of the first pixel.
        (width.max(height) >= 1.0).then_some(Bounds { left: left + 0.5, top: top + 0.5, width, height })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labelled_points_have_a_box_and_others_do_not() {
        let points = [Point::visible(3.0, -1.0), Point::NOT_LABELLED, Point::visible(5.5, 4.0)];
        let bounds = Bounds { left: 3.5, top: -0.5, width: 2.5, height: 5.0 };
        assert_eq!(Bounds::of_points(&points), Some(bounds));
        assert_eq!(Bounds::of_points(&points[..2]), None);
        assert_eq!(Bounds::of_points(&[]), None);
    }

    #[test]
    fn boxes_without_extent_are_refused() {
        assert!(Bounds::read([-1.0, 2.0, 3.0, 0.5]).is_ok());
        for bad in
            [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, -1.0], [f64::NAN, 0.0, 1.0, 1.0], [0.0, 0.0, 1e300, 1.0]]
        {
            assert!(Bounds::read(bad).unwrap_err().contains("above 0"));
        }
    }
}
