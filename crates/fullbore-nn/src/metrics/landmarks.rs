//! Scores of landmarks, on the host in f64: radial errors in pixels of the source image and in millimetres, errors
//! normalised by the size of what is looked at, and shares of successes and failures.

use serde::{Deserialize, Serialize};

/// What a radial error in pixels is divided by. Indices count landmarks from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalizer {
    /// Distance of two landmarks: 300W 36 and 45, WFLW 60 and 72 (outer eye corners).
    InterOcular(usize, usize),
    /// Distance of the means of two groups of landmarks: 300W 36 to 41 and 42 to 47.
    InterPupil(Vec<usize>, Vec<usize>),
    /// Diagonal of the sample's box.
    BoxDiagonal,
    /// √(width x height) of the sample's box.
    BoxSide,
    /// Diagonal of the source image.
    ImageDiagonal,
    /// 1: the "normalised" error is in pixels.
    Pixels,
}

/// Unit of the thresholds of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// Pixels of the source image.
    Px,
    /// Millimetres; only images that know their pixel size take part.
    Mm,
}

/// What is scored, and where success ends.
#[derive(Clone, Debug, PartialEq)]
pub struct LandmarkMetrics {
    /// Of the normalised mean error.
    pub normalizer: Normalizer,
    /// Radial errors below which a point is detected.
    pub thresholds: Vec<f64>,
    /// Their unit.
    pub unit: LengthUnit,
    /// Normalised mean error above which an image counts as failed; also the end of the area under the curve.
    pub failure_at: f64,
}

/// One image or instance: points in pixels of the source image, x before y.
#[derive(Clone, Copy, Debug)]
pub struct LandmarkSample<'a> {
    /// What was found; a point that is not finite was not found, which is a failure.
    pub predicted: &'a [[f64; 2]],
    /// Where the landmarks are.
    pub truth: &'a [[f64; 2]],
    /// Which of them are labelled; the others are passed over.
    pub labelled: &'a [bool],
    /// Width and height of the instance's box; `None`: the box around its labelled landmarks.
    pub box_size: Option<[f64; 2]>,
    /// Width and height of the source image.
    pub image_size: [f64; 2],
    /// Millimetres per pixel of the source image, where they are known.
    pub mm_per_px: Option<f64>,
}

/// Errors of samples, gathered one by one.
#[derive(Clone, Debug)]
pub struct LandmarkErrors {
    metrics: LandmarkMetrics,
    /// By landmark.
    points: Vec<PointErrors>,
    /// Normalised mean errors of images, infinite where a point was not found.
    nme: Vec<f64>,
    images: usize,
}

/// Errors of one landmark, or of all together.
#[derive(Clone, Debug, Default)]
struct PointErrors {
    px: Vec<f64>,
    mm: Vec<f64>,
    missing: usize,
    missing_with_mm: usize,
}

/// Scores of landmarks. `None`: nothing to take a mean of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LandmarkScores {
    /// Images seen.
    pub images: usize,
    /// All landmarks pooled.
    pub all: PointScores,
    /// By landmark.
    pub per_landmark: Vec<PointScores>,
    /// Images that have a normalised mean error: their normaliser is labelled and not 0.
    pub normalised: usize,
    /// Normalised mean error: mean over landmarks, then over images in which every point was found. A fraction.
    pub nme: Option<f64>,
    /// Area under the cumulative curve from 0 to `failure_at`, by `failure_at`: 1 is perfect.
    pub auc: Option<f64>,
    /// Share of images with an error above `failure_at`, or with a point that was not found.
    pub failure_rate: Option<f64>,
    /// The cumulative curve: normalised mean errors of the images, sorted; infinite ones are failures. The share of images
    /// at or below the i-th is (i + 1) / n.
    pub curve: Vec<f64>,
}

/// Scores of one landmark, or of all pooled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointScores {
    /// Labelled points.
    pub points: usize,
    /// Of these, not found: failures in `sdr`, left out of the means.
    pub missing: usize,
    /// Mean radial error in pixels.
    pub mre_px: Option<f64>,
    /// Standard deviation (of the population) of the radial error in pixels.
    pub sd_px: Option<f64>,
    /// Largest radial error in pixels.
    pub max_px: Option<f64>,
    /// Mean radial error in millimetres.
    pub mre_mm: Option<f64>,
    /// Standard deviation of the radial error in millimetres.
    pub sd_mm: Option<f64>,
    /// Successful detection rate for each threshold: the share of points with a smaller error. A fraction.
    pub sdr: Vec<Option<f64>>,
}

