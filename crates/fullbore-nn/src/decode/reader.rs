//! All that lies between a network's maps and points of its input.

use fullbore_torch::{Result, Tensor};

use super::{Decode, Decoded, TestTime};

/// How points are read from what a network answers.
#[derive(Clone, Debug)]
pub struct MapReader {
    /// Heat-map to point.
    pub decode: Decode,
    /// Standard deviation of the targets in heat-map pixels.
    pub sigma_px: f64,
    /// What is averaged beside the image itself.
    pub test_time: TestTime,
    /// True where maps are logits, false where they are heat-maps with a peak near 1.
    pub are_logits: bool,
}

impl MapReader {
    /// Points in pixels of `images` `[b, C, H, W]` from the `maps` `[b, K, h, w]` that `network` gave for them; it is asked
    /// again where more is averaged. The edges of maps and images lie on each other.
    ///
    /// # Errors
    /// Those of `network`, and when memory runs out.
    pub fn read(
        &self,
        maps: &Tensor,
        images: &Tensor,
        network: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Decoded> {
        let maps = self.test_time.maps(maps, images, self.are_logits, network)?;
        let Decoded { points, scores } = self.decode.decode(&maps, self.sigma_px)?;
        let (map, image) = (maps.size(), images.size());
        let to_image = |axis: i64, image: i64, map: i64| {
            let scale = image as f64 / map as f64;
            points.narrow(2, axis, 1)?.mul_scalar(scale)?.add_scalar(0.5 * scale - 0.5)
        };
        let (x, y) = (to_image(0, image[3], map[3])?, to_image(1, image[2], map[2])?);
        Ok(Decoded { points: Tensor::cat(&[&x, &y], 2)?, scores })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fullbore_torch::{Device, Kind};

    #[test]
    fn a_pixel_of_the_map_is_the_middle_of_its_pixels_of_the_image() {
        let mut map = vec![0.0f32; 4 * 8];
        map[8 + 6] = 0.5;
        let maps = Tensor::from_slice(&map).unwrap().reshape(&[1, 1, 4, 8]).unwrap();
        let images = Tensor::zeros(&[1, 3, 16, 16], Kind::Float, Device::Cpu).unwrap();
        let reader = MapReader {
            decode: Decode::Argmax,
            sigma_px: 1.5,
            test_time: TestTime::default(),
            are_logits: false,
        };
        let found = reader.read(&maps, &images, |_| unreachable!("nothing more is averaged")).unwrap();
        // Columns 12 and 13, rows 4 to 7.
        assert_eq!(found.points.to_vec_f32().unwrap(), [12.5, 5.5]);
        assert_eq!(found.scores.to_vec_f32().unwrap(), [0.5]);
    }
}
