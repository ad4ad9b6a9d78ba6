//! How much of each pixel a shape covers, by exact area.
//!
//! Shapes are paths in pixels measured from the edge: the first pixel spans 0 to 1. y points down.

use fullbore_types::Size;
use zeno::{Cap, Command, Fill, Join, Mask, Point, Stroke, Vector};

use crate::picture::{Colour, Picture};

/// A rectangle of pixels, which may reach beyond the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

impl Region {
    fn of(size: Size) -> Self {
        Region { left: 0, top: 0, right: size.width as i32, bottom: size.height as i32 }
    }

    fn grown(self, by: i32) -> Self {
        Region { left: self.left - by, top: self.top - by, right: self.right + by, bottom: self.bottom + by }
    }

    /// The part in both; without rows and columns when there is none.
    fn common(self, other: Self) -> Self {
        let (left, top) = (self.left.max(other.left), self.top.max(other.top));
        let (right, bottom) = (self.right.min(other.right), self.bottom.min(other.bottom));
        Region { left, top, right: right.max(left), bottom: bottom.max(top) }
    }

    fn width(self) -> usize {
        (self.right - self.left) as usize
    }

    fn height(self) -> usize {
        (self.bottom - self.top) as usize
    }

    /// Every pixel that the path's control points (and so its curves) span. The cast saturates.
    fn around(path: &[Command]) -> Self {
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for point in path.iter().flat_map(points) {
            low = [low[0].min(point.x), low[1].min(point.y)];
            high = [high[0].max(point.x), high[1].max(point.y)];
        }
        Region {
            left: low[0].floor() as i32,
            top: low[1].floor() as i32,
            right: high[0].ceil() as i32,
            bottom: high[1].ceil() as i32,
        }
    }
}

/// The points of a command, control points included.
fn points(command: &Command) -> impl Iterator<Item = Point> {
    let points = match *command {
        Command::MoveTo(to) | Command::LineTo(to) => [Some(to), None, None],
        Command::QuadTo(a, to) => [Some(a), Some(to), None],
        Command::CurveTo(a, b, to) => [Some(a), Some(b), Some(to)],
        Command::Close => [None; 3],
    };
    points.into_iter().flatten()
}

/// Coverage of the pixels around a shape: 0 outside, 255 inside, the share of the area along its edge.
pub(crate) struct Coverage {
    region: Region,
    alpha: Vec<u8>,
}

impl Coverage {
    /// The inside of a path by the non-zero rule.
    pub(crate) fn fill(path: &[Command], size: Size) -> Self {
        Self::rasterise(path, zeno::Style::Fill(Fill::NonZero), 0, 0, size)
    }

    /// A line of this width along a path, with round ends and corners.
    pub(crate) fn stroke(path: &[Command], width: f32, size: Size) -> Self {
        Self::rasterise(path, stroke_style(width), stroke_reach(width), 0, size)
    }

    /// As [`fill`](Self::fill), its edge blurred over `2 * radius` pixels to either side.
    pub(crate) fn soft_fill(path: &[Command], radius: usize, size: Size) -> Self {
        Self::rasterise(path, zeno::Style::Fill(Fill::NonZero), 0, radius, size).blurred(radius)
    }

    /// As [`stroke`](Self::stroke), its edge blurred over `2 * radius` pixels to either side.
    pub(crate) fn soft_stroke(path: &[Command], width: f32, radius: usize, size: Size) -> Self {
        Self::rasterise(path, stroke_style(width), stroke_reach(width), radius, size).blurred(radius)
    }

    /// `reach`: how far the shape extends from its path. `radius`: of the blur to come, which looks at pixels
    /// outside the image, too.
    fn rasterise(path: &[Command], style: zeno::Style<'_>, reach: i32, radius: usize, size: Size) -> Self {
        let margin = 2 * radius as i32;
        let shape = match path {
            [] => Region::of(Size::new(0, 0)),
            _ => Region::around(path).grown(reach),
        };
        let region = shape.common(Region::of(size).grown(margin)).grown(margin);
        let mut alpha = vec![0; region.width() * region.height()];
        if !alpha.is_empty() {
            Mask::new(path)
                .style(style)
                .size(region.width() as u32, region.height() as u32)
                .render_offset(Vector::new(-region.left as f32, -region.top as f32))
                .render_into(&mut alpha, None);
        }
        Coverage { region, alpha }
    }

    /// Two passes of a box in each direction: a triangle, near enough to a Gaussian.
    fn blurred(mut self, radius: usize) -> Self {
        if radius > 0 && !self.alpha.is_empty() {
            let width = self.region.width();
            let mut rows = vec![0; self.alpha.len()];
            for _ in 0..2 {
                for (from, to) in self.alpha.chunks_exact(width).zip(rows.chunks_exact_mut(width)) {
                    average_lines(from, to, 1, radius);
                }
                average_lines(&rows, &mut self.alpha, width, radius);
            }
        }
        self
    }

    /// Coverage of one pixel.
    pub(crate) fn at(&self, x: usize, y: usize) -> f32 {
        let Region { left, top, right, bottom } = self.region;
        let (x, y) = (x as i32, y as i32);
        match (left..right).contains(&x) && (top..bottom).contains(&y) {
            true => {
                let i = (y - top) as usize * self.region.width() + (x - left) as usize;
                f32::from(self.alpha[i]) / 255.0
            }
            false => 0.0,
        }
    }

    /// The same shape elsewhere.
    pub(crate) fn shifted(mut self, dx: i32, dy: i32) -> Self {
        let Region { left, top, right, bottom } = self.region;
        self.region = Region { left: left + dx, top: top + dy, right: right + dx, bottom: bottom + dy };
        self
    }

