//! Where each pixel of an output row lies on the canvas.

use std::ops::Range;

use fullbore_types::Size;

use crate::config::Border;
use crate::elastic::ElasticRows;
use crate::params::AugmentParams;

use super::clamp::{clamp, whole_part};
use super::row::{BLOCK, Row};

/// Canvas coordinates of one output row.
#[derive(Debug)]
pub(super) struct Coordinates {
    /// Column and row on the canvas, padded; what lies beyond the row is finite and means nothing.
    pub(super) u: Row,
    pub(super) v: Row,
    /// Share of each pixel that the canvas covers, see [`Spans`].
    pub(super) cover: Row,
    nearest: Vec<u32>,
    elastic: ElasticRows,
}

/// Parts of a row by how the canvas covers them with [`Border::Constant`]. Outside `touched` nothing is covered, inside
/// `full` everything; only the rest needs its cover. Other borders: the whole row is `full`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spans {
    pub(super) touched: Range<usize>,
    pub(super) full: Range<usize>,
}

impl Coordinates {
    pub(super) fn new(out: Size) -> Self {
        let row = || Row::new(out.width);
        let nearest = vec![0; row().len()];
        Self { u: row(), v: row(), cover: row(), nearest, elastic: ElasticRows::default() }
    }

    /// Prepares for a sample.
    pub(super) fn start(&mut self, params: &AugmentParams, out: Size) {
        if params.elastic_alpha > 0.0 {
            self.elastic.start(params, out);
        }
    }

    /// Fills `u`, `v` for row `y`, and `cover` where the spans ask for it. Reflected points lie within half a pixel of
    /// the canvas's outer pixels' centres; others may be anywhere.
    #[inline(always)]
    pub(super) fn row(
        &mut self,
        params: &AugmentParams,
        canvas: Size,
        out: Size,
        border: Border,
        y: u32,
    ) -> Spans {
        let spans = match border {
            Border::Constant => spans(params, canvas, out, y),
            Border::Reflect | Border::Edge => {
                let all = 0..out.width as usize;
                Spans { touched: all.clone(), full: all }
            }
        };
        let blocks = blocks(&spans.touched);
        self.matrix(params, out, y, blocks.clone());
        let [w, h] = [canvas.width, canvas.height].map(|side| side as f32);
        match border {
            Border::Constant => {
                let along = |p: f32, side: f32| clamp((p + 1.0).min(side - p), 0.0, 1.0);
                let Spans { touched, full } = &spans;
                for part in [touched.start..full.start, full.end..touched.end] {
                    let points = self.u[part.clone()].iter().zip(&self.v[part.clone()]);
                    for ((&u, &v), cover) in points.zip(&mut self.cover[part]) {
                        *cover = along(u, w) * along(v, h);
                    }
                }
            }
            Border::Edge => {}
            Border::Reflect => {
                for (u, v) in self.u[blocks.clone()].iter_mut().zip(&mut self.v[blocks]) {
                    (*u, *v) = (reflect(*u, w), reflect(*v, h));
                }
            }
        }
        spans
    }

    /// Index on the canvas of the pixel nearest to each point of row `y`; `u32::MAX` outside.
    #[inline(always)]
    pub(super) fn nearest(
        &mut self,
        params: &AugmentParams,
        canvas: Size,
        out: Size,
        border: Border,
        y: u32,
    ) -> &[u32] {
        let all = 0..self.u.len();
        self.matrix(params, out, y, all);
        let [w, h] = [canvas.width, canvas.height].map(|side| side as f32);
        let points = self.u.iter().zip(&*self.v);
        for (place, (&u, &v)) in self.nearest.iter_mut().zip(points) {
            let inside = |p: f32, side: f32| p >= -0.5 && p < side - 0.5;
            let covered = border != Border::Constant || (inside(u, w) & inside(v, h));
            let (u, v) = match border {
                Border::Reflect => (reflect(u, w), reflect(v, h)),
                Border::Constant | Border::Edge => (u, v),
            };
            let nearest = |p: f32, side: f32| whole_part(p + 0.5, side - 1.0);
            let index = nearest(v, h) * canvas.width + nearest(u, w);
            *place = if covered { index } else { u32::MAX };
        }
        &self.nearest
    }

