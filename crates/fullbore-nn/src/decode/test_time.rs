//! Test-time augmentation: heat-maps of mirrored and resized images, averaged.

use fullbore_torch::{Result, Tensor};

use super::{flip_average, probabilities};

/// What is averaged beside the image itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestTime {
    /// Landmarks that change places in the mirror; `None`: no mirroring.
    pub flip_pairs: Option<Vec<(usize, usize)>>,
    /// Further sizes of the image, as factors of its sides.
    pub scales: Vec<f64>,
    /// Sides of a network's input are multiples of this.
    pub side_multiple: u32,
}

impl TestTime {
    /// Maps to be decoded, f32 `[b, K, h, w]`: from `maps`, which `network` gave for `images` `[b, C, H, W]`, and what it
    /// gives for the other looks at them. `are_logits` says that maps are logits; probabilities come out then.
    ///
    /// # Errors
    /// Those of `network`, and when memory runs out.
    pub fn maps(
        &self,
        maps: &Tensor,
        images: &Tensor,
        are_logits: bool,
        network: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let likelihood = |maps: &Tensor| if are_logits { probabilities(maps) } else { Ok(maps.clone()) };
        let both = |maps: &Tensor, images: &Tensor| {
            let maps = likelihood(maps)?;
            match &self.flip_pairs {
                None => Ok(maps),
                Some(pairs) => flip_average(&maps, &likelihood(&network(&images.flip(3)?)?)?, pairs),
            }
        };
        let mut sum = both(maps, images)?;
        let (map, image) = (maps.size(), images.size());
        for &scale in &self.scales {
            let multiple = f64::from(self.side_multiple);
            let side = |side: i64| ((side as f64 * scale / multiple).round().max(1.0) * multiple) as i64;
            let resized = images.upsample_bilinear(side(image[2]), side(image[3]), false)?;
            let maps = both(&network(&resized)?, &resized)?;
            let maps = maps.upsample_bilinear(map[2], map[3], false)?;
            // Probabilities keep their sum.
            let density = if are_logits { (maps_area(&resized) / maps_area(images)).max(0.0) } else { 1.0 };
            sum = sum.add(&maps.mul_scalar(density)?)?;
        }
        sum.mul_scalar(1.0 / (1 + self.scales.len()) as f64)
    }
}

fn maps_area(images: &Tensor) -> f64 {
    let size = images.size();
    (size[2] * size[3]) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use fullbore_torch::{Device, Kind};

    /// A network that marks how bright each pixel is, at its own size.
    fn first_channel(images: &Tensor) -> Result<Tensor> {
        images.narrow(1, 0, 1)
    }

    fn ramp() -> Tensor {
        Tensor::arange(64, Kind::Float, Device::Cpu).unwrap().reshape(&[1, 1, 8, 8]).unwrap()
    }

    #[test]
    fn what_does_not_depend_on_side_or_size_is_left_as_it_is() {
        let images = ramp();
        let test_time = TestTime { flip_pairs: Some(vec![]), scales: vec![0.5, 2.0], side_multiple: 4 };
        let maps = test_time.maps(&first_channel(&images).unwrap(), &images, false, first_channel).unwrap();
        // Bilinear resizing keeps a ramp, but for its ends.
        let inner = |t: &Tensor| t.narrow(2, 2, 4).unwrap().narrow(3, 2, 4).unwrap();
        assert!(inner(&maps).sub(&inner(&images)).unwrap().max_abs().unwrap() < 1e-4);
    }

    #[test]
    fn probabilities_stay_probabilities_at_every_size() {
        let images = ramp().mul_scalar(0.05).unwrap();
        let test_time = TestTime { flip_pairs: None, scales: vec![2.0], side_multiple: 1 };
        let maps = test_time.maps(&first_channel(&images).unwrap(), &images, true, first_channel).unwrap();
        let sum = maps.sum(Kind::Float).unwrap().item().unwrap();
        assert!((sum - 1.0).abs() < 1e-3, "{sum}");
    }
}
