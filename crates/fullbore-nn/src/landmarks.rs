//! The `landmarks:` part of a plan: which points are trained, towards what, and how answers are read and judged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::{Decode, MapReader, TestTime};
use crate::metrics::landmarks::Normalizer;
use crate::optim::{SettingError, refuse};

/// The `landmarks:` part of a plan. Only losses on heat-maps look at it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LandmarksConfig {
    /// Names of the data set's points, in its order. `None` until the data set has been opened, which has them.
    pub names: Option<Vec<String>>,
    /// Those that are trained, in the order of the network's maps. `None`: all.
    #[serde(rename = "use")]
    pub chosen: Option<Vec<Landmark>>,
    /// What a landmark counts in the loss, by name or number; 1 where nothing is said.
    pub weights: BTreeMap<String, f32>,
    /// Standard deviation of a target's bell, in heat-map pixels.
    pub sigma: f32,
    /// How points are read from heat-maps.
    pub decode: Decode,
    /// What an image's errors are divided by for the normalised mean error (NME).
    pub normalizer: NormalizerConfig,
    /// Radii, in mm where every image says how large its pixels are, else in pixels, for success detection rates.
    pub radii: Vec<f64>,
    /// NME above which an image counts as failed, and up to which the area under the curve goes.
    pub failure: f64,
    /// Average with the mirrored image when scoring and predicting; `augment.flip_pairs` says what changes places.
    pub flip_test: bool,
    /// Further sizes of the image to average with then, as factors of its sides.
    pub test_scales: Vec<f64>,
}

/// A landmark by its name, or by its number in the data set's order, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Landmark {
    /// From 0.
    Number(usize),
    /// As the data set calls it.
    Name(String),
}

/// What an image's errors are divided by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NormalizerConfig {
    /// The distance of the means of two groups of landmarks: the eyes' outer corners, for one.
    Groups([Vec<Landmark>; 2]),
    /// Something of the image's own.
    Of(NormalizedBy),
}

/// A length that every image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormalizedBy {
    /// sqrt(width height) of the box around the true points.
    Box,
    /// The image's diagonal.
    Image,
    /// One pixel.
    Pixel,
}

impl Default for LandmarksConfig {
    fn default() -> Self {
        Self {
            names: None,
            chosen: None,
            weights: BTreeMap::new(),
            sigma: 1.5,
            decode: Decode::Dark,
            normalizer: NormalizerConfig::Of(NormalizedBy::Box),
            radii: vec![2.0, 2.5, 3.0, 4.0],
            failure: 0.1,
            flip_test: false,
            test_scales: Vec::new(),
        }
    }
}

/// The landmarks of a run, all names turned into numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Numbers in the data set's order, in the order of the network's maps.
    pub numbers: Vec<usize>,
    /// Their names.
    pub names: Vec<String>,
    /// What each counts.
    pub weights: Vec<f32>,
    /// What errors are divided by; its numbers are those of maps.
    pub normalizer: Normalizer,
    /// Maps that change places when an image is mirrored, by their own numbers; `None` when nobody said, or a partner is
    /// not trained.
    pub flip_pairs: Option<Vec<(usize, usize)>>,
}

