//! The `memory:` part of a plan and its checks.

use serde::{Deserialize, Serialize};

use crate::budget::Budget;

/// A smaller budget is a slip of the pen: no network trains in it.
const SMALLEST_BUDGET: u64 = 1_000_000;
/// Most samples of a micro-batch, as for a batch.
const MOST_SAMPLES: usize = 65_536;
/// Most steps to wait before growing.
const MOST_STEPS: u32 = 1_000_000;

/// The `memory:` part of a plan: when memory counts as short, and when there is room again. Shares are of
/// [`DeviceReading::limit`](crate::DeviceReading::limit). The defaults are those that adaptive batch sizes are known to work with: clean up
/// over 80 %, halve over 90 %, double under 70 % when more than 95 % of the attempts went well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// What the device's memory may be used up to; `None`: all that others leave.
    pub budget: Option<Budget>,
    /// Share held by the allocator, or of the host's memory, above which what is not needed is freed.
    pub clean_up: f64,
    /// Share held by tensors at a step's peak above which the micro-batch is halved.
    pub halve: f64,
    /// Share at a step's peak below which the micro-batch may be doubled.
    pub grow_below: f64,
    /// Share of the latest attempts that must have gone well for that.
    pub grow_success: f64,
    /// Steps in a row at the present size before that; twice as many for each time that the larger size has failed.
    pub grow_after: u32,
    /// By how much more room than last time there must be before a size that failed is tried again, as a share;
    /// also how far below [`clean_up`](Self::clean_up) counts as clean.
    pub hysteresis: f64,
    /// Fewest samples of a forward pass.
    pub min_micro: usize,
    /// Most samples of a forward pass; `None`: the batch when training, 32 when predicting.
    pub max_micro: Option<usize>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            budget: None,
            clean_up: 0.8,
            halve: 0.9,
            grow_below: 0.7,
            grow_success: 0.95,
            grow_after: 20,
            hysteresis: 0.1,
            min_micro: 1,
            max_micro: None,
        }
    }
}

/// A key that cannot work as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{key} is {value}, which cannot work")]
#[diagnostic(code(config::memory::value), help("{key} allows {allowed}"))]
pub struct SettingError {
    /// Full name of the key.
    pub key: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be set to.
    pub allowed: String,
}

pub(crate) fn refuse(key: &'static str, value: impl ToString, allowed: impl Into<String>) -> SettingError {
    SettingError { key, value: value.to_string(), allowed: allowed.into() }
}

impl MemoryConfig {
    /// Checks every key by itself and against the others.
    ///
    /// # Errors
    /// The first key whose value cannot work, with the values that can.
    pub fn check(&self) -> Result<(), SettingError> {
        check_budget("memory.budget", self.budget)?;
        let shares = [
            ("memory.clean_up", self.clean_up),
            ("memory.halve", self.halve),
            ("memory.grow_below", self.grow_below),
        ];
        for (key, share) in shares {
            if !(share > 0.0 && share <= 1.0) {
                return Err(refuse(key, share, "a share above 0, up to 1"));
            }
        }
        if self.grow_below >= self.halve {
            let allowed = format!("less than memory.halve ({})", self.halve);
            return Err(refuse("memory.grow_below", self.grow_below, allowed));
        }
        if !(0.0..1.0).contains(&self.grow_success) {
            return Err(refuse("memory.grow_success", self.grow_success, "a share from 0, below 1"));
        }
        if !(1..=MOST_STEPS).contains(&self.grow_after) {
            return Err(refuse("memory.grow_after", self.grow_after, format!("1 to {MOST_STEPS} steps")));
        }
        if !(0.01..=1.0).contains(&self.hysteresis) {
            return Err(refuse("memory.hysteresis", self.hysteresis, "a share from 0.01 to 1"));
        }
        let most = self.max_micro.unwrap_or(MOST_SAMPLES);
        if !(1..=MOST_SAMPLES).contains(&most) {
            return Err(refuse("memory.max_micro", most, format!("null, or 1 to {MOST_SAMPLES}")));
        }
        if !(1..=most).contains(&self.min_micro) {
            let allowed = format!("1 to {most}, the most samples of a forward pass");
            return Err(refuse("memory.min_micro", self.min_micro, allowed));
        }
        Ok(())
    }
}

/// Refuses amounts that are too small to mean anything.
pub(crate) fn check_budget(key: &'static str, budget: Option<Budget>) -> Result<(), SettingError> {
    match budget {
        Some(Budget::Bytes(bytes)) if bytes < SMALLEST_BUDGET => Err(refuse(
            key,
            Budget::Bytes(bytes),
            "null, an amount from 1MB such as 8GB, or a share such as 80%",
        )),
        Some(Budget::Percent(percent)) if !(percent > 0.0 && percent <= 100.0) => {
            Err(refuse(key, percent, "a share above 0%, up to 100%"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused<T>(change: impl FnOnce(&mut MemoryConfig) -> T) -> (&'static str, String) {
        let mut config = MemoryConfig::default();
        change(&mut config);
        let SettingError { key, value, .. } = config.check().unwrap_err();
        (key, value)
    }

    #[test]
    fn the_defaults_pass_and_an_empty_section_means_them() {
        MemoryConfig::default().check().unwrap();
        assert_eq!(serde_json::from_value::<MemoryConfig>(json!({})).unwrap(), MemoryConfig::default());
    }

    #[test]
    fn it_reads_back_what_it_writes_and_refuses_unknown_keys() {
        let config = MemoryConfig { budget: Some("80%".parse().unwrap()), ..MemoryConfig::default() };
        let value = serde_json::to_value(&config).unwrap();
        assert_eq!(value["budget"], "80%");
        assert_eq!(serde_json::from_value::<MemoryConfig>(value).unwrap(), config);
        let unknown = serde_json::from_value::<MemoryConfig>(json!({"budgte": "8GB"}));
        assert!(unknown.unwrap_err().to_string().contains("budgte"));
    }

    #[test]
    fn every_refusal_names_its_key_and_value() {
        assert_eq!(refused(|c| c.budget = Some(Budget::Bytes(8))), ("memory.budget", "8B".into()));
        assert_eq!(refused(|c| c.budget = Some(Budget::Percent(f64::NAN))).0, "memory.budget");
        assert_eq!(refused(|c| c.clean_up = 0.0), ("memory.clean_up", "0".into()));
        assert_eq!(refused(|c| c.halve = 1.1), ("memory.halve", "1.1".into()));
        assert_eq!(refused(|c| c.halve = f64::NAN).0, "memory.halve");
        assert_eq!(refused(|c| c.grow_below = 0.9), ("memory.grow_below", "0.9".into()));
        assert_eq!(refused(|c| c.grow_success = 1.0).0, "memory.grow_success");
        assert_eq!(refused(|c| c.grow_after = 0), ("memory.grow_after", "0".into()));
        assert_eq!(refused(|c| c.hysteresis = 0.0).0, "memory.hysteresis");
        assert_eq!(refused(|c| c.max_micro = Some(0)), ("memory.max_micro", "0".into()));
        assert_eq!(refused(|c| c.min_micro = 0), ("memory.min_micro", "0".into()));
        assert_eq!(refused(|c| (c.max_micro = Some(4), c.min_micro = 5)), ("memory.min_micro", "5".into()));
    }
}
