//! Gaussian blur of canvases, the extra pass.

use fullbore_augment::AugmentParams;
use fullbore_torch::{Kind, Result, Tensor};

/// Blurs those canvases `[n, C, H, W]`, bytes or whole numbers, that are to be blurred: in place and one by one, as each
/// has a window of its own.
pub(super) fn blur(canvases: &Tensor, params: &[AugmentParams]) -> Result<()> {
    for (i, sample) in params.iter().enumerate().filter(|(_, sample)| sample.blur_sigma > 0.0) {
        let canvas = canvases.narrow(0, i as i64, 1)?;
        canvas.copy_(&blurred(&canvas.to_kind(Kind::Float)?, sample.blur_sigma)?)?;
    }
    Ok(())
}

/// A canvas f32 `[1, C, H, W]` of whole numbers, blurred with standard deviation `sigma` in pixels and rounded.
fn blurred(canvas: &Tensor, sigma: f32) -> Result<Tensor> {
    let weights = weights(sigma.into());
    let (taps, radius) = (weights.len() as i64, weights.len() as i64 / 2);
    let channels = canvas.size()[1];
    let weights = Tensor::from_slice(&weights)?.send_to(canvas.device())?;
    let kernel =
        |size: [i64; 2]| weights.reshape(&[1, 1, size[0], size[1]])?.expand(&[channels, 1, size[0], size[1]]);
    let along_rows = canvas.pad2d_edge(radius, radius, 0, 0)?.conv2d_depthwise(&kernel([1, taps])?)?;
    let sum = along_rows.pad2d_edge(0, 0, radius, radius)?.conv2d_depthwise(&kernel([taps, 1])?)?;
    sum.add_scalar_(0.5)?;
    sum.floor_()?;
    Ok(sum)
}

fn weights(sigma: f64) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil() as i32;
    let weight = |k: i32| (-0.5 * (f64::from(k) / sigma).powi(2)).exp();
    let sum: f64 = (-radius..=radius).map(weight).sum();
    (-radius..=radius).map(|k| (weight(k) / sum) as f32).collect()
}
