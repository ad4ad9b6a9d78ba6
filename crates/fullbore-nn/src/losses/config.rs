//! The `loss` part of a plan, for both tasks.

use serde::{Deserialize, Serialize};

use super::heatmap::{HeatmapLoss, HeatmapLossConfig};
use crate::optim::SettingError;

/// The `loss` part of a plan. `None` is the default of the named loss, and what that loss does not have must be `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Which loss.
    pub name: LossName,
    /// Cross entropies and focal: one weight per class (1). Means over pixels become weighted means: they divide by the
    /// sum of the weights used, as PyTorch's `cross_entropy` does.
    pub class_weights: Option<Vec<f64>>,
    /// `bce`, `bce_dice`: multiplies the loss of positive pixels, not what it is divided by (1).
    pub pos_weight: Option<f64>,
    /// Dice and Tversky: added to numerator and denominator, in pixels (1).
    pub smooth: Option<f64>,
    /// `focal`: how much easy pixels are held back (2). `focal_tversky`: exponent of 1 - TI (0.75).
    pub gamma: Option<f64>,
    /// `focal` with two classes: weight of the positive class, the other has 1 - alpha (0.25). Tversky: weight of false
    /// positives (0.3).
    pub alpha: Option<f64>,
    /// Tversky: weight of false negatives (0.7).
    pub beta: Option<f64>,
    /// Losses on heat-maps: weight of an added smooth L1 distance of the soft-argmax, in units of the map's sides (0).
    pub coord_weight: Option<f64>,
}

/// The losses by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossName {
    /// Binary cross entropy on one logit, mean over labelled pixels.
    Bce,
    /// Binary cross entropy plus soft Dice on one logit.
    BceDice,
    /// Cross entropy on one logit per class, mean over labelled pixels.
    Ce,
    /// Cross entropy plus soft Dice, background included.
    CeDice,
    /// Soft Dice: on one logit for two classes, else on one per class, background included.
    Dice,
    /// Cross entropy that holds back easy pixels (Lin et al. 2017), logits as for `dice`.
    Focal,
    /// Tversky index: Dice with weights for false positives and false negatives (Salehi et al. 2017).
    Tversky,
    /// (1 - Tversky index)^gamma (Abraham and Khan 2019).
    FocalTversky,
    /// Mean squared error of heat-maps.
    Mse,
    /// The same, halved, landmark weights acting squared, as in the code of HRNet for poses.
    MseWeighted,
    /// Adaptive wing with weight map (Wang et al. 2019).
    AdaptiveWing,
    /// Wing (Feng et al. 2018) on the coordinates of a soft-argmax.
    Wing,
    /// Cross entropy of a softmax over the map's pixels.
    SoftmaxCe,
}

/// What a network is trained to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A class for every pixel.
    Masks,
    /// Points, by heat-maps.
    Landmarks,
}

/// Most that a factor may be: beyond, f32 gradients overflow.
const MOST: f64 = 1e6;

impl LossName {
    /// The task that the loss is for.
    pub fn task(self) -> Task {
        if self.heatmap().is_some() { Task::Landmarks } else { Task::Masks }
    }

    /// Output channels that the loss wants for a number of classes; `None` when it cannot serve that number, or is not
    /// for masks.
    pub fn channels(self, classes: usize) -> Option<i64> {
        use LossName::{Bce, BceDice, Ce, CeDice, Dice, Focal, FocalTversky, Tversky};
        match self {
            Bce | BceDice => (classes == 2).then_some(1),
            Ce | CeDice => (classes >= 2).then_some(classes as i64),
            Dice | Focal | Tversky | FocalTversky if classes == 2 => Some(1),
            Dice | Focal | Tversky | FocalTversky => (classes > 2).then_some(classes as i64),
            _ => None,
        }
    }

    /// True when the network's maps are logits of a probability over the map's pixels:
    /// [`crate::decode::probabilities`] comes before decoding.
    pub fn maps_are_logits(self) -> bool {
        matches!(self, LossName::SoftmaxCe | LossName::Wing)
    }

    fn heatmap(self) -> Option<HeatmapLoss> {
        match self {
            LossName::Mse => Some(HeatmapLoss::Mse),
            LossName::MseWeighted => Some(HeatmapLoss::MseWeighted),
            LossName::AdaptiveWing => Some(HeatmapLoss::AdaptiveWing),
            LossName::Wing => Some(HeatmapLoss::Wing),
            LossName::SoftmaxCe => Some(HeatmapLoss::SoftmaxCe),
            _ => None,
        }
    }

