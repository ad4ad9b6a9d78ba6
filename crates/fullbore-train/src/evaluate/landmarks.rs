//! Landmarks are scored in pixels of the image that they were labelled in.

use fullbore_data::{DataError, EvalSample, Point, Visibility};
use fullbore_feed::augment::Points;
use fullbore_feed::whole_images::Answerer;
use fullbore_governor::Change;
use fullbore_nn::decode::MapReader;
use fullbore_nn::landmarks::Chosen;
use fullbore_nn::losses::{HeatmapTargets, LossConfig};
use fullbore_nn::metrics::landmarks::{LandmarkErrors, LandmarkMetrics, LandmarkSample, LengthUnit};
use fullbore_torch::{Device, Error, Kind, Result, Tensor};

use super::{Passes, Prediction, Scored, wrong_loss};
use crate::TrainError;
use crate::step::Engine;

/// How landmarks are read and judged.
#[derive(Clone, Debug)]
pub struct LandmarkEval {
    /// Which.
    pub chosen: Chosen,
    /// How points are read from heat-maps.
    pub reader: MapReader,
    /// Radii of success detection rates.
    pub radii: Vec<f64>,
    /// NME of a failure.
    pub failure: f64,
}

/// Loss, scores and number of images.
pub(super) fn score(
    engine: &Engine,
    samples: impl Iterator<Item = std::result::Result<EvalSample, DataError>>,
    eval: &LandmarkEval,
    loss: &LossConfig,
    mut passes: Passes<'_, impl FnMut(Change, Option<&Error>)>,
    mut look: impl FnMut(&EvalSample, Prediction<'_>) -> Result<()>,
) -> std::result::Result<(f64, Scored, usize), TrainError> {
    let device = engine.params.device();
    let zero = || Tensor::zeros(&[], Kind::Float, device);
    let mut network = Network { engine, eval, loss, loss_sum: zero()?, weight_sum: zero()? };
    let numbers = &eval.chosen.numbers;
    let mut metrics = LandmarkMetrics {
        normalizer: eval.chosen.normalizer.clone(),
        thresholds: eval.radii.clone(),
        unit: LengthUnit::Px,
        failure_at: eval.failure,
    };
    let mut errors = None;
    let mut images = 0;
    passes.run(engine, samples, &mut network, |sample, found| {
        let errors = errors.get_or_insert_with(|| {
            // A data set knows the size of its pixels or it does not.
            if sample.frame.mm_per_px.is_some() {
                metrics.unit = LengthUnit::Mm;
            }
            LandmarkErrors::new(numbers.len(), metrics.clone())
        });
        let size = sample.frame.source_size;
        let truth: Vec<_> = numbers.iter().map(|&n| sample.points[n]).collect();
        let nme = errors.add(LandmarkSample {
            predicted: &found,
            truth: &truth.iter().map(|p| [p.x.into(), p.y.into()]).collect::<Vec<_>>(),
            labelled: &truth.iter().map(|p| p.visibility != Visibility::NotLabelled).collect::<Vec<_>>(),
            box_size: None,
            image_size: [size.width.into(), size.height.into()],
            mm_per_px: sample.frame.mm_per_px.map(f64::from),
        });
        images += 1;
        Ok(look(&sample, Prediction::Points { found: &found, chosen: numbers, nme })?)
    })?;
    let loss = network.loss_sum.item()? / network.weight_sum.item()?.max(f64::MIN_POSITIVE);
    let errors = errors.unwrap_or_else(|| LandmarkErrors::new(numbers.len(), metrics));
    Ok((loss, Scored::Landmarks(Box::new(errors.scores())), images))
}

struct Network<'a> {
    engine: &'a Engine,
    eval: &'a LandmarkEval,
    loss: &'a LossConfig,
    /// Sums over all landmarks so far, of weight times loss, and of weights.
    loss_sum: Tensor,
    weight_sum: Tensor,
}

impl Answerer for Network<'_> {
    /// Places in pixels of the image.
    type Answer = Vec<[f64; 2]>;

    fn network(&mut self, samples: &[EvalSample], images: &Tensor) -> Result<Tensor> {
        let engine = self.engine;
        engine.faults.check_evaluation()?;
        let images = engine.finish.normalize.apply(images)?;
        let maps = engine.logits(&images)?;
        let targets = self.targets(samples, images.device())?;
        let heatmap = self.loss.heatmap().ok_or_else(wrong_loss)?;
        let one = Tensor::ones(&[], Kind::Float, images.device())?;
        let loss = heatmap.share(&maps, &targets, &one)?;
        let found = self.eval.reader.read(&maps, &images, |images| engine.logits(images))?;
        // All points of the group come to the host at once.
        let points = found.points.to_device(Device::Cpu)?;
        self.loss_sum.add_(&loss)?;
        self.weight_sum.add_(&targets.weights.sum(Kind::Float)?)?;
        Ok(points)
    }

    fn finish(&mut self, sample: &EvalSample, row: &Tensor) -> Result<Self::Answer> {
        let places = row.to_vec_f32()?;
        Ok(places.chunks_exact(2).map(|p| sample.frame.to_source([p[0].into(), p[1].into()])).collect())
    }
}

impl Network<'_> {
    fn targets(&self, samples: &[EvalSample], device: Device) -> Result<HeatmapTargets> {
        let landmarks = self.engine.finish.landmarks.as_ref().ok_or_else(wrong_loss)?;
        let on_canvas = |sample: &EvalSample| -> Vec<Point> {
            sample.points.iter().map(|p| p.on_canvas(&sample.frame, sample.canvas)).collect()
        };
        let points: Vec<Point> = samples.iter().flat_map(on_canvas).collect();
        let (n, k) = (samples.len() as i64, (points.len() / samples.len().max(1)) as i64);
        let places: Vec<f32> = points.iter().flat_map(|p| [p.x, p.y]).collect();
        let visibility: Vec<u8> = points.iter().map(|p| p.visibility as u8).collect();
        let heatmaps = landmarks.render(&Points {
            places: Tensor::from_slice(&places)?.reshape(&[n, k, 2])?.to_device(device)?,
            visibility: Tensor::from_slice(&visibility)?.reshape(&[n, k])?.to_device(device)?,
        })?;
        Ok(HeatmapTargets { maps: heatmaps.maps, points: heatmaps.points, weights: heatmaps.weights })
    }
}
