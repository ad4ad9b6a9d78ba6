//! The settings checked against the sizes they will meet, ready to draw from.

use fullbore_types::Size;

use crate::config::{AugmentConfig, Border, Preset};
use crate::params::MAX_ERASE;
use crate::stage::{Op, Stage};

/// Longest side of a canvas or an output in pixels, as for the data.
const MAX_SIDE: u32 = 16_384;
/// Smallest and largest factor on a length.
const FACTORS: [f64; 2] = [0.1, 10.0];
/// Smallest and largest exponent: beyond, dark or bright pixels all become one.
const EXPONENTS: [f64; 2] = [0.2, 5.0];
/// Probability of an operation that the preset leaves off and whose other keys are set.
const P_WHEN_SET: f64 = 0.5;
/// Largest displacement as a share of a cell: below a sixth the smooth displacement cannot fold, so points have one place.
const ELASTIC_SHARE: f64 = 0.125;
/// Most cells along a side of the displacement grid.
const MAX_CELLS: u32 = 64;
/// Widest blur in canvas pixels: its cost grows with it.
const MAX_SIGMA: f64 = 16.0;

/// What may happen to training samples, checked. Draws are made with [`Policy::draw`].
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    canvas: Size,
    out: Size,
    border: Border,
    flip_pairs: Vec<[usize; 2]>,
    /// What holds before `at_epoch`.
    first: Stage,
    /// What holds in the end.
    then: Stage,
    at_epoch: u64,
    blend_epochs: u64,
}

/// A key of the `augment:` part that cannot work as it stands.
#[derive(Debug, Clone, PartialEq, thiserror::Error, miette::Diagnostic)]
pub enum AugmentError {
    /// A value outside what the key allows.
    #[error("{key} is {value}, which cannot work")]
    #[diagnostic(code(config::augment::value), help("{key} allows {allowed}"))]
    Value {
        /// Full name of the key.
        key: String,
        /// What it was set to.
        value: String,
        /// What it may be set to.
        allowed: String,
    },
    /// Landmarks would be mirrored, and nothing says which have a side.
    #[error("augment.flip_pairs is not set, but samples with {landmarks} landmarks are mirrored")]
    #[diagnostic(
        code(config::augment::flip_pairs),
        help(
            "list the [left, right] pairs of landmark indices in augment.flip_pairs ([] when none has a side), or set \
             augment.allow_flip=false"
        )
    )]
    FlipPairsMissing {
        /// Landmarks of a sample.
        landmarks: usize,
    },
}

impl AugmentConfig {
    /// Checks every key and fills in the preset. `canvas`: size of the samples; `out`: size of the network's input;
    /// `landmarks`: landmarks of a sample, where it has any.
    ///
    /// # Errors
    /// The first key whose value cannot work, with what it may be.
    pub fn resolve(&self, canvas: Size, out: Size, landmarks: Option<usize>) -> Result<Policy, AugmentError> {
        for size in [canvas, out] {
            let sides = 1..=MAX_SIDE;
            if !sides.contains(&size.width) || !sides.contains(&size.height) {
                return Err(refuse("data.size", size, format!("sides from 1 to {MAX_SIDE}")));
            }
        }
        let mut policy = match self.preset {
            Preset::Progressive => {
                let change = &self.progressive;
                Policy {
                    first: self.part("augment.progressive.first", change.first, out)?,
                    then: self.part("augment.progressive.then", change.then, out)?,
                    at_epoch: change.at_epoch,
                    blend_epochs: change.blend_epochs,
                    ..Policy::always(self.border, canvas, out, Stage::NONE)
                }
            }
            preset => Policy::always(self.border, canvas, out, self.stage(preset, out)?),
        };
        policy.flip_pairs = self.checked_pairs(landmarks, policy.can_flip())?;
        Ok(policy)
    }

    fn part(&self, key: &str, preset: Preset, out: Size) -> Result<Stage, AugmentError> {
        match preset {
            Preset::Progressive => Err(refuse(key, "progressive", "none, minimal, standard or strong")),
            preset => self.stage(preset, out),
        }
    }

