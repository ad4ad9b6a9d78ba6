//! A new run that begins with the weights of another one.

use std::collections::BTreeSet;

use fullbore_events::Event;
use serde_json::Value;

use crate::TrainError;
use crate::checkpoint::Saved;
use crate::plan::Plan;
use crate::step::Engine;

/// Keys that decide which weights a network has.
const OF_THE_NETWORK: [&str; 7] =
    ["model.", "norm.", "data.channels", "data.classes", "loss.name", "landmarks.names", "landmarks.use"];

/// Puts the weights that `saved` was scored with into a fresh engine of `plan`: the average where that run kept one. The
/// engine's own average begins there too. The event tells what was kept and what differs.
///
/// # Errors
/// [`TrainError::OtherNetwork`] when they are not exactly the weights of the engine's network.
pub(crate) fn begin(saved: &Saved, plan: &Plan, engine: &Engine) -> Result<Event, TrainError> {
    let changed = changes(&saved.plan, plan);
    let (report, heads) = saved.load_for(plan, &engine.params)?;
    let report = Box::new(report);
    if !report.is_complete() || !report.unused.is_empty() {
        let of_the_network = |change: &&String| OF_THE_NETWORK.iter().any(|key| change.starts_with(key));
        let keys: Vec<_> = changed.iter().filter(of_the_network).cloned().collect();
        let changed = if keys.is_empty() { "no setting differs".into() } else { keys.join(", ") };
        return Err(TrainError::OtherNetwork { path: saved.path().into(), changed, report });
    }
    if let Some(ema) = &engine.ema {
        ema.restart()?;
    }
    let kept = if saved.has_average() { "the average of the weights" } else { "the weights" };
    let chosen = if heads > 0 { ", of the head those of the landmarks that both runs have" } else { "" };
    Ok(Event::FineTuning {
        checkpoint: saved.path().into(),
        step: saved.progress.step,
        kept: format!("{kept}{chosen}"),
        anew: "optimizer state, schedule, steps and best score".into(),
        changed,
    })
}

/// The settings that differ, as `key: old -> new`. Each run has a folder of its own: `run.dir` is left out.
fn changes(old: &Plan, new: &Plan) -> Vec<String> {
    let json = |plan| serde_json::to_value(plan).unwrap_or_default();
    let mut changed = Vec::new();
    compare("", &json(old), &json(new), &mut changed);
    changed.retain(|change: &String| !change.starts_with("run.dir:"));
    changed
}

fn compare(key: &str, old: &Value, new: &Value, changed: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) if key != "data.classes" => {
            for below in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let path = if key.is_empty() { below.clone() } else { format!("{key}.{below}") };
                compare(
                    &path,
                    a.get(below).unwrap_or(&Value::Null),
                    b.get(below).unwrap_or(&Value::Null),
                    changed,
                );
            }
        }
        _ => {
            // As texts: the order of classes means something, and equal maps may differ in it.
            let (old, new) = (old.to_string(), new.to_string());
            if old != new {
                changed.push(format!("{key}: {old} -> {new}"));
            }
        }
    }
}
