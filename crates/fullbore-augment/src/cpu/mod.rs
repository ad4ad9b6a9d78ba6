//! The CPU twin: one sample at a time, on whichever thread asks.
//!
//! One pass over the output's rows does everything but the declared extra pass of a blur. A row goes through a few small
//! buffers that stay in the first-level cache: coordinates, sampled channels, finished channels.

mod blur;
mod clamp;
mod coordinates;
mod isa;
mod points;
mod prefetch;
mod row;
mod rows;
mod sample;
mod sample_x86;
mod store;
#[cfg(test)]
mod tests;
mod tone;

use fullbore_types::Size;

use crate::config::Border;
use crate::params::AugmentParams;
use crate::policy::Policy;
use blur::Blurred;
use coordinates::Coordinates;
pub use isa::Isa;
use rows::RowBuffers;

/// Order of the numbers of a finished image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channel by channel: `[C, H, W]`.
    Planar,
    /// Pixel by pixel: `[H, W, C]`, the memory of a channels-last tensor.
    Interleaved,
}

/// Where a finished image goes, and in which type. The length is channels x height x width.
#[derive(Debug)]
pub enum PixelsMut<'a> {
    /// Normalised.
    F32(&'a mut [f32]),
    /// Normalised; the bits of bfloat16, rounded to nearest even.
    Bf16(&'a mut [u16]),
    /// Not normalised: 0..=255 as on the canvas.
    U8(&'a mut [u8]),
}

impl PixelsMut<'_> {
    fn len(&self) -> usize {
        match self {
            PixelsMut::F32(out) => out.len(),
            PixelsMut::Bf16(out) => out.len(),
            PixelsMut::U8(out) => out.len(),
        }
    }
}

/// Applies [`AugmentParams`] to samples of one size. Holds the scratch memory: one per thread.
#[derive(Debug)]
pub struct Augmenter {
    frame: Frame,
    flip_pairs: Vec<[usize; 2]>,
    mean: Vec<f32>,
    std: Vec<f32>,
    isa: Isa,
    coordinates: Coordinates,
    rows: RowBuffers,
    blurred: Blurred,
}

/// The sizes and what lies outside, the same for every sample.
#[derive(Clone, Copy, Debug)]
struct Frame {
    canvas: Size,
    out: Size,
    border: Border,
    channels: usize,
}

impl Augmenter {
    /// For the sizes, border and landmark pairs of `policy`; `mean` and `std` have one number per channel (1 or 3) where
    /// white is 1.
    ///
    /// # Panics
    /// When `mean` and `std` do not have 1 or 3 numbers each.
    pub fn new(policy: &Policy, mean: &[f32], std: &[f32]) -> Self {
        Self::with_isa(policy, mean, std, Isa::detect())
    }

    /// The same with a chosen instruction set, to compare them. Results differ by less than a tenth of 1/255.
    ///
    /// # Panics
    /// Also when this machine lacks it.
    pub fn with_isa(policy: &Policy, mean: &[f32], std: &[f32], isa: Isa) -> Self {
        let channels = mean.len();
        assert!((channels == 1 || channels == 3) && std.len() == channels, "one mean and std per channel");
        assert!(isa.is_available(), "{isa:?} is not there");
        let frame = Frame { canvas: policy.canvas(), out: policy.out(), border: policy.border(), channels };
        Self {
            frame,
            flip_pairs: policy.flip_pairs().to_vec(),
            mean: mean.to_vec(),
            std: std.to_vec(),
            isa,
            coordinates: Coordinates::new(frame.out),
            rows: RowBuffers::new(frame.out),
            blurred: Blurred::default(),
        }
    }

    /// The finished image. `canvas`: u8 `[H, W, C]` of the policy's canvas size.
    ///
    /// Allocates nothing, but for blurred samples while the widest blur so far grows.
    ///
    /// # Panics
    /// When `canvas` or `out` is not as long as its size and channels say.
    pub fn image(&mut self, params: &AugmentParams, canvas: &[u8], layout: Layout, out: PixelsMut<'_>) {
        let frame = self.frame;
        assert_eq!(canvas.len(), frame.canvas.area() as usize * frame.channels, "bytes of the canvas");
        assert_eq!(out.len(), frame.out.area() as usize * frame.channels, "numbers of the output");
        let canvas = match params.blur_sigma > 0.0 {
            true => self.blurred.of(canvas, frame.canvas, frame.channels, params.blur_sigma),
            false => canvas,
        };
        let scales = match out {
            PixelsMut::U8(_) => tone::Scales::bytes(&self.mean),
            _ => tone::Scales::normalised(&self.mean, &self.std),
        };
        let job = rows::Job { frame, params, canvas, scales, layout, isa: self.isa };
        let (coordinates, rows) = (&mut self.coordinates, &mut self.rows);
        match out {
            PixelsMut::F32(out) => rows::image(self.isa, &job, coordinates, rows, out),
            PixelsMut::Bf16(out) => rows::image(self.isa, &job, coordinates, rows, out),
            PixelsMut::U8(out) => rows::image(self.isa, &job, coordinates, rows, out),
        }
    }

    /// The mask of the same sample, by nearest neighbour. `canvas`: u8 `[H, W]`; `out`: u8 `[H, W]` of the output size.
    ///
    /// # Panics
    /// When a slice is not as long as its size says.
    pub fn mask(&mut self, params: &AugmentParams, canvas: &[u8], out: &mut [u8]) {
        assert_eq!(canvas.len(), self.frame.canvas.area() as usize, "bytes of the mask's canvas");
        assert_eq!(out.len(), self.frame.out.area() as usize, "bytes of the mask");
        rows::mask(self.isa, self.frame, params, canvas, &mut self.coordinates, out);
    }

    /// The points of the same sample, in place: from canvas pixels to output pixels, pairs swapped when mirrored.
    /// Visibility becomes 0 for points that leave the output; its other values stay.
    ///
    /// # Panics
    /// When the two differ in length, or are shorter than the policy's pairs ask for.
    pub fn points(&self, params: &AugmentParams, points: &mut [[f32; 2]], visibility: &mut [u8]) {
        assert_eq!(points.len(), visibility.len(), "one visibility per point");
        points::transform(params, self.frame.out, &self.flip_pairs, points, visibility);
    }
}
