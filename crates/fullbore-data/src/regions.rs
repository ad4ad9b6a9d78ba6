//! Regions drawn into masks: polygons and run-length codes, kept in one compact table.
//!
//! Polygons are filled by the even-odd rule in the way of COCO's reference tools: corners are rounded to fifths of
//! a pixel, and a pixel is inside when its centre is. Corner coordinates count from the *outer edge* of the
//! top-left pixel, whose centre is (0.5, 0.5), as polygons do in both COCO and LabelMe.

use fullbore_types::Size;

use crate::points::MAX_COORDINATE;

/// Fifths of a pixel: the grid that corners are rounded to.
const GRID: i64 = 5;
/// Most steps that drawing one sample may take, in pixels looked at: some seconds. Only damaged or hostile files ask
/// for more, such as many thousand polygons that each cover a whole large image.
const MAX_STEPS: u64 = 1 << 34;

/// Regions of many samples, added in their order.
#[derive(Debug, Default)]
pub(crate) struct RegionTable {
    regions: Vec<Region>,
    /// Corners in fifths of a pixel, x and y in turn; or lengths of runs.
    numbers: Vec<i32>,
    /// End of each sample's regions.
    ends: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Region {
    class: u8,
    form: Form,
    start: usize,
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Corners; closed by itself.
    Polygon,
    /// Runs from the top of the first column downwards and on to the next column, the first one outside.
    ColumnRuns,
}

/// What is drawn into the mask of one sample.
#[derive(Clone, Copy, Debug)]
pub struct Regions<'a> {
    /// Class index of pixels in no region.
    background: u8,
    /// Later ones are painted over earlier ones.
    regions: &'a [Region],
    numbers: &'a [i32],
}

/// Buffers that a worker keeps from mask to mask.
#[derive(Default)]
pub(crate) struct DrawScratch {
    /// Odd where an outline passes between a pixel and the one above it, over the polygon's box.
    crossings: Vec<u8>,
    /// Odd where the present row is inside, over the box's columns.
    inside: Vec<u8>,
}

/// A shape that is not yet in a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    form: Form,
    numbers: Vec<i32>,
    /// Steps that drawing it takes.
    steps: u64,
    /// Pixels covered, or nearly so.
    pub(crate) area: f64,
}

impl Shape {
    /// A polygon from its corners in pixels, x and y in turn, counted from the outer edge of the top-left pixel.
    ///
    /// # Errors
    /// In words: less than three corners, a lone coordinate, or one that no picture has.
    pub(crate) fn polygon(corners: &[f64]) -> Result<Self, String> {
        if !corners.len().is_multiple_of(2) || corners.len() < 6 {
            let n = corners.len();
            return Err(format!("a polygon of {n} numbers; expected x and y of at least 3 corners"));
        }
        if let Some(far) = corners.iter().find(|v| v.is_nan() || v.abs() > MAX_COORDINATE) {
            return Err(format!("a polygon corner at {far}; expected pixels, at most {MAX_COORDINATE}"));
        }
        let numbers: Vec<i32> = corners.iter().map(|v| (GRID as f64 * v + 0.5) as i32).collect();
        let corner = |i: usize| (corners[2 * i], corners[2 * i + 1]);
        let n = corners.len() / 2;
        let doubled: f64 = (0..n).map(|i| cross(corner(i), corner((i + 1) % n))).sum();
        let columns =
            edges(&numbers).map(|((ax, _), (bx, _))| ax.abs_diff(bx) / GRID as u64 + 1).sum::<u64>();
        let span = |axis: usize| {
            let values = || numbers.iter().skip(axis).step_by(2).copied();
            let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
            u64::from(low.abs_diff(high)) / GRID as u64 + 1
        };
        let steps = span(0) * span(1) + columns;
        Ok(Shape { form: Form::Polygon, numbers, steps, area: (doubled / 2.0).abs() })
    }

    /// A circle, as a polygon that lies within a ten-thousandth of its radius from it.
    ///
    /// # Errors
    /// As for polygons.
    pub(crate) fn circle(centre: (f64, f64), radius: f64) -> Result<Self, String> {
        const CORNERS: usize = 256;
        let angle = |i: usize| std::f64::consts::TAU * i as f64 / CORNERS as f64;
        let corner = |i| [centre.0 + radius * f64::cos(angle(i)), centre.1 + radius * f64::sin(angle(i))];
        Self::polygon(&(0..CORNERS).flat_map(corner).collect::<Vec<_>>())
    }