    /// The preset with the user's keys laid over it, each checked.
    fn stage(&self, preset: Preset, out: Size) -> Result<Stage, AugmentError> {
        let mut stage = match preset {
            Preset::None | Preset::Progressive => Stage::NONE,
            Preset::Minimal => Stage::MINIMAL,
            Preset::Standard => Stage::STANDARD,
            Preset::Strong => Stage::STRONG,
        };
        for (key, set, p) in
            [("hflip", self.hflip.p, &mut stage.hflip), ("vflip", self.vflip.p, &mut stage.vflip)]
        {
            match (self.allow_flip, set) {
                (false, Some(chance)) if chance != 0.0 => {
                    let allowed = "null or 0 while augment.allow_flip is false";
                    return Err(refuse(format!("augment.{key}.p"), format!("{chance:?}"), allowed));
                }
                (false, _) => *p = 0.0,
                (true, Some(chance)) => *p = probability(key, chance)?,
                (true, None) => {}
            }
        }

        let turn = [-180.0, 180.0];
        let colour = [0.0, 4.0];
        lay(&mut stage.rotate, "rotate", self.rotate.p, "degrees", self.rotate.degrees, turn)?;
        lay(&mut stage.scale, "scale", self.scale.p, "range", self.scale.range, FACTORS)?;
        lay(&mut stage.shift, "shift", self.shift.p, "range", self.shift.range, [-1.0, 1.0])?;
        lay(&mut stage.shear, "shear", self.shear.p, "degrees", self.shear.degrees, [-60.0, 60.0])?;
        lay(&mut stage.brightness, "brightness", self.brightness.p, "range", self.brightness.range, colour)?;
        lay(&mut stage.contrast, "contrast", self.contrast.p, "range", self.contrast.range, colour)?;
        lay(&mut stage.saturation, "saturation", self.saturation.p, "range", self.saturation.range, colour)?;
        lay(&mut stage.hue, "hue", self.hue.p, "degrees", self.hue.degrees, turn)?;
        lay(&mut stage.gamma, "gamma", self.gamma.p, "range", self.gamma.range, EXPONENTS)?;
        lay(&mut stage.noise, "noise", self.noise.p, "std", self.noise.std, [0.0, 1.0])?;
        lay(&mut stage.blur, "blur", self.blur.p, "sigma", self.blur.sigma, [0.0, MAX_SIGMA])?;

        let area = [0.01, 1.0];
        let crop = &self.crop;
        let more = crop.aspect.is_some();
        lay_table(&mut stage.crop, "crop", crop.p, more, "area", crop.area, area)?;
        if let Some(aspect) = crop.aspect {
            stage.crop_aspect = between("augment.crop.aspect", aspect, FACTORS)?;
        }
        let erase = &self.erase;
        let more = erase.aspect.is_some() || erase.count.is_some();
        lay_table(&mut stage.erase, "erase", erase.p, more, "area", erase.area, [0.0, 1.0])?;
        if let Some(aspect) = erase.aspect {
            stage.erase_aspect = between("augment.erase.aspect", aspect, FACTORS)?;
        }
        if let Some(count) = erase.count {
            if !(1..=MAX_ERASE as u32).contains(&count) {
                return Err(refuse("augment.erase.count", count, format!("1 to {MAX_ERASE} boxes")));
            }
            stage.erase_count = count;
        }
        self.lay_elastic(&mut stage, out)?;
        Ok(stage)
    }

    fn lay_elastic(&self, stage: &mut Stage, out: Size) -> Result<(), AugmentError> {
        let elastic = &self.elastic;
        if let Some(cells) = elastic.grid {
            if !(1..=MAX_CELLS).contains(&cells) {
                return Err(refuse("augment.elastic.grid", cells, format!("1 to {MAX_CELLS} cells")));
            }
            stage.elastic_cells = cells;
        }
        let limit = elastic_limit_px(out, stage.elastic_cells);
        let share = match elastic.alpha {
            Some(alpha) => Some(between("augment.elastic.alpha", alpha, [0.0, limit])?.map(|px| px / limit)),
            None => None,
        };
        let more = elastic.grid.is_some();
        lay_table(&mut stage.elastic, "elastic", elastic.p, more, "alpha", share, [0.0, 1.0])
    }

