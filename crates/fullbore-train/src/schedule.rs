//! Learning rate by optimizer step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::metric::{Waiting, is_better};
use crate::plan::{PlanError, refuse};

/// Longest warm-up.
const MOST_EPOCHS: f64 = 1e6;

/// The `schedule` part of a plan. Names are those of `torch.optim.lr_scheduler`; `None` is PyTorch's default for the
/// named schedule, and what that schedule does not know must be `None`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// What follows the warm-up.
    pub name: ScheduleName,
    /// Steps of linear warm-up; `None`: 20, and none for the one-cycle schedule, which rises by itself.
    pub warmup_steps: Option<u64>,
    /// The same in epochs, in the place of steps; `None` once the data set is open, which tells how many steps these are.
    #[serde(default)]
    pub warmup_epochs: Option<f64>,
    /// No schedule falls below it; where cosine and poly end.
    pub min_lr: f64,
    /// The batch size that `optimizer.lr` was found with: it is multiplied by `batch.size` over this (the linear
    /// scaling rule).
    pub scale_with_batch: Option<usize>,
    /// Poly: exponent (1).
    pub power: Option<f64>,
    /// Step: optimizer steps from drop to drop (a third of the steps after the warm-up).
    pub step_size: Option<u64>,
    /// Step: what a drop multiplies by (0.1).
    pub gamma: Option<f64>,
    /// One-cycle: share of the run that rises (0.3).
    pub pct_start: Option<f64>,
    /// Plateau: what a reduction multiplies by (0.1).
    pub factor: Option<f64>,
    /// Plateau: evaluations without a better `checkpoint.metric` that are tolerated (10).
    pub patience: Option<u64>,
}

/// The schedules by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleName {
    /// Half a cosine from the peak to `min_lr` (`CosineAnnealingLR`).
    Cosine,
    /// `(1 - progress)^power` from the peak to `min_lr` (`PolynomialLR`).
    Poly,
    /// The peak, multiplied by `gamma` every `step_size` steps (`StepLR`).
    Step,
    /// Up from a 25th of the peak and down to a 250000th, in half cosines (`OneCycleLR` without its cycle of momentum).
    OneCycle,
    /// The peak, multiplied by `factor` when evaluations stop getting better (`ReduceLROnPlateau`).
    Plateau,
    /// The peak to the end.
    Constant,
}

/// How far the plateau schedule has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    waiting: Waiting,
    reductions: i32,
}

impl ScheduleConfig {
    /// Checks every number, and that none is set that the schedule does not know.
    pub fn check(&self, peak: f64) -> Result<(), PlanError> {
        use ScheduleName::{OneCycle, Plateau, Poly, Step};
        let knows = [
            ("schedule.power", self.power, Poly),
            ("schedule.step_size", self.step_size.map(|n| n as f64), Step),
            ("schedule.gamma", self.gamma, Step),
            ("schedule.pct_start", self.pct_start, OneCycle),
            ("schedule.factor", self.factor, Plateau),
            ("schedule.patience", self.patience.map(|n| n as f64), Plateau),
        ];
        for (key, value, name) in knows {
            if let Some(value) = value.filter(|_| self.name != name) {
                let (name, ours) = (name.key(), self.name.key());
                return Err(refuse(
                    key,
                    value,
                    format!("null, because schedule.name is {ours}; {name} may set it"),
                ));
            }
        }
        if let Some(value) = self.power.filter(|v| !(v.is_finite() && *v > 0.0)) {
            return Err(refuse("schedule.power", value, "a finite number above 0"));
        }
        if self.step_size == Some(0) {
            return Err(refuse("schedule.step_size", 0, "at least 1"));
        }
        let shares = [
            ("schedule.gamma", self.gamma),
            ("schedule.factor", self.factor),
            ("schedule.pct_start", self.pct_start),
        ];
        for (key, value) in shares {
            if let Some(value) = value.filter(|v| !(*v > 0.0 && *v < 1.0)) {
                return Err(refuse(key, value, "between 0 and 1"));
            }
        }
        if self.scale_with_batch == Some(0) {
            return Err(refuse("schedule.scale_with_batch", 0, "at least 1, or null"));
        }
        if let (OneCycle, Some(steps @ 1..)) = (self.name, self.warmup_steps) {
            return Err(refuse("schedule.warmup_steps", steps, "null or 0: one_cycle rises by itself"));
        }
        if let Some(epochs) = self.warmup_epochs {
            if !(0.0..=MOST_EPOCHS).contains(&epochs) {
                return Err(refuse(
                    "schedule.warmup_epochs",
                    epochs,
                    format!("from 0 to {MOST_EPOCHS}, or null"),
                ));
            }
            if self.name == OneCycle && epochs > 0.0 {
                return Err(refuse("schedule.warmup_epochs", epochs, "null or 0: one_cycle rises by itself"));
            }
        }
        if !(self.min_lr.is_finite() && (0.0..=peak).contains(&self.min_lr)) {
            let allowed = format!("from 0 to the peak learning rate, {peak}");
            return Err(refuse("schedule.min_lr", self.min_lr, allowed));
        }
        Ok(())
    }

