//! Numbers and shapes that no policy makes.

use fullbore_augment::{AugmentConfig, AugmentParams, Border};
use fullbore_feed::augment::{Augmented, Way};
use fullbore_torch::{Error, Kind};
use fullbore_types::Size;

use crate::cases::{Batch, Case};

fn batch(border: Border) -> Batch {
    let config = AugmentConfig { border, ..AugmentConfig::default() };
    let size = Size::new(20, 15);
    Case { config, canvas: size, out: size, channels: 3, samples: 2, seed: 1 }.batch()
}

#[test]
fn hostile_matrices_read_nothing_outside() {
    for border in [Border::Constant, Border::Reflect, Border::Edge] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30] {
            for (position, way) in (0..6).flat_map(|i| [(i, Way::Operations), (i, Way::Kernel)]) {
                let mut batch = batch(border);
                batch.params[1].source_from_output[position] = value;
                let answer = batch.on_device_twin(way, Kind::Float);
                // The other sample is none the worse.
                let plain = self::batch(border).on_device_twin(way, Kind::Float);
                assert_eq!(answer.images[..900], plain.images[..900]);
                assert_eq!(answer.masks[..300], batch.masks[..300]);
            }
        }
    }
}

#[test]
fn points_under_a_matrix_that_flattens_the_plane_are_not_visible() {
    let mut batch = batch(Border::Edge);
    batch.params[0].source_from_output = [1.0, 2.0, 0.0, 2.0, 4.0, 0.0];
    let (answer, cpu) = (batch.on_device_twin(Way::Operations, Kind::Float), batch.on_cpu_twin());
    assert_eq!(answer.visibility, cpu.visibility);
    assert_eq!(answer.visibility[..5], [0; 5]);
    assert_ne!(answer.visibility[5..], [0; 5]);
}

#[test]
fn tensors_of_other_shapes_are_refused_by_name() {
    let batch = batch(Border::Constant);
    let (images, masks, points) = batch.upload();
    let twin = batch.device_twin(Way::Operations, Kind::Float);
    let refusal = |result: Result<_, Error>| match result.map(|_: Augmented| ()) {
        Err(Error::Invalid { message, .. }) => message,
        other => panic!("{other:?}"),
    };
    let fewer: &[AugmentParams] = &batch.params[..1];
    let text = refusal(twin.apply(&images, None, None, fewer));
    assert_eq!(text, "images are Uint8 [2, 15, 20, 3], expected Uint8 [1, 15, 20, 3]");
    let text = refusal(twin.apply(&images, Some(&images), None, &batch.params));
    assert!(text.starts_with("masks are"), "{text}");
    let mut other = points.clone();
    other.places = points.places.narrow(1, 0, 2).unwrap();
    let text = refusal(twin.apply(&images, Some(&masks), Some(&other), &batch.params));
    assert!(text.starts_with("points are"), "{text}");
}
