//! `fullbore bench step`: what a training step costs alone, and what its data cost on top.
//!
//! Up to four sides take turns in one process, and ratios are taken turn by turn: a resident batch of noise; the run's own
//! pipeline from the files on, nothing cached; batches of that pipeline, kept on the device and played again; and a
//! script in Python.

mod peer;
mod sides;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use fullbore_data::CacheMode;
use fullbore_data::yardstick::raw_decode;
use fullbore_nn::compute::device_name;
use fullbore_torch::Device;
use fullbore_train::setup;
use fullbore_train::{Plan, TrainError};
use serde_json::json;

use super::super::{CommandError, Settings};
use crate::exit_codes;
use crate::render::say;
use peer::Peer;
use sides::{Ground, Pass, Real, Turn, synthetic_batch};

/// Arguments of `fullbore bench step`.
#[derive(Debug, Args)]
pub(in crate::commands) struct StepArgs {
    #[command(flatten)]
    settings: Settings,
    /// Steps of a turn that count
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    steps: u64,
    /// Steps before them that do not
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    warm: u64,
    /// Turns of every side; the median of each counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    passes: u32,
    /// Also run the same step in PyTorch, with the Python that FULLBORE_PYTHON names, else python3
    #[arg(long, value_name = "PEER")]
    against: Option<Against>,
    /// The script for that, which takes the arguments of bench/step_torch.py and prints such a line
    #[arg(long, value_name = "SCRIPT", requires = "against")]
    peer: Option<PathBuf>,
    /// Print one machine-readable summary as the last line of standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Against {
    /// PyTorch eager
    Python,
}

/// Seconds that raw decoding is measured for.
const RAW_DECODE: std::time::Duration = std::time::Duration::from_secs(1);

/// What every turn of the sides gave.
#[derive(Default)]
struct Turns {
    resident: Vec<Pass>,
    real: Vec<Pass>,
    replay: Vec<Pass>,
    /// Milliseconds of the peer's median step.
    peer: Vec<f64>,
}

/// Who takes turns.
#[derive(Clone, Copy)]
enum Side {
    /// A batch of noise.
    Resident,
    /// The run's own batches, fresh and then again.
    Data,
    /// PyTorch.
    Peer,
}

/// Runs the benchmark.
pub(super) fn run(args: StepArgs) -> Result<i32, CommandError> {
    let mut plan = args.settings.plan()?;
    // With a cache there would be nothing to load after an epoch. The step is the one at data.size.
    plan.data.cache = CacheMode::Off;
    plan.phases.clear();
    plan.check()?;
    let device = plan.device.resolve()?;
    let mut ground = Ground::new(&mut plan, device)?;
    let peer = match args.against {
        None => None,
        Some(Against::Python) => {
            let (classes, steps) = (plan.channels_out().map_err(TrainError::from)?, [args.steps, args.warm]);
            Some(Peer::find(&plan, device, classes, args.peer.as_deref(), steps)?)
        }
    };
    let resident = [synthetic_batch(&plan, device)?];
    let turn = Turn { plan: &plan, device, warm: args.warm, steps: args.steps };
    let mut turns = Turns::default();
    for pass in 0..args.passes {
        let mut order = [Side::Resident, Side::Data, Side::Peer];
        if pass % 2 == 1 {
            order.reverse();
        }
        for side in order {
            match (side, &mut ground, &peer) {
                (Side::Resident, ground, _) => {
                    turns.resident.push(turn.replay(ground.engine(), &resident)?);
                }
                (Side::Data, Ground::WithData(real), _) => {
                    turns.real.push(real.take(&turn)?);
                    turns.replay.push(real.replay(&turn)?);
                }
                (Side::Peer, _, Some(peer)) => turns.peer.push(peer.step_ms()?),
                (Side::Data | Side::Peer, ..) => {}
            }
        }
    }
    let raw_ms = match &ground {
        Ground::Alone(_) => None,
        Ground::WithData(real) => Some(raw_decode_ms(&plan, real)?),
    };
    let report = report(&turn, &turns, raw_ms)?;
    if args.json {
        say!("{report}");
    } else {
        print(&report);
    }
    Ok(exit_codes::OK)
}

/// Milliseconds that one thread needs to read and decode a sample while nothing else runs.
fn raw_decode_ms(plan: &Plan, real: &Real) -> Result<f64, TrainError> {
    let raw = raw_decode(real.source(), 0, plan.data.channels, plan.data.decode_limits(), RAW_DECODE)?;
    Ok(1e3 / raw.samples_per_s())
}

