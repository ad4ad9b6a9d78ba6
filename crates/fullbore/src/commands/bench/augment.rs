use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use fullbore_augment::{AugmentDevice, Preset};
use fullbore_data::{Loader, LoaderConfig};
use fullbore_feed::{Stage, StageConfig};
use fullbore_torch::{Device, synchronize};
use fullbore_train::augmentation::{Augmentation, Side};
use fullbore_train::setup::{self, DataSets};
use fullbore_train::{Plan, TrainError};
use fullbore_types::Position;

use super::super::{CommandError, Settings};
use crate::exit_codes;
use crate::render::say;

/// Arguments of `fullbore bench augment`.
#[derive(Debug, Args)]
pub(in crate::commands) struct AugmentArgs {
    #[command(flatten)]
    settings: Settings,
    /// Seconds that each pass runs for
    #[arg(long, value_name = "S", default_value_t = 4.0, value_parser = super::seconds)]
    seconds: f64,
    /// Passes over all sides, in turn; the best of each counts
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    passes: u32,
    /// Print one machine-readable line
    #[arg(long)]
    json: bool,
}

/// One way to make ready batches.
struct Row {
    side: Side,
    workers: usize,
    augmentation: Augmentation,
    samples_per_s: f64,
}

/// Measures ready batches per second, decoding included: both sides with several numbers of workers.
pub(super) fn run(args: AugmentArgs) -> Result<i32, CommandError> {
    let mut plan = args.settings.plan()?;
    if plan.augment.preset == Preset::None {
        plan.augment.preset = Preset::Standard;
    }
    plan.data.check()?;
    plan.check()?;
    let device = plan.device.resolve()?;
    let data = DataSets::open(&mut plan)?;
    let asked = plan.augment.device;
    let mut rows = Vec::new();
    for workers in worker_counts(setup::workers(&plan, device)) {
        for side in [AugmentDevice::Cpu, AugmentDevice::Device] {
            if asked != AugmentDevice::Auto && asked != side {
                continue;
            }
            plan.augment.device = side;
            let augmentation = Augmentation::decide(&plan, device, workers)?;
            rows.push(Row { side: augmentation.side, workers, augmentation, samples_per_s: 0.0 });
        }
    }
    for _ in 0..args.passes {
        for row in &mut rows {
            let rate = measure(&plan, &data, device, row, Duration::from_secs_f64(args.seconds))?;
            row.samples_per_s = row.samples_per_s.max(rate);
        }
    }
    report(&plan, &rows, args.json);
    Ok(exit_codes::OK)
}

/// Half of, exactly, and twice the number that the plan asks for.
fn worker_counts(planned: usize) -> Vec<usize> {
    let mut counts = vec![planned.div_ceil(2).max(1), planned.max(1), 2 * planned.max(1)];
    counts.dedup();
    counts
}

/// Samples per second that lie ready for the network.
fn measure(
    plan: &Plan,
    data: &DataSets,
    device: Device,
    row: &Row,
    duration: Duration,
) -> Result<f64, TrainError> {
    let config = LoaderConfig {
        stage: row.augmentation.stage.clone(),
        adjust_workers: None,
        ..setup::loader_config(plan, row.workers)
    };
    let mut loader = Loader::start(Arc::clone(&data.train), config, Position::default())?;
    let augment = row.augmentation.on_device.clone();
    let mut finish = setup::finish(plan, device)?;
    finish.twin = augment.as_ref().map(|on_device| on_device.twin(device)).transpose()?;
    let stage = Stage::new(&StageConfig { data: device, model: device, hands_over: false, augment })?;
    let mut started = None;
    let mut samples = 0;
    loop {
        let Some(batch) = loader.next() else { break };
        let batch = stage.bring(&Arc::new(batch?))?;
        let n = batch.len();
        drop(batch.finish(0..n, &finish)?);
        synchronize(device)?;
        match started {
            // The first batch waits for the start-up.
            None => started = Some(Instant::now()),
            Some(start) => {
                samples += n;
                if start.elapsed() >= duration {
                    return Ok(samples as f64 / start.elapsed().as_secs_f64());
                }
            }
        }
    }
    Ok(0.0)
}

fn report(plan: &Plan, rows: &[Row], json: bool) {
    let best = rows.iter().map(|row| row.samples_per_s).fold(0.0, f64::max);
    let per_batch = |row: &Row| 1e3 * plan.batch.size as f64 / row.samples_per_s;
    if json {
        let table: Vec<_> = rows
            .iter()
            .map(|row| {
                serde_json::json!({
                    "side": row.side.to_string(),
                    "workers": row.workers,
                    "samples_per_s": row.samples_per_s,
                    "ms_per_batch": per_batch(row),
                })
            })
            .collect();
        say!("{}", serde_json::json!({"samples_per_s": best, "batch": plan.batch.size, "rows": table}));
        return;
    }
    if let Some(row) = rows.first() {
        say!("{}", row.augmentation.operations.join(", "));
    }
    say!("{:8} {:>7} {:>12} {:>12} {:>8}", "side", "workers", "samples/s", "ms/batch", "of best");
    for row in rows {
        let share = row.samples_per_s / best;
        say!(
            "{:8} {:>7} {:>12.1} {:>12.2} {share:>8.2}",
            row.side.to_string(),
            row.workers,
            row.samples_per_s,
            per_batch(row)
        );
    }
}
