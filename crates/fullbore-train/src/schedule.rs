//! Learning rate by optimizer step.

use serde::{Deserialize, Serialize};

/// The `schedule` part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// What follows the warm-up.
    pub name: ScheduleName,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Where the cosine ends.
    pub min_lr: f64,
}

/// The schedules by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleName {
    /// Half a cosine from the peak to `min_lr`.
    Cosine,
    /// The peak to the end.
    Constant,
}

impl ScheduleConfig {
    /// Learning rate of zero-based step `t` of `total`, with the peak at `peak`.
    pub fn lr(&self, peak: f64, t: u64, total: u64) -> f64 {
        let warmup = self.warmup_steps.min(total);
        if t < warmup {
            return peak * (t + 1) as f64 / warmup as f64;
        }
        match self.name {
            ScheduleName::Constant => peak,
            ScheduleName::Cosine => {
                let progress = (t - warmup) as f64 / (total - warmup).max(1) as f64;
                let cosine = (std::f64::consts::PI * progress.min(1.0)).cos();
                self.min_lr + (peak - self.min_lr) * (1.0 + cosine) / 2.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rates_are_those_of_the_fixture() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/schedule/manifest.json");
        let fixture: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let total = fixture["steps"].as_u64().unwrap();
        let min_lr = fixture["lr_min"].as_f64().unwrap();
        let cases = fixture["cases"].as_object().unwrap();
        assert_eq!(cases.len(), 2);
        for (name, case) in cases {
            let warmup_steps = case["warm_up"].as_u64().unwrap();
            let schedule = ScheduleConfig { name: ScheduleName::Cosine, warmup_steps, min_lr };
            let rates = case["lr"].as_array().unwrap();
            assert_eq!(rates.len() as u64, total);
            for (t, rate) in (0..).zip(rates) {
                let lr = schedule.lr(fixture["lr0"].as_f64().unwrap(), t, total);
                assert!((lr - rate.as_f64().unwrap()).abs() < 1e-12, "{name}, step {t}: {lr} against {rate}");
            }
        }
    }

    #[test]
    fn a_warm_up_longer_than_the_run_is_cut_to_it() {
        let schedule = ScheduleConfig { name: ScheduleName::Cosine, warmup_steps: 100, min_lr: 0.0 };
        assert_eq!(schedule.lr(1.0, 9, 10), 1.0);
        assert_eq!(schedule.lr(1.0, 0, 10), 0.1);
    }
}
