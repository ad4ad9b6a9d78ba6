//! `fullbore bench step`: the training step alone.

use std::time::Instant;

use clap::Args;
use fullbore_feed::{DeviceBatch, Targets};
use fullbore_nn::compute::{device_name, precision_name};
use fullbore_torch::{Device, Kind, Tensor, manual_seed, synchronize};
use fullbore_train::setup;
use fullbore_train::step::{Engine, StepOutcome};
use fullbore_train::{Plan, TrainError};
use fullbore_types::Position;

use super::super::{CommandError, Settings};
use crate::exit_codes;
use crate::render::say;

/// Arguments of `fullbore bench step`.
#[derive(Debug, Args)]
pub(in crate::commands) struct StepArgs {
    #[command(flatten)]
    settings: Settings,
    /// Steps that count
    #[arg(long, default_value_t = 30)]
    steps: u64,
    /// Steps before them that do not
    #[arg(long, default_value_t = 8)]
    warm: u64,
    /// Print one machine-readable summary as the last line of standard output
    #[arg(long)]
    json: bool,
}

/// Runs the benchmark.
pub(super) fn run(args: StepArgs) -> Result<i32, CommandError> {
    let plan = args.settings.plan()?;
    plan.check()?;
    let device = plan.device.resolve()?;
    let precision = plan.precision.resolve(device);
    let mut engine = setup::engine(&plan, device, precision)?;
    let timing = time_steps(&mut engine, &plan, device, args.warm, args.steps.max(1))?;
    let samples_per_s = plan.batch.size as f64 * 1e3 / timing.mean_ms;
    let memory = fullbore_torch::device_memory(device)?;
    if args.json {
        let json = serde_json::json!({
            "samples_per_s": samples_per_s,
            "step_ms": { "median": timing.median_ms, "mean": timing.mean_ms },
            "loss_first": timing.loss_first,
            "loss_last": timing.loss_last,
            "device": device_name(device),
            "precision": precision_name(precision),
            "threads": fullbore_torch::num_threads(),
            "peak_bytes": memory.peak,
        });
        say!("{json}");
    } else {
        let (device, precision) = (device_name(device), precision_name(precision));
        say!(
            "{device}, {precision}: {:.2} ms a step (median), {samples_per_s:.1} samples/s",
            timing.median_ms
        );
        say!("loss {:.4} -> {:.4}; peak {} MiB", timing.loss_first, timing.loss_last, memory.peak >> 20);
    }
    Ok(exit_codes::OK)
}

struct Timing {
    median_ms: f64,
    mean_ms: f64,
    loss_first: f64,
    loss_last: f64,
}

/// Times whole steps from bytes on the device to updated weights, normalisation included. Each step's time is the
/// host's; on a GPU only the mean, taken between two waits, counts the device's work.
fn time_steps(
    engine: &mut Engine,
    plan: &Plan,
    device: Device,
    warm: u64,
    steps: u64,
) -> Result<Timing, TrainError> {
    let (images, masks) = synthetic_batch(plan, device)?;
    let mut number = 0;
    let mut step = || -> Result<Tensor, TrainError> {
        number += 1;
        let targets = Targets::Masks(masks.clone());
        let batch = DeviceBatch::from_tensors(images.clone(), targets, Position::default());
        let mut open = engine.begin(batch, 1)?;
        match engine.advance(&mut open, plan.first_micro())? {
            StepOutcome::Done => Ok(engine.update(open, plan.peak_lr(), number)?.loss),
            StepOutcome::OutOfMemory { message, .. } => {
                Err(fullbore_torch::Error::OutOfMemory { message }.into())
            }
        }
    };
    let loss_first = step()?.item()?;
    for _ in 1..warm {
        step()?;
    }
    synchronize(device)?;
    let start = Instant::now();
    let mut each_ms = Vec::with_capacity(steps as usize);
    let mut loss = None;
    for _ in 0..steps {
        let start = Instant::now();
        loss = Some(step()?);
        each_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    synchronize(device)?;
    let mean_ms = start.elapsed().as_secs_f64() * 1e3 / steps as f64;
    each_ms.sort_by(f64::total_cmp);
    let median_ms = if device == Device::Cpu { each_ms[each_ms.len() / 2] } else { mean_ms };
    Ok(Timing { median_ms, mean_ms, loss_first, loss_last: loss.map_or(Ok(f64::NAN), |l| l.item())? })
}

/// Noise images and half-and-half masks.
fn synthetic_batch(plan: &Plan, device: Device) -> Result<(Tensor, Tensor), TrainError> {
    manual_seed(plan.run.seed)?;
    let (n, h, w) =
        (plan.batch.size as i64, i64::from(plan.data.size.height), i64::from(plan.data.size.width));
    let noise = |size: &[i64], high: f64| -> Result<Tensor, fullbore_torch::Error> {
        let values = Tensor::empty(size, Kind::Float, Device::Cpu)?;
        values.uniform_(0.0, high)?;
        values.to_kind(Kind::Uint8)?.to_device(device)
    };
    let images = noise(&[n, h, w, i64::from(plan.data.channels)], 256.0)?;
    let masks = noise(&[n, h, w], plan.data.classes.len() as f64)?;
    Ok((images, masks))
}
