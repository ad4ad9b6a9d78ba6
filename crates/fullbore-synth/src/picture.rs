use fullbore_types::Size;

/// Red, green and blue of the sRGB encoding, 0 to 1.
pub(crate) type Colour = [f32; 3];

/// An image in the making, row by row from the top left.
#[derive(Clone)]
pub(crate) struct Picture {
    pub(crate) size: Size,
    pub(crate) pixels: Vec<Colour>,
}

impl Picture {
    pub(crate) fn filled(size: Size, colour: Colour) -> Self {
        Picture { size, pixels: vec![colour; size.area() as usize] }
    }

    /// From 8-bit RGB.
    pub(crate) fn from_rgb8(size: Size, bytes: &[u8]) -> Self {
        let pixels = bytes.chunks_exact(3).map(|p| [p[0], p[1], p[2]].map(|v| f32::from(v) / 255.0));
        Picture { size, pixels: pixels.collect() }
    }

    /// 8-bit RGB, rounded.
    pub(crate) fn to_rgb8(&self) -> Vec<u8> {
        let byte = |v: f32| (v * 255.0 + 0.5) as u8; // saturates
        self.pixels.iter().flat_map(|&pixel| pixel.map(byte)).collect()
    }
}

/// From `a` (at 0) to `b` (at 1).
pub(crate) fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * t)
}

/// BT.601 luma.
pub(crate) fn luma([r, g, b]: Colour) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// The colour of a hue (turns), saturation and value.
pub(crate) fn hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    [0.0, 2.0, 4.0].map(|offset| {
        let distance = (((hue * 6.0 - offset).rem_euclid(6.0)) - 3.0).abs() - 1.0;
        // 1 near the channel's own hue, 0 opposite.
        let share = distance.clamp(0.0, 1.0);
        value * (1.0 - saturation * (1.0 - share))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way_there_and_back() {
        let bytes: Vec<u8> = (0..=255).flat_map(|v| [v, 255 - v, v / 2]).collect();
        assert_eq!(Picture::from_rgb8(Size::new(16, 16), &bytes).to_rgb8(), bytes);
    }

    #[test]
    fn values_beyond_the_range_are_clipped() {
        assert_eq!(Picture::filled(Size::new(1, 1), [-0.5, 1.5, 0.5]).to_rgb8(), [0, 255, 128]);
    }
}
