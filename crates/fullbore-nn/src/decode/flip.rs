//! Averages of an image's heat-maps and its mirror image's.

use fullbore_torch::{Result, Tensor};

/// Mean of `maps` and, mirrored back, the maps of the mirrored images; both `[B, K, h, w]`. Landmarks in `pairs` swap
/// sides in the mirror: left and right eye. Logits become probabilities first ([`super::probabilities`]).
///
/// # Panics
/// When a pair names a landmark that the maps do not have.
pub fn flip_average(maps: &Tensor, maps_of_flipped: &Tensor, pairs: &[(usize, usize)]) -> Result<Tensor> {
    let mut order: Vec<i64> = (0..maps.size()[1]).collect();
    for &(left, right) in pairs {
        order.swap(left, right);
    }
    let order = Tensor::from_slice(&order)?.to_device(maps.device())?;
    maps_of_flipped.flip(3)?.index_select(1, &order)?.add(maps)?.mul_scalar(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrored_maps_come_back_to_their_landmarks() {
        // Three landmarks on 1 x 3 pixels: 0 left, 1 right, 2 in the middle.
        let maps = Tensor::from_slice(&[1.0f32, 0., 0., 0., 0., 1., 0., 1., 0.]).unwrap();
        // In the mirror the left one is seen as a right one: landmark 0 lies where 1 was drawn.
        let mirrored = Tensor::from_slice(&[0.5f32, 0., 0., 0., 0., 0.7, 0., 0.3, 0.1]).unwrap();
        let shape = [1, 3, 1, 3];
        let (maps, mirrored) = (maps.reshape(&shape).unwrap(), mirrored.reshape(&shape).unwrap());
        let found = flip_average(&maps, &mirrored, &[(0, 1)]).unwrap();
        let expected = [0.85f32, 0., 0., 0., 0., 0.75, 0.05, 0.65, 0.];
        let expected = Tensor::from_slice(&expected).unwrap().reshape(&shape).unwrap();
        assert!(found.sub(&expected).unwrap().max_abs().unwrap() < 1e-6);
    }
}
