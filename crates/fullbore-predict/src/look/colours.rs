use fullbore_types::IGNORE_INDEX;

/// RGB colour of a class. Class 0 is black, ignored pixels are gray; the others walk round the colour circle in golden sections, so that
/// neighbours in number differ most.
pub fn class_colour(class: u8) -> [u8; 3] {
    const FIRST_HUE: f32 = 0.0;
    const GOLDEN: f32 = 0.618_034;
    if class == 0 {
        return [0; 3];
    }
    if class == IGNORE_INDEX {
        return [150; 3];
    }
    let hue = (FIRST_HUE + f32::from(class - 1) * GOLDEN).fract() * 6.0;
    [5.0_f32, 3.0, 1.0].map(|offset| {
        // Hue to RGB at full saturation and value (A. R. Smith, 1978, in its closed form).
        let k = (offset + hue) % 6.0;
        ((1.0 - k.min(4.0 - k).clamp(0.0, 1.0)) * 255.0).round() as u8
    })
}

/// Class indices u8 `[height, width]` as colours, RGB u8 `[height, width, 3]`.
pub fn coloured(classes: &[u8]) -> Vec<u8> {
    classes.iter().flat_map(|&class| class_colour(class)).collect()
}

/// A picture u8 `[height, width, 1 or 3]` with every class but 0 half covered by its colour, RGB.
pub fn overlay(picture: &[u8], classes: &[u8]) -> Vec<u8> {
    let mut rgb = rgb(picture, classes.len());
    for (pixel, &class) in rgb.chunks_exact_mut(3).zip(classes).filter(|(_, class)| **class != 0) {
        for (value, colour) in pixel.iter_mut().zip(class_colour(class)) {
            *value = value.midpoint(colour);
        }
    }
    rgb
}

/// A picture u8 `[height, width, 1 or 3]` of so many pixels as RGB.
pub fn rgb(picture: &[u8], pixels: usize) -> Vec<u8> {
    match picture.len() == pixels {
        true => picture.iter().flat_map(|&gray| [gray; 3]).collect(),
        false => picture.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_differ_and_are_bright() {
        assert_eq!((class_colour(0), class_colour(1)), ([0; 3], [255, 0, 0]));
        let all: Vec<_> = (0..40).map(class_colour).collect();
        for (i, a) in all.iter().enumerate() {
            assert!(i == 0 || a.contains(&255), "class {i} is {a:?}");
            assert!(all[..i].iter().all(|b| a != b), "class {i} repeats {a:?}");
        }
    }

    #[test]
    fn overlays_leave_class_0_alone() {
        assert_eq!(overlay(&[10, 20, 30, 40, 50, 60], &[0, 1]), [10, 20, 30, 147, 25, 30]);
        assert_eq!(overlay(&[10, 100], &[1, 0]), [132, 5, 5, 100, 100, 100]);
        assert_eq!(coloured(&[1, 0]), [255, 0, 0, 0, 0, 0]);
    }
}
