//! Where the letters of a mark lie.

use std::f32::consts::{FRAC_PI_2, PI};

use fullbore_types::{Affine, Size};
use zeno::Command;

use super::config::{Split, Style, WatermarkConfig};
use super::faces::{self, Face, Lettering};
use super::words;
use crate::draw::Draw;

/// Least height of capital letters in pixels: below it strokes are thinner than a pixel.
pub const MIN_CAPITALS: f32 = 7.0;
/// Below this height of capitals, in pixels, the strokes of faces that are not bold are thinner than a pixel.
const BOLD_BELOW: f32 = 14.0;

/// The outlines of all letters of one mark, in pixels.
pub(super) struct Letters {
    pub(super) path: Vec<Command>,
    /// Height of capital letters in pixels.
    pub(super) capitals: f32,
}

/// A text in a face, somewhere in an image, as `style` has it.
pub(super) fn letters(draw: &mut Draw, config: &WatermarkConfig, split: Split, style: Style) -> Letters {
    let size = Size::from(config.size);
    let (width, height) = (size.width as f32, size.height as f32);
    let diagonal = width.hypot(height);
    let text = words::text(draw);
    let [low, high] = config.height.map(|share| (share as f32 * height).max(MIN_CAPITALS));
    let capitals = match style {
        Style::Single => low + (high - low) * draw.unit().powf(1.5),
        Style::Corner => draw.between(low, low + 0.3 * (high - low)),
        Style::Diagonal => draw.between(low, high),
        Style::Tiled => draw.between(low, low + 0.4 * (high - low)),
    };
    let face = faces::pick(draw, split, capitals < BOLD_BELOW);
    let spacing = if draw.chance(0.25) { draw.between(0.1, 0.6) } else { draw.between(-0.02, 0.06) };
    let mut form = Form {
        capitals,
        stretch: draw.between(0.85, 1.2),
        slant: if draw.chance(0.15) { draw.between(-0.3, 0.3) } else { 0.0 },
        angle: 0.0,
    };
    let mut path = Vec::new();
    match style {
        Style::Single => {
            form.angle = match draw.count(0, 3) {
                0 | 1 => 0.0,
                2 => draw.between(-PI / 4.0, PI / 4.0),
                _ => draw.between(-PI, PI),
            };
            let lettering = face.set(&text, spacing);
            let reach = form.reach(&lettering);
            let inside = draw.chance(0.8);
            let mut middle = |side: f32, reach: f32| match inside && 2.0 * reach < side {
                true => draw.between(reach, side - reach),
                false => draw.between(0.15 * side, 0.85 * side),
            };
            let middle = [middle(width, reach[0]), middle(height, reach[1])];
            lettering.place(form.map(middle), &mut path);
        }
        Style::Corner => {
            form.angle = if draw.chance(0.1) { FRAC_PI_2 * draw.sign() } else { 0.0 };
            let along = if form.angle == 0.0 { width } else { height };
            let lettering = fitting(face, &text, spacing, 0.92 * along / (capitals * form.stretch));
            let reach = form.reach(&lettering);
            let margin = width.min(height) * draw.between(0.02, 0.06);
            let place = |side: f32, reach: f32, at: usize| match at {
                0 => margin + reach,
                1 => side / 2.0,
                _ => side - margin - reach,
            };
            let [x, y] =
                *draw.pick(&[[0, 0], [0, 2], [2, 0], [2, 2], [2, 2], [1, 0], [1, 2], [0, 1], [2, 1]]);
            lettering.place(form.map([place(width, reach[0], x), place(height, reach[1], y)]), &mut path);
        }
        Style::Diagonal => {
            let lettering = face.set(&text, spacing);
            let span = draw.between(0.55, 0.95) * diagonal;
            form.capitals = (span / (lettering.width * form.stretch)).clamp(low, high);
            let slope = match draw.chance(0.5) {
                true => height.atan2(width) + 0.08 * draw.normal(),
                false => draw.between(20.0, 45.0).to_radians(),
            };
            form.angle = slope * draw.sign();
            let middle = [width, height].map(|side| side * (0.5 + 0.04 * draw.normal()));
            lettering.place(form.map(middle), &mut path);
        }
        Style::Tiled => {
            form.angle =
                if draw.chance(0.8) { draw.between(20.0, 45.0).to_radians() * draw.sign() } else { 0.0 };
            let lettering = fitting(face, &text, spacing, diagonal / (capitals * form.stretch));
            let grid = Grid::draw(draw, &form, &lettering, diagonal);
            for middle in grid.middles(draw, size, form.angle) {
                lettering.place(form.map(middle), &mut path);
            }
        }
    }
    Letters { path, capitals: form.capitals }
}

