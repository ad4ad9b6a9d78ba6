//! What light and a camera do to a scene.

use crate::draw::{Draw, hash};
use crate::picture::{Colour, Picture, luma};

/// A soft lens, colour cast, exposure, contrast, vignette, sometimes black and white, and the noise of the sensor.
pub(super) fn expose(picture: &mut Picture, draw: &mut Draw) {
    for _ in 0..draw.count(0, 2) {
        soften(picture);
    }
    let cast = [0, 1, 2].map(|_| 1.0 + 0.06 * draw.normal());
    let gain = draw.between(0.85, 1.15);
    let contrast = draw.between(0.75, 1.2);
    let lift = 0.5 + 0.06 * draw.normal();
    let colour = if draw.chance(0.08) { 0.0 } else { draw.between(0.75, 1.15) };
    let vignette = if draw.chance(0.4) { draw.between(0.05, 0.4) } else { 0.0 };
    let grain = draw.scale(0.002, 0.03);
    let seed = draw.hash_seed();
    let (width, height) = (picture.size.width as usize, picture.size.height as f32);
    for (y, row) in picture.pixels.chunks_exact_mut(width).enumerate() {
        let v = y as f32 / height - 0.5;
        for (x, pixel) in row.iter_mut().enumerate() {
            let u = x as f32 / width as f32 - 0.5;
            let light = gain * (1.0 - vignette * 2.0 * (u * u + v * v));
            let lit = [0, 1, 2].map(|c| lift + contrast * (pixel[c] * cast[c] * light - 0.5));
            let gray = luma(lit);
            // Shot noise grows with the root of the light.
            let noise = grain * (0.4 + gray.max(0.0).sqrt());
            let bits = hash(seed, (y * width + x) as u64);
            let brightness = bell(bits as u32);
            let tints = [bits >> 32, bits >> 42, bits >> 52].map(|b| (b & 1023) as f32 / 512.0 - 1.0);
            *pixel = [0, 1, 2].map(|c| {
                let v = gray + colour * (lit[c] - gray);
                (v + noise * (brightness + 0.6 * tints[c])).clamp(0.0, 1.0)
            });
        }
    }
}

/// Averages each pixel with its neighbours, by weights 1, 2, 1 across and down. The border stays.
fn soften(picture: &mut Picture) {
    let width = picture.size.width as usize;
    let average = |before: &[Colour], after: &mut [Colour], step: usize| {
        let neighbours = before.iter().zip(&before[step..]).zip(&before[2 * step..]);
        for (pixel, ((a, b), c)) in after[step..].iter_mut().zip(neighbours) {
            *pixel = [0, 1, 2].map(|i| 0.25 * (a[i] + 2.0 * b[i] + c[i]));
        }
    };
    let before = picture.pixels.clone();
    for (before, after) in before.chunks_exact(width).zip(picture.pixels.chunks_exact_mut(width)) {
        average(before, after, 1);
    }
    let before = picture.pixels.clone();
    average(&before, &mut picture.pixels, width);
}

/// Roughly normal, standard deviation 1: the sum of four bytes.
fn bell(bits: u32) -> f32 {
    let sum: u32 = bits.to_le_bytes().iter().map(|&b| u32::from(b)).sum();
    (sum as f32 - 510.0) / 147.8
}
