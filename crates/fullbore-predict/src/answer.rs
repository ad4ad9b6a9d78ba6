use fullbore_data::EvalSample;
use fullbore_feed::whole_images::{Answerer, on_native_grid};
use fullbore_nn::metrics::confusion::predicted_classes;
use fullbore_torch::{Kind, Result, Tensor};

use crate::Trained;
use crate::landmarks::Found;

/// What a model says of one picture, on the picture's own grid.
pub(crate) enum Prediction {
    /// Class indices, u8 `[height, width]`.
    Classes(Vec<u8>),
    /// In the order of the model's landmarks.
    Points(Vec<Found>),
}

/// Asks a model.
pub(crate) struct Asked<'a>(pub(crate) &'a Trained);

impl Answerer for Asked<'_> {
    type Answer = Prediction;

    fn network(&mut self, _: &[EvalSample], images: &Tensor) -> Result<Tensor> {
        match self.0.points(images)? {
            Some(points) => Ok(points),
            None => self.0.logits(images),
        }
    }

    fn finish(&mut self, sample: &EvalSample, row: &Tensor) -> Result<Prediction> {
        if self.0.landmark_names().is_none() {
            let classes = predicted_classes(&on_native_grid(row, sample)?)?;
            return Ok(Prediction::Classes(classes.to_kind(Kind::Uint8)?.to_vec_u8()?));
        }
        let numbers = row.to_vec_f32()?;
        let found =
            |n: &[f32]| Found { place: sample.frame.to_source([n[0].into(), n[1].into()]), score: n[2] };
        Ok(Prediction::Points(numbers.chunks_exact(3).map(found).collect()))
    }
}