    /// Turns a warm-up in epochs into steps, the last begun one included.
    pub(crate) fn meet(&mut self, steps_per_epoch: u64) {
        if let Some(epochs) = self.warmup_epochs.take() {
            self.warmup_steps = Some((epochs * steps_per_epoch as f64).ceil() as u64);
        }
    }

    /// Learning rate of zero-based step `t` of `total`, with the peak at `peak`.
    pub fn lr(&self, peak: f64, t: u64, total: u64, plateau: &Plateau) -> f64 {
        let default = if self.name == ScheduleName::OneCycle { 0 } else { 20 };
        let warmup = self.warmup_steps.unwrap_or(default).min(total);
        if t < warmup {
            return peak * (t + 1) as f64 / warmup as f64;
        }
        let (t, total) = (t - warmup, (total - warmup).max(1));
        let progress = (t as f64 / total as f64).min(1.0);
        let lr = match self.name {
            ScheduleName::Constant => peak,
            ScheduleName::Cosine => half_cosine(peak, self.min_lr, progress),
            ScheduleName::Poly => {
                self.min_lr + (peak - self.min_lr) * (1.0 - progress).powf(self.power.unwrap_or(1.0))
            }
            ScheduleName::Step => {
                let step_size = self.step_size.unwrap_or(total.div_ceil(3)).max(1);
                peak * self.gamma.unwrap_or(0.1).powf((t / step_size) as f64)
            }
            ScheduleName::OneCycle => one_cycle(peak, t as f64, total as f64, self.pct_start.unwrap_or(0.3)),
            ScheduleName::Plateau => peak * self.factor.unwrap_or(0.1).powi(plateau.reductions),
        };
        lr.max(self.min_lr)
    }

    /// Takes an evaluation in: `value` of `metric`. Anything but a plateau schedule does not listen.
    pub fn see(&self, plateau: &mut Plateau, metric: &str, value: f64) {
        if self.name != ScheduleName::Plateau {
            return;
        }
        // ReduceLROnPlateau's relative threshold.
        plateau.waiting.see(value, |best| is_better(metric, value, best, 1e-4 * best.abs()));
        if plateau.waiting.evaluations > self.patience.unwrap_or(10) {
            plateau.waiting.evaluations = 0;
            plateau.reductions = plateau.reductions.saturating_add(1);
        }
    }
}

impl ScheduleName {
    /// As it is written in settings.
    fn key(self) -> &'static str {
        match self {
            ScheduleName::Cosine => "cosine",
            ScheduleName::Poly => "poly",
            ScheduleName::Step => "step",
            ScheduleName::OneCycle => "one_cycle",
            ScheduleName::Plateau => "plateau",
            ScheduleName::Constant => "constant",
        }
    }
}

/// From `from` to `to` as `share` goes from 0 to 1, level at both ends.
fn half_cosine(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) * (1.0 + (PI * share.min(1.0)).cos()) / 2.0
}