    /// As it is written in settings.
    pub fn key(self) -> &'static str {
        match self {
            LossName::Bce => "bce",
            LossName::BceDice => "bce_dice",
            LossName::Ce => "ce",
            LossName::CeDice => "ce_dice",
            LossName::Dice => "dice",
            LossName::Focal => "focal",
            LossName::Tversky => "tversky",
            LossName::FocalTversky => "focal_tversky",
            LossName::Mse => "mse",
            LossName::MseWeighted => "mse_weighted",
            LossName::AdaptiveWing => "adaptive_wing",
            LossName::Wing => "wing",
            LossName::SoftmaxCe => "softmax_ce",
        }
    }
}

impl From<LossName> for LossConfig {
    /// The loss with its defaults.
    fn from(name: LossName) -> Self {
        Self {
            name,
            class_weights: None,
            pos_weight: None,
            smooth: None,
            gamma: None,
            alpha: None,
            beta: None,
            coord_weight: None,
        }
    }
}

impl LossConfig {
    /// The loss on heat-maps; `None` when the named loss is for masks.
    pub fn heatmap(&self) -> Option<HeatmapLossConfig> {
        let name = self.name.heatmap()?;
        Some(HeatmapLossConfig { name, coord_weight: self.coord_weight.unwrap_or(0.0) })
    }

    /// Checks every number, that none is set that the loss does not have, and, for masks, that the loss can serve the
    /// number of classes.
    pub fn check(&self, classes: usize) -> Result<(), SettingError> {
        self.check_names()?;
        self.check_ranges()?;
        if self.name.task() == Task::Masks { self.check_classes(classes) } else { Ok(()) }
    }

