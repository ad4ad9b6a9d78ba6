//! The pass over the output's rows.

use fullbore_types::{IGNORE_INDEX, Size};

use crate::params::{AugmentParams, EraseBox};

use super::coordinates::{BLOCK, Coordinates, Spans, blocks};
use super::isa::per_isa;
use super::sample::{Canvas, sample};
use super::store::{self, Number};
use super::tone::{Scales, Tone, finish};
use super::{Frame, Isa, Layout};

/// One image to make.
pub(super) struct Job<'a> {
    pub(super) frame: Frame,
    pub(super) params: &'a AugmentParams,
    pub(super) canvas: &'a [u8],
    pub(super) scales: Scales,
    pub(super) layout: Layout,
    pub(super) isa: Isa,
}

/// One row of three channels, sampled and finished. Padded to whole blocks.
#[derive(Clone, Debug)]
pub(super) struct RowBuffers {
    samples: [Vec<f32>; 3],
    finished: [Vec<f32>; 3],
}

impl RowBuffers {
    pub(super) fn new(out: Size) -> Self {
        let row = || vec![0.0; (out.width as usize).next_multiple_of(BLOCK)];
        let rows = || [row(), row(), row()];
        Self { samples: rows(), finished: rows() }
    }
}

per_isa! {
    /// Makes an image.
    pub(super) fn image = image_rows<T: Number>(
        job: &Job<'_>,
        coordinates: &mut Coordinates,
        buffers: &mut RowBuffers,
        out: &mut [T],
    )
}

per_isa! {
    /// Makes a mask.
    pub(super) fn mask = mask_rows(
        frame: Frame,
        params: &AugmentParams,
        canvas: &[u8],
        coordinates: &mut Coordinates,
        out: &mut [u8],
    )
}

#[inline(always)]
fn image_rows<T: Number>(
    job: &Job<'_>,
    coordinates: &mut Coordinates,
    buffers: &mut RowBuffers,
    out: &mut [T],
) {
    let Frame { canvas: from, out: to, border, channels } = job.frame;
    let canvas = Canvas { bytes: job.canvas, size: from, channels };
    let tone = Tone::new(job.params, channels, job.scales);
    let width = to.width as usize;
    let plane = to.area() as usize;
    coordinates.start(job.params, to);
    for y in 0..to.height {
        let spans = coordinates.row(job.params, from, to, border, y);
        let span = blocks(&spans.touched);
        if !span.is_empty() {
            let (u, v) = (&coordinates.u[span.clone()], &coordinates.v[span.clone()]);
            let samples = buffers.samples.each_mut().map(|row| &mut row[span.clone()]);
            sample(job.isa, canvas, u, v, samples);
            let samples = buffers.samples.each_ref().map(|row| &row[span.clone()]);
            let finished = buffers.finished.each_mut().map(|row| &mut row[span.clone()]);
            finish(&tone, y * to.width + span.start as u32, samples, finished);
        }
        for row in buffers.finished.iter_mut().take(channels) {
            uncover(&mut row[..width], &spans, &coordinates.cover);
            erase(row, &job.params.erase, y);
        }
        let start = y as usize * width;
        match (job.layout, channels) {
            (Layout::Interleaved, 3) => {
                let rows = buffers.finished.each_ref().map(|row| &row[..]);
                let out = &mut out[3 * start..3 * (start + width)];
                store::interleaved(rows, job.scales.mean_out, out);
            }
            _ => {
                for (channel, row) in buffers.finished.iter().enumerate().take(channels) {
                    let start = channel * plane + start;
                    store::planar(row, job.scales.mean_out[channel], &mut out[start..start + width]);
                }
            }
        }
    }
}

/// Fades a finished row into the mean, which is 0, where the canvas does not cover it.
#[inline(always)]
fn uncover(row: &mut [f32], spans: &Spans, cover: &[f32]) {
    let Spans { touched, full } = spans;
    row[..touched.start].fill(0.0);
    row[touched.end..].fill(0.0);
    for part in [touched.start..full.start, full.end..touched.end] {
        for (value, cover) in row[part.clone()].iter_mut().zip(&cover[part]) {
            *value *= cover;
        }
    }
}

#[inline(always)]
fn erase(row: &mut [f32], boxes: &[EraseBox], y: u32) {
    for b in boxes.iter().filter(|b| !b.is_empty() && (b.y0..b.y1).contains(&y)) {
        let end = (b.x1 as usize).min(row.len());
        row[(b.x0 as usize).min(end)..end].fill(0.0);
    }
}

#[inline(always)]
fn mask_rows(
    frame: Frame,
    params: &AugmentParams,
    canvas: &[u8],
    coordinates: &mut Coordinates,
    out: &mut [u8],
) {
    let Frame { canvas: from, out: to, border, .. } = frame;
    coordinates.start(params, to);
    for (y, row) in out.chunks_exact_mut(to.width as usize).enumerate() {
        let places = coordinates.nearest(params, from, to, border, y as u32);
        for (out, &place) in row.iter_mut().zip(places) {
            // Pixels outside have a place beyond the end.
            *out = canvas.get(place as usize).copied().unwrap_or(IGNORE_INDEX);
        }
    }
}
