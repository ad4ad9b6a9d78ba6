//! The metrics that decide: which evaluation is the best, when the learning rate falls, when to stop.

use fullbore_data::DataConfig;
use fullbore_nn::losses::Task;
use serde::{Deserialize, Serialize};

use crate::plan::{PlanError, refuse};

/// Whether `value` of `metric` beats `other` by more than `by`. Losses and errors are better when they are lower, scores
/// when they are higher; a number that is none beats nothing.
pub(crate) fn is_better(metric: &str, value: f64, other: f64, by: f64) -> bool {
    match metric {
        "loss" | "nme" | "mre" | "failure_rate" => value < other - by,
        _ => value > other + by,
    }
}

/// The metric that decides where none is named.
pub(crate) fn usual(task: Task) -> &'static str {
    match task {
        Task::Masks => "dice",
        Task::Landmarks => "nme",
    }
}

/// Refuses a metric that evaluations do not have; `key` is where it was named.
pub(crate) fn check(key: &'static str, metric: &str, task: Task, data: &DataConfig) -> Result<(), PlanError> {
    let known = match (task, metric.strip_prefix("dice_per_class.")) {
        (_, None) if metric == "loss" => true,
        (Task::Masks, Some(class)) => data.classes.contains_key(class),
        (Task::Masks, None) => metric == "dice",
        (Task::Landmarks, _) => matches!(metric, "nme" | "mre" | "auc" | "failure_rate"),
    };
    if known {
        return Ok(());
    }
    let allowed = match task {
        Task::Landmarks => "nme, mre, auc, failure_rate or loss".into(),
        Task::Masks => {
            let names: Vec<_> = data.classes.keys().map(|name| format!("dice_per_class.{name}")).collect();
            format!("dice, loss, or one of {}", names.join(", "))
        }
    };
    Err(refuse(key, metric, allowed))
}

/// The best value so far, and how long ago it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// The best value; `None` before the first that is a number.
    pub best: Option<f64>,
    /// Evaluations since then.
    pub evaluations: u64,
}

impl Waiting {
    /// Takes in an evaluation; `beats` says whether its value is better than the best.
    pub(crate) fn see(&mut self, value: f64, beats: impl Fn(f64) -> bool) {
        if !value.is_nan() && self.best.is_none_or(beats) {
            *self = Self { best: Some(value), evaluations: 0 };
        } else {
            self.evaluations += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_better_when_lower_and_a_score_when_higher() {
        for (metric, value, other, by, better) in [
            ("loss", 0.4, 0.5, 0.0, true),
            ("nme", 0.4, 0.5, 0.0, true),
            ("auc", 0.4, 0.5, 0.0, false),
            ("loss", 0.5, 0.5, 0.0, false),
            ("loss", 0.45, 0.5, 0.1, false),
            ("dice", 0.6, 0.5, 0.0, true),
            ("dice", 0.5, 0.5, 0.0, false),
            ("dice_per_class.cell", 0.55, 0.5, 0.1, false),
            ("dice", f64::NAN, 0.5, 0.0, false),
            ("loss", f64::NAN, 0.5, 0.0, false),
        ] {
            assert_eq!(is_better(metric, value, other, by), better, "{metric} {value} {other} {by}");
        }
    }

    #[test]
    fn waiting_begins_anew_with_each_best() {
        let mut waiting = Waiting::default();
        let seen = [f64::NAN, 0.5, 0.4, f64::NAN, 0.6].map(|value| {
            waiting.see(value, |best| is_better("dice", value, best, 0.0));
            (waiting.best, waiting.evaluations)
        });
        assert_eq!(seen, [(None, 1), (Some(0.5), 0), (Some(0.5), 1), (Some(0.5), 2), (Some(0.6), 0)]);
    }
}
