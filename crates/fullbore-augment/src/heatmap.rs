//! Heat-maps of landmarks: the targets that follow from transformed points.

use fullbore_types::Size;

/// Renders one Gaussian with peak 1 per landmark, its centre at the point itself and not at a pixel.
///
/// `points` are pixels of the network's input of size `input`; `sigmas_px` are standard deviations in heat-map pixels,
/// one per landmark; `maps` is f32 `[K, H, W]` with `H` x `W` = `size`. A point `x` lies at `(x + 0.5) / s - 0.5` on the map,
/// `s` being the input's side by the map's. Landmarks with visibility 0 give zeros. The Gaussian fills the whole map,
/// as in distribution-aware coordinate representation (Zhang et al. 2020).
///
/// # Panics
/// When the lengths do not fit each other or a sigma is not above 0.
pub fn render_heatmaps(
    points: &[[f32; 2]],
    visibility: &[u8],
    sigmas_px: &[f32],
    input: Size,
    size: Size,
    maps: &mut [f32],
) {
    let (n, area) = (points.len(), size.area() as usize);
    assert!(visibility.len() == n && sigmas_px.len() == n, "one visibility and one sigma per landmark");
    assert_eq!(maps.len(), n * area, "numbers of the heat-maps");
    assert!(sigmas_px.iter().all(|sigma| *sigma > 0.0), "sigmas above 0");
    let on_map =
        |p: f32, input: u32, map: u32| (f64::from(p) + 0.5) * f64::from(map) / f64::from(input) - 0.5;
    for (i, map) in maps.chunks_exact_mut(area.max(1)).enumerate() {
        if visibility[i] == 0 {
            map.fill(0.0);
            continue;
        }
        let (x, y) =
            (on_map(points[i][0], input.width, size.width), on_map(points[i][1], input.height, size.height));
        gaussian(x, y, f64::from(sigmas_px[i]), size, map);
    }
}

/// The Gaussian is a product of two: one along the columns, kept in the first row until the others are made from it.
fn gaussian(x: f64, y: f64, sigma: f64, size: Size, map: &mut [f32]) {
    let along = |distance: f64| (-0.5 * (distance / sigma).powi(2)).exp() as f32;
    let (columns, rest) = map.split_at_mut(size.width as usize);
    for (column, value) in columns.iter_mut().enumerate() {
        *value = along(column as f64 - x);
    }
    for (row, values) in rest.chunks_exact_mut(columns.len()).enumerate() {
        let factor = along((row + 1) as f64 - y);
        for (value, column) in values.iter_mut().zip(&*columns) {
            *value = factor * column;
        }
    }
    let factor = along(-y);
    columns.iter_mut().for_each(|value| *value *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_peak_is_at_the_point_in_half_pixels() {
        // Four input pixels per map pixel: the centre of map pixel (2, 1) is input (9.5, 5.5).
        let size = Size::new(6, 4);
        let mut maps = vec![f32::NAN; 2 * 24];
        let points = [[9.5, 5.5], [1.0, 1.0]];
        render_heatmaps(&points, &[2, 0], &[1.5, 1.5], Size::new(24, 16), size, &mut maps);
        assert_eq!(maps[6 + 2], 1.0);
        assert_eq!(maps[6 + 1], maps[6 + 3]);
        assert!((maps[6 + 1] - (-0.5f32 / 2.25).exp()).abs() < 1e-6);
        assert!(maps[24..].iter().all(|&v| v == 0.0), "an invisible landmark has no map");
    }

    proptest! {
        #[test]
        fn every_pixel_is_the_formula(
            x in -20.0f32..60.0, y in -20.0f32..60.0, sigma in 0.5f32..4.0, stride in 1u32..5,
        ) {
            let (input, size) = (Size::new(9 * stride, 7 * stride), Size::new(9, 7));
            let mut map = vec![f32::NAN; 63];
            render_heatmaps(&[[x, y]], &[1], &[sigma], input, size, &mut map);
            let s = f64::from(stride);
            let centre = [x, y].map(|p| (f64::from(p) + 0.5) / s - 0.5);
            for (i, &found) in map.iter().enumerate() {
                let (dx, dy) = ((i % 9) as f64 - centre[0], (i / 9) as f64 - centre[1]);
                let expected = (-(dx * dx + dy * dy) / (2.0 * f64::from(sigma).powi(2))).exp();
                prop_assert!((f64::from(found) - expected).abs() < 1e-6);
            }
        }
    }
}
