//! Where each output pixel lies on the canvas, and what is there.

use fullbore_augment::{AugmentParams, Border};
use fullbore_torch::{Kind, Outside, Result, Tensor};
use fullbore_types::IGNORE_INDEX;

use super::elastic::Field;
use super::{Frame, of_each, upload};

/// Numbers of both axes that are the same for every sample.
#[derive(Debug)]
pub(super) struct Coordinates {
    frame: Frame,
    /// Output columns f32 `[1, 1, 1, w]` and rows f32 `[1, 1, h, 1]`.
    columns: Tensor,
    rows: Tensor,
    /// Of the canvas, f32 `[1, 2, 1, 1]` as all of the following: width and height.
    sides: Tensor,
    /// Its middle, and how far from it the cover ends.
    middle: Tensor,
    reach: Tensor,
    /// From pixels to -1..1 between the outer pixel edges.
    grid_scale: Tensor,
    grid_shift: Tensor,
    /// The first and last column and row, i64.
    first: Tensor,
    last: Tensor,
    /// The width alone, i64 `[1]`.
    width: Tensor,
}

impl Coordinates {
    pub(super) fn new(frame: Frame) -> Result<Self> {
        let device = frame.device;
        let [out_w, out_h] = [frame.out.width, frame.out.height].map(i64::from);
        let sides = [frame.canvas.width, frame.canvas.height].map(f64::from);
        let pair = |f: &dyn Fn(f64) -> f64| upload(&sides.map(|side| f(side) as f32), &[1, 2, 1, 1], device);
        Ok(Self {
            frame,
            columns: Tensor::arange(out_w, Kind::Float, device)?.reshape(&[1, 1, 1, out_w])?,
            rows: Tensor::arange(out_h, Kind::Float, device)?.reshape(&[1, 1, out_h, 1])?,
            sides: pair(&|side| side)?,
            middle: pair(&|side| (side - 1.0) / 2.0)?,
            reach: pair(&|side| (side + 1.0) / 2.0)?,
            grid_scale: pair(&|side| 2.0 / side)?,
            grid_shift: pair(&|side| 1.0 / side - 1.0)?,
            first: pair(&|_| 0.0)?.to_kind(Kind::Int64)?,
            last: pair(&|side| side - 1.0)?.to_kind(Kind::Int64)?,
            width: Tensor::from_slice(&[i64::from(frame.canvas.width)])?.send_to(device)?,
        })
    }

    /// Canvas points of all output pixels, f32 `[n, 2, h, w]`, x before y.
    pub(super) fn source(&self, params: &[AugmentParams]) -> Result<Tensor> {
        let n = params.len() as i64;
        let matrix = upload(&of_each(params, |p| p.source_from_output), &[n, 2, 3, 1], self.frame.device)?;
        let part = |i| matrix.narrow(2, i, 1);
        let points = part(2)?.addcmul(&part(1)?, &self.rows)?.addcmul(&part(0)?, &self.columns)?;
        if let Some(field) = Field::on_canvas(self.frame, params)? {
            points.add_(&field.at(&self.columns, &self.rows)?)?;
        }
        Ok(points)
    }

    /// Bilinear samples f32 `[n, C, h, w]` of a canvas f32 `[n, C, H, W]`.
    pub(super) fn sample(&self, source: &Tensor, canvas: &Tensor) -> Result<Tensor> {
        let grid = self.grid_shift.addcmul(source, &self.grid_scale)?.permute(&[0, 2, 3, 1])?;
        let outside = match self.frame.border {
            Border::Constant | Border::Edge => Outside::Edge,
            Border::Reflect => Outside::Mirrored,
        };
        canvas.grid_sample(&grid, outside)
    }