    fn check_names(&self) -> Result<(), SettingError> {
        use LossName::*;
        let text = |value: Option<f64>| value.map(|v| v.to_string());
        let has: [(&str, Option<String>, &[LossName]); 7] = [
            (
                "loss.class_weights",
                self.class_weights.as_ref().map(|weights| format!("{weights:?}")),
                &[Bce, BceDice, Ce, CeDice, Focal],
            ),
            ("loss.pos_weight", text(self.pos_weight), &[Bce, BceDice]),
            ("loss.smooth", text(self.smooth), &[BceDice, CeDice, Dice, Tversky, FocalTversky]),
            ("loss.gamma", text(self.gamma), &[Focal, FocalTversky]),
            ("loss.alpha", text(self.alpha), &[Focal, Tversky, FocalTversky]),
            ("loss.beta", text(self.beta), &[Tversky, FocalTversky]),
            ("loss.coord_weight", text(self.coord_weight), &[Mse, MseWeighted, AdaptiveWing, SoftmaxCe]),
        ];
        for (key, value, who) in has {
            let Some(value) = value.filter(|_| !who.contains(&self.name)) else { continue };
            let who: Vec<_> = who.iter().map(|name| name.key()).collect();
            let allowed =
                format!("null, because loss.name is {}; {} may set it", self.name.key(), who.join(", "));
            return Err(refuse(key, value, allowed));
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), SettingError> {
        let weights = self.class_weights.iter().flatten().copied();
        if let Some(value) = weights.clone().find(|v| !(0.0..=MOST).contains(v)) {
            return Err(refuse("loss.class_weights", value, format!("from 0 to {MOST} each")));
        }
        if self.class_weights.is_some() && weights.sum::<f64>() == 0.0 {
            return Err(refuse("loss.class_weights", "0 for every class", "a weight above 0 somewhere"));
        }
        let positive = [("loss.pos_weight", self.pos_weight), ("loss.smooth", self.smooth)];
        for (key, value) in positive {
            if let Some(value) = value.filter(|v| !(*v >= 1e-6 && *v <= MOST)) {
                return Err(refuse(key, value, format!("from 1e-6 to {MOST}")));
            }
        }
        if let Some(value) = self.coord_weight.filter(|v| !(0.0..=MOST).contains(v)) {
            return Err(refuse("loss.coord_weight", value, format!("from 0 to {MOST}")));
        }
        // Below 1 the gradient of a perfect pixel would be infinite.
        let (least, most) = if self.name == LossName::Focal { (1.0, 10.0) } else { (0.1, 10.0) };
        if let Some(value) = self.gamma.filter(|v| !(least..=most).contains(v)) {
            return Err(refuse("loss.gamma", value, format!("from {least} to {most}")));
        }
        let most = if self.name == LossName::Focal { 1.0 } else { 10.0 };
        for (key, value) in [("loss.alpha", self.alpha), ("loss.beta", self.beta)] {
            if let Some(value) = value.filter(|v| !(0.0..=most).contains(v)) {
                return Err(refuse(key, value, format!("from 0 to {most}")));
            }
        }
        Ok(())
    }

    fn check_classes(&self, classes: usize) -> Result<(), SettingError> {
        let name = self.name.key();
        if self.name.channels(classes).is_none() {
            let allowed = if classes < 2 {
                format!("every loss wants two classes or more, data.classes has {classes}")
            } else {
                format!("{name} wants two classes, data.classes has {classes}; use ce, ce_dice or dice")
            };
            return Err(refuse("loss.name", name, allowed));
        }
        if let Some(weights) = self.class_weights.as_ref().filter(|weights| weights.len() != classes) {
            let allowed = format!("one weight for each of the {classes} data.classes");
            return Err(refuse("loss.class_weights", format!("{weights:?}"), allowed));
        }
        match self.alpha {
            Some(alpha) if self.name == LossName::Focal && classes > 2 => {
                let allowed = format!("null, because there are {classes} classes; use loss.class_weights");
                Err(refuse("loss.alpha", alpha, allowed))
            }
            _ => Ok(()),
        }
    }
}

fn refuse(key: &'static str, value: impl ToString, allowed: impl Into<String>) -> SettingError {
    SettingError { key, value: value.to_string(), allowed: allowed.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [LossName; 13] = [
        LossName::Bce,
        LossName::BceDice,
        LossName::Ce,
        LossName::CeDice,
        LossName::Dice,
        LossName::Focal,
        LossName::Tversky,
        LossName::FocalTversky,
        LossName::Mse,
        LossName::MseWeighted,
        LossName::AdaptiveWing,
        LossName::Wing,
        LossName::SoftmaxCe,
    ];

    #[test]
    fn every_loss_works_with_its_defaults_and_is_for_one_task() {
        for name in ALL {
            LossConfig::from(name).check(2).unwrap();
            assert_eq!(name.channels(2).is_some(), name.task() == Task::Masks, "{name:?}");
            assert_eq!(LossConfig::from(name).heatmap().is_some(), name.task() == Task::Landmarks);
            assert_eq!(serde_json::to_value(name).unwrap(), name.key());
        }
    }

    #[test]
    fn what_a_loss_does_not_have_is_refused() {
        let plain = LossConfig::from(LossName::Bce);
        let set = [
            ("loss.class_weights", LossConfig { class_weights: Some(vec![1.0, 2.0]), ..plain.clone() }, 5),
            ("loss.pos_weight", LossConfig { pos_weight: Some(2.0), ..plain.clone() }, 2),
            ("loss.smooth", LossConfig { smooth: Some(1.0), ..plain.clone() }, 5),
            ("loss.gamma", LossConfig { gamma: Some(2.0), ..plain.clone() }, 2),
            ("loss.alpha", LossConfig { alpha: Some(0.5), ..plain.clone() }, 3),
            ("loss.beta", LossConfig { beta: Some(0.5), ..plain.clone() }, 2),
            ("loss.coord_weight", LossConfig { coord_weight: Some(20.0), ..plain }, 4),
        ];
        for (key, config, expected) in set {
            let mut having = 0;
            for name in ALL {
                match (LossConfig { name, ..config.clone() }).check(2) {
                    Ok(()) => having += 1,
                    Err(error) => {
                        assert_eq!(error.key, key);
                        assert!(error.allowed.contains(name.key()), "{error:?}");
                    }
                }
            }
            assert_eq!(having, expected, "{key}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_their_key() {
        let of = LossConfig::from;
        use LossName::*;
        for (key, classes, config) in [
            ("loss.name", 3, of(Bce)),
            ("loss.name", 1, of(Dice)),
            ("loss.class_weights", 3, LossConfig { class_weights: Some(vec![1.0, 2.0]), ..of(Ce) }),
            ("loss.class_weights", 2, LossConfig { class_weights: Some(vec![1.0, -2.0]), ..of(Ce) }),
            ("loss.class_weights", 2, LossConfig { class_weights: Some(vec![0.0, 0.0]), ..of(Ce) }),
            ("loss.class_weights", 2, LossConfig { class_weights: Some(vec![f64::NAN, 1.0]), ..of(Ce) }),
            ("loss.pos_weight", 2, LossConfig { pos_weight: Some(f64::INFINITY), ..of(Bce) }),
            ("loss.smooth", 2, LossConfig { smooth: Some(0.0), ..of(Dice) }),
            ("loss.gamma", 2, LossConfig { gamma: Some(0.5), ..of(Focal) }),
            ("loss.gamma", 2, LossConfig { gamma: Some(0.0), ..of(FocalTversky) }),
            ("loss.alpha", 2, LossConfig { alpha: Some(1.5), ..of(Focal) }),
            ("loss.alpha", 3, LossConfig { alpha: Some(0.5), ..of(Focal) }),
            ("loss.beta", 2, LossConfig { beta: Some(-1.0), ..of(Tversky) }),
            ("loss.coord_weight", 0, LossConfig { coord_weight: Some(-1.0), ..of(Mse) }),
        ] {
            assert_eq!(config.check(classes).unwrap_err().key, key, "{config:?}");
        }
    }
}
