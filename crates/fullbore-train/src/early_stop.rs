//! The end of a run that does not get better any more.

use serde::{Deserialize, Serialize};

use crate::metric::{Waiting, is_better};

/// The `early_stop` part of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopConfig {
    /// `loss`, `dice` or `dice_per_class.NAME`; `None`: train to the end.
    pub metric: Option<String>,
    /// Evaluations without a better value after which the run ends.
    pub patience: u64,
    /// By how much a value must beat the best to count as better.
    pub min_delta: f64,
}

impl EarlyStopConfig {
    /// Takes an evaluation in; `value_of` gives a metric's value.
    pub(crate) fn see(&self, waiting: &mut Waiting, value_of: impl Fn(&str) -> f64) {
        if let Some(metric) = &self.metric {
            let value = value_of(metric);
            waiting.see(value, |best| is_better(metric, value, best, self.min_delta));
        }
    }

    /// Why the run is over, in words.
    pub(crate) fn reason(&self, waiting: &Waiting) -> Option<String> {
        let metric = self.metric.as_ref()?;
        (waiting.evaluations >= self.patience).then(|| {
            let best = waiting.best.map_or("any number".to_string(), |best| format!("{best:.4}"));
            format!(
                "stopped early: {} evaluations without a better {metric} than {best}",
                waiting.evaluations
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_patience_does_and_small_gains_do_not_count() {
        let config = EarlyStopConfig { metric: Some("loss".into()), patience: 2, min_delta: 0.1 };
        let mut waiting = Waiting::default();
        let mut ends_after = |value: f64| {
            config.see(&mut waiting, |metric| if metric == "loss" { value } else { f64::NAN });
            config.reason(&waiting)
        };
        assert_eq!(ends_after(1.0), None);
        assert_eq!(ends_after(0.95), None);
        assert_eq!(ends_after(0.8), None);
        assert_eq!(ends_after(0.75), None);
        let reason = ends_after(0.71).unwrap();
        assert_eq!(reason, "stopped early: 2 evaluations without a better loss than 0.8000");
    }

    #[test]
    fn without_a_metric_it_never_ends() {
        let config = EarlyStopConfig { metric: None, patience: 1, min_delta: 0.0 };
        let mut waiting = Waiting::default();
        config.see(&mut waiting, |_| panic!("nothing is looked at"));
        assert_eq!((config.reason(&waiting), waiting), (None, Waiting::default()));
    }
}