impl Default for LandmarkMetrics {
    /// Pixels, the thresholds of cephalometry (2, 2.5, 3 and 4 mm), failure above 0.1.
    fn default() -> Self {
        Self {
            normalizer: Normalizer::Pixels,
            thresholds: vec![2.0, 2.5, 3.0, 4.0],
            unit: LengthUnit::Mm,
            failure_at: 0.1,
        }
    }
}

impl Normalizer {
    /// The landmark with the highest index that is named.
    pub fn highest(&self) -> Option<usize> {
        match self {
            Normalizer::InterOcular(a, b) => Some(*a.max(b)),
            Normalizer::InterPupil(left, right) => left.iter().chain(right).copied().max(),
            _ => None,
        }
    }

    /// Pixels to divide by; `None` where they are 0, or a landmark that is needed is not labelled.
    fn length(&self, sample: &LandmarkSample<'_>) -> Option<f64> {
        let distance = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        let place = |k: usize| (*sample.labelled.get(k)?).then(|| sample.truth[k]);
        let centre = |group: &[usize]| {
            let mut sum = [0.0; 2];
            for &k in group {
                let [x, y] = place(k)?;
                sum = [sum[0] + x, sum[1] + y];
            }
            Some(sum.map(|v| v / group.len() as f64))
        };
        let length = match self {
            Normalizer::InterOcular(a, b) => distance(place(*a)?, place(*b)?),
            Normalizer::InterPupil(left, right) => distance(centre(left)?, centre(right)?),
            Normalizer::BoxDiagonal => sample.box_sides()?.into_iter().fold(0.0, f64::hypot),
            Normalizer::BoxSide => sample.box_sides()?.into_iter().product::<f64>().sqrt(),
            Normalizer::ImageDiagonal => sample.image_size[0].hypot(sample.image_size[1]),
            Normalizer::Pixels => 1.0,
        };
        (length.is_finite() && length > 0.0).then_some(length)
    }
}

impl LandmarkSample<'_> {
    fn box_sides(&self) -> Option<[f64; 2]> {
        if self.box_size.is_some() {
            return self.box_size;
        }
        let side = |axis: usize| {
            let places = || self.truth.iter().zip(self.labelled).filter(|(_, l)| **l).map(|(p, _)| p[axis]);
            Some(places().reduce(f64::max)? - places().reduce(f64::min)?)
        };
        Some([side(0)?, side(1)?])
    }
}

impl LandmarkErrors {
    /// No errors yet, of `landmarks` landmarks.
    pub fn new(landmarks: usize, metrics: LandmarkMetrics) -> Self {
        Self { metrics, points: vec![PointErrors::default(); landmarks], nme: Vec::new(), images: 0 }
    }

    /// Adds an image or instance. Gives its normalised mean error: infinite where a point was not found, `None` where
    /// nothing is labelled or there is nothing to divide by.
    ///
    /// # Panics
    /// When the sample does not have a prediction, a truth and a label for each landmark.
    pub fn add(&mut self, sample: LandmarkSample<'_>) -> Option<f64> {
        let n = self.points.len();
        let given = [sample.predicted.len(), sample.truth.len(), sample.labelled.len()];
        assert_eq!(given, [n; 3], "one prediction, truth and label for each landmark");
        self.images += 1;
        let mm_per_px = sample.mm_per_px.filter(|mm| mm.is_finite() && *mm > 0.0);
        let (mut sum, mut labelled) = (0.0, 0);
        for (k, errors) in self.points.iter_mut().enumerate().filter(|(k, _)| sample.labelled[*k]) {
            let (found, truth) = (sample.predicted[k], sample.truth[k]);
            let radial = (found[0] - truth[0]).hypot(found[1] - truth[1]);
            errors.add(radial, mm_per_px);
            sum += if radial.is_finite() { radial } else { f64::INFINITY };
            labelled += 1;
        }
        let length = self.metrics.normalizer.length(&sample).filter(|_| labelled > 0);
        let nme = length.map(|length| sum / f64::from(labelled) / length);
        self.nme.extend(nme);
        nme
    }

    /// The scores of what was added.
    pub fn scores(&self) -> LandmarkScores {
        let mut all = PointErrors::default();
        for point in &self.points {
            all.px.extend(&point.px);
            all.mm.extend(&point.mm);
            all.missing += point.missing;
            all.missing_with_mm += point.missing_with_mm;
        }
        let mut curve = self.nme.clone();
        curve.sort_by(f64::total_cmp);
        let finite: Vec<f64> = curve.iter().copied().filter(|e| e.is_finite()).collect();
        let end = self.metrics.failure_at;
        // The integral of the share at or below e, over e from 0 to the end, image by image.
        let under_curve: Vec<f64> = curve.iter().map(|e| (1.0 - e / end).max(0.0)).collect();
        let failed: Vec<f64> = curve.iter().map(|e| f64::from(u8::from(*e > end))).collect();
        LandmarkScores {
            images: self.images,
            all: all.scores(&self.metrics),
            per_landmark: self.points.iter().map(|point| point.scores(&self.metrics)).collect(),
            normalised: curve.len(),
            nme: mean(&finite),
            auc: mean(&under_curve),
            failure_rate: mean(&failed),
            curve,
        }
    }
}