    /// COCO's run lengths: down the columns of an image of `size`, outside and inside in turn, outside first.
    ///
    /// # Errors
    /// In words: runs that do not add up to the image.
    pub(crate) fn column_runs(runs: &[u32], size: Size) -> Result<Self, String> {
        let total: u64 = runs.iter().copied().map(u64::from).sum();
        if total != size.area() || total > i32::MAX as u64 {
            return Err(format!("runs of {total} pixels in all; expected the {} of {size}", size.area()));
        }
        let inside: u64 = runs.iter().skip(1).step_by(2).copied().map(u64::from).sum();
        let numbers = runs.iter().map(|&run| run as i32).collect();
        let steps = inside + runs.len() as u64;
        Ok(Shape { form: Form::ColumnRuns, numbers, steps, area: inside as f64 })
    }
}

impl RegionTable {
    /// Adds the regions of the next sample, the first one painted first.
    ///
    /// # Errors
    /// In words, when drawing them all would take far too long.
    pub(crate) fn push_sample<'a>(
        &mut self,
        shapes: impl Iterator<Item = (u8, &'a Shape)>,
    ) -> Result<(), String> {
        let mut steps = 0u64;
        for (class, shape) in shapes {
            steps = steps.saturating_add(shape.steps);
            let (start, len) = (self.numbers.len(), shape.numbers.len());
            self.numbers.extend_from_slice(&shape.numbers);
            self.regions.push(Region { class, form: shape.form, start, len });
        }
        self.ends.push(self.regions.len());
        match steps > MAX_STEPS {
            true => Err(format!("its regions take {steps} steps to draw; at most {MAX_STEPS} are allowed")),
            false => Ok(()),
        }
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        self.regions.shrink_to_fit();
        self.numbers.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    pub(crate) fn of(&self, sample: usize, background: u8) -> Regions<'_> {
        let start = if sample == 0 { 0 } else { self.ends[sample - 1] };
        Regions { background, regions: &self.regions[start..self.ends[sample]], numbers: &self.numbers }
    }
}

impl Regions<'_> {
    /// Draws class indices, u8 `[height, width]`.
    ///
    /// # Panics
    /// When `mask` has not as many pixels as `size`.
    pub(crate) fn draw(&self, size: Size, mask: &mut [u8], scratch: &mut DrawScratch) {
        assert_eq!(mask.len() as u64, size.area(), "the mask has the image's size");
        mask.fill(self.background);
        for region in self.regions {
            let numbers = &self.numbers[region.start..][..region.len];
            match region.form {
                Form::Polygon => fill_polygon(numbers, region.class, size, mask, scratch),
                Form::ColumnRuns => fill_runs(numbers, region.class, size, mask),
            }
        }
    }
}

type Corner = (i64, i64);

fn edges(numbers: &[i32]) -> impl Iterator<Item = (Corner, Corner)> {
    let corner = |i: usize| (i64::from(numbers[2 * i]), i64::from(numbers[2 * i + 1]));
    let n = numbers.len() / 2;
    (0..n).map(move |i| (corner(i), corner((i + 1) % n)))
}

fn cross(a: (f64, f64), b: (f64, f64)) -> f64 {
    a.0 * b.1 - b.0 * a.1
}

/// First pixel whose centre does not lie before grid line `v`.
fn first_pixel(v: i64) -> i64 {
    // The centre of pixel p is at fifth 5 p + 2 and a half.
    (v + 2).div_euclid(GRID)
}

/// Paints a polygon. Down every column of pixel centres, each edge that crosses it switches between outside and
/// inside; the switches are set first and then summed up row by row.
fn fill_polygon(numbers: &[i32], class: u8, size: Size, mask: &mut [u8], scratch: &mut DrawScratch) {
    let values = |axis: usize| numbers.iter().skip(axis).step_by(2).map(|&v| i64::from(v));
    let span = |axis: usize, side: u32| {
        let (low, high) = (values(axis).min().unwrap_or(0), values(axis).max().unwrap_or(0));
        first_pixel(low).max(0)..first_pixel(high).min(i64::from(side))
    };
    let (columns, rows) = (span(0, size.width), span(1, size.height));
    if columns.is_empty() || rows.is_empty() {
        return;
    }
    let n_columns = (columns.end - columns.start) as usize;
    let DrawScratch { crossings, inside } = scratch;
    crossings.clear();
    crossings.resize(n_columns * (rows.end - rows.start) as usize, 0);
    for (a, b) in edges(numbers) {
        each_crossing(a, b, columns.clone(), |column, v| {
            let row = first_pixel(v).max(rows.start);
            if row < rows.end {
                crossings[(row - rows.start) as usize * n_columns + (column - columns.start) as usize] ^= 1;
            }
        });
    }
    inside.clear();
    inside.resize(n_columns, 0);
    for (row, crossings) in rows.zip(crossings.chunks_exact(n_columns)) {
        let start = row as usize * size.width as usize + columns.start as usize;
        let pixels = &mut mask[start..][..n_columns];
        for ((inside, crossed), pixel) in inside.iter_mut().zip(crossings).zip(pixels) {
            *inside ^= crossed;
            if *inside != 0 {
                *pixel = class;
            }
        }
    }
}

