//! The smooth displacement of [`crate::params`], for whole rows and for single points.

use std::ops::Range;

use fullbore_types::Size;

use crate::params::{AugmentParams, keyed_hash};

/// Movement of a node along one axis, in -1..1.
fn node(params: &AugmentParams, i: u32, j: u32, axis: u32) -> f32 {
    let n = 2 * ((params.elastic_cells + 1) * j + i) + axis;
    (keyed_hash(params.elastic_key, n) >> 8) as f32 / (1u32 << 23) as f32 - 1.0
}

/// The cell around a coordinate, and the smooth weight of its far node.
fn cell(position: f64, side: u32, cells: u32) -> (u32, f64) {
    let g = ((position + 0.5) * f64::from(cells) / f64::from(side)).clamp(0.0, f64::from(cells));
    let i = (g as u32).min(cells - 1);
    let f = g - f64::from(i);
    (i, f * f * (3.0 - 2.0 * f))
}

/// Displacement of an output point in pixels, in f64.
pub(crate) fn displacement(params: &AugmentParams, out: Size, (x, y): (f64, f64)) -> (f64, f64) {
    let cells = params.elastic_cells;
    let ((i, s), (j, t)) = (cell(x, out.width, cells), cell(y, out.height, cells));
    let mixed = |axis| {
        let n = |di, dj| f64::from(node(params, i + di, j + dj, axis));
        let near = n(0, 0) * (1.0 - s) + n(1, 0) * s;
        let far = n(0, 1) * (1.0 - s) + n(1, 1) * s;
        f64::from(params.elastic_alpha) * (near * (1.0 - t) + far * t)
    };
    (mixed(0), mixed(1))
}

/// The displacement of whole rows, cell by cell. Keeps the memory of its tables from one sample to the next.
#[derive(Debug, Default)]
pub(crate) struct ElasticRows {
    /// Per output column, the weight of the far node of its cell.
    weights: Vec<f32>,
    /// Per cell, the columns that lie in it.
    columns: Vec<Range<usize>>,
}

/// A part of a row that lies in one cell of the grid: the displacement is `near + (far - near) weight`.
pub(crate) struct RowCell<'a> {
    pub(crate) columns: Range<usize>,
    /// One per column.
    pub(crate) weights: &'a [f32],
    /// Movement in pixels along x and y at the cell's left edge, and at its right one.
    pub(crate) near: [f32; 2],
    pub(crate) far: [f32; 2],
}

impl ElasticRows {
    /// Prepares the columns for a sample.
    pub(crate) fn start(&mut self, params: &AugmentParams, out: Size) {
        self.weights.clear();
        self.columns.clear();
        for x in 0..out.width {
            let (i, s) = cell(f64::from(x), out.width, params.elastic_cells);
            let x = x as usize;
            self.weights.push(s as f32);
            // Cells narrower than a pixel may hold no column.
            self.columns.resize(self.columns.len().max(i as usize + 1), x..x);
            self.columns[i as usize].end = x + 1;
        }
    }

    /// The cells of row `y` in their order.
    pub(crate) fn row(&self, params: &AugmentParams, out: Size, y: u32) -> impl Iterator<Item = RowCell<'_>> {
        let (j, t) = cell(f64::from(y), out.height, params.elastic_cells);
        let (params, t) = (*params, t as f32);
        let movement = move |i| {
            [0, 1].map(|axis| {
                let (near, far) = (node(&params, i, j, axis), node(&params, i, j + 1, axis));
                params.elastic_alpha * (near + (far - near) * t)
            })
        };
        self.columns.iter().zip(0..).map(move |(columns, i)| RowCell {
            columns: columns.clone(),
            weights: &self.weights[columns.clone()],
            near: movement(i),
            far: movement(i + 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_points_agree_and_stay_below_alpha() {
        let out = Size::new(50, 40);
        let params = AugmentParams {
            elastic_alpha: 1.1,
            elastic_cells: 4,
            elastic_key: [3, 9],
            ..AugmentParams::IDENTITY
        };
        let mut rows = ElasticRows::default();
        rows.start(&params, out);
        let mut largest = 0f32;
        for y in 0..40 {
            let mut seen = 0;
            for cell in rows.row(&params, out, y) {
                for (x, s) in cell.columns.zip(cell.weights) {
                    let d = [0, 1].map(|axis| cell.near[axis] + (cell.far[axis] - cell.near[axis]) * s);
                    let point = displacement(&params, out, (x as f64, f64::from(y)));
                    assert!((f64::from(d[0]) - point.0).abs() < 1e-5);
                    assert!((f64::from(d[1]) - point.1).abs() < 1e-5);
                    assert_eq!(x, seen);
                    seen += 1;
                    largest = largest.max(d[0].abs()).max(d[1].abs());
                }
            }
            assert_eq!(seen, 50);
        }
        assert!(largest > 0.5 && largest <= 1.1, "{largest}");
    }
}
