//! Progressive training: the epochs at the beginning see smaller images, and heat-maps with them. Evaluations never do.
//!
//! Each phase is a plan of its own, the run's with other values, so that nobody below has to know of phases. A phase
//! begins and ends with an epoch, and follows from the epoch alone: a run that goes on is in the phase that it was in.

use fullbore_augment::Preset;
use fullbore_data::CanvasSize;
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, PlanError, refuse};

/// One entry of `phases`: what is different until it ends. Just one of `until` and `epoch` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseConfig {
    /// It ends with the last whole epoch within this share of the run's steps.
    pub until: Option<f64>,
    /// It ends with this many epochs of the run.
    pub epoch: Option<u64>,
    /// In the place of `data.size`, and not larger.
    pub size: CanvasSize,
    /// In the place of `augment.preset`; `None` leaves it.
    pub augment: Option<Preset>,
}

impl PhaseConfig {
    /// The run's plan with this phase's values. A bell in smaller heat-maps is as much narrower.
    pub(crate) fn of(&self, plan: &Plan) -> Plan {
        let area = |size: CanvasSize| f64::from(size.width) * f64::from(size.height);
        let mut plan = plan.clone();
        plan.landmarks.sigma *= (area(self.size) / area(plan.data.size)).sqrt() as f32;
        plan.data.size = self.size;
        plan.augment.preset = self.augment.unwrap_or(plan.augment.preset);
        plan.phases = Vec::new();
        plan
    }

    fn end(&self, epochs: f64) -> u64 {
        // The least bit more, so that 0.3 of ten epochs are three.
        self.epoch.unwrap_or_else(|| (self.until.unwrap_or(0.0) * epochs + 1e-9) as u64)
    }
}

/// What some epochs in a row are trained with.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Its number in the plan, from 0; as many as there are for what comes after them.
    pub number: usize,
    /// The first epoch that does not belong to it any more, zero-based.
    pub end: u64,
    /// The run's plan with its values.
    pub plan: Plan,
}

impl Phase {
    /// That of a zero-based epoch, in a run over `samples` training samples. Phases without a whole epoch are passed
    /// over.
    pub fn at(plan: &Plan, samples: u64, epoch: u64) -> Self {
        let epochs = plan.steps_total(samples) as f64 / plan.steps_per_epoch(samples).max(1) as f64;
        let numbered = plan.phases.iter().enumerate();
        let mut open = numbered.map(|(number, phase)| (number, phase.end(epochs), phase));
        match open.find(|(_, end, _)| epoch < *end) {
            Some((number, end, phase)) => Self { number, end, plan: phase.of(plan) },
            None => Self { number: plan.phases.len(), end: u64::MAX, plan: plan.clone() },
        }
    }
}

/// Checks every phase; `check_plan` checks the plan that it makes.
pub(crate) fn check(
    plan: &Plan,
    check_plan: impl Fn(&Plan) -> Result<(), PlanError>,
) -> Result<(), PlanError> {
    let mut last: Option<&PhaseConfig> = None;
    for (number, phase) in plan.phases.iter().enumerate() {
        let wrong = |value: String, allowed: String| {
            refuse("phases", format!("{value} of phase {}", number + 1), allowed)
        };
        match (phase.until, phase.epoch) {
            (Some(share), None) if share > 0.0 && share <= 1.0 => {}
            (None, Some(epoch)) if epoch > 0 => {}
            (until, epoch) => {
                let written = |value: Option<String>| value.unwrap_or("null".into());
                let (until, epoch) = (until.map(|v| v.to_string()), epoch.map(|v| v.to_string()));
                let value = format!("until: {}, epoch: {}", written(until), written(epoch));
                let allowed = "either until, a share of the run above 0 and at most 1, or epoch, at least 1";
                return Err(wrong(value, allowed.into()));
            }
        }
        let late = |last: &PhaseConfig| last.until >= phase.until && last.epoch >= phase.epoch;
        if last.is_some_and(late) {
            return Err(wrong("the end".into(), "after the end of the phase before".into()));
        }
        let (size, most) = (phase.size, plan.data.size);
        if size.width == 0 || size.height == 0 || size.width > most.width || size.height > most.height {
            return Err(wrong(format!("size {size}"), format!("sides from 1 to those of data.size, {most}")));
        }
        check_plan(&phase.of(plan))
            .map_err(|error| wrong(format!("{} {}", error.key, error.value), error.allowed))?;
        last = Some(phase);
    }
    Ok(())
}
