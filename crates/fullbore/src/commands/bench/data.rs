//! `fullbore bench data`: how fast files become batches, and how fast they could.

use std::time::{Duration, Instant};

use clap::Args;
use fullbore_data::yardstick::{RawRate, raw_decode};
use fullbore_data::{Loader, LoaderConfig, LoaderStats};
use fullbore_train::TrainError;
use fullbore_train::caching::Caching;
use fullbore_train::setup::{self, DataSets};
use fullbore_types::Position;

use super::super::{CommandError, Settings};
use crate::exit_codes;
use crate::render::say;

/// Arguments of `fullbore bench data`.
#[derive(Debug, Args)]
pub(in crate::commands) struct DataArgs {
    #[command(flatten)]
    settings: Settings,
    /// Duration of each of the measurements that alternate: loader and raw loop
    #[arg(long, default_value_t = 3.0, value_parser = super::seconds)]
    seconds: f64,
    /// How many times both are measured; the best of each counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    passes: u32,
    /// Print one machine-readable summary as the last line of standard output
    #[arg(long)]
    json: bool,
}

/// One pass through the loader.
struct Pass {
    first_batch_s: f64,
    samples: u64,
    seconds: f64,
    stats: LoaderStats,
}

impl Pass {
    fn samples_per_s(&self) -> f64 {
        self.samples as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Measures the loader and the raw loop in turn, as often as asked for, and reports the best pass of each.
pub(super) fn run(args: DataArgs) -> Result<i32, CommandError> {
    let mut plan = args.settings.plan()?;
    plan.data.check()?;
    plan.check()?;
    let device = plan.device.resolve()?;
    let workers = setup::workers(&plan, device);
    let data = DataSets::open(&mut plan)?;
    let config = setup::loader_config(&plan, workers);
    let caching = Caching::decide(&plan, &data, &config);
    let config = LoaderConfig { cache: caching.cache.clone(), ..config };
    if config.cache.is_some() {
        fill(&data, &config)?;
    }
    let duration = Duration::from_secs_f64(args.seconds);
    let mut best: Option<(Pass, RawRate)> = None;
    for _ in 0..args.passes {
        let pass = load(&data, &config, duration)?;
        let raw = raw_decode(&*data.train, workers, plan.data.channels, plan.data.decode_limits(), duration)
            .map_err(TrainError::from)?;
        best = Some(match best {
            None => (pass, raw),
            Some((p, r)) => (
                if pass.samples_per_s() > p.samples_per_s() { pass } else { p },
                if raw.samples_per_s() > r.samples_per_s() { raw } else { r },
            ),
        });
    }
    let Some((pass, raw)) = best else { unreachable!("at least one pass") };
    if args.json {
        say!("{}", to_json(&pass, &raw, workers, &caching));
    } else {
        say!("{}", caching.decision.why);
        print(&pass, &raw, workers);
    }
    Ok(exit_codes::OK)
}

/// Draws an epoch, so that the cache holds what it can.
fn fill(data: &DataSets, config: &LoaderConfig) -> Result<(), TrainError> {
    let once = LoaderConfig { epochs: 1, drop_last: false, ..config.clone() };
    for batch in Loader::start(data.train.clone(), once, Position::default())? {
        batch?;
    }
    Ok(())
}

/// Draws batches for a while, as a step that takes no time would.
fn load(data: &DataSets, config: &LoaderConfig, duration: Duration) -> Result<Pass, TrainError> {
    let start = Instant::now();
    let mut loader = Loader::start(data.train.clone(), config.clone(), Position::default())?;
    let mut first = None;
    let mut samples = 0;
    let mut elapsed = Duration::ZERO;
    // The first batch is the start-up; what comes after it is the rate.
    while first.is_none() || samples == 0 || elapsed < duration {
        let Some(batch) = loader.next() else { break };
        let batch = batch?;
        match first {
            None => first = Some(start.elapsed()),
            Some(first) => {
                samples += batch.len() as u64;
                elapsed = start.elapsed() - first;
            }
        }
    }
    let first_batch_s = first.unwrap_or_default().as_secs_f64();
    Ok(Pass { first_batch_s, samples, seconds: elapsed.as_secs_f64(), stats: loader.stats() })
}

fn to_json(pass: &Pass, raw: &RawRate, workers: usize, caching: &Caching) -> serde_json::Value {
    let stages: serde_json::Map<_, _> =
        stages(&pass.stats).into_iter().map(|(name, seconds)| (name.into(), seconds.into())).collect();
    serde_json::json!({
        "samples_per_s": pass.samples_per_s(),
        "raw_samples_per_s": raw.samples_per_s(),
        "share_of_raw": pass.samples_per_s() / raw.samples_per_s(),
        "workers": workers,
        "first_batch_s": pass.first_batch_s,
        "samples": pass.samples,
        "seconds": pass.seconds,
        "bytes_read": pass.stats.bytes_read,
        "cache": caching.decision.mode.to_string(),
        "cache_hits": pass.stats.cache.hits,
        "cache_misses": pass.stats.cache.misses,
        "cache_bytes": pass.stats.cache.held_bytes,
        "queue_depth": pass.stats.queue_depth(),
        "stage_seconds": stages,
    })
}

/// Seconds by stage, summed over the threads; from the start, the first batch included.
fn stages(stats: &LoaderStats) -> [(&'static str, f64); 8] {
    [
        ("read", stats.read),
        ("decode", stats.decode),
        ("resize", stats.resize),
        ("pack", stats.pack),
        ("augment", stats.augment),
        ("wait_for_room", stats.wait_for_room),
        ("wait_for_work", stats.wait_for_work),
        ("wait_for_batch", stats.wait_for_batch),
    ]
    .map(|(name, time)| (name, time.as_secs_f64()))
}

fn print(pass: &Pass, raw: &RawRate, workers: usize) {
    let share = 100.0 * pass.samples_per_s() / raw.samples_per_s();
    say!(
        "{workers} workers: {:.1} samples/s, first batch after {:.3} s",
        pass.samples_per_s(),
        pass.first_batch_s
    );
    say!(
        "raw loop of the same decoders: {:.1} samples/s; the loader reaches {share:.0} %",
        raw.samples_per_s()
    );
    for (name, seconds) in stages(&pass.stats) {
        let per_sample = 1e3 * seconds / pass.stats.samples.max(1) as f64;
        say!("  {name:15} {seconds:8.2} s  {per_sample:8.3} ms a sample");
    }
    if raw.failed > 0 {
        say!("{} samples could not be decoded", raw.failed);
    }
}
