//! Invented backgrounds with the structure of photos.
//!
//! A scene is a backdrop with things before it, each hiding what lies behind, in sizes that follow a power law:
//! such "dead leaves" have the edges, the spectrum and the scale invariance of natural images. Things carry
//! fractal textures, shading and soft shadows, and lie in or out of focus. Then come strokes that resemble
//! letters without being any, light and shade, and a camera's colour cast, vignette and noise.

mod camera;
mod clutter;
mod noise;
mod palette;
mod shapes;

use std::f32::consts::{PI, TAU};

use fullbore_types::Size;
use zeno::{Command, Point};

use crate::coverage::Coverage;
use crate::draw::Draw;
use crate::picture::{Colour, Picture, mix};
use noise::{Field, Fractal, fractal};
use palette::Palette;

/// An image of this size, a pure function of what `draw` yields.
pub(crate) fn photograph(size: Size, draw: &mut Draw) -> Picture {
    let mut scene = Scene::with_backdrop(size, draw);
    if draw.chance(0.4) {
        scene.add_ridges(draw);
    }
    scene.add_things(draw);
    for _ in 0..draw.count(0, 3) {
        scene.add_strokes(draw);
    }
    scene.light(draw);
    camera::expose(&mut scene.picture, draw);
    scene.picture
}

struct Scene {
    picture: Picture,
    palette: Palette,
    textures: Vec<Field>,
    /// Where light comes from, radians.
    light: f32,
}

/// What covers a thing: two colours, mixed by a texture, and darker away from the light.
struct Coat {
    colours: [Colour; 2],
    texture: usize,
    offset: [usize; 2],
    contrast: f32,
    shading: f32,
}

impl Scene {
    fn with_backdrop(size: Size, draw: &mut Draw) -> Self {
        let palette = Palette::draw(draw);
        let light = draw.between(0.0, TAU);
        let picture = Picture::filled(size, [0.0; 3]);
        let mut scene = Scene { picture, palette, textures: textures(draw, size), light };
        scene.paint_backdrop(draw);
        scene
    }

    fn side(&self) -> f32 {
        self.picture.size.width.min(self.picture.size.height) as f32
    }

    fn anywhere(&self, draw: &mut Draw) -> Point {
        let Size { width, height } = self.picture.size;
        Point::new(draw.unit() * width as f32, draw.unit() * height as f32)
    }

    /// A gradient between two colours with a texture over it: a sky, a wall, a floor, a blur.
    fn paint_backdrop(&mut self, draw: &mut Draw) {
        let ends = [self.palette.pick(draw), self.palette.pick(draw)];
        let coat = self.coat(draw, ends[0]);
        let strength = if draw.chance(0.5) { draw.between(0.3, 0.9) } else { draw.between(0.0, 0.3) };
        let (sin, cos) = draw.between(0.0, TAU).sin_cos();
        let (width, height) = (self.picture.size.width as usize, self.picture.size.height as usize);
        let texture = &self.textures[coat.texture];
        for (y, row) in self.picture.pixels.chunks_exact_mut(width).enumerate() {
            let v = y as f32 / height as f32 - 0.5;
            for (x, (pixel, grain)) in row.iter_mut().zip(texture.row(y)).enumerate() {
                let u = x as f32 / width as f32 - 0.5;
                let along = (0.5 + 0.75 * (u * cos + v * sin)).clamp(0.0, 1.0);
                let plain = mix(ends[0], ends[1], along);
                *pixel = mix(plain, mix(coat.colours[0], coat.colours[1], *grain), strength);
            }
        }
    }

    /// A random coat of about this colour.
    fn coat(&self, draw: &mut Draw, colour: Colour) -> Coat {
        let other = match draw.count(0, 3) {
            0 => self.palette.pick(draw),
            1 => mix(colour, [1.0; 3], draw.between(0.1, 0.6)),
            _ => colour.map(|v| v * 0.45),
        };
        Coat {
            colours: [colour, other],
            texture: draw.count(0, self.textures.len() - 1),
            offset: [self.picture.size.width, self.picture.size.height]
                .map(|n| draw.count(0, n as usize - 1)),
            contrast: if draw.chance(0.25) { 0.0 } else { draw.between(0.2, 1.4) },
            shading: draw.between(0.0, 0.5),
        }
    }

    /// A colour of the palette for something at a point, some way off the colour that is there already: things
    /// that lie together look alike.
    fn colour_at(&self, draw: &mut Draw, at: Point) -> Colour {
        let Size { width, height } = self.picture.size;
        let x = (at.x as usize).min(width as usize - 1);
        let y = (at.y as usize).min(height as usize - 1);
        let there = self.picture.pixels[y * width as usize + x].map(|v| v * draw.between(0.75, 1.25));
        mix(there, self.palette.pick(draw), draw.unit())
    }

