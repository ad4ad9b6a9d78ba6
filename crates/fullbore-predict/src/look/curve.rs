use std::io::Write;
use std::path::Path;

use fullbore_types::Size;

use super::text::{text_width, write_text};
use crate::PredictError;
use crate::write::{write_file, write_png};

/// The whole picture, and the space around the plot: left, top, right, bottom.
const SIZE: Size = Size { width: 800, height: 560 };
const MARGINS: [u32; 4] = [80, 50, 30, 70];
const LETTERS: f32 = 11.0;
const INK: [u8; 3] = [40; 3];
const GRID: [u8; 3] = [225; 3];
const FAILURE: [u8; 3] = [200, 120, 40];
const CURVE: [u8; 3] = [30, 90, 200];

/// A cumulative error curve: the share of images whose error is at most so large.
#[derive(Clone, Copy, Debug)]
pub struct ErrorCurve<'a> {
    /// Errors of the images, sorted; infinite ones never count as small enough.
    pub errors: &'a [f64],
    /// The error that ends success; above 0 and finite.
    pub failure: f64,
    /// What stands above.
    pub title: &'a str,
}

impl ErrorCurve<'_> {
    /// Writes the numbers as CSV: `error` and `share`, a line for each image with a finite error.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_csv(&self, path: &Path) -> Result<(), PredictError> {
        let n = self.errors.len() as f64;
        write_file(path, |file| {
            writeln!(file, "error,share")?;
            let finite = self.errors.iter().enumerate().take_while(|(_, error)| error.is_finite());
            finite.into_iter().try_for_each(|(i, error)| writeln!(file, "{error},{}", (i + 1) as f64 / n))
        })
    }

    /// Draws it as PNG, from 0 to the error that ends success or, where most images fail, far enough to show the middle
    /// one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_png(&self, path: &Path) -> Result<(), PredictError> {
        write_png(path, SIZE, &self.draw())
    }

    /// The largest error shown.
    fn end(&self) -> f64 {
        let middle = self.errors.get(self.errors.len() / 2).copied().filter(|error| error.is_finite());
        self.failure.max(1.25 * middle.unwrap_or(0.0))
    }

    /// Share of images with at most this error.
    fn share(&self, error: f64) -> f64 {
        self.errors.partition_point(|e| *e <= error) as f64 / self.errors.len().max(1) as f64
    }

    fn draw(&self) -> Vec<u8> {
        let mut picture = vec![255; 3 * SIZE.area() as usize];
        let [left, top, right, bottom] = MARGINS;
        let (width, height) = (SIZE.width - left - right, SIZE.height - top - bottom);
        let end = self.end();
        let column = |error: f64| left + (error / end * f64::from(width)).round() as u32;
        let row = |share: f64| top + ((1.0 - share) * f64::from(height)).round() as u32;
        let (floor, step) = (top + height, step(end));

        for i in 0..=5 {
            let at = row(f64::from(i) / 5.0);
            fill(&mut picture, [left, left + width], [at, at], GRID);
            let label = format!("{} %", 20 * i);
            let x = left as f32 - 10.0 - text_width(&label, LETTERS);
            write_text(&mut picture, SIZE, [x, at as f32 + LETTERS / 2.0], LETTERS, INK, &label);
        }
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        for error in (0..).map(|i| f64::from(i) * step).take_while(|error| *error <= end * (1.0 + 1e-9)) {
            let at = column(error);
            fill(&mut picture, [at, at], [top, floor], GRID);
            let label = format!("{error:.decimals$}");
            let x = at as f32 - text_width(&label, LETTERS) / 2.0;
            write_text(&mut picture, SIZE, [x, floor as f32 + 10.0 + LETTERS], LETTERS, INK, &label);
        }
        if end > self.failure {
            let at = column(self.failure);
            fill(&mut picture, [at, at], [top, floor], FAILURE);
        }
        fill(&mut picture, [left, left], [top, floor], INK);
        fill(&mut picture, [left, left + width], [floor, floor], INK);

        let mut before = floor;
        for x in 0..=width {
            let at = row(self.share(f64::from(x) / f64::from(width) * end));
            // Up from where it was, so that steps are joined, and two pixels thick.
            fill(&mut picture, [left + x, left + x], [at - 1, before], CURVE);
            before = at;
        }
        write_text(&mut picture, SIZE, [left as f32, top as f32 - 18.0], LETTERS, INK, self.title);
        let label = "normalised mean error of an image, at most";
        let x = left as f32 + (width as f32 - text_width(label, LETTERS)) / 2.0;
        write_text(&mut picture, SIZE, [x, SIZE.height as f32 - 16.0], LETTERS, INK, label);
        picture
    }
}

/// Space between ticks: 1, 2 or 5 times a power of ten, at most eight of them up to `end`.
fn step(end: f64) -> f64 {
    let least = end / 8.0;
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].map(|n| n * power).into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// Colours a rectangle, first and last columns and rows included.
fn fill(picture: &mut [u8], [left, right]: [u32; 2], [top, bottom]: [u32; 2], colour: [u8; 3]) {
    for y in top..=bottom {
        for x in left..=right {
            let at = 3 * (y * SIZE.width + x) as usize;
            picture[at..at + 3].copy_from_slice(&colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(errors: &[f64]) -> ErrorCurve<'_> {
        ErrorCurve { errors, failure: 0.1, title: "four faces" }
    }

    #[test]
    fn the_curve_steps_up_at_every_error() {
        let picture = curve(&[0.025, 0.05, 0.05, f64::INFINITY]).draw();
        let [left, top, right, bottom] = MARGINS;
        let (width, height) = (SIZE.width - left - right, SIZE.height - top - bottom);
        // The highest blue pixel of a column, as a share.
        let share = |error: f64| {
            let x = left + (error / 0.1 * f64::from(width)) as u32;
            let blue = |y: &u32| picture[3 * (y * SIZE.width + x) as usize..][..3] == CURVE;
            let y = (0..SIZE.height).find(blue).unwrap() + 1;
            1.0 - f64::from(y - top) / f64::from(height)
        };
        for (error, expected) in [(0.02, 0.0), (0.03, 0.25), (0.06, 0.75), (0.1, 0.75)] {
            assert!((share(error) - expected).abs() < 0.01, "{error}: {}", share(error));
        }
    }

    #[test]
    fn the_middle_image_is_always_shown() {
        assert_eq!(curve(&[0.01, 0.02, 0.09]).end(), 0.1);
        assert_eq!(curve(&[0.4, 0.8, 9.0]).end(), 1.0);
        assert_eq!(curve(&[f64::INFINITY; 3]).end(), 0.1);
        assert_eq!(curve(&[]).end(), 0.1);
        let _ = curve(&[]).draw();
    }

    #[test]
    fn ticks_are_round_numbers() {
        for (end, expected) in [(0.1, 0.02), (1.0, 0.2), (8.0, 1.0), (36.0, 5.0), (75.0, 10.0)] {
            let found = step(end);
            assert!((found / expected - 1.0).abs() < 1e-9, "{end}: {found}");
        }
    }

    #[test]
    fn the_numbers_go_up_to_the_last_image_that_was_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.csv");
        curve(&[0.025, 0.05, f64::INFINITY, f64::INFINITY]).write_csv(&path).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "error,share\n0.025,0.25\n0.05,0.5\n");
    }
}
