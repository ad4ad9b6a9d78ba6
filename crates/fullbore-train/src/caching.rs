//! Where a run keeps its decoded samples.

use std::path::Path;
use std::sync::Arc;

use fullbore_data::cache::{self, CacheDecision, CacheNeeds, SampleCost, decide, free_disk, probe};
use fullbore_data::{Cache, CacheMode, LoaderConfig};
use fullbore_events::{Event, Reporter};
use fullbore_torch::{HostMemory, cpu_memory, set_cpu_budget};

use crate::plan::Plan;
use crate::setup::DataSets;

/// A cache, or none, and why. Clones share it.
#[derive(Clone)]
pub struct Caching {
    /// Shared by the loaders of a run; `None` when every epoch decodes.
    pub cache: Option<Arc<Cache>>,
    /// What was decided.
    pub decision: CacheDecision,
}

impl Caching {
    /// None.
    pub fn off() -> Self {
        Self { cache: None, decision: decide(CacheMode::Off, &CacheNeeds::default()) }
    }

    /// Decides for a plan: looks at free memory and disk, and tries a few samples to learn what they cost.
    pub fn decide(plan: &Plan, data: &DataSets, config: &LoaderConfig) -> Self {
        let folder = plan.data.cache_dir.clone().or_else(cache::default_folder);
        let decision = match plan.data.cache {
            CacheMode::Off => return Self::off(),
            asked => match probe(&*data.train, config) {
                Some(sample) => decide(asked, &needs(plan, data, config, folder.as_deref(), sample)),
                // The loader will say what is wrong with them.
                None => CacheDecision {
                    mode: CacheMode::Off,
                    bytes: 0,
                    why: "no cache: none of the samples tried can be read or kept".into(),
                },
            },
        };
        let cache = match (decision.mode, folder) {
            (CacheMode::Ram, _) => Some(Cache::in_memory(decision.bytes)),
            (CacheMode::Disk, Some(folder)) => Some(Cache::on_disk(folder, decision.bytes)),
            _ => None,
        };
        Self { cache: cache.map(Arc::new), decision }
    }

    /// Tells what was decided.
    pub fn announce(&self, reporter: &Reporter) {
        let CacheDecision { mode, bytes, why } = &self.decision;
        reporter.emit(Event::CacheDecided { mode: mode.to_string(), bytes: *bytes, reason: why.clone() });
    }

    /// Takes what a cache in memory may grow to from what CPU tensors may use.
    pub fn keep_out_of_tensors(&self) {
        if self.decision.mode == CacheMode::Ram
            && let Some(memory) = HostMemory::read()
        {
            let tensors = cpu_memory();
            let left = (memory.usable() / 20 * 19).saturating_sub(self.decision.bytes) + tensors.in_use;
            set_cpu_budget(Some(tensors.budget.map_or(left, |budget| budget.min(left))));
        }
    }

    /// Tells what has gone wrong since the last time.
    pub fn pass_warnings_on(&self, reporter: &Reporter) {
        for warning in self.cache.iter().flat_map(|cache| cache.take_warnings()) {
            reporter.warn(warning.to_string());
        }
    }
}

fn needs(
    plan: &Plan,
    data: &DataSets,
    config: &LoaderConfig,
    folder: Option<&Path>,
    sample: SampleCost,
) -> CacheNeeds {
    let ring = config.ring_bytes().unwrap_or(0) as u64;
    let repeats = u64::from(plan.data.crops_per_image);
    CacheNeeds {
        n_samples: data.train.len() as u64 / repeats + data.val.len() as u64,
        sample,
        uses: plan.run.epochs.saturating_mul(repeats),
        bytes: plan.data.cache_bytes.map(|bytes| bytes.saturating_sub(ring)),
        free_memory: HostMemory::read().map_or(0, |memory| memory.usable().saturating_sub(ring)),
        free_disk: folder.and_then(free_disk),
    }
}
