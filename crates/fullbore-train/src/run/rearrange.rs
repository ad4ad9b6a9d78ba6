//! What a run changes, while it goes, about how its batches are made.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fullbore_augment::AugmentDevice;
use fullbore_data::{LoaderStats, Workers};
use fullbore_events::Event;
use fullbore_feed::Feed;
use fullbore_governor::arrangement::{Arrangement, Arranger, Leeway, Stretch, Why};
use fullbore_governor::buffer::BufferSize;
use fullbore_torch::{Device, Threads, empty_device_cache, num_threads};

use super::Run;
use crate::TrainError;
use crate::augmentation::Side;
use crate::feeding::Pipeline;
use crate::setup;

/// Shortest stretch that says something.
const SHORTEST: Duration = Duration::from_secs(4);

/// Measures what an [`Arranger`] judges.
pub(super) struct Arranging {
    /// `None` in a reproducible run, which takes no decision from a clock.
    arranger: Option<Arranger>,
    elapsed: Duration,
    waited: Duration,
    samples: u64,
    loading: LoaderStats,
    before: LoaderStats,
    was_full: bool,
}

impl Arranging {
    pub(super) fn new(arranger: Option<Arranger>) -> Self {
        let (elapsed, waited, samples, was_full) = Default::default();
        let (loading, before) = Default::default();
        Self { arranger, elapsed, waited, samples, loading, before, was_full }
    }

    /// The loader's counters when it gave the last batch.
    pub(super) fn loaded(&mut self, loading: LoaderStats) {
        self.loading = loading;
    }

    /// Counts the steps of a log window.
    pub(super) fn add(&mut self, elapsed: Duration, waited: Duration, samples: u64) {
        self.elapsed += elapsed;
        self.waited += waited;
        self.samples += samples;
    }

    /// Judges what has been measured, once it is long enough. Asks `feed` for its level at each step: a lock that its thread
    /// holds for moments only.
    fn judge(&mut self, feed: &Feed) -> Option<(Arrangement, Arrangement, Why)> {
        let arranger = self.arranger.as_mut()?;
        self.was_full |= feed.level().is_some_and(|level| level.full);
        if self.elapsed < SHORTEST {
            return None;
        }
        let seconds = self.elapsed.as_secs_f64();
        let work = self.loading.since(&self.before);
        let busy = work.decode + work.resize + work.pack + work.augment;
        let stretch = Stretch {
            speed: self.samples as f64 / seconds,
            waits: self.waited.as_secs_f64() / seconds,
            data_cores: busy.as_secs_f64() / seconds,
            was_full: self.was_full,
        };
        let from = arranger.now();
        let change = arranger.judge(stretch);
        *self = Self { loading: self.loading, before: self.loading, ..Self::new(self.arranger.take()) };
        change.map(|(to, why)| (from, to, why))
    }

    /// The loader begins anew, with so many batches that may wait.
    fn begin_anew(&mut self, buffer: usize) {
        let mut arranger = self.arranger.take();
        if let Some(arranger) = &mut arranger {
            arranger.got(buffer);
        }
        *self = Self::new(arranger);
    }
}

