use fullbore_types::Size;

use super::class_colour;
use super::text::write_text;

/// Draws points into a picture, u8 RGB `[height, width, 3]`, as small crosses: pixels, (0, 0) the centre of the first.
/// Those of visibility 0 are left out; hidden ones (1) are darker.
pub fn mark(picture: &mut [u8], size: Size, points: &[[f32; 2]], visibility: &[u8]) {
    for (&point, &seen) in points.iter().zip(visibility).filter(|(_, seen)| **seen > 0) {
        let colour = if seen > 1 { [255, 48, 48] } else { [128, 24, 24] };
        cross(picture, size, point, arm(size), colour);
    }
}

/// Draws named points in the same way, each in a colour of its own.
pub fn mark_named<'a>(
    picture: &mut [u8],
    size: Size,
    points: impl IntoIterator<Item = (usize, [f32; 2], &'a str)>,
) {
    let (arm, height) = (arm(size), (size.width.min(size.height) as f32 / 60.0).clamp(6.0, 48.0));
    for (number, point, name) in points {
        // 1 to 254: black would not be seen.
        let colour = class_colour((number % 254 + 1) as u8);
        cross(picture, size, point, arm, colour);
        let at = [point[0] + arm as f32 + 1.0, point[1] - 1.0];
        write_text(picture, size, at.map(|v| v + 1.0), height, [0; 3], name);
        write_text(picture, size, at, height, colour, name);
    }
}

fn arm(size: Size) -> u32 {
    (size.width.min(size.height) / 64).max(1)
}

/// A cross whose arms have so many pixels beside its middle.
pub(super) fn cross(picture: &mut [u8], size: Size, [x, y]: [f32; 2], arm: u32, colour: [u8; 3]) {
    let (x, y, arm) = (f64::from(x).round() as i64, f64::from(y).round() as i64, i64::from(arm));
    for (x, y) in (-arm..=arm).flat_map(|d| [(x.saturating_add(d), y), (x, y.saturating_add(d))]) {
        if (0..i64::from(size.width)).contains(&x) && (0..i64::from(size.height)).contains(&y) {
            let at = 3 * (y as usize * size.width as usize + x as usize);
            picture[at..at + 3].copy_from_slice(&colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cross_lies_on_its_point_and_is_cut_off_at_the_border() {
        let size = Size::new(5, 4);
        let mut picture = vec![0; 60];
        cross(&mut picture, size, [0.4, 2.6], 1, [9; 3]);
        let drawn: Vec<usize> = (0..20).filter(|i| picture[3 * i] == 9).collect();
        assert_eq!(drawn, [10, 15, 16], "column 0, row 3");
        cross(&mut picture, size, [f32::INFINITY, f32::NAN], 1, [7; 3]);
        assert!(!picture.contains(&7));
    }

    #[test]
    fn names_stand_beside_their_points() {
        let size = Size::new(64, 64);
        let mut picture = vec![200; 64 * 64 * 3];
        mark_named(&mut picture, size, [(0, [10.0, 30.0], "Co")]);
        let value = |x: usize, y: usize, channel: usize| i32::from(picture[3 * (64 * y + x) + channel]);
        let red = |x: usize, y: usize| value(x, y, 0) > value(x, y, 1) + 60;
        assert!(red(10, 30) && !red(20, 30));
        assert!((20..30).any(|y| (13..25).any(|x| red(x, y))), "no name");
    }
}
