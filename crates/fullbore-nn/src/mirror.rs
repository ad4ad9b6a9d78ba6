//! Test-time augmentation of masks: the network is asked about mirrored images too.

use std::fmt;

use fullbore_torch::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// In which mirrors a network that finds masks looks at an image beside the image itself. The mean of the logits counts,
/// as in nnU-Net's mirroring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mirror {
    /// In none.
    #[default]
    None,
    /// Left and right change places: two passes.
    Horizontal,
    /// Left and right, top and bottom, and all together: four passes.
    Both,
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mirror::None => "none",
            Mirror::Horizontal => "horizontal",
            Mirror::Both => "both",
        })
    }
}

impl Mirror {
    /// Logits `[n, C, h, w]` for images `[n, c, H, W]`: the mean of what `network` gives for them and their mirrored
    /// copies, turned back.
    ///
    /// # Errors
    /// Those of `network`, and when memory runs out.
    pub fn average(self, images: &Tensor, network: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        const WIDTH: i64 = 3;
        const HEIGHT: i64 = 2;
        let copies: &[&[i64]] = match self {
            Mirror::None => &[],
            Mirror::Horizontal => &[&[WIDTH]],
            Mirror::Both => &[&[WIDTH], &[HEIGHT], &[HEIGHT, WIDTH]],
        };
        let turn =
            |tensor: &Tensor, dims: &[i64]| dims.iter().try_fold(tensor.clone(), |t, dim| t.flip(*dim));
        let mut sum = network(images)?;
        for dims in copies {
            sum = sum.add(&turn(&network(&turn(images, dims)?)?, dims)?)?;
        }
        if copies.is_empty() { Ok(sum) } else { sum.mul_scalar(1.0 / (copies.len() + 1) as f64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network that says the same of an image wherever it hangs: double its pixels, and how often it was asked.
    fn asked(mirror: Mirror, network: impl Fn(&Tensor) -> Result<Tensor>) -> (Vec<f32>, usize) {
        let images =
            Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap().reshape(&[1, 1, 2, 3]).unwrap();
        let times = std::cell::Cell::new(0);
        let counted = |images: &Tensor| {
            times.set(times.get() + 1);
            network(images)
        };
        let logits = mirror.average(&images, counted).unwrap();
        (logits.to_vec_f32().unwrap(), times.get())
    }

    #[test]
    fn copies_are_turned_back_before_they_are_averaged() {
        let doubled = vec![2.0, 4.0, 6.0, 8.0, 10.0, 12.0];
        for (mirror, passes) in [(Mirror::None, 1), (Mirror::Horizontal, 2), (Mirror::Both, 4)] {
            assert_eq!(asked(mirror, |images| images.mul_scalar(2.0)), (doubled.clone(), passes));
        }
    }

    #[test]
    fn a_network_that_prefers_a_side_loses_its_preference() {
        let weights =
            Tensor::from_slice(&[1.0f32, 0.0, 0.0, 0.0, 0.0, 0.0]).unwrap().reshape(&[1, 1, 2, 3]).unwrap();
        let first_pixel = |_: &Tensor| Ok(weights.clone());
        assert_eq!(asked(Mirror::Horizontal, first_pixel).0, [0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
        assert_eq!(asked(Mirror::Both, first_pixel).0, [0.25, 0.0, 0.25, 0.25, 0.0, 0.25]);
    }
}
