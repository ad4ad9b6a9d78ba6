use serde::{Deserialize, Serialize};

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// A size from columns and rows.
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// Number of pixels. Fits: both sides are u32.
    pub fn area(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A 2x3 affine map of points, rows `[a b c; d e f]`: `x' = a x + b y + c`, `y' = d x + e y + f`.
///
/// Coordinates follow the half-pixel convention: the centre of the first pixel is (0, 0) and a resize by `s`
/// maps `x` to `s (x + 0.5) - 0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Affine(pub [f64; 6]);

impl Affine {
    /// The map that leaves points where they are.
    pub const IDENTITY: Affine = Affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);

    /// Resize by `(sx, sy)`, then shift by `(tx, ty)` pixels, in the half-pixel convention.
    pub fn scale_shift(sx: f64, sy: f64, tx: f64, ty: f64) -> Self {
        Affine([sx, 0.0, 0.5 * sx - 0.5 + tx, 0.0, sy, 0.5 * sy - 0.5 + ty])
    }

    /// Image of the point `(x, y)`.
    pub fn apply(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let [a, b, c, d, e, f] = self.0;
        (a * x + b * y + c, d * x + e * y + f)
    }

    /// The map that undoes this one, or `None` when it flattens the plane.
    pub fn inverse(&self) -> Option<Self> {
        let [a, b, c, d, e, f] = self.0;
        let det = a * e - b * d;
        if !det.is_normal() {
            return None;
        }
        Some(Affine([e / det, -b / det, (b * f - c * e) / det, -d / det, a / det, (c * d - a * f) / det]))
    }
}

/// How one sample's canvas relates to the image it came from, so that results map back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Size of the source image after EXIF orientation.
    pub source_size: Size,
    /// Maps source pixels to canvas pixels.
    pub canvas_from_source: Affine,
    /// Millimetres per source pixel, where the data set knows it.
    pub mm_per_px: Option<f32>,
}

impl Frame {
    /// Where a point of the canvas, x before y, lies in the source image.
    pub fn to_source(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        // Canvases have pixels, so there is a way back.
        self.canvas_from_source.inverse().unwrap_or(Affine::IDENTITY).apply((x, y)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_keeps_pixel_edges_on_pixel_edges() {
        let half = Affine::scale_shift(0.5, 0.5, 0.0, 0.0);
        assert_eq!(half.apply((-0.5, -0.5)), (-0.5, -0.5));
        assert_eq!(half.apply((511.5, 511.5)), (255.5, 255.5));
    }

    #[test]
    fn the_inverse_undoes_the_map() {
        let map = Affine([0.8, -0.1, 3.0, 0.2, 1.1, -4.0]);
        let (x, y) = map.inverse().unwrap().apply(map.apply((12.0, 7.0)));
        assert!((x - 12.0).abs() < 1e-12 && (y - 7.0).abs() < 1e-12);
        assert_eq!(Affine([1.0, 2.0, 0.0, 2.0, 4.0, 0.0]).inverse(), None);
    }
}
