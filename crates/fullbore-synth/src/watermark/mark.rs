//! The letters of a mark laid over an image.

use fullbore_types::Size;

use super::config::{Blend, Ink, Split, WatermarkConfig};
use super::placement::{self, Letters};
use crate::coverage::Coverage;
use crate::draw::Draw;
use crate::picture::{Colour, Picture, hsv, luma, mix};

/// Lays one to three marks over `picture` and returns the coverage of all their letters per pixel, 0 to 1.
pub(super) fn lay_marks(
    picture: &mut Picture,
    draw: &mut Draw,
    config: &WatermarkConfig,
    split: Split,
) -> Vec<f32> {
    let mut covered = vec![0.0; picture.pixels.len()];
    let n = *draw.pick(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3]);
    for _ in 0..n {
        let style = *draw.pick(&config.styles);
        let letters = placement::letters(draw, config, split, style);
        let blend = *draw.pick(&config.blends);
        let [faint, strong] = config.opacity.map(|opacity| opacity as f32);
        let opacity = draw.between(faint, strong);
        let mark = Mark::draw(draw, picture, &letters, config, blend, opacity);
        mark.lay(picture, &mut covered);
    }
    covered
}

/// Letters of which it is known which part of each pixel they cover, and with what.
struct Mark {
    /// Coverage by the letters themselves; none in hollow letters.
    letters: Vec<f32>,
    /// Coverage by a line along their edges, which lies beneath the letters.
    outline: Option<Vec<f32>>,
    shadow: Option<Shadow>,
    colour: Colour,
    outline_colour: Colour,
    blend: Blend,
    opacity: f32,
}

/// A soft dark copy of the letters, beneath them.
struct Shadow {
    coverage: Vec<f32>,
    strength: f32,
}

impl Mark {
    fn draw(
        draw: &mut Draw,
        picture: &Picture,
        letters: &Letters,
        config: &WatermarkConfig,
        blend: Blend,
        opacity: f32,
    ) -> Self {
        let Letters { path, capitals } = letters;
        let size = picture.size;
        let inside = dense(&Coverage::fill(path, size), size);
        let outlined = draw.chance(config.outlined as f32);
        let hollow = outlined && draw.chance(1.0 / 3.0);
        let line = (capitals * draw.between(0.05, 0.12)).max(1.6);
        let outline = outlined.then(|| dense(&Coverage::stroke(path, line, size), size));
        let shadow = draw.chance(0.25).then(|| {
            let distance = capitals * draw.between(0.03, 0.12);
            let softness = (capitals * draw.between(0.01, 0.06)).round() as usize;
            let shift = |v: f32| (v.abs().max(1.0) * v.signum()).round() as i32;
            let [dx, dy] = [distance * draw.sign(), distance * draw.sign()].map(shift);
            let soft = match hollow {
                true => Coverage::soft_stroke(path, line, softness, size),
                false => Coverage::soft_fill(path, softness, size),
            };
            Shadow { coverage: dense(&soft.shifted(dx, dy), size), strength: draw.between(0.3, 0.9) }
        });
        let (blend, colour) = printed(draw, picture, &inside, &config.inks, blend);
        let outline_colour = match hollow {
            true => colour,
            false => contrast(draw, colour),
        };
        let letters = if hollow { vec![0.0; inside.len()] } else { inside };
        Mark { letters, outline, shadow, colour, outline_colour, blend, opacity }
    }

    /// Blends the mark into the image as one layer: shadow, line along the edges, letters, from below, weighed by
    /// opacity together. Adds what the letters and their line cover to `covered`.
    fn lay(&self, picture: &mut Picture, covered: &mut [f32]) {
        for (i, (pixel, covered)) in picture.pixels.iter_mut().zip(covered).enumerate() {
            let inside = self.letters[i];
            let edge = self.outline.as_ref().map_or(0.0, |outline| outline[i] * (1.0 - inside));
            let mark = inside + edge;
            let shade = self.shadow.as_ref().map_or(0.0, |s| s.strength * s.coverage[i] * (1.0 - mark));
            if mark + shade == 0.0 {
                continue;
            }
            let fill = self.blend.mix(*pixel, self.colour);
            let line = self.blend.mix(*pixel, self.outline_colour);
            *pixel = [0, 1, 2].map(|c| {
                let behind = pixel[c] * (1.0 - self.opacity * (mark + shade));
                behind + self.opacity * (inside * fill[c] + edge * line[c])
            });
            *covered += mark * (1.0 - *covered);
        }
    }
}