impl LandmarksConfig {
    /// Takes the names from the data set, which has those `found`, where none are set, else compares their numbers.
    ///
    /// # Errors
    /// When there are more or fewer names than points.
    pub fn meet(&mut self, found: &[String]) -> Result<(), SettingError> {
        match &self.names {
            None => self.names = Some(found.to_vec()),
            Some(names) if names.len() != found.len() => {
                let allowed = format!("one name for each of the data set's {} points", found.len());
                return Err(refuse("landmarks.names", format!("{} names", names.len()), allowed));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Turns names into numbers. `flip_pairs` are those of the data set's points that change places in a mirror, by
    /// number; `None` when nobody said.
    ///
    /// # Errors
    /// A name or number that the data set does not have, or one that is chosen twice.
    pub fn choose(&self, flip_pairs: Option<&[[usize; 2]]>) -> Result<Chosen, SettingError> {
        let names = self.names.as_deref().ok_or_else(|| {
            refuse("landmarks.names", "null", "the names of the points, where no data set is opened")
        })?;
        let numbers = match &self.chosen {
            None => (0..names.len()).collect(),
            Some(chosen) => numbers("landmarks.use", chosen, names)?,
        };
        if numbers.is_empty() {
            return Err(refuse("landmarks.use", "[]", "at least one landmark, or null for all"));
        }
        let mut weights = vec![1.0; names.len()];
        for (name, &weight) in &self.weights {
            let landmark = name.parse().map_or_else(|_| Landmark::Name(name.clone()), Landmark::Number);
            weights[number("landmarks.weights", &landmark, names)?] = weight;
        }
        let place = |number| numbers.iter().position(|&n| n == number);
        let group = |group: &[Landmark]| {
            const KEY: &str = "landmarks.normalizer";
            let found = self::numbers(KEY, group, names)?;
            let trained =
                |&n: &usize| place(n).ok_or_else(|| refuse(KEY, &names[n], "landmarks that are trained"));
            found.iter().map(trained).collect::<Result<Vec<_>, _>>()
        };
        let normalizer = match &self.normalizer {
            NormalizerConfig::Of(NormalizedBy::Box) => Normalizer::BoxSide,
            NormalizerConfig::Of(NormalizedBy::Image) => Normalizer::ImageDiagonal,
            NormalizerConfig::Of(NormalizedBy::Pixel) => Normalizer::Pixels,
            NormalizerConfig::Groups([a, b]) => Normalizer::InterPupil(group(a)?, group(b)?),
        };
        let pairs = |pairs: &[[usize; 2]]| -> Option<Vec<(usize, usize)>> {
            let trained = pairs.iter().filter(|pair| pair.iter().any(|&n| place(n).is_some()));
            trained.map(|&[a, b]| Some((place(a)?, place(b)?))).collect()
        };
        let flip_pairs = flip_pairs.and_then(pairs);
        if self.flip_test && flip_pairs.is_none() {
            let allowed =
                "false, unless augment.flip_pairs names the pairs and both of each pair are trained";
            return Err(refuse("landmarks.flip_test", true, allowed));
        }
        Ok(Chosen {
            names: numbers.iter().map(|&n| names[n].clone()).collect(),
            weights: numbers.iter().map(|&n| weights[n]).collect(),
            numbers,
            normalizer,
            flip_pairs,
        })
    }

    /// How a network's maps are read. `side_multiple` and `are_logits` as in [`MapReader`].
    pub fn reader(&self, chosen: &Chosen, side_multiple: u32, are_logits: bool) -> MapReader {
        MapReader {
            decode: self.decode,
            sigma_px: self.sigma.into(),
            test_time: TestTime {
                flip_pairs: chosen.flip_pairs.clone().filter(|_| self.flip_test),
                scales: self.test_scales.clone(),
                side_multiple,
            },
            are_logits,
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// The first that cannot work.
    pub fn check(&self) -> Result<(), SettingError> {
        if !(self.sigma >= 0.2 && self.sigma <= 100.0) {
            return Err(refuse("landmarks.sigma", self.sigma, "from 0.2 to 100 heat-map pixels"));
        }
        if let Some((_, weight)) =
            self.weights.iter().find(|(_, w)| !(w.is_finite() && **w >= 0.0 && **w <= 1e6))
        {
            return Err(refuse("landmarks.weights", weight, "numbers from 0 to 1000000"));
        }
        if let Some(radius) = self.radii.iter().find(|r| !(r.is_finite() && **r > 0.0)) {
            return Err(refuse("landmarks.radii", radius, "finite numbers above 0"));
        }
        if let Some(scale) = self.test_scales.iter().find(|s| !(0.25..=4.0).contains(*s)) {
            return Err(refuse("landmarks.test_scales", scale, "factors from 0.25 to 4"));
        }
        if !(self.failure.is_finite() && self.failure > 0.0) {
            return Err(refuse("landmarks.failure", self.failure, "a finite number above 0"));
        }
        Ok(())
    }
}

fn numbers(key: &'static str, landmarks: &[Landmark], names: &[String]) -> Result<Vec<usize>, SettingError> {
    let mut numbers = Vec::with_capacity(landmarks.len());
    for landmark in landmarks {
        let number = number(key, landmark, names)?;
        if numbers.contains(&number) {
            return Err(refuse(key, &names[number], "each landmark once"));
        }
        numbers.push(number);
    }
    Ok(numbers)
}

fn number(key: &'static str, landmark: &Landmark, names: &[String]) -> Result<usize, SettingError> {
    let (value, found) = match landmark {
        Landmark::Number(n) => (n.to_string(), (*n < names.len()).then_some(*n)),
        Landmark::Name(name) => (name.clone(), names.iter().position(|known| known == name)),
    };
    found.ok_or_else(|| {
        /// Names shown; a face may have hundreds.
        const SHOWN: usize = 40;
        let shown = names[..names.len().min(SHOWN)].join(", ");
        let more = if names.len() > SHOWN { ", ..." } else { "" };
        refuse(key, value, format!("numbers below {}, or names of the data set: {shown}{more}", names.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[&str]) -> LandmarksConfig {
        let names = Some(names.iter().map(|name| name.to_string()).collect());
        LandmarksConfig { names, ..Default::default() }
    }

    fn by_name(names: &[&str]) -> Vec<Landmark> {
        names.iter().map(|name| Landmark::Name(name.to_string())).collect()
    }

    #[test]
    fn names_and_numbers_choose_the_same() {
        let mut config = config(&["N", "S", "R", "Co"]);
        config.weights.insert("R".into(), 2.0);
        config.weights.insert("0".into(), 3.0);
        config.chosen = Some(vec![Landmark::Name("R".into()), Landmark::Number(0)]);
        let chosen = config.choose(None).unwrap();
        assert_eq!((chosen.numbers, chosen.names), (vec![2, 0], vec!["R".to_string(), "N".into()]));
        assert_eq!(chosen.weights, [2.0, 3.0]);
        config.chosen = None;
        assert_eq!(config.choose(None).unwrap().weights, [3.0, 1.0, 2.0, 1.0]);
    }

    #[test]
    fn pairs_follow_the_subset() {
        let mut config = config(&["a", "b", "c", "d"]);
        let mut pairs = |chosen: &[&str]| {
            config.chosen = Some(by_name(chosen));
            config.choose(Some(&[[0, 3], [1, 2]])).unwrap().flip_pairs
        };
        assert_eq!(pairs(&["c", "b"]), Some(vec![(1, 0)]));
        assert_eq!(pairs(&["d", "b", "a", "c"]), Some(vec![(2, 0), (1, 3)]));
        assert_eq!(pairs(&["a", "b", "c"]), None, "d is the partner of a");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let refused = |change: fn(&mut LandmarksConfig)| {
            let mut config = config(&["a", "b"]);
            change(&mut config);
            let error = config.check().and_then(|()| config.choose(None).map(drop)).unwrap_err();
            format!("{}: {}: {}", error.key, error.value, error.allowed)
        };
        assert_eq!(
            refused(|c| c.chosen = Some(by_name(&["z"]))),
            "landmarks.use: z: numbers below 2, or names of the data set: a, b"
        );
        assert!(refused(|c| c.chosen = Some(vec![])).starts_with("landmarks.use: []"));
        assert!(refused(|c| c.chosen = Some(by_name(&["a", "a"]))).ends_with("each landmark once"));
        assert!(refused(|c| c.names = None).starts_with("landmarks.names: null"));
        assert!(refused(|c| c.sigma = 0.0).starts_with("landmarks.sigma"));
        assert!(refused(|c| c.failure = f64::NAN).starts_with("landmarks.failure"));
        assert!(refused(|c| c.radii = vec![-1.0]).starts_with("landmarks.radii"));
        assert!(refused(|c| c.weights = [("a".into(), f32::NAN)].into()).starts_with("landmarks.weights"));
        assert!(refused(|c| c.flip_test = true).starts_with("landmarks.flip_test"));
    }
}