impl PointErrors {
    fn add(&mut self, radial_px: f64, mm_per_px: Option<f64>) {
        if radial_px.is_finite() {
            self.px.push(radial_px);
            self.mm.extend(mm_per_px.map(|mm| radial_px * mm));
        } else {
            self.missing += 1;
            self.missing_with_mm += usize::from(mm_per_px.is_some());
        }
    }

    fn scores(&self, metrics: &LandmarkMetrics) -> PointScores {
        let (errors, missing) = match metrics.unit {
            LengthUnit::Px => (&self.px, self.missing),
            LengthUnit::Mm => (&self.mm, self.missing_with_mm),
        };
        let detected = |threshold: &f64| {
            let hits = errors.iter().filter(|e| *e < threshold).count();
            let points = errors.len() + missing;
            (points > 0).then(|| hits as f64 / points as f64)
        };
        PointScores {
            points: self.px.len() + self.missing,
            missing: self.missing,
            mre_px: mean(&self.px),
            sd_px: deviation(&self.px),
            max_px: self.px.iter().copied().reduce(f64::max),
            mre_mm: mean(&self.mm),
            sd_mm: deviation(&self.mm),
            sdr: metrics.thresholds.iter().map(detected).collect(),
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn deviation(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?;
    let squares: Vec<f64> = values.iter().map(|v| (v - centre).powi(2)).collect();
    mean(&squares).map(f64::sqrt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOT_FOUND: [f64; 2] = [f64::NAN, 0.0];

    fn errors(normalizer: Normalizer, unit: LengthUnit) -> LandmarkErrors {
        LandmarkErrors::new(3, LandmarkMetrics { normalizer, unit, ..LandmarkMetrics::default() })
    }

    /// Truth (0, 0), (30, 0), (30, 40) in an image of 60 x 80.
    fn sample<'a>(predicted: &'a [[f64; 2]], labelled: &'a [bool]) -> LandmarkSample<'a> {
        let truth = &[[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]];
        LandmarkSample {
            predicted,
            truth,
            labelled,
            box_size: None,
            image_size: [60.0, 80.0],
            mm_per_px: None,
        }
    }

    fn close(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|f| (f - expected).abs() < 1e-12)
    }

    #[test]
    fn radial_errors_in_pixels_and_millimetres() {
        let mut errors = errors(Normalizer::Pixels, LengthUnit::Mm);
        // Errors 5, 10 and 0 pixels at 0.5 mm: 2.5, 5 and 0 mm.
        let predicted = [[3.0, 4.0], [24.0, 8.0], [30.0, 40.0]];
        errors.add(LandmarkSample { mm_per_px: Some(0.5), ..sample(&predicted, &[true; 3]) });
        // 20 pixels, one point hidden; 0.1 mm per pixel: 2 mm.
        let predicted = [[0.0, 20.0], [999.0, 999.0], NOT_FOUND];
        errors.add(LandmarkSample { mm_per_px: Some(0.1), ..sample(&predicted, &[true, false, true]) });
        let scores = errors.scores();
        assert_eq!((scores.images, scores.all.points, scores.all.missing), (2, 5, 1));
        assert!(close(scores.all.mre_px, 8.75) && close(scores.all.mre_mm, 9.5 / 4.0), "{scores:?}");
        let squares = [3.75f64, 1.25, 8.75, 11.25].iter().map(|d| d * d).sum::<f64>();
        assert!(close(scores.all.sd_px, (squares / 4.0).sqrt()));
        assert_eq!(scores.all.max_px, Some(20.0));
        // Strictly below 2, 2.5, 3 and 4 mm, of five points: 0 | 0, 2 | 0, 2, 2.5 | the same.
        assert_eq!(scores.all.sdr, [Some(0.2), Some(0.4), Some(0.6), Some(0.6)]);
        let [first, second, third] = &scores.per_landmark[..] else { panic!("three landmarks") };
        assert!(close(first.mre_px, 12.5) && close(first.mre_mm, 2.25), "{first:?}");
        assert_eq!((second.points, second.sdr[3]), (1, Some(0.0)));
        assert_eq!((third.points, third.missing, third.sdr[0]), (2, 1, Some(0.5)));
    }

    #[test]
    fn images_without_a_pixel_size_have_no_millimetres() {
        let mut errors = errors(Normalizer::Pixels, LengthUnit::Mm);
        errors.add(sample(&[[1.0, 0.0], [30.0, 0.0], NOT_FOUND], &[true; 3]));
        let all = errors.scores().all;
        assert_eq!((all.mre_mm, all.sdr[0]), (None, None));
        assert!(close(all.mre_px, 0.5));
        let mut errors = self::errors(Normalizer::Pixels, LengthUnit::Px);
        errors.add(sample(&[[1.0, 0.0], [30.0, 0.0], NOT_FOUND], &[true; 3]));
        assert!(close(errors.scores().all.sdr[0], 2.0 / 3.0));
    }

    #[test]
    fn every_normaliser_by_hand() {
        // Mean radial error 6 pixels.
        let predicted = [[6.0, 0.0], [30.0, 6.0], [30.0, 46.0]];
        for (normalizer, length) in [
            (Normalizer::InterOcular(0, 1), 30.0),
            (Normalizer::InterOcular(0, 2), 50.0),
            // From (15, 0) to (30, 40).
            (Normalizer::InterPupil(vec![0, 1], vec![2]), 15.0f64.hypot(40.0)),
            (Normalizer::BoxDiagonal, 50.0),
            (Normalizer::BoxSide, 1200.0f64.sqrt()),
            (Normalizer::ImageDiagonal, 100.0),
            (Normalizer::Pixels, 1.0),
        ] {
            let mut errors = errors(normalizer.clone(), LengthUnit::Px);
            errors.add(sample(&predicted, &[true; 3]));
            let scores = errors.scores();
            assert!(close(scores.nme, 6.0 / length), "{normalizer:?}: {:?}", scores.nme);
        }
        let mut errors = errors(Normalizer::BoxSide, LengthUnit::Px);
        errors.add(LandmarkSample { box_size: Some([4.0, 9.0]), ..sample(&predicted, &[true; 3]) });
        assert!(close(errors.scores().nme, 1.0));
    }

    #[test]
    fn an_image_without_its_normaliser_has_no_normalised_error() {
        let mut errors = errors(Normalizer::InterOcular(0, 1), LengthUnit::Px);
        let perfect = [[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]];
        errors.add(sample(&perfect, &[true, false, true]));
        errors.add(sample(&perfect, &[false; 3]));
        let scores = errors.scores();
        assert_eq!((scores.images, scores.normalised, scores.nme, scores.auc), (2, 0, None, None));
        assert_eq!(scores.failure_rate, None);
        assert!(close(scores.all.mre_px, 0.0));
    }

    #[test]
    fn failures_and_the_area_under_the_curve() {
        let mut errors = errors(Normalizer::ImageDiagonal, LengthUnit::Px);
        // Normalised errors 0, 0.05, 0.1 (just not a failure), 0.2, and one that was not found.
        for shift in [0.0, 5.0, 10.0, 20.0, f64::INFINITY] {
            errors.add(sample(&[[0.0, shift], [30.0, shift], [30.0, 40.0 + shift]], &[true; 3]));
        }
        let scores = errors.scores();
        assert_eq!(scores.curve, [0.0, 0.05, 0.1, 0.2, f64::INFINITY]);
        assert!(close(scores.failure_rate, 0.4), "{scores:?}");
        assert!(close(scores.auc, (1.0 + 0.5) / 5.0));
        assert!(close(scores.nme, 0.35 / 4.0), "over images in which all was found");
        assert_eq!(scores.all.missing, 3);
    }

    #[test]
    fn nothing_added_scores_nothing() {
        let scores = errors(Normalizer::Pixels, LengthUnit::Mm).scores();
        assert_eq!(
            (scores.nme, scores.all.mre_px, scores.all.sd_px, scores.all.max_px),
            (None, None, None, None)
        );
        assert_eq!(scores.all.sdr, [None; 4]);
    }

    proptest! {
        #[test]
        fn the_area_is_the_trapezoid_of_the_curve(nme in prop::collection::vec(0.0f64..0.3, 1..40)) {
            let mut errors = errors(Normalizer::ImageDiagonal, LengthUnit::Px);
            for e in &nme {
                errors.add(sample(&[[100.0 * e, 0.0], [30.0, 0.0], [30.0, 40.0]], &[true, false, false]));
            }
            let share = |at: f64| nme.iter().filter(|e| **e <= at).count() as f64 / nme.len() as f64;
            let step = 1e-4;
            let area: f64 =
                (0..1000).map(|i| f64::from(i) * step).map(|a| 0.5 * step * (share(a) + share(a + step))).sum();
            let found = errors.scores().auc.unwrap();
            prop_assert!((found - area / 0.1).abs() < 1e-3, "{} for {}", found, area / 0.1);
        }
    }
}