impl Ink {
    /// How often it is drawn, beside the others.
    fn weight(self) -> usize {
        match self {
            Ink::White => 6,
            Ink::Gray | Ink::Black => 2,
            Ink::Colour => 3,
        }
    }
}

impl Blend {
    fn mix(self, below: Colour, mark: Colour) -> Colour {
        [0, 1, 2].map(|c| {
            let (b, m) = (below[c], mark[c]);
            match self {
                Blend::Normal => m,
                Blend::Multiply => b * m,
                Blend::Overlay if b < 0.5 => 2.0 * b * m,
                Blend::Overlay => 1.0 - 2.0 * (1.0 - b) * (1.0 - m),
            }
        })
    }
}

/// Coverage of every pixel of an image, 0 to 1.
fn dense(coverage: &Coverage, size: Size) -> Vec<f32> {
    let mut values = vec![0.0; size.area() as usize];
    coverage.each(size, |x, y, alpha| values[y * size.width as usize + x] = alpha);
    values
}

/// What a mark is printed with: a blend and one of the colours asked for. Where they would hardly change the image
/// beneath the letters, a colour that does is laid over it normally.
fn printed(
    draw: &mut Draw,
    picture: &Picture,
    letters: &[f32],
    inks: &[Ink],
    blend: Blend,
) -> (Blend, Colour) {
    let gray = |v: f32| [v; 3];
    let weighted: Vec<Ink> = inks.iter().flat_map(|&ink| std::iter::repeat_n(ink, ink.weight())).collect();
    let colour = match draw.pick(&weighted) {
        Ink::White => gray(1.0),
        Ink::Gray => gray(draw.between(0.3, 0.85)),
        Ink::Black => gray(draw.between(0.0, 0.1)),
        Ink::Colour if draw.chance(0.6) => hsv(draw.unit(), draw.between(0.3, 1.0), draw.between(0.3, 1.0)),
        Ink::Colour => *draw.pick(&picture.pixels),
    };
    let candidates = [
        match blend {
            Blend::Normal => (blend, colour),
            // White would change nothing, nor would middle gray.
            Blend::Multiply => (blend, colour.map(|v| 0.5 * v)),
            Blend::Overlay => (blend, mix(colour, gray(luma(colour).round()), 0.6)),
        },
        (Blend::Normal, colour.map(|v| 1.0 - v)),
        (Blend::Normal, gray(1.0)),
    ];
    let seen = |&(blend, colour): &(Blend, Colour)| change(picture, letters, blend, colour) >= 0.2;
    candidates.into_iter().find(seen).unwrap_or((Blend::Normal, gray(0.0)))
}

/// Mean change of luma beneath the letters at full opacity.
fn change(picture: &Picture, letters: &[f32], blend: Blend, colour: Colour) -> f32 {
    let (mut sum, mut weight) = (0.0, 0.0);
    for (&pixel, &letter) in picture.pixels.iter().zip(letters).filter(|(_, letter)| **letter > 0.0) {
        sum += letter * (luma(blend.mix(pixel, colour)) - luma(pixel)).abs();
        weight += letter;
    }
    if weight > 0.0 { sum / weight } else { 0.0 }
}

/// A light colour for a dark one and the other way round.
fn contrast(draw: &mut Draw, colour: Colour) -> Colour {
    let away = draw.between(0.0, 0.3);
    [if luma(colour) > 0.5 { away } else { 1.0 - away }; 3]
}

#[cfg(test)]
mod tests {
    use fullbore_types::{Purpose, SampleId, SampleKey};

    use super::super::config::Style;
    use super::*;

    const SIZE: Size = Size { width: 256, height: 256 };

    fn marked(seed: u64, config: &WatermarkConfig, below: Colour) -> (Picture, Vec<f32>) {
        let mut picture = Picture::filled(SIZE, below);
        let key = SampleKey { seed, epoch: 0, sample: SampleId(0) };
        let mut draw = Draw::new(key.rng(Purpose::SynthMark));
        let covered = lay_marks(&mut picture, &mut draw, config, Split::Train);
        (picture, covered)
    }

