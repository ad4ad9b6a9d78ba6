//! The pass over the output's rows.

use fullbore_types::{IGNORE_INDEX, Size};

use crate::params::{AugmentParams, EraseBox};

use super::coordinates::{Coordinates, Spans, blocks};
use super::isa::per_isa;
use super::prefetch::prefetch;
use super::row::Row;
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

/// One row of three channels, sampled and finished.
#[derive(Debug)]
pub(super) struct RowBuffers {
    samples: [Row; 3],
    finished: [Row; 3],
}

impl RowBuffers {
    pub(super) fn new(out: Size) -> Self {
        let rows = || [(); 3].map(|()| Row::new(out.width));
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
    // One channel lies the same in both layouts.
    let planar = job.layout == Layout::Planar || channels == 1;
    coordinates.start(job.params, to);
    for y in 0..to.height {
        let start = y as usize * width;
        if planar {
            for plane in out.chunks_exact(plane) {
                prefetch(&plane[start..start + width]);
            }
        } else {
            prefetch(&out[3 * start..3 * (start + width)]);
        }
        let spans = coordinates.row(job.params, from, to, border, y);
        let span = blocks(&spans.touched);
        let (u, v) = (&coordinates.u[span.clone()], &coordinates.v[span.clone()]);
        sample(job.isa, canvas, u, v, buffers.samples.each_mut().map(|row| &mut row[span.clone()]));
        let samples = buffers.samples.each_ref().map(|row| &**row);
        let row = FinishedRow { tone: &tone, first: y * to.width, spans, cover: &coordinates.cover };

        if planar && let Some(out) = T::floats(out) {
            let mut planes = out.chunks_exact_mut(plane).map(|plane| &mut plane[start..start + width]);
            let finished = [(); 3].map(|()| planes.next().unwrap_or_default());
            row.write(samples, finished, &job.params.erase, y);
            continue;
        }
        let finished = buffers.finished.each_mut().map(|row| &mut row[..width]);
        row.write(samples, finished, &job.params.erase, y);
        let finished = buffers.finished.each_ref().map(|row| &row[..width]);
        let mean_out = job.scales.mean_out;
        if planar {
            for (channel, plane) in out.chunks_exact_mut(plane).enumerate() {
                store::planar(finished[channel], mean_out[channel], &mut plane[start..start + width]);
            }
        } else {
            store::interleaved(finished, mean_out, &mut out[3 * start..3 * (start + width)]);
        }
    }
}

/// What finishes a row of samples.
struct FinishedRow<'a> {
    tone: &'a Tone,
    /// Index in the output of the row's first pixel.
    first: u32,
    spans: Spans,
    cover: &'a [f32],
}

impl FinishedRow<'_> {
    /// Writes the channels that there are; each is as long as the row is wide.
    #[inline(always)]
    fn write(&self, samples: [&[f32]; 3], out: [&mut [f32]; 3], boxes: &[EraseBox], y: u32) {
        // From a whole block on, where samples begin with a cache line.
        let span = blocks(&self.spans.touched).start..self.spans.touched.end;
        let first = self.first + span.start as u32;
        for (channel, out) in out.into_iter().enumerate().take(self.tone.channels()) {
            let samples = samples.map(|row| &row[span.clone()]);
            finish(self.tone, channel, first, samples, &mut out[span.clone()]);
            uncover(out, &self.spans, self.cover);
            erase(out, boxes, y);
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
        look_up(canvas, coordinates.nearest(params, from, to, border, y as u32), row);
    }
}

/// Pixels outside have a place beyond the end. Not inlined: compiled for wide vectors this becomes slower.
#[inline(never)]
fn look_up(canvas: &[u8], places: &[u32], out: &mut [u8]) {
    for (out, &place) in out.iter_mut().zip(places) {
        *out = canvas.get(place as usize).copied().unwrap_or(IGNORE_INDEX);
    }
}