/// Calls `crossed` with each of `columns` whose line of centres the edge crosses, and the upper of the two grid rows
/// between which it does. The edge is the staircase of grid points nearest to it, one for each step along its longer
/// side.
fn each_crossing(a: Corner, b: Corner, columns: std::ops::Range<i64>, mut crossed: impl FnMut(i64, i64)) {
    let (dx, dy) = ((b.0 - a.0).abs(), (b.1 - a.1).abs());
    let flat = dx >= dy;
    let backwards = if flat { a.0 > b.0 } else { a.1 > b.1 };
    let ((xs, ys), (xe, ye)) = if backwards { (b, a) } else { (a, b) };
    let low = first_pixel(xs.min(xe)).max(columns.start);
    let high = first_pixel(xs.max(xe)).min(columns.end);
    let nearest = |from: i64, slope: f64, t: i64| (from as f64 + slope * t as f64 + 0.5) as i64;
    for column in low..high {
        // The line of centres lies between these two columns of grid points.
        let left = column * GRID + 2;
        if flat {
            let slope = (ye - ys) as f64 / dx as f64;
            let t = left - xs;
            crossed(column, nearest(ys, slope, t).min(nearest(ys, slope, t + 1)));
        } else {
            let slope = (xe - xs) as f64 / dy as f64;
            let beyond = |t: i64| (nearest(xs, slope, t) > left) == (slope > 0.0);
            // Solved for the first step beyond the line, then put right for rounding.
            let estimate = (left as f64 + 0.5 - xs as f64) / slope;
            let mut t = (estimate as i64).clamp(1, dy);
            while t > 1 && beyond(t - 1) {
                t -= 1;
            }
            while t < dy && !beyond(t) {
                t += 1;
            }
            crossed(column, ys + t - 1);
        }
    }
}