    /// Silhouettes from side to side, one before the other: hills, roofs, a shoulder, a table's edge.
    fn add_ridges(&mut self, draw: &mut Draw) {
        let (width, height) = (self.picture.size.width as f32, self.picture.size.height as f32);
        let mut level = draw.between(0.25, 0.7);
        for _ in 0..draw.count(1, 4) {
            let mut crest = vec![level; 65];
            let mut rough = draw.scale(0.01, 0.2);
            for octave in 0..draw.count(1, 7) {
                let phase = draw.between(0.0, TAU);
                let waves = (1 << octave) as f32 * draw.between(0.3, 0.6) * TAU / 64.0;
                crest
                    .iter_mut()
                    .enumerate()
                    .for_each(|(i, y)| *y += rough * (phase + waves * i as f32).sin());
                rough *= draw.between(0.35, 0.65);
            }
            let crest =
                crest.iter().enumerate().map(|(i, y)| Point::new(i as f32 / 64.0 * width, y * height));
            let base = [Point::new(width, 2.0 * height), Point::new(0.0, 2.0 * height)];
            let colour = self.palette.pick(draw);
            let coat = self.coat(draw, colour);
            self.paint(&shapes::closed(crest.chain(base)), &coat, draw.count(0, 2), None);
            level += draw.between(0.05, 0.25);
        }
    }

    /// Things of all sizes, back to front, the far ones blurred in some scenes and the near ones in others.
    fn add_things(&mut self, draw: &mut Draw) {
        const LARGEST: f32 = 0.45;
        let smallest = draw.scale(0.02, 0.15);
        // The number of things larger than r falls with 1 / r^2, so this is their mean area over the image's.
        let mean_area = 2.0 * PI * smallest * smallest * (LARGEST / smallest).ln();
        let n = ((draw.between(0.3, 2.5) / mean_area) as usize).clamp(4, 90);
        let (focus, depth) = (draw.unit(), if draw.chance(0.7) { draw.scale(0.004, 0.05) } else { 0.0 });
        let shadows = draw.chance(0.6);
        for i in 0..n {
            let centre = self.anywhere(draw);
            let radius = self.side() * (smallest / (1.0 - draw.unit()).sqrt()).min(LARGEST);
            let outline = shapes::thing(draw, centre, radius);
            let blur = (self.side() * depth * (i as f32 / n as f32 - focus).abs()) as usize;
            if shadows && draw.chance(0.5) {
                self.cast_shadow(draw, &outline, radius);
            }
            let colour = self.colour_at(draw, centre);
            let coat = self.coat(draw, colour);
            let relief = draw.chance(0.6).then(|| self.relief(draw, &outline, radius));
            self.paint(&outline, &coat, blur, relief.as_ref());
        }
    }

    /// Darkens what lies on the side of an outline away from the light.
    fn cast_shadow(&mut self, draw: &mut Draw, outline: &[Command], radius: f32) {
        let distance = radius * draw.between(0.05, 0.3);
        let softness = (distance * draw.between(0.2, 0.8)) as usize;
        let strength = draw.between(0.2, 0.7);
        let away = shapes::around(Point::ZERO, -distance, self.light);
        Coverage::soft_fill(outline, softness, self.picture.size)
            .shifted(away.x as i32, away.y as i32)
            .paint(&mut self.picture, |_, _, pixel, alpha| {
                *pixel = pixel.map(|v| v * (1.0 - strength * alpha));
            });
    }

    /// Where a rounded thing of this outline catches light: its middle, on the side of the light.
    fn relief(&self, draw: &mut Draw, outline: &[Command], radius: f32) -> Coverage {
        let towards = shapes::around(Point::ZERO, radius * draw.between(0.1, 0.4), self.light);
        let softness = (radius * draw.between(0.15, 0.4)) as usize;
        Coverage::soft_fill(outline, softness, self.picture.size).shifted(towards.x as i32, towards.y as i32)
    }

