//! The typefaces that marks are set in: DejaVu (Bitstream Vera licence), and the standard PDF faces of PDFium (BSD
//! licence).

use std::sync::LazyLock;

use fullbore_types::Affine;
use ttf_parser::{GlyphId, OutlineBuilder, cff};
use zeno::{Command, Point};

use super::config::Split;
use crate::draw::Draw;

/// One typeface, read from bytes that are part of the program.
pub(super) struct Face {
    font: Font,
    bold: bool,
    /// Height of capital letters in the font's units.
    cap_height: f32,
}

#[expect(clippy::large_enum_variant, reason = "there are only a few faces, made once")]
enum Font {
    OpenType(ttf_parser::Face<'static>),
    /// The bare outlines of a PDF font.
    Cff(cff::Table<'static>),
}

/// Faces of training images: DejaVu Sans, Serif and Mono, and a serif in the manner of Times.
static FOR_TRAINING: LazyLock<Vec<Face>> = LazyLock::new(|| {
    vec![
        Face::open_type(dejavu::sans::regular(), false),
        Face::open_type(dejavu::sans::bold(), true),
        Face::open_type(dejavu::sans_condensed::bold(), true),
        Face::open_type(dejavu::serif::regular(), false),
        Face::open_type(dejavu::serif::bold(), true),
        Face::open_type(dejavu::sans_mono::bold(), true),
        Face::cff(typst_assets::pdf::SERIF, false),
        Face::cff(typst_assets::pdf::SERIF_BOLD, true),
        Face::cff(typst_assets::pdf::SERIF_ITALIC, false),
        Face::cff(typst_assets::pdf::SERIF_BOLD_ITALIC, true),
    ]
});

/// Faces of validation and test images, whose designs training never sees: a sans serif in the manner of Helvetica,
/// and a typewriter face in the manner of Courier.
static HELD_OUT: LazyLock<Vec<Face>> = LazyLock::new(|| {
    vec![
        Face::cff(typst_assets::pdf::SANS, false),
        Face::cff(typst_assets::pdf::SANS_BOLD, true),
        Face::cff(typst_assets::pdf::SANS_ITALIC, false),
        Face::cff(typst_assets::pdf::SANS_BOLD_ITALIC, true),
        Face::cff(typst_assets::pdf::FIXED_BOLD, true),
    ]
});

/// A face that images of this split may use.
pub(super) fn pick(draw: &mut Draw, split: Split, bold: bool) -> &'static Face {
    let faces = match split {
        Split::Train => &*FOR_TRAINING,
        Split::Val | Split::Test => &*HELD_OUT,
    };
    let fitting: Vec<&Face> = faces.iter().filter(|face| face.bold || !bold).collect();
    fitting[draw.count(0, fitting.len() - 1)]
}

impl Face {
    fn open_type(bytes: &'static [u8], bold: bool) -> Self {
        Self::new(Font::OpenType(ttf_parser::Face::parse(bytes, 0).expect("an embedded font")), bold)
    }

    fn cff(bytes: &'static [u8], bold: bool) -> Self {
        Self::new(Font::Cff(cff::Table::parse(bytes).expect("an embedded font")), bold)
    }

    fn new(font: Font, bold: bool) -> Self {
        let mut top = Top(0.0);
        let mut face = Face { font, bold, cap_height: 1.0 };
        face.trace(face.glyph('H').expect("every font has an H"), &mut top);
        face.cap_height = top.0;
        face
    }

    fn glyph(&self, letter: char) -> Option<GlyphId> {
        match &self.font {
            Font::OpenType(font) => font.glyph_index(letter),
            Font::Cff(font) => match letter {
                '©' => font.glyph_index_by_name("copyright"),
                '®' => font.glyph_index_by_name("registered"),
                _ => font.glyph_index(u8::try_from(letter).ok()?),
            },
        }
    }

    fn advance(&self, glyph: GlyphId) -> f32 {
        f32::from(match &self.font {
            Font::OpenType(font) => font.glyph_hor_advance(glyph).unwrap_or(0),
            Font::Cff(font) => font.glyph_width(glyph).unwrap_or(0),
        })
    }

    /// Draws a glyph in the font's units, y upwards.
    fn trace(&self, glyph: GlyphId, builder: &mut dyn OutlineBuilder) {
        // A glyph without an outline, such as the space, draws nothing.
        let _ = match &self.font {
            Font::OpenType(font) => font.outline_glyph(glyph, builder),
            Font::Cff(font) => font.outline(glyph, builder).ok(),
        };
    }

