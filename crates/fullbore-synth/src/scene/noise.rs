use fullbore_types::Size;

use crate::draw::{Draw, hash};

/// A gray pattern of the size of the image, mean about 0.5, that tiles: it may be read at any offset.
pub(super) struct Field {
    size: Size,
    values: Vec<f32>,
}

impl Field {
    /// Value at a pixel, at most one image beyond its right and lower edge.
    pub(super) fn at(&self, x: usize, y: usize) -> f32 {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let x = if x >= width { x - width } else { x };
        let y = if y >= height { y - height } else { y };
        self.values[y * width + x]
    }

    /// This pattern, each pixel taken from up to `reach` pixels away, as the others say: folds and swirls.
    pub(super) fn warped(&self, across: &Field, down: &Field, reach: f32) -> Field {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let mut values = Vec::with_capacity(self.values.len());
        for y in 0..height {
            for (x, (dx, dy)) in across.row(y).iter().zip(down.row(y)).enumerate() {
                let u = (x as f32 + 2.0 * reach * (dx - 0.5)).rem_euclid(width as f32);
                let v = (y as f32 + 2.0 * reach * (dy - 0.5)).rem_euclid(height as f32);
                let (left, top) = (u as usize, v as usize);
                let (s, t) = (u - left as f32, v - top as f32);
                let upper = self.at(left, top) * (1.0 - s) + self.at(left + 1, top) * s;
                let lower = self.at(left, top + 1) * (1.0 - s) + self.at(left + 1, top + 1) * s;
                values.push(upper + (lower - upper) * t);
            }
        }
        Field { size: self.size, values }
    }

    /// Row `y`.
    pub(super) fn row(&self, y: usize) -> &[f32] {
        let width = self.size.width as usize;
        &self.values[y * width..][..width]
    }
}

/// How a fractal pattern looks.
#[derive(Clone, Copy)]
pub(super) struct Fractal {
    /// Cells of the coarsest octave across and down; unequal numbers make streaks.
    pub(super) cells: [usize; 2],
    /// Octaves, each of twice the cells of the one before.
    pub(super) octaves: usize,
    /// Amplitude of each octave over that of the one before: 0.5 is cloudy, 0.8 is grainy.
    pub(super) gain: f32,
    /// Folds each octave about its middle: bright ridges, as in marble, bark and folds of cloth.
    pub(super) ridged: bool,
}

/// Value noise: random numbers on lattices, smoothly joined, summed over octaves.
pub(super) fn fractal(draw: &mut Draw, size: Size, look: Fractal) -> Field {
    let (width, height) = (size.width as usize, size.height as usize);
    let mut values = vec![0.0; width * height];
    let mut amplitude = 1.0;
    let mut variance = 0.0;
    for octave in 0..look.octaves {
        let cells = look.cells.map(|n| n << octave);
        // Finer than two pixels it would only be white noise, which is the camera's part.
        if cells[0] * 2 > width || cells[1] * 2 > height {
            break;
        }
        add_octave(&mut values, size, cells, draw.hash_seed(), amplitude, look.ridged);
        variance += amplitude * amplitude;
        amplitude *= look.gain;
    }
    // Equal contrast whatever the octaves: most values lie within 0..1.
    let scale = 0.9 / f32::sqrt(f32::max(variance, 1e-6));
    values.iter_mut().for_each(|v| *v = (0.5 + *v * scale).clamp(0.0, 1.0));
    Field { size, values }
}

fn add_octave(
    values: &mut [f32],
    size: Size,
    [across, down]: [usize; 2],
    seed: u64,
    amplitude: f32,
    ridged: bool,
) {
    let (width, height) = (size.width as usize, size.height as usize);
    let knot = |i: usize| (hash(seed, i as u64) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let lattice: Vec<f32> = (0..across * down).map(knot).collect();
    let columns: Vec<(usize, usize, f32)> = (0..width).map(|x| between_knots(x, width, across)).collect();
    let mut knots = vec![0.0; across];
    for (y, row) in values.chunks_exact_mut(width).enumerate() {
        let (above, below, t) = between_knots(y, height, down);
        let (above, below) = (&lattice[above * across..][..across], &lattice[below * across..][..across]);
        for (knot, (a, b)) in knots.iter_mut().zip(above.iter().zip(below)) {
            *knot = a + (b - a) * t;
        }
        for (value, &(left, right, t)) in row.iter_mut().zip(&columns) {
            let v = knots[left] + (knots[right] - knots[left]) * t;
            *value += amplitude * if ridged { 0.3 - 1.6 * v.abs() } else { v };
        }
    }
}

/// The knots on either side of the centre of pixel `i` of `n`, and how far it is on the smooth way between them.
fn between_knots(i: usize, n: usize, knots: usize) -> (usize, usize, f32) {
    let at = (i as f32 + 0.5) * knots as f32 / n as f32;
    let before = (at as usize).min(knots - 1);
    let t = at - before as f32;
    (before, (before + 1) % knots, t * t * (3.0 - 2.0 * t))
}

#[cfg(test)]
mod tests {
    use fullbore_types::{Purpose, SampleId, SampleKey};

    use super::*;

    fn field(look: Fractal) -> Field {
        let key = SampleKey { seed: 1, epoch: 0, sample: SampleId(0) };
        fractal(&mut Draw::new(key.rng(Purpose::SynthScene)), Size::new(96, 64), look)
    }

    #[test]
    fn it_is_spread_about_the_middle_and_tiles() {
        for ridged in [false, true] {
            let field = field(Fractal { cells: [4, 3], octaves: 5, gain: 0.6, ridged });
            let n = field.values.len() as f32;
            let mean = field.values.iter().sum::<f32>() / n;
            let spread = (field.values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
            assert!((0.35..0.65).contains(&mean), "{mean}");
            assert!((0.1..0.4).contains(&spread), "{spread}");
            assert_eq!(field.at(100, 70), field.at(4, 6));
            // Across the seam values differ no more than a step between neighbours does.
            let seam = (0..64).map(|y| (field.at(95, y) - field.at(96, y)).abs()).fold(0.0, f32::max);
            assert!(seam < 0.5, "{seam}");
        }
    }
}