/// All numbers of the benchmark.
fn report(turn: &Turn<'_>, turns: &Turns, raw_ms: Option<f64>) -> Result<serde_json::Value, CommandError> {
    let plan = turn.plan;
    let batch = plan.batch.size as f64;
    let rate = |ms: f64| 1e3 * batch / ms;
    let mean = |passes: &[Pass]| median(passes.iter().map(|pass| pass.mean_ms));
    let ratio = |a: &[Pass], b: &[Pass]| median(a.iter().zip(b).map(|(a, b)| a.mean_ms / b.mean_ms));
    let (first, last) = (turns.resident.first(), turns.resident.last());
    let mut report = json!({
        "device": device_name(turn.device),
        "precision": plan.precision.name_on(turn.device),
        "threads": fullbore_torch::num_threads(),
        "batch": plan.batch.size,
        "samples_per_s": rate(mean(&turns.resident)),
        "step_ms": {
            "median": median(turns.resident.iter().map(|pass| pass.median_ms)),
            "mean": mean(&turns.resident),
        },
        "loss_first": first.map(|pass| pass.loss_first),
        "loss_last": last.map(|pass| pass.loss_last),
        "peak_bytes": fullbore_torch::device_memory(turn.device)?.peak,
    });
    if let Some(raw_ms) = raw_ms {
        let (real_ms, resident_ms) = (mean(&turns.real), mean(&turns.resident));
        let per_sample = |time: fn(&Pass) -> f64| median(turns.real.iter().map(time));
        report["real"] = json!({
            "step_ms": real_ms,
            "samples_per_s": rate(real_ms),
            "wait_share": per_sample(|pass| pass.wait_share),
            "decode_ms_per_sample": per_sample(|pass| pass.decode_ms),
            "augment_ms_per_sample": per_sample(|pass| pass.augment_ms),
            "raw_decode_ms_per_sample": raw_ms,
        });
        report["replay"] =
            json!({ "step_ms": mean(&turns.replay), "samples_per_s": rate(mean(&turns.replay)) });
        report["headspace"] = json!(ratio(&turns.real, &turns.resident));
        report["accelerator_utilisation"] = json!(ratio(&turns.replay, &turns.real));
        if turn.device == Device::Cpu {
            // Decoding takes its time from the cores that compute; a GPU's time is its own.
            let decode_ms = raw_ms * batch / setup::cores() as f64;
            report["share_without_decode"] = json!(resident_ms / (real_ms - decode_ms));
        }
    }
    if !turns.peer.is_empty() {
        let pairs = turns.resident.iter().zip(&turns.peer);
        report["peer"] = json!({
            "step_ms": median(turns.peer.iter().copied()),
            "ratio": median(pairs.map(|(ours, peer)| ours.median_ms / peer)),
        });
    }
    Ok(report)
}

fn print(report: &serde_json::Value) {
    let text = |key: &str| report[key].as_str().unwrap_or_default();
    let number = |pointer: &str| report.pointer(pointer).and_then(serde_json::Value::as_f64);
    let shown = |pointer: &str| number(pointer).unwrap_or(f64::NAN);
    say!(
        "{}, {}, {} threads, batch {}",
        text("device"),
        text("precision"),
        report["threads"],
        report["batch"]
    );
    say!("{:10} {:>10} {:>12}", "", "ms a step", "samples/s");
    let row = |name: &str, ms: &str, rate: &str| say!("{name:10} {:>10.2} {:>12.1}", shown(ms), shown(rate));
    row("resident", "/step_ms/mean", "/samples_per_s");
    if report.get("real").is_some() {
        row("real", "/real/step_ms", "/real/samples_per_s");
        row("replay", "/replay/step_ms", "/replay/samples_per_s");
        say!("headspace (resident by real) {:.3}", shown("/headspace"));
        say!("accelerator utilisation (replay time by real) {:.3}", shown("/accelerator_utilisation"));
        say!("waiting for data {:.1} %", 100.0 * shown("/real/wait_share"));
        say!(
            "a sample in the pipeline: decode {:.2} ms, augmentation {:.2} ms; decode alone {:.2} ms",
            shown("/real/decode_ms_per_sample"),
            shown("/real/augment_ms_per_sample"),
            shown("/real/raw_decode_ms_per_sample")
        );
        if let Some(share) = number("/share_without_decode") {
            say!("share of the resident rate, once the time of decode alone is taken out: {share:.3}");
        }
    }
    if let Some(ratio) = number("/peer/ratio") {
        say!("peer: {:.2} ms a step (median); ours by the peer's {ratio:.3}", shown("/peer/step_ms"));
    }
    say!("resident loss {:.4} -> {:.4}", shown("/loss_first"), shown("/loss_last"));
    say!("peak {} MiB", report["peak_bytes"].as_u64().unwrap_or(0) >> 20);
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