    fn checked_pairs(
        &self,
        landmarks: Option<usize>,
        can_flip: bool,
    ) -> Result<Vec<[usize; 2]>, AugmentError> {
        let key = "augment.flip_pairs";
        let Some(pairs) = &self.flip_pairs else {
            return match landmarks {
                Some(landmarks) if can_flip => Err(AugmentError::FlipPairsMissing { landmarks }),
                _ => Ok(Vec::new()),
            };
        };
        let n = landmarks.unwrap_or(0);
        let mut paired = vec![false; n];
        for pair in pairs {
            for &index in pair {
                let Some(seen) = paired.get_mut(index) else {
                    let allowed = match n {
                        0 => "null or [] here: the samples have no landmarks".to_string(),
                        n => format!("pairs of indices from 0 to {}", n - 1),
                    };
                    return Err(refuse(key, format!("{pair:?} (among others)"), allowed));
                };
                if std::mem::replace(seen, true) {
                    let allowed = format!("each index once; {index} is there twice");
                    return Err(refuse(key, format!("{pair:?} (among others)"), allowed));
                }
            }
        }
        Ok(pairs.clone())
    }
}

impl Policy {
    fn always(border: Border, canvas: Size, out: Size, stage: Stage) -> Self {
        let (first, then) = (stage, stage);
        Self { canvas, out, border, flip_pairs: Vec::new(), first, then, at_epoch: 0, blend_epochs: 0 }
    }

    /// Size of the samples that come in.
    pub fn canvas(&self) -> Size {
        self.canvas
    }

    /// Size of the network's input.
    pub fn out(&self) -> Size {
        self.out
    }

    /// What lies outside the canvas.
    pub fn border(&self) -> Border {
        self.border
    }

    /// Landmarks that change places in mirrored samples.
    pub fn flip_pairs(&self) -> &[[usize; 2]] {
        &self.flip_pairs
    }

    /// True when no sample of the zero-based `epoch` is changed in any way: nothing is drawn, and the output is as large
    /// as the canvas.
    pub fn is_identity(&self, epoch: u64) -> bool {
        self.canvas == self.out && self.stage(epoch).is_off()
    }

    /// What is on, one line for each operation, for the log. Empty when nothing ever is.
    pub fn describe(&self) -> Vec<String> {
        let lines = |stage: &Stage| stage.describe(elastic_limit_px(self.out, stage.elastic_cells));
        let at_epoch = self.at_epoch;
        if at_epoch == 0 && self.blend_epochs == 0 {
            return lines(&self.then);
        }
        let or_nothing = |lines: Vec<String>| match lines.is_empty() {
            true => vec!["nothing".to_string()],
            false => lines,
        };
        let blend = match self.blend_epochs {
            0 => String::new(),
            n => format!(" (reached over {n} epochs)"),
        };
        let before =
            or_nothing(lines(&self.first)).into_iter().map(|l| format!("before epoch {at_epoch}: {l}"));
        let after =
            or_nothing(lines(&self.then)).into_iter().map(|l| format!("from epoch {at_epoch}{blend}: {l}"));
        before.chain(after).collect()
    }

    /// What holds in the zero-based `epoch`.
    pub(crate) fn stage(&self, epoch: u64) -> Stage {
        let since = epoch.saturating_sub(self.at_epoch);
        if epoch < self.at_epoch {
            self.first
        } else if since >= self.blend_epochs {
            self.then
        } else {
            // The first epoch of the change already moves; the last one before `then` is one step short of it.
            self.first.towards(&self.then, (since as f64 + 1.0) / (self.blend_epochs as f64 + 1.0))
        }
    }

    /// The displacement in output pixels that a share of 1 means.
    pub(crate) fn elastic_limit_px(&self, cells: u32) -> f64 {
        elastic_limit_px(self.out, cells)
    }

    fn can_flip(&self) -> bool {
        [self.first, self.then].iter().any(|stage| stage.hflip > 0.0 || stage.vflip > 0.0)
    }
}

fn elastic_limit_px(out: Size, cells: u32) -> f64 {
    f64::from(out.width.min(out.height)) / f64::from(cells) * ELASTIC_SHARE
}

/// Lays an operation's keys over the preset's.
fn lay(
    op: &mut Op,
    name: &str,
    p: Option<f64>,
    range_key: &str,
    range: Option<[f64; 2]>,
    allowed: [f64; 2],
) -> Result<(), AugmentError> {
    lay_table(op, name, p, false, range_key, range, allowed)
}

/// The same for a table with further keys; `more`: one of those is set.
fn lay_table(
    op: &mut Op,
    name: &str,
    p: Option<f64>,
    more: bool,
    range_key: &str,
    range: Option<[f64; 2]>,
    allowed: [f64; 2],
) -> Result<(), AugmentError> {
    if let Some(range) = range {
        op.range = between(&format!("augment.{name}.{range_key}"), range, allowed)?;
    }
    match p {
        Some(p) => op.p = probability(name, p)?,
        None if op.p == 0.0 && (more || range.is_some()) => op.p = P_WHEN_SET,
        None => {}
    }
    Ok(())
}