impl Run<'_> {
    /// What may be changed about `pipeline`, which has just started.
    pub(super) fn arranging(&self, pipeline: &Pipeline) -> Arranging {
        let (plan, augment) = (&self.phase.plan, &self.ground.augment);
        let buffer = pipeline.buffer;
        // The compute threads of a GPU's host have hardly anything to do.
        let shares_cores = self.ground.device == Device::Cpu && plan.data.workers == Workers::Auto;
        let leeway = Leeway {
            sides: plan.augment.device == AugmentDevice::Auto && augment.side != Side::Off,
            cores: (shares_cores && self.threads > 1).then_some(self.threads),
            buffer: match plan.buffer.size {
                BufferSize::Auto => pipeline.most_buffered.max(buffer),
                BufferSize::Count(_) => buffer,
            },
        };
        let now = Arrangement { on_device: augment.side == Side::Device, compute: num_threads(), buffer };
        Arranging::new((!plan.run.reproducible).then(|| Arranger::new(now, leeway)))
    }

    /// Changes how batches are made, if what was measured calls for it.
    ///
    /// # Errors
    /// When they can be made neither in the new way nor in the old one: the device fails, memory or threads are lacking.
    pub(super) fn rearrange(&mut self, feed: Feed, stop: &AtomicBool) -> Result<Feed, TrainError> {
        let Some((from, to, why)) = self.arranging.judge(&feed) else { return Ok(feed) };
        self.tell_rearranged(from, to, why.to_string());
        if to.compute != from.compute {
            // The guard before it restores what was there at its beginning.
            self.ground.threads = None;
            self.ground.threads = Some(Threads::new(to.compute));
            return Ok(feed);
        }
        drop(feed);
        self.make_batches(to, stop).or_else(|error| {
            let arranger = self.arranging.arranger.as_mut();
            let Some(back) = arranger.and_then(Arranger::take_back) else { return Err(error) };
            self.tell_rearranged(to, back, error.to_string());
            self.make_batches(back, stop)
        })
    }

    fn tell_rearranged(&self, from: Arrangement, to: Arrangement, reason: String) {
        let step = self.ground.progress.step;
        self.reporter.emit(Event::Rearranged { step, what: in_words(from, to), reason });
    }

    /// Begins a stream of batches where the last one stood. It does not wait for its buffer to be full: a trial that began
    /// with a full one would see what the buffer holds, not what comes.
    fn make_batches(&mut self, to: Arrangement, stop: &AtomicBool) -> Result<Feed, TrainError> {
        // What waited on the device makes way.
        empty_device_cache(self.ground.device)?;
        let side = match to.on_device {
            _ if self.ground.augment.side == Side::Off => Side::Off,
            true => Side::Device,
            false => Side::Cpu,
        };
        let of_user = self.phase.plan.buffer.size;
        if to.buffer > 0 {
            self.phase.plan.buffer.size = BufferSize::Count(to.buffer);
        }
        let begun = self.on_side(side, stop);
        self.phase.plan.buffer.size = of_user;
        let Pipeline { feed, slab_bytes, buffer, .. } = begun?;
        self.slab_bytes = slab_bytes;
        self.arranging.begin_anew(buffer);
        Ok(feed)
    }

    fn on_side(&mut self, side: Side, stop: &AtomicBool) -> Result<Pipeline, TrainError> {
        if self.ground.augment.side != side {
            let plan = &self.phase.plan;
            self.ground.augment.move_to(side, plan, self.ground.device);
            setup::take_on(&mut self.ground.engine, plan, &self.ground.augment)?;
        }
        self.pipeline(Some(self.caching.clone()), stop)
    }
}

