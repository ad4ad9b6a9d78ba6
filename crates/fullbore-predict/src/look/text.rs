//! Short lines of text in pictures, set in DejaVu Sans (Bitstream Vera licence).

use std::sync::LazyLock;

use fullbore_types::Size;
use ttf_parser::{Face, OutlineBuilder};
use zeno::{Command, Mask, Point, Vector};

/// Most letters of a line, so that a name without end takes no time.
const MOST: usize = 60;

static FACE: LazyLock<Face<'static>> =
    LazyLock::new(|| Face::parse(dejavu::sans::regular(), 0).expect("an embedded font"));

/// Pixels that a line takes from left to right, where capital letters are so high.
pub(super) fn text_width(text: &str, height: f32) -> f32 {
    Outline::of(text, height).x
}

/// Writes a line into a picture, u8 RGB `[height, width, 3]`, from `left` on, its letters standing on `baseline` and
/// capitals `height` high, all in pixels. What lies outside of the picture, and letters that the font lacks, are left out.
pub(super) fn write_text(
    picture: &mut [u8],
    size: Size,
    [left, baseline]: [f32; 2],
    height: f32,
    colour: [u8; 3],
    text: &str,
) {
    let outline = Outline::of(text, height);
    if outline.path.is_empty() {
        return;
    }
    // Accents stand above capitals, tails hang below the line.
    let above = (1.4 * height).ceil();
    let (width, rows) = (outline.x.ceil() as u32 + 4, (above + 0.5 * height).ceil() as u32);
    let mut coverage = vec![0; (width * rows) as usize];
    Mask::new(&outline.path[..])
        .size(width, rows)
        .render_offset(Vector::new(2.0, above))
        .render_into(&mut coverage, None);
    let (x, y) = ((left - 2.0).round() as i64, (baseline - above).round() as i64);
    for (i, &share) in coverage.iter().enumerate().filter(|(_, share)| **share > 0) {
        let (x, y) = (x + i as i64 % i64::from(width), y + i as i64 / i64::from(width));
        if (0..i64::from(size.width)).contains(&x) && (0..i64::from(size.height)).contains(&y) {
            let at = 3 * (y as usize * size.width as usize + x as usize);
            for (value, colour) in picture[at..at + 3].iter_mut().zip(colour) {
                let mix = u32::from(*value) * (255 - u32::from(share)) + u32::from(colour) * u32::from(share);
                *value = (mix / 255) as u8;
            }
        }
    }
}

/// The outline of a line that begins at (0, 0) of its base line, y downwards.
struct Outline {
    path: Vec<Command>,
    /// Where the next letter begins.
    x: f32,
    /// Pixels in a unit of the font.
    scale: f32,
}

impl Outline {
    fn of(text: &str, height: f32) -> Self {
        let face = &*FACE;
        // Old fonts do not say how high their capitals are.
        let capital = face.glyph_index('H').and_then(|glyph| face.glyph_bounding_box(glyph));
        let capitals = f32::from(capital.expect("an H in the embedded font").y_max);
        let mut outline = Outline { path: Vec::new(), x: 0.0, scale: height / capitals };
        let letters = text.chars().filter(|letter| !letter.is_control()).take(MOST);
        for glyph in letters.filter_map(|letter| face.glyph_index(letter)) {
            // A glyph without an outline, such as the space, draws nothing.
            let _ = face.outline_glyph(glyph, &mut outline);
            outline.x += f32::from(face.glyph_hor_advance(glyph).unwrap_or(0)) * outline.scale;
        }
        outline
    }

    fn at(&self, x: f32, y: f32) -> Point {
        Point::new(self.x + x * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Outline {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and columns that differ from black.
    fn drawn(at: [f32; 2], text: &str) -> Vec<(usize, usize)> {
        let mut picture = vec![0; 40 * 60 * 3];
        write_text(&mut picture, Size::new(60, 40), at, 10.0, [255; 3], text);
        let pixels = picture.chunks(3).enumerate().filter(|(_, pixel)| pixel[0] > 127);
        pixels.map(|(i, _)| (i / 60, i % 60)).collect()
    }

    #[test]
    fn letters_stand_on_the_line_at_their_height() {
        let pixels = drawn([5.0, 30.0], "HI");
        let rows = pixels.iter().map(|(row, _)| *row);
        assert_eq!((rows.clone().min(), rows.max()), (Some(20), Some(29)));
        let columns = pixels.iter().map(|(_, column)| *column);
        let (first, last) = (columns.clone().min().unwrap(), columns.max().unwrap());
        assert!((5..8).contains(&first) && (last as f32) < 5.0 + text_width("HI", 10.0), "{first} {last}");
    }

    #[test]
    fn what_lies_outside_or_is_no_letter_is_left_out() {
        assert!(drawn([-300.0, 30.0], "HI").is_empty() && drawn([5.0, 300.0], "HI").is_empty());
        assert!(!drawn([50.0, 5.0], "HI").is_empty(), "cut off at the corner");
        assert!(drawn([5.0, 30.0], " \n\u{0}").is_empty());
        assert!(text_width(&"x".repeat(10_000), 10.0) < 1_000.0);
    }
}