    #[test]
    fn letters_change_the_image_and_nothing_else_brightens_it() {
        for blend in [Blend::Normal, Blend::Multiply, Blend::Overlay] {
            let config =
                WatermarkConfig { opacity: [0.5, 0.5], blends: vec![blend], ..WatermarkConfig::default() };
            for seed in 0..30 {
                let below = [0.6, 0.5, 0.4];
                let (picture, covered) = marked(seed, &config, below);
                let (mut change, mut n) = (0.0, 0);
                for (pixel, &covered) in picture.pixels.iter().zip(&covered) {
                    assert!((0.0..=1.0).contains(&covered) && pixel.iter().all(|v| (0.0..=1.0).contains(v)));
                    if covered > 0.5 {
                        change += (luma(*pixel) - luma(below)).abs();
                        n += 1;
                    } else if covered == 0.0 {
                        // At most a shadow.
                        assert!((0..3).all(|c| pixel[c] <= below[c]), "{seed}: {pixel:?}");
                    }
                }
                assert!(n > 20, "{blend:?} {seed}: {n} pixels");
                assert!(change / n as f32 > 0.04, "{blend:?} {seed}: {}", change / n as f32);
            }
        }
    }

    #[test]
    fn marks_show_on_any_ground() {
        let config = WatermarkConfig { opacity: [1.0, 1.0], ..WatermarkConfig::default() };
        for below in [0.0, 0.2, 0.5, 0.8, 1.0] {
            for seed in 0..20 {
                let (picture, covered) = marked(seed, &config, [below; 3]);
                let solid = picture.pixels.iter().zip(&covered).filter(|(_, covered)| **covered == 1.0);
                let changes: Vec<f32> = solid.map(|(pixel, _)| (luma(*pixel) - below).abs()).collect();
                let mean = changes.iter().sum::<f32>() / changes.len().max(1) as f32;
                assert!(changes.is_empty() || mean > 0.15, "{below} {seed}: {mean}");
            }
        }
    }

    #[test]
    fn blends_follow_their_formulas() {
        let (below, mark) = ([0.2, 0.5, 0.8], [0.5, 0.25, 0.5]);
        let near = |blend: Blend, want: Colour| {
            let got = blend.mix(below, mark);
            assert!((0..3).all(|c| (got[c] - want[c]).abs() < 1e-6), "{blend:?} {got:?}");
        };
        near(Blend::Normal, mark);
        near(Blend::Multiply, [0.1, 0.125, 0.4]);
        near(Blend::Overlay, [0.2, 0.25, 0.8]);
    }

    /// One pixel under a mark with everything: half covered by the outline, a quarter by the letters over it.
    #[test]
    fn a_mark_is_one_layer_and_its_shadow_counts_as_no_letter() {
        let mut picture = Picture::filled(Size::new(2, 1), [0.5; 3]);
        let mark = Mark {
            letters: vec![0.25, 0.0],
            outline: Some(vec![0.5, 0.0]),
            shadow: Some(Shadow { coverage: vec![1.0, 1.0], strength: 0.5 }),
            colour: [1.0; 3],
            outline_colour: [0.0; 3],
            blend: Blend::Normal,
            opacity: 0.8,
        };
        let mut covered = vec![0.2, 0.2];
        mark.lay(&mut picture, &mut covered);
        // Letters 0.25, outline 0.5 x 0.75, shadow 0.5 x 0.375.
        let left = 0.5 * (1.0 - 0.8 * (0.625 + 0.1875)) + 0.8 * 0.25;
        assert!((picture.pixels[0][0] - left).abs() < 1e-6);
        assert!((picture.pixels[1][0] - 0.5 * (1.0 - 0.8 * 0.5)).abs() < 1e-6);
        assert!((covered[0] - (1.0 - 0.8 * 0.375)).abs() < 1e-6 && covered[1] == 0.2);
    }

    #[test]
    fn tiles_cover_the_whole_image() {
        let config = WatermarkConfig { styles: vec![Style::Tiled], ..WatermarkConfig::default() };
        for seed in 0..20 {
            let (_, covered) = marked(seed, &config, [0.5; 3]);
            for quarter in [(0, 0), (128, 0), (0, 128), (128, 128)] {
                let inside = |i: usize| {
                    let (x, y) = (i % 256, i / 256);
                    (quarter.0..quarter.0 + 128).contains(&x) && (quarter.1..quarter.1 + 128).contains(&y)
                };
                assert!((0..covered.len()).any(|i| inside(i) && covered[i] > 0.5), "{seed} {quarter:?}");
            }
        }
    }
}