    /// Calls `paint(x, y, pixel, alpha)` for every pixel of the picture that is covered, alpha above 0 and up to 1.
    pub(crate) fn paint(&self, picture: &mut Picture, mut paint: impl FnMut(usize, usize, &mut Colour, f32)) {
        let width = picture.size.width as usize;
        self.each(picture.size, |x, y, alpha| paint(x, y, &mut picture.pixels[y * width + x], alpha));
    }

    /// Calls `see(x, y, alpha)` for every pixel of an image of this size that is covered.
    pub(crate) fn each(&self, size: Size, mut see: impl FnMut(usize, usize, f32)) {
        let inside = self.region.common(Region::of(size));
        for y in inside.top..inside.bottom {
            let start = (y - self.region.top) as usize * self.region.width();
            let first = start + (inside.left - self.region.left) as usize;
            for (x, &alpha) in (inside.left..).zip(&self.alpha[first..first + inside.width()]) {
                if alpha > 0 {
                    see(x as usize, y as usize, f32::from(alpha) / 255.0);
                }
            }
        }
    }
}

fn stroke_style<'a>(width: f32) -> zeno::Style<'a> {
    let mut stroke = Stroke::new(width);
    stroke.join(Join::Round).cap(Cap::Round);
    zeno::Style::Stroke(stroke)
}

fn stroke_reach(width: f32) -> i32 {
    (width / 2.0).ceil() as i32 + 1
}

/// Mean of `2 * radius + 1` neighbouring lines of `width` values each; beyond the first and last there is nothing.
fn average_lines(from: &[u8], to: &mut [u8], width: usize, radius: usize) {
    let n = from.len() / width;
    let line = |i: usize| &from[i * width..][..width];
    let share = 1.0 / (2 * radius + 1) as f32;
    let mut sums = vec![0u32; width];
    for entering in 0..n + radius {
        if entering < n {
            sums.iter_mut().zip(line(entering)).for_each(|(sum, &v)| *sum += u32::from(v));
        }
        let Some(middle) = entering.checked_sub(radius) else { continue };
        let means = sums.iter().map(|&sum| (sum as f32 * share + 0.5) as u8);
        to[middle * width..][..width].iter_mut().zip(means).for_each(|(to, mean)| *to = mean);
        if let Some(leaving) = middle.checked_sub(radius) {
            sums.iter_mut().zip(line(leaving)).for_each(|(sum, &v)| *sum -= u32::from(v));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 8, height: 6 };

    fn rectangle(left: f32, top: f32, right: f32, bottom: f32) -> Vec<Command> {
        let corner = |x, y| Command::LineTo(Point::new(x, y));
        let start = Command::MoveTo(Point::new(left, top));
        vec![start, corner(right, top), corner(right, bottom), corner(left, bottom), Command::Close]
    }

    fn total(coverage: &Coverage, size: Size) -> f32 {
        let mut sum = 0.0;
        coverage.each(size, |_, _, alpha| sum += alpha);
        sum
    }

    #[test]
    fn coverage_is_the_share_of_the_area() {
        let coverage = Coverage::fill(&rectangle(1.25, 1.0, 3.5, 2.75), SIZE);
        for (x, y, share) in [(0, 1, 0.0), (1, 1, 0.75), (2, 1, 1.0), (3, 1, 0.5), (3, 2, 0.375), (4, 1, 0.0)]
        {
            assert!((coverage.at(x, y) - share).abs() < 0.01, "{x} {y}: {}", coverage.at(x, y));
        }
    }

    #[test]
    fn what_lies_outside_the_image_is_cut_off() {
        let coverage = Coverage::fill(&rectangle(-20.0, -3.0, 2.5, 100.0), SIZE);
        assert_eq!(total(&coverage, SIZE).round(), 15.0);
        assert_eq!(coverage.at(0, 5), 1.0);
        for away in [rectangle(-20.0, 0.0, -10.0, 3.0), rectangle(14.0, 0.0, 17.0, 3.0), Vec::new()] {
            assert_eq!(total(&Coverage::fill(&away, SIZE), SIZE), 0.0);
            assert_eq!(total(&Coverage::soft_stroke(&away, 1.0, 1, SIZE), SIZE), 0.0);
        }
    }

    #[test]
    fn a_blur_spreads_the_same_amount_and_knows_what_lies_outside() {
        let size = Size::new(40, 40);
        let path = rectangle(15.0, 12.0, 25.0, 26.0);
        let (sharp, soft) = (Coverage::fill(&path, size), Coverage::soft_fill(&path, 2, size));
        assert!((total(&soft, size) / total(&sharp, size) - 1.0).abs() < 0.01);
        assert!((0.4..0.6).contains(&(0.5 * (soft.at(14, 18) + soft.at(15, 18)))));
        assert_eq!((soft.at(20, 18), soft.at(10, 18)), (1.0, 0.0));
        let wide = Coverage::soft_fill(&rectangle(-30.0, -30.0, 70.0, 70.0), 3, size);
        assert_eq!([wide.at(0, 0), wide.at(39, 20)], [1.0, 1.0]);
    }

    #[test]
    fn a_stroke_has_its_width() {
        let line = [Command::MoveTo(Point::new(-5.0, 3.0)), Command::LineTo(Point::new(13.0, 3.0))];
        assert!((total(&Coverage::stroke(&line, 1.5, SIZE), SIZE) - 12.0).abs() < 0.1);
    }
}
