//! The smooth displacement, for all pixels and for points.
//!
//! The mix of four nodes by `(1 - s, s)` and `(1 - t, t)` is a bilinear sample of the nodes at `(i + s, j + t)`.

use fullbore_augment::{AugmentParams, keyed_hash};
use fullbore_torch::{Kind, Outside, Result, Tensor};

use super::{Frame, of_each};

/// Displacements of a batch. Samples without any have nodes that do not move.
pub(super) struct Field {
    /// Movements `[n, 2, side, side]`, x before y; `side` is the most nodes along a side that a sample has.
    nodes: Tensor,
    side: i64,
    /// Cells of each sample `[n, 1, 1, 1]`, altogether and per output pixel along each axis.
    cells: Tensor,
    per_column: Tensor,
    per_row: Tensor,
    kind: Kind,
}

impl Field {
    /// In canvas pixels and f32: what the displacement adds to the matrix's points. `None` when no sample has one.
    pub(super) fn on_canvas(frame: Frame, params: &[AugmentParams]) -> Result<Option<Self>> {
        Self::new(frame, params, Kind::Float, |p, [dx, dy]| {
            let m = p.source_from_output.map(f64::from);
            [m[0] * dx + m[1] * dy, m[3] * dx + m[4] * dy]
        })
    }

    /// In output pixels and f64. `None` when no sample has a displacement.
    pub(super) fn on_output(frame: Frame, params: &[AugmentParams]) -> Result<Option<Self>> {
        Self::new(frame, params, Kind::Double, |_, moved| moved)
    }

    fn new(
        frame: Frame,
        params: &[AugmentParams],
        kind: Kind,
        seen: impl Fn(&AugmentParams, [f64; 2]) -> [f64; 2],
    ) -> Result<Option<Self>> {
        let moving = params.iter().filter(|p| p.elastic_alpha > 0.0);
        let Some(most) = moving.map(|p| p.elastic_cells).max() else {
            return Ok(None);
        };
        let (n, side) = (params.len(), most as usize + 1);
        let mut nodes = vec![0f64; n * 2 * side * side];
        for (p, nodes) in params.iter().zip(nodes.chunks_exact_mut(2 * side * side)) {
            if p.elastic_alpha > 0.0 {
                for (j, i) in (0..=p.elastic_cells).flat_map(|j| (0..=p.elastic_cells).map(move |i| (j, i))) {
                    let [dx, dy] =
                        seen(p, [0, 1].map(|axis| f64::from(p.elastic_alpha) * node(p, i, j, axis)));
                    let place = j as usize * side + i as usize;
                    (nodes[place], nodes[side * side + place]) = (dx, dy);
                }
            }
        }
        let upload = |numbers: &[f64], size: &[i64]| {
            Tensor::from_slice(numbers)?.to_kind(kind)?.reshape(size)?.send_to(frame.device)
        };
        let per_sample = |f: &dyn Fn(f64) -> f64| {
            upload(&of_each(params, |p| [f(f64::from(p.elastic_cells.min(most)))]), &[n as i64, 1, 1, 1])
        };
        let side = side as i64;
        Ok(Some(Self {
            nodes: upload(&nodes, &[n as i64, 2, side, side])?,
            side,
            cells: per_sample(&|cells| cells)?,
            per_column: per_sample(&|cells| cells / f64::from(frame.out.width))?,
            per_row: per_sample(&|cells| cells / f64::from(frame.out.height))?,
            kind,
        }))
    }

    /// Displacements `[n, 2, h, w]` of the output points with coordinates `x` and `y`, which expand to `[n, 1, h, w]`.
    pub(super) fn at(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (x, y) = (self.in_nodes(x, &self.per_column)?, self.in_nodes(y, &self.per_row)?);
        let size: Vec<i64> = x.size().iter().zip(y.size()).map(|(&a, b)| a.max(b)).collect();
        let grid = Tensor::cat(&[&x.expand(&size)?, &y.expand(&size)?], 1)?;
        self.nodes.grid_sample(&grid.permute(&[0, 2, 3, 1])?, Outside::Edge)
    }

    /// A pixel coordinate in nodes with its smooth weight, between -1 and 1 as `grid_sample` wants it.
    fn in_nodes(&self, position: &Tensor, per_px: &Tensor) -> Result<Tensor> {
        let zero = self.cells.mul_scalar(0.0)?;
        let place = position.add_scalar(0.5)?.mul(per_px)?.clamp_between(&zero, &self.cells)?;
        let whole = place.floor()?;
        let rest = place.sub(&whole)?;
        let smooth = rest.mul(&rest)?.mul(&rest.mul_scalar(-2.0)?.add_scalar(3.0)?)?;
        let side = self.side as f64;
        whole.add(&smooth)?.mul_scalar(2.0 / side)?.add_scalar(1.0 / side - 1.0)?.to_kind(self.kind)
    }
}

/// Movement of a node along one axis, in -1..1.
fn node(params: &AugmentParams, i: u32, j: u32, axis: u32) -> f64 {
    let n = 2 * ((params.elastic_cells + 1) * j + i) + axis;
    f64::from(keyed_hash(params.elastic_key, n) >> 8) / f64::from(1 << 23) - 1.0
}
