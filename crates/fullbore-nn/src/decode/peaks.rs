//! The highest pixel of each map, and the pixels around it.

use fullbore_torch::{Kind, Result, Tensor};

/// Highest pixels of maps `[B, K, h, w]`.
#[derive(Debug)]
pub(super) struct Peaks {
    /// f32 `[B, K, h w]`.
    flat: Tensor,
    height: i64,
    width: i64,
    /// f32 `[B, K, 2]`, whole numbers, x before y.
    pub(super) points: Tensor,
    /// f32 `[B, K]`.
    pub(super) scores: Tensor,
}

impl Peaks {
    pub(super) fn of(maps: &Tensor) -> Result<Self> {
        let size = maps.size();
        let (height, width) = (size[2], size[3]);
        let flat = maps.to_kind(Kind::Float)?.reshape(&[size[0], size[1], height * width])?;
        let index = flat.argmax(2)?;
        let scores = flat.gather(2, &index.unsqueeze(2)?)?.squeeze(2)?;
        let points = Tensor::stack(&[&index.remainder(width)?, &index.floor_div(width)?], 2)?;
        Ok(Self { flat, height, width, points: points.to_kind(Kind::Float)?, scores })
    }

    /// Distance of the peaks from the nearer border pixel of each axis, f32 `[B, K, 2]`.
    pub(super) fn to_border(&self) -> Result<Tensor> {
        let last = Tensor::from_slice(&[(self.width - 1) as f32, (self.height - 1) as f32])?;
        let last = last.to_device(self.points.device())?;
        self.points.minimum(&last.sub(&self.points)?)
    }

    /// The (2 `radius` + 1)² pixels around each peak, `[B, K, rows, columns]`; the outermost repeat beyond the border.
    pub(super) fn window(&self, radius: i64) -> Result<Tensor> {
        let offsets = offsets(radius, &self.points)?;
        let along = |axis: i64, last: i64| {
            let places = self.points.narrow(2, axis, 1)?.add(&offsets)?;
            places.clamp_(0.0, last as f64)?;
            places.to_kind(Kind::Int64)
        };
        let (columns, rows) = (along(0, self.width - 1)?, along(1, self.height - 1)?);
        rows.mul_int_(self.width)?;
        let index = rows.unsqueeze(3)?.add(&columns.unsqueeze(2)?)?;
        let size = index.size();
        self.flat.gather(2, &index.reshape(&[size[0], size[1], -1])?)?.reshape(&size)
    }
}

/// The whole numbers from -`radius` to `radius`, f32, on the device of `like`.
pub(super) fn offsets(radius: i64, like: &Tensor) -> Result<Tensor> {
    Tensor::arange(2 * radius + 1, Kind::Float, like.device())?.add_scalar(-radius as f64)
}