    /// Masks u8 `[n, h, w]` by nearest neighbour from u8 `[n, H, W]`.
    pub(super) fn nearest(&self, source: &Tensor, masks: &Tensor) -> Result<Tensor> {
        let edges = source.add_scalar(0.5)?;
        let cells = match self.frame.border {
            Border::Constant | Border::Edge => edges.floor()?,
            Border::Reflect => {
                let period = self.sides.mul_scalar(2.0)?;
                let turned = edges.sub(&edges.div(&period)?.floor()?.mul(&period)?)?;
                turned.minimum(&period.sub(&turned)?)?.floor()?
            }
        };
        // Limits are set on whole numbers: a point that is no number becomes one first, and so reads nothing outside.
        let cells = cells.to_kind(Kind::Int64)?;
        let inside = cells.clamp_between(&self.first, &self.last)?;
        let axis = |t: &Tensor, i| t.select(1, i);
        let (n, [w, h]) =
            (masks.size()[0], [self.frame.canvas.width, self.frame.canvas.height].map(i64::from));
        let [out_w, out_h] = [self.frame.out.width, self.frame.out.height].map(i64::from);
        let places = axis(&inside, 0)?.addcmul(&axis(&inside, 1)?, &self.width)?;
        let found = masks
            .reshape(&[n, h * w])?
            .gather(1, &places.reshape(&[n, out_h * out_w])?)?
            .reshape(&[n, out_h, out_w])?;
        match self.frame.border {
            Border::Constant => {
                let moved = cells.ne(&inside)?;
                let outside = axis(&moved, 0)?.logical_or(&axis(&moved, 1)?)?;
                found.masked_fill(&outside, IGNORE_INDEX.into())
            }
            Border::Reflect | Border::Edge => Ok(found),
        }
    }

    /// Share f32 `[n, 1, h, w]` of each finished pixel that is kept: its cover, and nothing of what is erased. `None`
    /// when everything is kept.
    pub(super) fn share(&self, source: &Tensor, params: &[AugmentParams]) -> Result<Option<Tensor>> {
        let cover = match self.frame.border == Border::Constant && !self.covers_all(params) {
            true => {
                let along = source.sub(&self.middle)?;
                along.abs_()?;
                let along = self.reach.sub(&along)?;
                along.clamp_(0.0, 1.0)?;
                Some(along.narrow(1, 0, 1)?.mul(&along.narrow(1, 1, 1)?)?)
            }
            false => None,
        };
        let used = |p: &AugmentParams| p.erase.iter().rposition(|b| !b.is_empty()).map_or(0, |i| i + 1);
        let boxes = params.iter().map(used).max().unwrap_or(0);
        if boxes == 0 {
            return Ok(cover);
        }
        let [w, h] = [self.frame.out.width, self.frame.out.height].map(i64::from);
        let n = params.len() as i64;
        let share = match cover {
            Some(cover) => cover,
            None => Tensor::ones(&[n, 1, h, w], Kind::Float, self.frame.device)?,
        };
        for slot in 0..boxes {
            let sides = of_each(params, |p| {
                let b = p.erase[slot];
                [b.x0, b.x1, b.y0, b.y1].map(|v| v as f32)
            });
            let sides = upload(&sides, &[n, 4, 1, 1], self.frame.device)?;
            let within = |places: &Tensor, i| {
                places.ge(&sides.narrow(1, i, 1)?)?.logical_and(&places.lt(&sides.narrow(1, i + 1, 1)?)?)
            };
            let inside = within(&self.columns, 0)?.logical_and(&within(&self.rows, 2)?)?;
            share.masked_fill_(&inside, 0.0)?;
        }
        Ok(Some(share))
    }

    /// True when no output pixel leaves the canvas, so that there is no cover to compute.
    fn covers_all(&self, params: &[AugmentParams]) -> bool {
        // Less than a thousandth of a byte step.
        const SLACK: f64 = 1e-6;
        let [w, h] =
            [self.frame.canvas.width, self.frame.canvas.height].map(|side| f64::from(side) - 1.0 + SLACK);
        let [right, bottom] = [self.frame.out.width, self.frame.out.height].map(|side| f64::from(side) - 1.0);
        params.iter().all(|p| {
            let m = p.source_from_output.map(f64::from);
            let alpha = f64::from(p.elastic_alpha.max(0.0));
            let stays = |a: f64, b: f64, c: f64, side: f64| {
                let moved = alpha * (a.abs() + b.abs());
                let corners = [c, a * right + c, b * bottom + c, a * right + b * bottom + c];
                corners.iter().all(|corner| corner - moved >= -SLACK && corner + moved <= side)
            };
            stays(m[0], m[1], m[2], w) && stays(m[3], m[4], m[5], h)
        })
    }
}
