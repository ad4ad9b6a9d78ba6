//! Landmarks of a batch to what a loss wants: heat-maps, places on them, and what each landmark counts.

use fullbore_torch::{Device, Error, Kind, Result, Tensor};
use fullbore_types::Size;

use crate::augment::{Points, heatmaps};

/// Which landmarks are trained, how wide their bells are, and what they count. The same for all batches of a run.
#[derive(Debug)]
pub struct Landmarks {
    /// Which of the source's points, i64 [K]; `None`: all of them.
    chosen: Option<Tensor>,
    /// Standard deviations in heat-map pixels, f32 [K].
    sigmas_px: Tensor,
    /// What each counts, f32 [1, K].
    weights: Tensor,
    input: Size,
    map: Size,
    /// The input's outer edges, f32 [1, 1, 2]: its first pixels' and its last ones'.
    edges: [Tensor; 2],
}

/// Targets of a micro-batch of landmarks.
#[derive(Clone, Debug)]
pub struct HeatmapBatch {
    /// f32 `[b, K, h, w]`, peak 1.
    pub maps: Tensor,
    /// f32 `[b, K, 2]`, x before y, in heat-map pixels; the centre of the first is (0, 0).
    pub points: Tensor,
    /// f32 `[b, K]`; 0 where nobody labelled the landmark or it lies outside of the input.
    pub weights: Tensor,
}

impl Landmarks {
    /// For network inputs of size `input` and heat-maps of size `map`. `chosen` picks landmarks of the source by number,
    /// `None` takes all; `sigmas_px`, standard deviations in heat-map pixels, and `weights` have one number for each of
    /// those that are trained.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(
        chosen: Option<&[usize]>,
        sigmas_px: &[f32],
        weights: &[f32],
        input: Size,
        map: Size,
        device: Device,
    ) -> Result<Self> {
        let chosen = chosen.map(|numbers| {
            let numbers: Vec<i64> = numbers.iter().map(|&number| number as i64).collect();
            Tensor::from_slice(&numbers)?.to_device(device)
        });
        let edge = |x: f32, y: f32| Tensor::from_slice(&[x, y])?.reshape(&[1, 1, 2])?.to_device(device);
        Ok(Self {
            chosen: chosen.transpose()?,
            sigmas_px: Tensor::from_slice(sigmas_px)?.to_device(device)?,
            weights: Tensor::from_slice(weights)?.reshape(&[1, -1])?.to_device(device)?,
            input,
            map,
            edges: [edge(-0.5, -0.5)?, edge(input.width as f32 - 0.5, input.height as f32 - 0.5)?],
        })
    }

    /// What the landmarks of `points`, all those of the source, count: f32 `[b, K]`, see [`HeatmapBatch::weights`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when the source's points are not those that these landmarks were chosen from.
    pub fn weights(&self, points: &Points) -> Result<Tensor> {
        self.weights_of(&self.choose(points)?)
    }

    /// The targets that follow from `points`, all those of the source in pixels of the input.
    ///
    /// # Errors
    /// As [`weights`](Self::weights), and when memory runs out.
    pub fn render(&self, points: &Points) -> Result<HeatmapBatch> {
        let points = self.choose(points)?;
        let on_map = |axis: i64, input: u32, map: u32| {
            let scale = f64::from(map) / f64::from(input);
            points.places.narrow(2, axis, 1)?.mul_scalar(scale)?.add_scalar(0.5 * scale - 0.5)
        };
        let (x, y) =
            (on_map(0, self.input.width, self.map.width)?, on_map(1, self.input.height, self.map.height)?);
        Ok(HeatmapBatch {
            maps: heatmaps(&points, &self.sigmas_px, self.input, self.map)?,
            points: Tensor::cat(&[&x, &y], 2)?,
            weights: self.weights_of(&points)?,
        })
    }

    fn choose(&self, points: &Points) -> Result<Points> {
        let chosen = match &self.chosen {
            None => points.clone(),
            Some(numbers) => points.map(|tensor| tensor.index_select(1, numbers))?,
        };
        let (found, expected) = (chosen.visibility.size()[1], self.weights.size()[1]);
        match found == expected {
            true => Ok(chosen),
            false => {
                let message = format!("{found} landmarks have come, {expected} are trained");
                Err(Error::Invalid { op: "landmarks".into(), message })
            }
        }
    }

    fn weights_of(&self, points: &Points) -> Result<Tensor> {
        let [first, last] = &self.edges;
        let within = points.places.ge(first)?.logical_and(&points.places.lt(last)?)?;
        let counts = within
            .select(2, 0)?
            .logical_and(&within.select(2, 1)?)?
            .logical_and(&points.visibility.gt_scalar(0.0)?)?;
        counts.to_kind(Kind::Float)?.mul(&self.weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(places: &[[f32; 2]], visibility: &[u8]) -> Points {
        let k = visibility.len() as i64;
        Points {
            places: Tensor::from_slice(places.as_flattened()).unwrap().reshape(&[1, k, 2]).unwrap(),
            visibility: Tensor::from_slice(visibility).unwrap().reshape(&[1, k]).unwrap(),
        }
    }

    fn landmarks(chosen: Option<&[usize]>, weights: &[f32]) -> Landmarks {
        let sigmas = vec![1.5; weights.len()];
        Landmarks::new(chosen, &sigmas, weights, Size::new(32, 16), Size::new(8, 4), Device::Cpu).unwrap()
    }

    #[test]
    fn what_is_not_labelled_or_outside_counts_nothing() {
        let all = points(
            &[[3.0, 3.0], [3.0, 3.0], [3.0, 3.0], [-0.5, 15.4], [31.5, 3.0], [3.0, 15.5], [3.0, -0.6]],
            &[2, 1, 0, 2, 2, 2, 2],
        );
        let weights = landmarks(None, &[1.0, 2.0, 1.0, 4.0, 1.0, 1.0, 1.0]).weights(&all).unwrap();
        assert_eq!(weights.to_vec_f32().unwrap(), [1.0, 2.0, 0.0, 4.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_subset_is_chosen_by_number_and_in_its_own_order() {
        let all = points(&[[1.5, 1.5], [5.5, 5.5], [9.5, 9.5]], &[2, 2, 2]);
        let heatmaps = landmarks(Some(&[2, 0]), &[1.0, 3.0]).render(&all).unwrap();
        assert_eq!(heatmaps.points.to_vec_f32().unwrap(), [2.0, 2.0, 0.0, 0.0]);
        assert_eq!(heatmaps.weights.to_vec_f32().unwrap(), [1.0, 3.0]);
        let peaks: Vec<i64> =
            heatmaps.maps.reshape(&[2, -1]).unwrap().argmax(1).unwrap().to_vec_i64().unwrap();
        assert_eq!(peaks, [2 * 8 + 2, 0]);
    }

    #[test]
    fn a_wrong_number_of_landmarks_is_refused() {
        let two = points(&[[1.0, 1.0], [2.0, 2.0]], &[2, 2]);
        assert!(matches!(landmarks(None, &[1.0; 3]).weights(&two), Err(Error::Invalid { .. })));
    }
}