fn fill_runs(runs: &[i32], class: u8, size: Size, mask: &mut [u8]) {
    let (width, height) = (size.width as usize, size.height as usize);
    let mut at = 0;
    for (i, &run) in runs.iter().enumerate() {
        let end = (at + run as usize).min(mask.len());
        if i % 2 == 0 {
            at = end;
        }
        while at < end {
            let (column, row) = (at / height, at % height);
            let n = (end - at).min(height - row);
            (row..row + n).for_each(|row| mask[row * width + column] = class);
            at += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn draw(shapes: &[Shape], size: Size) -> Vec<u8> {
        let mut table = RegionTable::default();
        // Regions that would take too long on a large image do not on a small one.
        let _ = table.push_sample(shapes.iter().map(|shape| (1, shape)));
        let mut mask = vec![9; size.area() as usize];
        // Left over from other masks.
        let mut scratch = DrawScratch { crossings: vec![1; 5000], inside: vec![1; 99] };
        table.of(0, 0).draw(size, &mut mask, &mut scratch);
        mask
    }

    fn fixtures() -> serde_json::Map<String, Value> {
        serde_json::from_str(include_str!("../tests/data/regions/regions.json")).unwrap()
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    /// Shapes, size and the mask that the reference drew.
    fn case(value: &Value) -> (Vec<Shape>, Size, Vec<u8>) {
        let [height, width] = numbers(&value["size"])[..] else { panic!("a size") };
        let size = Size::new(width as u32, height as u32);
        let shapes = if let Some(polygons) = value["polygons"].as_array() {
            polygons.iter().map(|polygon| Shape::polygon(&numbers(polygon)).unwrap()).collect()
        } else if let Some(runs) = value.get("runs") {
            let runs: Vec<u32> = numbers(runs).iter().map(|&v| v as u32).collect();
            vec![Shape::column_runs(&runs, size).unwrap()]
        } else if let Some(text) = value["text"].as_str() {
            let runs = crate::source::decompress(text, 999).unwrap();
            vec![Shape::column_runs(&runs, size).unwrap()]
        } else {
            let [x, y, radius] = numbers(&value["circle"])[..] else { panic!("a circle") };
            vec![Shape::circle((x, y), radius).unwrap()]
        };
        let hex = value["bits"].as_str().unwrap();
        let digit = |i: usize| u8::from_str_radix(&hex[i / 4..][..1], 16).unwrap() >> (3 - i % 4) & 1;
        (shapes, size, (0..size.area() as usize).map(digit).collect())
    }

    #[test]
    fn masks_equal_those_of_pycocotools() {
        let cases = fixtures();
        let of_coco = cases.iter().filter(|(name, _)| name.starts_with("coco_"));
        let mut n = 0;
        for (name, value) in of_coco {
            let (shapes, size, expected) = case(value);
            assert_eq!(draw(&shapes, size), expected, "{name}");
            n += 1;
        }
        assert!(n > 20);
    }

    #[test]
    fn masks_differ_from_labelmes_only_along_outlines() {
        // Half a pixel each way for the centres, and half a pixel of outline.
        const REACH: f64 = 1.3;
        let mut n = 0;
        for (name, value) in fixtures().iter().filter(|(name, _)| name.starts_with("labelme_")) {
            let (shapes, size, expected) = case(value);
            let pixels = draw(&shapes, size).into_iter().zip(expected);
            for (i, _) in pixels.enumerate().filter(|(_, (ours, theirs))| ours != theirs) {
                let at = (f64::from(i as u32 % size.width) + 0.5, f64::from(i as u32 / size.width) + 0.5);
                let distance =
                    edges(&shapes[0].numbers).map(|edge| distance(at, edge)).fold(f64::MAX, f64::min);
                assert!(distance < REACH, "{name} at {at:?}: {distance} from the outline");
                n += 1;
            }
        }
        assert!(n > 0, "the two are known to differ");
    }

    /// Distance of a point in pixels from an edge in fifths of them.
    fn distance(at: (f64, f64), (a, b): (Corner, Corner)) -> f64 {
        let pixels = |corner: Corner| (corner.0 as f64 / GRID as f64, corner.1 as f64 / GRID as f64);
        let (a, b) = (pixels(a), pixels(b));
        let (along, to) = ((b.0 - a.0, b.1 - a.1), (at.0 - a.0, at.1 - a.1));
        let length = along.0 * along.0 + along.1 * along.1;
        let t = if length > 0.0 { ((to.0 * along.0 + to.1 * along.1) / length).clamp(0.0, 1.0) } else { 0.0 };
        (to.0 - t * along.0).hypot(to.1 - t * along.1)
    }

    #[test]
    fn areas_order_objects() {
        let area = |corners: &[f64]| Shape::polygon(corners).unwrap().area;
        assert_eq!(area(&[1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]), 12.0);
        assert_eq!(area(&[0.0, 0.0, 0.0, 2.0, 2.0, 0.0]), 2.0);
        assert_eq!(Shape::column_runs(&[3, 2, 1], Size::new(3, 2)).unwrap().area, 2.0);
        assert!((Shape::circle((9.0, 9.0), 10.0).unwrap().area / 314.159 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn what_no_picture_holds_is_refused() {
        let polygon = |corners: &[f64]| Shape::polygon(corners).unwrap_err();
        assert!(polygon(&[0.0, 0.0, 1.0, 1.0]).contains("a polygon of 4 numbers"));
        assert!(polygon(&[0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0]).contains("a polygon of 7 numbers"));
        for far in [1e300, -1e300, 1e7, f64::NAN, f64::INFINITY] {
            assert!(polygon(&[0.0, 0.0, 1.0, far, 2.0, 2.0]).contains("a polygon corner at"));
        }
        let runs = |runs: &[u32]| Shape::column_runs(runs, Size::new(3, 2)).unwrap_err();
        assert_eq!(runs(&[1, 4]), "runs of 5 pixels in all; expected the 6 of 3x2");
        assert!(runs(&[u32::MAX, u32::MAX]).starts_with("runs of 8589934590 pixels"));
        let vast = Shape::polygon(&[-1e6, -1e6, 1e6, -1e6, 0.0, 1e6]).unwrap();
        let error = RegionTable::default().push_sample([(1, &vast)].into_iter()).unwrap_err();
        assert!(error.contains("steps to draw"), "{error}");
    }

    proptest! {
        #[test]
        fn any_polygon_on_any_canvas_is_drawn_in_bounds(
            corners in prop::collection::vec(-1e6f64..1e6, 3..20),
            scale in prop::sample::select(vec![1e-5, 1e-4, 1.0]),
            size in (1u32..40, 1u32..40),
        ) {
            let corners: Vec<f64> = corners.iter().flat_map(|v| [v * scale, v * scale / 3.0 + 2.0]).collect();
            draw(&[Shape::polygon(&corners).unwrap()], Size::new(size.0, size.1));
        }

        #[test]
        fn a_convex_polygon_holds_the_pixels_whose_centres_it_holds(
            x in -3.0f64..20.0, y in -3.0f64..20.0, radius in 0.5f64..14.0,
        ) {
            let size = Size::new(23, 17);
            let mask = draw(&[Shape::circle((x, y), radius).unwrap()], size);
            for (i, &v) in mask.iter().enumerate() {
                let (px, py) = ((i % 23) as f64 + 0.5, (i / 23) as f64 + 0.5);
                let distance = (px - x).hypot(py - y) - radius;
                // Corners move by up to a tenth of a pixel along each axis.
                if distance.abs() > 0.35 {
                    prop_assert_eq!(v == 1, distance < 0.0, "{} {}", px, py);
                }
            }
        }
    }
}