/// As many letters of a text as `room` holds, in heights of capitals; at least 3.
fn fitting(face: &Face, text: &str, spacing: f32, room: f32) -> Lettering {
    let mut text: Vec<char> = text.chars().collect();
    loop {
        let lettering = face.set(&text.iter().collect::<String>(), spacing);
        if lettering.width <= room || text.len() <= 3 {
            return lettering;
        }
        text.pop();
    }
}

/// How a text becomes pixels, but for its place.
struct Form {
    /// Height of capital letters in pixels.
    capitals: f32,
    /// Width over what the face has.
    stretch: f32,
    /// Shift to the left per unit of depth: letters lean.
    slant: f32,
    /// Radians, clockwise.
    angle: f32,
}

impl Form {
    /// The one map from a text's units to pixels: stretch, slant, size, turn and place together.
    fn map(&self, [x, y]: [f32; 2]) -> Affine {
        let Form { capitals, stretch, slant, angle } = *self;
        let (sin, cos) = angle.sin_cos();
        let columns = [[capitals * stretch, 0.0], [-capitals * slant, capitals]];
        let turned = columns.map(|[u, v]| [u * cos - v * sin, u * sin + v * cos]);
        Affine([turned[0][0], turned[1][0], x, turned[0][1], turned[1][1], y].map(f64::from))
    }

    /// Half of the width and height of the turned text's bounding box in pixels.
    fn reach(&self, lettering: &Lettering) -> [f32; 2] {
        let half = [lettering.width * self.stretch, lettering.height].map(|v| 0.5 * v * self.capitals);
        let (sin, cos) = (self.angle.sin().abs(), self.angle.cos().abs());
        [half[0] * cos + half[1] * sin, half[0] * sin + half[1] * cos]
    }
}

/// Where the copies of a tiled mark lie, before they are turned.
struct Grid {
    pitch: [f32; 2],
    /// Shift of every other row over the pitch along rows.
    shift: f32,
    /// Most displacement of a copy in pixels.
    jitter: f32,
    /// Half of the length of a copy.
    reach: f32,
}

impl Grid {
    fn draw(draw: &mut Draw, form: &Form, lettering: &Lettering, diagonal: f32) -> Self {
        let length = lettering.width * form.stretch;
        // However small the letters, no more than 40 copies in a row and 40 rows.
        let pitch = [length + draw.between(0.6, 3.0), lettering.height + draw.between(0.7, 4.0)]
            .map(|step| (step * form.capitals).max(diagonal / 40.0));
        Grid {
            pitch,
            shift: if draw.chance(0.5) { 0.5 } else { 0.0 },
            jitter: if draw.chance(0.3) { form.capitals * draw.between(0.1, 0.4) } else { 0.0 },
            reach: 0.5 * form.capitals * length.hypot(lettering.height),
        }
    }

    /// Middles of the copies that can touch an image of this size, in pixels.
    fn middles(&self, draw: &mut Draw, size: Size, angle: f32) -> Vec<[f32; 2]> {
        let half = [size.width as f32 / 2.0, size.height as f32 / 2.0];
        let radius = half[0].hypot(half[1]) + self.reach;
        let n = self.pitch.map(|pitch| (radius / pitch).ceil() as i32);
        let start = self.pitch.map(|pitch| draw.between(0.0, pitch));
        let (sin, cos) = angle.sin_cos();
        let mut middles = Vec::new();
        for row in -n[1]..=n[1] {
            let shift = if row % 2 == 0 { 0.0 } else { self.shift };
            for column in -n[0]..=n[0] {
                let along = start[0] + (column as f32 + shift) * self.pitch[0];
                let down = start[1] + row as f32 * self.pitch[1];
                let [u, v] = [along, down].map(|v| v + self.jitter * draw.between(-1.0, 1.0));
                let middle = [half[0] + u * cos - v * sin, half[1] + u * sin + v * cos];
                if (0..2).all(|axis| (middle[axis] - half[axis]).abs() < half[axis] + self.reach) {
                    middles.push(middle);
                }
            }
        }
        middles
    }
}

#[cfg(test)]
mod tests {
    use fullbore_types::{Purpose, SampleId, SampleKey};
    use zeno::Point;

    use super::*;
    use crate::coverage::Coverage;

    fn some_letters(seed: u64, style: Style) -> Letters {
        let config = WatermarkConfig::default();
        let key = SampleKey { seed, epoch: 0, sample: SampleId(0) };
        letters(&mut Draw::new(key.rng(Purpose::SynthMark)), &config, Split::Train, style)
    }