fn one_cycle(peak: f64, t: f64, total: f64, pct_start: f64) -> f64 {
    const DIV_FACTOR: f64 = 25.0;
    const FINAL_DIV_FACTOR: f64 = 1e4;
    let low = peak / DIV_FACTOR;
    let (top, last) = ((pct_start * total - 1.0).max(0.0), total - 1.0);
    if t < top {
        half_cosine(low, peak, t / top)
    } else if last > top {
        half_cosine(peak, low / FINAL_DIV_FACTOR, (t - top) / (last - top))
    } else {
        peak
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn fixture() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/schedule/manifest.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The settings of a case; what it leaves out is the default.
    fn schedule(case: &Value) -> ScheduleConfig {
        let mut all = json!({ "min_lr": 0.0 });
        case.as_object().unwrap().iter().for_each(|(key, value)| all[key] = value.clone());
        serde_json::from_value(all).unwrap()
    }

    fn are_close(lr: f64, rate: &Value) -> bool {
        let rate = rate.as_f64().unwrap();
        (lr - rate).abs() <= 1e-12 * rate + 1e-18
    }

    fn assert_rates(name: &str, fixture: &Value, case: &Value, schedule: ScheduleConfig) {
        let (peak, total) = (fixture["lr0"].as_f64().unwrap(), fixture["steps"].as_u64().unwrap());
        schedule.check(peak).unwrap();
        let rates = case["lr"].as_array().unwrap();
        assert_eq!(rates.len() as u64, total);
        for (t, rate) in (0..).zip(rates) {
            let lr = schedule.lr(peak, t, total, &Plateau::default());
            assert!(are_close(lr, rate), "{name}, step {t}: {lr} against {rate}");
        }
    }

    #[test]
    fn the_rates_are_those_of_the_formula() {
        let fixture = fixture();
        let cases = fixture["cases"].as_object().unwrap();
        assert_eq!(cases.len(), 2);
        for (name, case) in cases {
            let settings =
                json!({ "name": "cosine", "warmup_steps": case["warm_up"], "min_lr": fixture["lr_min"] });
            assert_rates(name, &fixture, case, schedule(&settings));
        }
    }

    #[test]
    fn the_rates_are_those_of_pytorch() {
        let fixture = fixture();
        let cases = fixture["schedulers"].as_object().unwrap();
        assert!(cases.len() >= 6);
        for (name, case) in cases {
            assert_rates(name, &fixture, case, schedule(&case["schedule"]));
        }
    }

    #[test]
    fn a_plateau_is_seen_where_pytorch_sees_it() {
        let fixture = fixture();
        let peak = fixture["lr0"].as_f64().unwrap();
        for (metric, case) in fixture["plateaus"].as_object().unwrap() {
            let mut settings = json!({ "name": "plateau", "warmup_steps": 0 });
            for key in ["factor", "patience", "min_lr"] {
                if let Some(value) = case.get(key) {
                    settings[key] = value.clone();
                }
            }
            let schedule = schedule(&settings);
            schedule.check(peak).unwrap();
            let mut plateau = Plateau::default();
            let scores = case["scores"].as_array().unwrap();
            for (i, (score, rate)) in scores.iter().zip(case["lr"].as_array().unwrap()).enumerate() {
                schedule.see(&mut plateau, metric, score.as_f64().unwrap_or(f64::NAN));
                // As a checkpoint keeps it.
                plateau = serde_json::from_value(serde_json::to_value(plateau).unwrap()).unwrap();
                let lr = schedule.lr(peak, 7, 1000, &plateau);
                assert!(are_close(lr, rate), "{metric} {i}: {lr} against {rate}");
            }
        }
    }

    #[test]
    fn a_warm_up_longer_than_the_run_is_cut_to_it() {
        let schedule = schedule(&json!({ "name": "cosine", "warmup_steps": 100 }));
        let lr = |t| schedule.lr(1.0, t, 10, &Plateau::default());
        assert_eq!((lr(9), lr(0)), (1.0, 0.1));
    }

    #[test]
    fn a_warm_up_in_epochs_is_one_in_steps_once_epochs_have_a_length() {
        let mut schedule = schedule(&json!({ "name": "cosine", "warmup_steps": 3, "warmup_epochs": 1.5 }));
        schedule.meet(5);
        assert_eq!((schedule.warmup_steps, schedule.warmup_epochs), (Some(8), None));
        schedule.meet(7);
        assert_eq!(schedule.warmup_steps, Some(8));
    }

    #[test]
    fn what_a_schedule_cannot_use_is_refused_with_its_key() {
        for (key, settings) in [
            ("schedule.power", json!({ "name": "cosine", "power": 0.9 })),
            ("schedule.power", json!({ "name": "poly", "power": 0.0 })),
            ("schedule.step_size", json!({ "name": "poly", "step_size": 3 })),
            ("schedule.step_size", json!({ "name": "step", "step_size": 0 })),
            ("schedule.gamma", json!({ "name": "step", "gamma": 1.5 })),
            ("schedule.pct_start", json!({ "name": "one_cycle", "pct_start": 1.0 })),
            ("schedule.factor", json!({ "name": "constant", "factor": 0.5 })),
            ("schedule.patience", json!({ "name": "constant", "patience": 3 })),
            ("schedule.warmup_steps", json!({ "name": "one_cycle", "warmup_steps": 5 })),
            ("schedule.warmup_epochs", json!({ "name": "one_cycle", "warmup_epochs": 0.5 })),
            ("schedule.warmup_epochs", json!({ "name": "cosine", "warmup_epochs": -1.0 })),
            ("schedule.scale_with_batch", json!({ "name": "cosine", "scale_with_batch": 0 })),
            ("schedule.min_lr", json!({ "name": "cosine", "min_lr": 2.0 })),
        ] {
            assert_eq!(schedule(&settings).check(1.0).unwrap_err().key, key, "{settings}");
        }
    }

    proptest! {
        #[test]
        fn rates_stay_between_nothing_and_the_peak(
            name in prop_oneof!["cosine", "poly", "step", "one_cycle", "plateau", "constant"],
            warmup in proptest::option::of(0u64..200),
            total in 1u64..1000,
            t in 0u64..1200,
            reductions in 0i32..i32::MAX,
        ) {
            let warmup = warmup.filter(|_| name != "one_cycle");
            let schedule = schedule(&json!({ "name": name, "warmup_steps": warmup }));
            let plateau = Plateau { reductions, ..Plateau::default() };
            let lr = schedule.lr(1e-3, t, total, &plateau);
            prop_assert!(lr.is_finite() && (0.0..=1e-3 * (1.0 + 1e-12)).contains(&lr), "{lr}");
        }
    }
}