    /// The outlines of a text of one or more lines, centred on the origin. The unit is the height of capital
    /// letters, y points down. `spacing` is added after each letter, in the same unit.
    pub(super) fn set(&self, text: &str, spacing: f32) -> Lettering {
        const PITCH: f32 = 1.7;
        let lines: Vec<&str> = text.lines().collect();
        let widths: Vec<f32> = lines.iter().map(|line| self.width(line, spacing)).collect();
        let mut path = Vec::new();
        let height = 1.0 + PITCH * (lines.len().max(1) - 1) as f32;
        for (i, (line, width)) in lines.iter().zip(&widths).enumerate() {
            let mut x = -width / 2.0;
            let baseline = 1.0 - height / 2.0 + PITCH * i as f32;
            for glyph in line.chars().filter_map(|letter| self.glyph(letter)) {
                let scale = 1.0 / self.cap_height;
                self.trace(glyph, &mut Pen { path: &mut path, origin: Point::new(x, baseline), scale });
                x += self.advance(glyph) * scale + spacing;
            }
        }
        Lettering { path, width: widths.into_iter().fold(0.0, f32::max), height }
    }

    fn width(&self, line: &str, spacing: f32) -> f32 {
        let glyphs = line.chars().filter_map(|letter| self.glyph(letter));
        let width: f32 = glyphs.map(|glyph| self.advance(glyph) / self.cap_height + spacing).sum();
        (width - spacing).max(0.0)
    }
}

/// The outlines of a text, centred on the origin; the unit is the height of capital letters.
pub(super) struct Lettering {
    path: Vec<Command>,
    pub(super) width: f32,
    pub(super) height: f32,
}

impl Lettering {
    /// Adds the outlines to `path` under one affine map, from this text's units to pixels.
    pub(super) fn place(&self, map: Affine, path: &mut Vec<Command>) {
        let at = |p: Point| {
            let (x, y) = map.apply((f64::from(p.x), f64::from(p.y)));
            Point::new(x as f32, y as f32)
        };
        path.extend(self.path.iter().map(|command| match *command {
            Command::MoveTo(to) => Command::MoveTo(at(to)),
            Command::LineTo(to) => Command::LineTo(at(to)),
            Command::QuadTo(a, to) => Command::QuadTo(at(a), at(to)),
            Command::CurveTo(a, b, to) => Command::CurveTo(at(a), at(b), at(to)),
            Command::Close => Command::Close,
        }));
    }
}

/// Collects a glyph's outline at its place in a text.
struct Pen<'a> {
    path: &'a mut Vec<Command>,
    origin: Point,
    scale: f32,
}

impl Pen<'_> {
    fn at(&self, x: f32, y: f32) -> Point {
        Point::new(self.origin.x + x * self.scale, self.origin.y - y * self.scale)
    }
}

impl OutlineBuilder for Pen<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        self.path.push(Command::MoveTo(self.at(x, y)));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.path.push(Command::LineTo(self.at(x, y)));
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.path.push(Command::QuadTo(self.at(x1, y1), self.at(x, y)));
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.path.push(Command::CurveTo(self.at(x1, y1), self.at(x2, y2), self.at(x, y)));
    }

    fn close(&mut self) {
        self.path.push(Command::Close);
    }
}

/// Finds the top of an outline of straight lines.
struct Top(f32);

impl OutlineBuilder for Top {
    fn move_to(&mut self, _: f32, y: f32) {
        self.0 = self.0.max(y);
    }

    fn line_to(&mut self, _: f32, y: f32) {
        self.0 = self.0.max(y);
    }

    fn quad_to(&mut self, _: f32, _: f32, _: f32, y: f32) {
        self.0 = self.0.max(y);
    }

    fn curve_to(&mut self, _: f32, _: f32, _: f32, _: f32, _: f32, y: f32) {
        self.0 = self.0.max(y);
    }

    fn close(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    #[test]
    fn every_face_has_every_letter_that_texts_use() {
        for face in FOR_TRAINING.iter().chain(HELD_OUT.iter()) {
            for letter in words::LETTERS.chars() {
                let glyph = face.glyph(letter).unwrap_or_else(|| panic!("no {letter:?}"));
                assert!(face.advance(glyph) > 0.0, "{letter:?}");
                let lettering = face.set(&letter.to_string(), 0.0);
                assert_eq!(lettering.path.is_empty(), letter == ' ', "{letter:?}");
            }
        }
    }

    #[test]
    fn a_text_is_centred_and_one_capital_high() {
        for face in FOR_TRAINING.iter().chain(HELD_OUT.iter()) {
            let lettering = face.set("H", 0.3);
            let ys: Vec<f32> = points(&lettering).iter().map(|p| p.y).collect();
            assert!(ys.iter().all(|y| (-0.501..=0.501).contains(y)), "{ys:?}");
            assert!(ys.iter().any(|y| *y < -0.49) && ys.iter().any(|y| *y > 0.49), "{ys:?}");
            let two = face.set("HH\nH", 0.3);
            assert!(two.width > 2.0 * lettering.width + 0.29 && two.height > 2.0 * lettering.height);
            // Slanted letters lean out of their boxes a little.
            let [right, bottom] = [two.width / 2.0 + 0.2, two.height / 2.0 + 0.01];
            assert!(points(&two).iter().all(|p| p.x.abs() <= right && p.y.abs() <= bottom));
        }
    }

    fn points(lettering: &Lettering) -> Vec<Point> {
        lettering
            .path
            .iter()
            .filter_map(|command| match *command {
                Command::MoveTo(to) | Command::LineTo(to) => Some(to),
                _ => None,
            })
            .collect()
    }
}