    #[test]
    fn one_map_turns_and_places_a_text() {
        let form = Form { capitals: 20.0, stretch: 1.5, slant: 0.0, angle: FRAC_PI_2 };
        let map = form.map([100.0, 50.0]);
        let near = |from, to: (f64, f64)| {
            let (x, y) = map.apply(from);
            assert!((x - to.0).abs() < 1e-4 && (y - to.1).abs() < 1e-4, "{x} {y}");
        };
        near((0.0, 0.0), (100.0, 50.0));
        // Clockwise, with y down: what was on the right is below.
        near((1.0, 0.0), (100.0, 80.0));
        near((0.0, 1.0), (80.0, 50.0));
    }

    #[test]
    fn every_style_marks_the_image_and_corners_stay_inside() {
        let size = Size::new(256, 256);
        for style in [Style::Single, Style::Corner, Style::Diagonal, Style::Tiled] {
            for seed in 0..40 {
                let letters = some_letters(seed, style);
                assert!((MIN_CAPITALS..=64.01).contains(&letters.capitals), "{}", letters.capitals);
                let (mut sum, mut n_border) = (0.0, 0);
                Coverage::fill(&letters.path, size).each(size, |x, y, alpha| {
                    sum += alpha;
                    n_border += usize::from([0, 255].contains(&x) || [0, 255].contains(&y));
                });
                assert!(sum > 20.0, "{style:?} {seed}: {sum}");
                assert!(style != Style::Corner || n_border == 0, "{seed}: {n_border}");
            }
        }
    }

    #[test]
    fn the_smallest_letters_keep_their_area_in_the_mask() {
        let size = Size::new(256, 256);
        let config = WatermarkConfig { height: [0.001, 0.001], ..WatermarkConfig::default() };
        let (mut area, mut marked) = (0.0, 0.0);
        for seed in 0..40 {
            let key = SampleKey { seed, epoch: 0, sample: SampleId(0) };
            let mut draw = Draw::new(key.rng(Purpose::SynthMark));
            let letters = letters(&mut draw, &config, Split::ALL[seed as usize % 3], Style::Tiled);
            Coverage::fill(&letters.path, size).each(size, |_, _, alpha| {
                area += alpha;
                marked += f32::from(alpha > 0.5);
            });
        }
        let share = marked / area;
        assert!((0.8..1.2).contains(&share), "{share}");
    }

    /// The inside of a path by brute force: winding numbers of 8 x 8 points per pixel.
    fn sampled(path: &[Command], x: usize, y: usize) -> f32 {
        let mut edges: Vec<[Point; 2]> = Vec::new();
        let (mut start, mut at) = (Point::ZERO, Point::ZERO);
        let mut line = |at: &mut Point, to: Point| edges.push([std::mem::replace(at, to), to]);
        for command in path {
            match *command {
                Command::MoveTo(to) => (start, at) = (to, to),
                Command::LineTo(to) => line(&mut at, to),
                Command::Close => line(&mut at, start),
                Command::QuadTo(a, to) => {
                    let from = at;
                    for t in (1..=16).map(|i| i as f32 / 16.0) {
                        let s = 1.0 - t;
                        line(&mut at, from * (s * s) + a * (2.0 * s * t) + to * (t * t));
                    }
                }
                Command::CurveTo(a, b, to) => {
                    let from = at;
                    for t in (1..=16).map(|i| i as f32 / 16.0) {
                        let s = 1.0 - t;
                        let inner = a * (3.0 * s * s * t) + b * (3.0 * s * t * t);
                        line(&mut at, from * (s * s * s) + inner + to * (t * t * t));
                    }
                }
            }
        }
        let is_inside = |px: f32, py: f32| {
            let crossing = |[a, b]: &[Point; 2]| {
                let down = a.y <= py && py < b.y;
                let up = b.y <= py && py < a.y;
                let crosses = (down || up) && a.x + (py - a.y) / (b.y - a.y) * (b.x - a.x) > px;
                i32::from(crosses && down) - i32::from(crosses && up)
            };
            edges.iter().map(crossing).sum::<i32>() != 0
        };
        let points = (0..64).filter(|i| {
            let [u, v] = [i % 8, i / 8].map(|k| (k as f32 + 0.5) / 8.0);
            is_inside(x as f32 + u, y as f32 + v)
        });
        points.count() as f32 / 64.0
    }

    #[test]
    fn coverage_agrees_with_brute_force() {
        let size = Size::new(256, 256);
        // Of a CFF and of TrueType faces, turned, in part outside the image.
        for (seed, style) in
            [(1, Style::Single), (2, Style::Diagonal), (5, Style::Diagonal), (9, Style::Single)]
        {
            let letters = some_letters(seed, style);
            let coverage = Coverage::fill(&letters.path, size);
            let mut worst: f32 = 0.0;
            for i in 0..400 {
                let (x, y) = (i * 37 % 256, i * 101 % 256);
                worst = worst.max((coverage.at(x, y) - sampled(&letters.path, x, y)).abs());
            }
            assert!(worst < 0.13, "{seed}: {worst}");
        }
    }
}
