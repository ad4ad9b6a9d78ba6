//! Gaussian blur of a canvas, the one extra pass.

use fullbore_types::Size;

use super::clamp::whole_part;

/// A blurred copy of a canvas, with the memory it needs. Empty until the first blurred sample.
#[derive(Debug, Default)]
pub(super) struct Blurred {
    bytes: Vec<u8>,
    weights: Vec<f32>,
    /// One row with its ends repeated.
    padded: Vec<f32>,
    /// Rows blurred along themselves, as many as the window is high, in turns.
    rows: Vec<f32>,
    sum: Vec<f32>,
}

impl Blurred {
    /// Blurs with standard deviation `sigma` in pixels: along rows, then along columns, the outermost pixels repeated.
    pub(super) fn of(&mut self, canvas: &[u8], size: Size, channels: usize, sigma: f32) -> &[u8] {
        let (width, height) = (size.width as usize * channels, size.height as usize);
        self.set_weights(sigma);
        let window = self.weights.len();
        let radius = window / 2;
        self.rows.resize(window * width, 0.0);
        self.bytes.resize(canvas.len(), 0);
        self.sum.resize(width, 0.0);
        // Row `y` of the canvas, blurred along itself, lies at `y % window`.
        let mut ready = 0;
        for y in 0..height {
            while ready < height && ready <= y + radius {
                let row = &canvas[ready * width..][..width];
                let to = &mut self.rows[(ready % window) * width..][..width];
                along(row, channels, &self.weights, &mut self.padded, to);
                ready += 1;
            }
            self.sum.fill(0.5);
            for (k, weight) in self.weights.iter().enumerate() {
                let from = (y + k).saturating_sub(radius).min(height - 1);
                let row = &self.rows[(from % window) * width..][..width];
                for (sum, value) in self.sum.iter_mut().zip(row) {
                    *sum += weight * value;
                }
            }
            for (out, &sum) in self.bytes[y * width..][..width].iter_mut().zip(&self.sum) {
                *out = whole_part(sum, 255.0) as u8;
            }
        }
        &self.bytes
    }

    fn set_weights(&mut self, sigma: f32) {
        let radius = (3.0 * f64::from(sigma)).ceil() as i32;
        let weight = |k: i32| (-0.5 * (f64::from(k) / f64::from(sigma)).powi(2)).exp();
        let sum: f64 = (-radius..=radius).map(weight).sum();
        self.weights.clear();
        self.weights.extend((-radius..=radius).map(|k| (weight(k) / sum) as f32));
    }
}

fn along(row: &[u8], channels: usize, weights: &[f32], padded: &mut Vec<f32>, out: &mut [f32]) {
    let radius = weights.len() / 2;
    let (first, last) = (&row[..channels], &row[row.len() - channels..]);
    padded.clear();
    for _ in 0..radius {
        padded.extend(first.iter().map(|&v| f32::from(v)));
    }
    padded.extend(row.iter().map(|&v| f32::from(v)));
    for _ in 0..radius {
        padded.extend(last.iter().map(|&v| f32::from(v)));
    }
    out.fill(0.0);
    for (k, weight) in weights.iter().enumerate() {
        for (out, value) in out.iter_mut().zip(&padded[k * channels..]) {
            *out += weight * value;
        }
    }
}