fn probability(name: &str, p: f64) -> Result<f64, AugmentError> {
    match (0.0..=1.0).contains(&p) {
        true => Ok(p),
        false => Err(refuse(format!("augment.{name}.p"), format!("{p:?}"), "a probability from 0 to 1")),
    }
}

/// A range whose ends are in order and inside `allowed`. NaN is in no range.
fn between(key: &str, range: [f64; 2], allowed: [f64; 2]) -> Result<[f64; 2], AugmentError> {
    let [lo, hi] = range;
    let within = |v: f64| (allowed[0]..=allowed[1]).contains(&v);
    match within(lo) && within(hi) && lo <= hi {
        true => Ok(range),
        false => {
            let [from, to] = allowed;
            Err(refuse(key, format!("{range:?}"), format!("[smallest, largest] from {from} to {to}")))
        }
    }
}

fn refuse(key: impl Into<String>, value: impl ToString, allowed: impl Into<String>) -> AugmentError {
    AugmentError::Value { key: key.into(), value: value.to_string(), allowed: allowed.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SIDE: Size = Size { width: 512, height: 512 };

    fn config(settings: Value) -> AugmentConfig {
        serde_json::from_value(settings).unwrap()
    }

    fn policy(settings: Value) -> Policy {
        config(settings).resolve(SIDE, SIDE, None).unwrap()
    }

    fn refused(settings: Value, landmarks: Option<usize>) -> (String, String, String) {
        match config(settings).resolve(SIDE, SIDE, landmarks).unwrap_err() {
            AugmentError::Value { key, value, allowed } => (key, value, allowed),
            AugmentError::FlipPairsMissing { landmarks } => {
                ("missing".into(), landmarks.to_string(), String::new())
            }
        }
    }

    #[test]
    fn nothing_is_on_by_default() {
        let policy = policy(json!({}));
        assert!(policy.is_identity(0) && policy.describe().is_empty());
        let smaller = AugmentConfig::default().resolve(SIDE, Size::new(256, 256), None).unwrap();
        assert!(!smaller.is_identity(0), "a resize is a change");
    }

    #[test]
    fn keys_are_laid_over_the_preset() {
        let on = policy(json!({"preset": "standard", "rotate": {"degrees": [-90, 45]}, "contrast": {"p": 0},
                               "blur": {"sigma": [1, 2]}, "elastic": {"alpha": [2, 8]}}));
        assert_eq!(
            on.describe(),
            [
                "horizontal flip p 0.5",
                "rotation p 1, -90 to 45 degrees",
                "brightness p 1, 0.8 to 1.2",
                "blur (an extra pass) p 0.5, 1 to 2 px",
                "elastic (an extra term) p 0.5, 2 to 8 px, grid 4"
            ]
        );
        assert!(policy(json!({"preset": "minimal", "hflip": {"p": 0}})).is_identity(3));
    }

    #[test]
    fn every_refusal_names_key_value_and_what_is_allowed() {
        let check = |settings, key: &str, value: &str, allowed: &str| {
            let found = refused(settings, Some(5));
            assert_eq!((found.0.as_str(), found.1.as_str()), (key, value));
            assert!(found.2.contains(allowed), "{found:?}");
        };
        check(
            json!({"rotate": {"degrees": [15, -15]}}),
            "augment.rotate.degrees",
            "[15.0, -15.0]",
            "-180 to 180",
        );
        check(json!({"rotate": {"degrees": [-15, 181]}}), "augment.rotate.degrees", "[-15.0, 181.0]", "180");
        check(json!({"brightness": {"p": 1.5}}), "augment.brightness.p", "1.5", "0 to 1");
        check(json!({"crop": {"area": [0.5, 1.2]}}), "augment.crop.area", "[0.5, 1.2]", "to 1");
        check(json!({"crop": {"aspect": [0, 1]}}), "augment.crop.aspect", "[0.0, 1.0]", "0.1 to 10");
        check(json!({"scale": {"range": [0.0, 1.0]}}), "augment.scale.range", "[0.0, 1.0]", "0.1 to 10");
        check(json!({"erase": {"count": 5}}), "augment.erase.count", "5", "1 to 4");
        check(json!({"elastic": {"grid": 0}}), "augment.elastic.grid", "0", "1 to 64");
        check(json!({"elastic": {"alpha": [0, 17]}}), "augment.elastic.alpha", "[0.0, 17.0]", "0 to 16");
        check(json!({"blur": {"sigma": [0, 99]}}), "augment.blur.sigma", "[0.0, 99.0]", "16");
        check(json!({"hflip": {"p": -0.1}}), "augment.hflip.p", "-0.1", "0 to 1");
        check(
            json!({"allow_flip": false, "vflip": {"p": 0.5}}),
            "augment.vflip.p",
            "0.5",
            "augment.allow_flip is false",
        );
        check(
            json!({"flip_pairs": [[0, 1], [2, 5]]}),
            "augment.flip_pairs",
            "[2, 5] (among others)",
            "0 to 4",
        );
        check(
            json!({"flip_pairs": [[0, 1], [1, 2]]}),
            "augment.flip_pairs",
            "[1, 2] (among others)",
            "twice",
        );
        check(json!({"flip_pairs": [[3, 3]]}), "augment.flip_pairs", "[3, 3] (among others)", "twice");
        check(
            json!({"preset": "progressive", "progressive": {"then": "progressive"}}),
            "augment.progressive.then",
            "progressive",
            "strong",
        );
        assert_eq!(refused(json!({"flip_pairs": [[0, 1]]}), None).0, "augment.flip_pairs");
        let mut endless = config(json!({}));
        endless.gamma.range = Some([f64::NAN, 1.0]);
        assert!(endless.resolve(SIDE, SIDE, None).is_err());
        endless.gamma.range = Some([0.5, f64::INFINITY]);
        assert!(endless.resolve(SIDE, SIDE, None).is_err());
        for size in [Size::new(0, 5), Size::new(5, 16_385)] {
            assert!(AugmentConfig::default().resolve(SIDE, size, None).is_err());
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        for settings in [json!({"rotat": {}}), json!({"rotate": {"angle": 3}}), json!({"preset": "wild"})] {
            assert!(serde_json::from_value::<AugmentConfig>(settings).is_err());
        }
    }

    #[test]
    fn it_reads_back_what_it_writes() {
        let config = config(json!({"preset": "progressive", "border": "reflect", "flip_pairs": [[0, 1]],
                                   "crop": {"p": 0.5, "area": [0.2, 0.9]}}));
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<AugmentConfig>(&text).unwrap(), config);
    }

    #[test]
    fn flips_can_be_forbidden_and_landmarks_need_their_pairs() {
        assert_eq!(refused(json!({"preset": "standard"}), Some(4)).0, "missing");
        assert_eq!(refused(json!({"preset": "progressive"}), Some(4)).0, "missing");
        let resolve = |settings| config(settings).resolve(SIDE, SIDE, Some(4)).unwrap();
        let no_flip = resolve(json!({"preset": "standard", "allow_flip": false}));
        assert!(no_flip.describe().iter().all(|line| !line.contains("flip")));
        assert_eq!(resolve(json!({"preset": "minimal", "flip_pairs": []})).flip_pairs().len(), 0);
        assert_eq!(resolve(json!({"preset": "minimal", "flip_pairs": [[3, 1]]})).flip_pairs(), [[3, 1]]);
        resolve(json!({"preset": "none", "rotate": {"p": 1}}));
    }

    #[test]
    fn progressive_switches_or_blends_by_epoch() {
        let switched = policy(json!({"preset": "progressive", "progressive": {"at_epoch": 3}}));
        assert_eq!(switched.stage(2), Stage::MINIMAL);
        assert_eq!(switched.stage(3), Stage::STRONG);
        let blended = policy(json!({"preset": "progressive",
            "progressive": {"first": "none", "then": "standard", "at_epoch": 3, "blend_epochs": 3}}));
        let p = |epoch| blended.stage(epoch).rotate.p;
        assert_eq!([2, 3, 4, 5, 6, 99].map(p), [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);
        assert!(blended.is_identity(2) && !blended.is_identity(3));
        let lines = blended.describe();
        assert_eq!(lines[0], "before epoch 3: nothing");
        assert_eq!(lines[1], "from epoch 3 (reached over 3 epochs): horizontal flip p 0.5");
        let never_flips = policy(json!({"preset": "progressive", "hflip": {"p": 0}}));
        assert_eq!((never_flips.stage(0).hflip, never_flips.stage(99).hflip), (0.0, 0.0));
    }
}
