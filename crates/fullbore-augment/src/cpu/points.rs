//! Points of a sample, from the canvas to the output.

use fullbore_types::{Affine, Size};

use crate::elastic::displacement;
use crate::params::AugmentParams;

/// Rounds that find the point which the displacement takes to a given place. Each leaves at most 3/4 of the error.
const ROUNDS: usize = 64;

pub(super) fn transform(
    params: &AugmentParams,
    out: Size,
    flip_pairs: &[[usize; 2]],
    points: &mut [[f32; 2]],
    visibility: &mut [u8],
) {
    // A matrix that flattens the plane shows no point at all.
    let inverse = Affine(params.source_from_output.map(f64::from)).inverse();
    let inside = |p: f64, side: u32| p >= -0.5 && p < f64::from(side) - 0.5;
    for (point, visible) in points.iter_mut().zip(visibility.iter_mut()) {
        let Some(inverse) = inverse else {
            *visible = 0;
            continue;
        };
        let (x, y) = undisplaced(params, out, inverse.apply((point[0].into(), point[1].into())));
        *point = [x as f32, y as f32];
        if !(inside(x, out.width) && inside(y, out.height)) {
            *visible = 0;
        }
    }
    if params.swap_landmarks {
        for &[a, b] in flip_pairs {
            points.swap(a, b);
            visibility.swap(a, b);
        }
    }
}

/// The output point `p` with `p + displacement(p)` = `target`.
fn undisplaced(params: &AugmentParams, out: Size, target: (f64, f64)) -> (f64, f64) {
    if params.elastic_alpha <= 0.0 {
        return target;
    }
    let mut point = target;
    for _ in 0..ROUNDS {
        let moved = displacement(params, out, point);
        let next = (target.0 - moved.0, target.1 - moved.1);
        let step = (next.0 - point.0).abs().max((next.1 - point.1).abs());
        point = next;
        if step < 1e-7 {
            break;
        }
    }
    point
}
