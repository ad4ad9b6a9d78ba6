//! Heat-maps against their formula.

use fullbore_feed::augment::{Points, heatmaps};
use fullbore_torch::{Kind, Tensor};
use fullbore_types::Size;

use crate::cases::device;

#[test]
fn heatmaps_are_gaussians_around_points_between_pixels() {
    let places = [[10.0f32, 6.0], [31.4, 2.7], [5.0, 5.0], [-3.0, 40.0], [f32::NAN, 1.0], [17.5, 9.5]];
    let visibility = [2u8, 1, 0, 2, 0, 1];
    let sigma = [1.5f32, 2.0, 3.0];
    let (size, stride) = (Size::new(9, 7), 4.0);
    let points = Points {
        places: Tensor::from_slice(places.as_flattened())
            .unwrap()
            .reshape(&[2, 3, 2])
            .unwrap()
            .to_device(device())
            .unwrap(),
        visibility: Tensor::from_bytes(&visibility, &[2, 3], Kind::Uint8)
            .unwrap()
            .to_device(device())
            .unwrap(),
    };
    let on_device = Tensor::from_slice(&sigma).unwrap().to_device(device()).unwrap();
    let maps = heatmaps(&points, &on_device, size, stride).unwrap();
    assert_eq!(maps.size(), [2, 3, 7, 9]);
    let found = maps.to_vec_f32().unwrap();
    for (i, &found) in found.iter().enumerate() {
        let (map, x, y) = (i / 63, i % 9, i / 9 % 7);
        let centre = places[map].map(|p| (f64::from(p) + 0.5) / stride - 0.5);
        let distance = (x as f64 - centre[0]).powi(2) + (y as f64 - centre[1]).powi(2);
        let expected = match visibility[map] {
            0 => 0.0,
            _ => (-distance / (2.0 * f64::from(sigma[map % 3]).powi(2))).exp(),
        };
        assert!(
            (f64::from(found) - expected).abs() < 1e-6,
            "map {map} at {x} {y}: {found}, expected {expected}"
        );
    }
}
