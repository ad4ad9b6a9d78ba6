//! Heat-maps against the CPU's.

use fullbore_augment::render_heatmaps;
use fullbore_feed::augment::{Points, heatmaps};
use fullbore_torch::{Kind, Tensor};
use fullbore_types::Size;

use crate::cases::device;

#[test]
fn heatmaps_are_those_of_the_cpu() {
    let places = [[10.0f32, 6.0], [31.4, 2.7], [5.0, 5.0], [-3.0, 40.0], [f32::NAN, 1.0], [17.5, 9.5]];
    let visibility = [2u8, 1, 0, 2, 0, 1];
    let sigmas = [1.5f32, 2.0, 3.0];
    let (input, size) = (Size::new(36, 14), Size::new(9, 7));
    let to_device = |t: Tensor| t.to_device(device()).unwrap();
    let points = Points {
        places: to_device(Tensor::from_slice(places.as_flattened()).unwrap().reshape(&[2, 3, 2]).unwrap()),
        visibility: to_device(Tensor::from_bytes(&visibility, &[2, 3], Kind::Uint8).unwrap()),
    };
    let maps = heatmaps(&points, &to_device(Tensor::from_slice(&sigmas).unwrap()), input, size).unwrap();
    assert_eq!(maps.size(), [2, 3, 7, 9]);
    let mut expected = vec![f32::NAN; 2 * 3 * 63];
    for (i, maps) in expected.chunks_exact_mut(3 * 63).enumerate() {
        let own = 3 * i..3 * i + 3;
        render_heatmaps(&places[own.clone()], &visibility[own], &sigmas, input, size, maps);
    }
    assert!(expected.iter().any(|&v| v > 0.9));
    for (i, (found, expected)) in maps.to_vec_f32().unwrap().iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 1e-5, "number {i}: {found}, expected {expected}");
    }
}