/// What is different from now on.
fn in_words(from: Arrangement, to: Arrangement) -> String {
    if to.on_device != from.on_device {
        let side = if to.on_device { "device" } else { "CPU" };
        format!("augmentation moves to the {side}")
    } else if to.compute != from.compute {
        format!("{} threads compute instead of {}", to.compute, from.compute)
    } else {
        format!("{} batches may wait instead of {}", to.buffer, from.buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use fullbore_events::{Record, Reporter, RunDir, Sink};
    use fullbore_types::Position;
    use serde_json::json;

    use super::*;
    use crate::plan::Plan;
    use crate::setup::{Start, prepare};

    const BATCH: usize = 2;

    /// Six gray pictures with masks, augmented wherever it is faster.
    fn plan(folder: &Path, preset: &str) -> Plan {
        for part in ["images", "masks"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
            for number in 0..6 {
                let value = |x, y| if part == "masks" { 255 * ((x + number) / 8 % 2) } else { 7 * (x + y) };
                let picture = image::GrayImage::from_fn(16, 16, |x, y| image::Luma([value(x, y) as u8]));
                picture.save(folder.join(format!("{part}/{number}.bmp"))).unwrap();
            }
        }
        serde_json::from_value(json!({
            "run": {"dir": null, "epochs": 8, "steps": null, "seed": 3, "reproducible": false, "log_every": 1,
                "max_skipped": 20},
            "device": "cpu",
            "data": {"train": folder, "val": null, "holdout": 3, "size": 16, "resize": "stretch",
                "crops_per_image": 1, "channels": 1, "mean": [0.5], "std": [0.25],
                "classes": {"background": 0, "foreground": 255}, "void": null, "workers": "auto", "prefetch": 2,
                "drop_last": true, "cache": "ram"},
            "augment": {"preset": preset},
            "batch": {"size": BATCH, "micro": BATCH},
            "model": {"name": "unet", "base": 4, "depth": 2},
            "norm": {"kind": "batch", "group": null, "groups": 2},
            "optimizer": {"name": "sgd", "lr": 0.01, "decay_norm_and_bias": true, "groups": []},
            "schedule": {"name": "constant", "min_lr": 0.0},
            "loss": {"name": "ce"},
            "precision": "fp32",
            "ema": {"decay": null, "warmup": false},
            "eval": {"every": 1, "samples": null, "batch": null},
            "checkpoint": {"every": 1, "every_steps": null, "every_minutes": null, "keep_best": 1, "metric": null},
            "early_stop": {"metric": null, "patience": 9, "min_delta": 0.0}
        }))
        .unwrap()
    }

    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<(String, String)>>>);

    impl Sink for Told {
        fn emit(&mut self, record: &Record) {
            if let Event::Rearranged { what, reason, .. } = &record.event {
                self.0.lock().unwrap().push((what.clone(), reason.clone()));
            }
        }
    }

    struct Trained {
        told: Vec<(String, String)>,
        positions: Vec<Position>,
        weights: Vec<f32>,
    }

    /// Trains to the end; each step counts as four seconds, of which it `waited` so many for its batch.
    fn train(preset: &str, waited: f64) -> Trained {
        fullbore_torch::start();
        let folder = tempfile::tempdir().unwrap();
        let mut plan = plan(&folder.path().join("data"), preset);
        let prepared = prepare(&mut plan, Start::Anew).unwrap();
        let run_dir = RunDir::create(&folder.path().join("run")).unwrap();
        let told = Told::default();
        let reporter = Reporter::new(vec![Box::new(told.clone())]);
        let mut run = Run::new(&plan, prepared, &run_dir, &reporter).unwrap();
        let stop = AtomicBool::new(false);
        let mut feed = run.feed(&stop).unwrap();
        let mut positions = Vec::new();
        while let Some(fed) = feed.next() {
            let fed = fed.unwrap();
            positions.push(fed.batch.position());
            run.arranging.loaded(fed.loading);
            run.step(fed).unwrap();
            run.arranging.add(SHORTEST, SHORTEST.mul_f64(waited), BATCH as u64);
            feed = run.rearrange(feed, &stop).unwrap();
        }
        let params = run.ground.engine.params.parameters();
        let weights = params.flat_map(|(_, tensor)| tensor.to_vec_f32().unwrap()).collect();
        let told = told.0.lock().unwrap().clone();
        Trained { told, positions, weights }
    }

    #[test]
    fn a_run_that_waits_tries_the_other_side_and_trains_on_the_same_batches() {
        let (starving, fed) = (train("standard", 0.5), train("standard", 0.0));
        assert_eq!(fed.told, []);
        let [there, back, ..] = &starving.told[..] else { panic!("{:?}", starving.told) };
        assert!(there.0.starts_with("augmentation moves to the"), "{there:?}");
        assert_eq!(there.1, "the run waited for data 50 % of its time");
        assert!(back.0.starts_with("augmentation moves to the") && back.0 != there.0, "{back:?}");
        assert_eq!(starving.positions, fed.positions);
        let apart = |other: &Trained| {
            fed.weights.iter().zip(&other.weights).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let (twins, without) = (apart(&starving), apart(&train("none", 0.0)));
        assert!(twins < 0.02 * without, "{twins}, without augmentation {without}");
    }
}