    fn paint(&mut self, outline: &[Command], coat: &Coat, blur: usize, relief: Option<&Coverage>) {
        let size = self.picture.size;
        let coverage = Coverage::soft_fill(outline, blur, size);
        let texture = &self.textures[coat.texture];
        let (sin, cos) = self.light.sin_cos();
        let to_unit = [1.0 / size.width as f32, 1.0 / size.height as f32];
        coverage.paint(&mut self.picture, |x, y, pixel, alpha| {
            let grain = texture.at(x + coat.offset[0], y + coat.offset[1]);
            let along = (x as f32 * to_unit[0] - 0.5) * cos + (y as f32 * to_unit[1] - 0.5) * sin;
            let light = 1.0 + coat.shading * along;
            let light = relief.map_or(light, |relief| light * (0.35 + 0.75 * relief.at(x, y)));
            let share = (0.5 + coat.contrast * (grain - 0.5)).clamp(0.0, 1.0);
            let colour = mix(coat.colours[0], coat.colours[1], share).map(|v| v * light);
            *pixel = mix(*pixel, colour, alpha);
        });
    }

    /// Strokes of one colour.
    fn add_strokes(&mut self, draw: &mut Draw) {
        let strokes = clutter::strokes(draw, self.picture.size);
        let at = self.anywhere(draw);
        let colour = self.colour_at(draw, at);
        let opaque = if draw.chance(0.5) { 1.0 } else { draw.between(0.3, 1.0) };
        let blur = if draw.chance(0.3) { 1 } else { 0 };
        let width = strokes.width.max(0.6);
        Coverage::soft_stroke(&strokes.path, width, blur, self.picture.size)
            .paint(&mut self.picture, |_, _, pixel, alpha| *pixel = mix(*pixel, colour, alpha * opaque));
    }

    /// Uneven light over the whole scene, and at times the shadow of something outside it.
    fn light(&mut self, draw: &mut Draw) {
        let size = self.picture.size;
        let look = Fractal { cells: [2, 2], octaves: 2, gain: 0.5, ridged: false };
        let field = fractal(draw, size, look);
        let strength = draw.between(0.0, 0.7);
        let width = size.width as usize;
        for (y, row) in self.picture.pixels.chunks_exact_mut(width).enumerate() {
            for (pixel, light) in row.iter_mut().zip(field.row(y)) {
                let factor = 1.0 + strength * (light - 0.5);
                *pixel = pixel.map(|v| v * factor);
            }
        }
        if draw.chance(0.3) {
            let centre = self.anywhere(draw);
            let radius = self.side() * draw.between(0.3, 0.8);
            let outline = shapes::thing(draw, centre, radius);
            let softness = (self.side() * draw.scale(0.005, 0.05)) as usize;
            let strength = draw.between(0.2, 0.6);
            Coverage::soft_fill(&outline, softness, size).paint(&mut self.picture, |_, _, pixel, alpha| {
                *pixel = pixel.map(|v| v * (1.0 - strength * alpha));
            });
        }
    }
}

/// Clouds, grain, streaks, marble, bark, folds: what things and backdrops of one scene are made of.
fn textures(draw: &mut Draw, size: Size) -> Vec<Field> {
    let mut textures: Vec<Field> = (0..4).map(|_| texture(draw, size)).collect();
    let reach = size.width.min(size.height) as f32 * draw.scale(0.02, 0.2);
    let warped = textures[0].warped(&textures[1], &textures[2], reach);
    textures.push(warped);
    textures
}

fn texture(draw: &mut Draw, size: Size) -> Field {
    let coarse = draw.count(1, 10);
    let stretch = if draw.chance(0.4) { draw.count(2, 12) } else { 1 };
    let cells = if draw.chance(0.5) { [coarse, coarse * stretch] } else { [coarse * stretch, coarse] };
    let look =
        Fractal { cells, octaves: draw.count(4, 7), gain: draw.between(0.45, 0.8), ridged: draw.chance(0.3) };
    fractal(draw, size, look)
}

#[cfg(test)]
mod tests {
    use fullbore_types::{Purpose, SampleId, SampleKey};

    use super::*;
    use crate::picture::luma;

    #[test]
    fn scenes_have_structure_and_differ() {
        let size = Size::new(96, 64);
        let scenes: Vec<Picture> = (0..30)
            .map(|i| {
                let key = SampleKey { seed: 2, epoch: 0, sample: SampleId(i) };
                photograph(size, &mut Draw::new(key.rng(Purpose::SynthScene)))
            })
            .collect();
        for (i, scene) in scenes.iter().enumerate() {
            assert!(scene.pixels.iter().flatten().all(|v| (0.0..=1.0).contains(v)));
            let n = scene.pixels.len() as f32;
            let mean = scene.pixels.iter().map(|&p| luma(p)).sum::<f32>() / n;
            let spread = (scene.pixels.iter().map(|&p| (luma(p) - mean).powi(2)).sum::<f32>() / n).sqrt();
            assert!(spread > 0.01, "scene {i}: {spread}");
            assert!(scenes[..i].iter().all(|other| other.pixels != scene.pixels));
        }
    }
}