    /// The matrix alone, displacement included.
    #[inline(always)]
    fn matrix(&mut self, params: &AugmentParams, out: Size, y: u32, blocks: Range<usize>) {
        let m = params.source_from_output;
        let y_f64 = f64::from(y);
        let base = |b: f32, c: f32| (f64::from(b) * y_f64 + f64::from(c)) as f32;
        let (base_u, base_v) = (base(m[1], m[2]), base(m[4], m[5]));
        let start = blocks.start;
        let (u, v) = (&mut self.u[blocks.clone()], &mut self.v[blocks]);
        for (i, (u, v)) in u.iter_mut().zip(v).enumerate() {
            let x = (start + i) as i32 as f32;
            (*u, *v) = (m[0] * x + base_u, m[3] * x + base_v);
        }
        if params.elastic_alpha > 0.0 {
            for cell in self.elastic.row(params, out, y) {
                let points = self.u[cell.columns.clone()].iter_mut().zip(&mut self.v[cell.columns]);
                for ((u, v), &s) in points.zip(cell.weights) {
                    let [dx, dy] =
                        [0, 1].map(|axis| cell.near[axis] + (cell.far[axis] - cell.near[axis]) * s);
                    *u += m[0] * dx + m[1] * dy;
                    *v += m[3] * dx + m[4] * dy;
                }
            }
        }
    }
}

/// Whole blocks around a span. Rows are padded, so they always exist.
pub(super) fn blocks(span: &Range<usize>) -> Range<usize> {
    span.start / BLOCK * BLOCK..span.end.next_multiple_of(BLOCK)
}

/// Mirrors about the outer pixel edges until the point lies between.
#[inline(always)]
fn reflect(p: f32, side: f32) -> f32 {
    let period = 2.0 * side;
    let turned = (p + 0.5) - period * ((p + 0.5) / period).floor();
    turned.min(period - turned) - 0.5
}

#[inline(always)]
fn spans(params: &AugmentParams, canvas: Size, out: Size, y: u32) -> Spans {
    let width = out.width as usize;
    if params.elastic_alpha > 0.0 {
        return Spans { touched: 0..width, full: 0..0 };
    }
    // Rounding of the coordinates stays below this, so that it never puts a pixel into the wrong span.
    const MARGIN: f64 = 0.02;
    let touched = within(params, canvas, width, y, 1.0 + MARGIN);
    let full = within(params, canvas, width, y, -MARGIN);
    match full.is_empty() {
        true => Spans { full: touched.start..touched.start, touched },
        false => Spans { touched, full },
    }
}

/// Pixels of row `y` whose points lie on the canvas, between the centres of its outer pixels, or up to `more` outside.
#[inline(always)]
fn within(params: &AugmentParams, canvas: Size, width: usize, y: u32, more: f64) -> Range<usize> {
    let [a, b, c, d, e, f] = params.source_from_output.map(f64::from);
    let [right, bottom] = [canvas.width, canvas.height].map(|side| f64::from(side) - 1.0 + more);
    let columns = solve(a, b * f64::from(y) + c, -more, right, width);
    let rows = solve(d, e * f64::from(y) + f, -more, bottom, width);
    let start = columns.start.max(rows.start);
    start..columns.end.min(rows.end).max(start)
}

/// Whole `x` in `0..n` with `lo <= base + slope x <= hi`.
#[inline(always)]
fn solve(slope: f64, base: f64, lo: f64, hi: f64, n: usize) -> Range<usize> {
    if lo > hi {
        return 0..0;
    }
    if slope == 0.0 {
        return if (lo..=hi).contains(&base) { 0..n } else { 0..0 };
    }
    let (a, b) = ((lo - base) / slope, (hi - base) / slope);
    // Casts of floats to integers end at the limits, and NaN becomes 0.
    let start = a.min(b).ceil().max(0.0) as usize;
    let end = (a.max(b).floor() + 1.0).clamp(0.0, n as f64) as usize;
    start.min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solving_matches_counting() {
        for slope in [-1.5, -0.3, 0.0, 0.01, 0.99, 2.0] {
            for base in [-40.0, -1.0, 0.0, 3.5, 70.0] {
                let inside: Vec<usize> =
                    (0..50).filter(|&x| (0.0..=30.0).contains(&(base + slope * x as f64))).collect();
                let found: Vec<usize> = solve(slope, base, 0.0, 30.0, 50).collect();
                assert_eq!(found, inside, "slope {slope}, base {base}");
            }
        }
        assert!(solve(1.0, 0.0, 2.0, 1.0, 5).is_empty(), "nothing is above 2 and below 1");
        assert!(solve(f64::NAN, 0.0, 0.0, 1.0, 5).is_empty());
        assert!(solve(1e-300, -1e300, 0.0, 1.0, 5).is_empty());
    }

    #[test]
    fn reflection_repeats_the_outermost_pixel() {
        // From -9 on: a period is eight pixels.
        let line: Vec<f32> = (-9..9).map(|p| reflect(p as f32, 4.0)).collect();
        assert_eq!(line, [0, 0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0].map(|v: i8| f32::from(v)));
        assert_eq!(reflect(-0.75, 4.0), -0.25);
        assert_eq!(reflect(17.0, 1.0), 0.0);
    }
}
