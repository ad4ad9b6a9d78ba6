//! The micro-batch to begin with, from a few measured steps: what memory is always in use, what a sample adds.

use crate::budget::in_words;
use crate::chain::chain;
use crate::memory_config::MemoryConfig;

/// A step that was tried before training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Samples of its micro-batch.
    pub micro: usize,
    /// Most bytes that tensors held during it.
    pub peak_bytes: u64,
}

/// Memory that does not depend on the micro-batch, in bytes, by what holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedBytes {
    /// Parameters and buffers of the network.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// The optimizer's moments.
    pub optimizer: u64,
    /// The average of the weights; 0 without one.
    pub average: u64,
}

impl FixedBytes {
    /// All of it.
    pub fn total(&self) -> u64 {
        [self.weights, self.gradients, self.optimizer, self.average].into_iter().fold(0, u64::saturating_add)
    }
}

/// How a batch is to be split, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MicroPlan {
    /// Samples of a micro-batch.
    pub micro: usize,
    /// Samples of a batch.
    pub batch: usize,
    /// Bytes that do not depend on the micro-batch, by name.
    pub fixed: FixedBytes,
    /// More such bytes, as measured: batches, the workspace of kernels.
    pub other: u64,
    /// Bytes that each sample of a micro-batch adds.
    pub per_sample: u64,
    /// Bytes that there are.
    pub budget: u64,
    /// When fewer samples than a group share BatchNorm statistics: samples of a group.
    pub below_group: Option<usize>,
}

/// A batch that cannot be trained at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum MicroPlanError {
    /// There is no room for what is always in use.
    #[error(
        "the model alone needs {} and there are {}",
        in_words(*fixed),
        in_words(*budget)
    )]
    #[diagnostic(
        code(limit::model_too_large),
        help(
            "use a smaller model.size (or model.base, model.depth), no ema.decay, or a larger memory.budget"
        )
    )]
    Model {
        /// Bytes of weights, gradients, optimizer state, average, and what else a step always needs.
        fixed: u64,
        /// Bytes that there are.
        budget: u64,
    },
    /// One sample does not fit.
    #[error(
        "one sample needs {} beside {} that are always in use, and there are {}",
        in_words(*per_sample),
        in_words(*fixed),
        in_words(*budget)
    )]
    #[diagnostic(
        code(limit::sample_too_large),
        help(
            "a sample with {percent} % of the pixels would fit: use a smaller data.size or model.size, or a larger \
             memory.budget; batch.size need not change"
        )
    )]
    Sample {
        /// Bytes of one sample.
        per_sample: u64,
        /// Bytes that are always in use.
        fixed: u64,
        /// Bytes that there are.
        budget: u64,
        /// Share of the pixels that would fit, in percent.
        percent: u64,
    },
}

/// Plans how to split batches of `batch` samples so that a step stays below `memory.halve` of `budget` bytes.
///
/// Memory is taken as something fixed and something per sample, a straight line through the smallest and the largest
/// probe, raised until none lies above it. With one probe the line begins at what `fixed` names. Probes that contradict
/// a rising line are judged by the largest one alone. Without probes the whole batch is taken. Sizes are those of the
/// [`Governor`](crate::Governor): halves, multiples of `group` while one fits. One sample is also planned when it
/// fits into the budget, though not below `memory.halve`.
///
/// # Errors
/// When not even one sample fits; says what would.
pub fn plan_micro(
    probes: &[Probe],
    fixed: FixedBytes,
    budget: u64,
    batch: usize,
    group: Option<usize>,
    config: &MemoryConfig,
) -> Result<MicroPlan, MicroPlanError> {
    let named = fixed.total();
    if named >= budget {
        return Err(MicroPlanError::Model { fixed: named, budget });
    }
    let (always, per_sample) = straight_line(probes, named);
    let need = |micro: usize| per_sample.saturating_mul(micro as u64).saturating_add(always);
    let wanted = (budget as f64 * config.halve) as u64;
    let max = config.max_micro.map_or(batch, |most| most.min(batch));
    let sizes = chain(max, config.min_micro, group);
    let smallest = sizes[sizes.len() - 1];
    let micro = sizes.into_iter().find(|&size| need(size) <= wanted).unwrap_or(smallest);
    if need(micro) > budget {
        let needed = need(micro).saturating_sub(always).max(1);
        let percent = (budget.saturating_sub(always) as f64 / needed as f64 * 100.0) as u64;
        return Err(match percent {
            0 => MicroPlanError::Model { fixed: always, budget },
            _ => MicroPlanError::Sample { per_sample, fixed: always, budget, percent },
        });
    }
    Ok(MicroPlan {
        micro,
        batch,
        fixed,
        other: always.saturating_sub(named),
        per_sample,
        budget,
        below_group: group.filter(|&group| micro < group),
    })
}

/// Fixed bytes and bytes per sample; see [`plan_micro`].
fn straight_line(probes: &[Probe], named: u64) -> (u64, u64) {
    let by_size = |probe: &&Probe| probe.micro;
    let (Some(small), Some(large)) = (probes.iter().min_by_key(by_size), probes.iter().max_by_key(by_size))
    else {
        return (named, 0);
    };
    let rise = large.peak_bytes.saturating_sub(small.peak_bytes);
    let run = (large.micro - small.micro) as u64;
    if rise == 0 || run == 0 {
        let highest = probes.iter().map(|probe| probe.peak_bytes).max().unwrap_or(0);
        return (named, highest.saturating_sub(named).div_ceil(large.micro.max(1) as u64));
    }
    let per_sample = rise.div_ceil(run);
    let start =
        |probe: &Probe| probe.peak_bytes.saturating_sub(per_sample.saturating_mul(probe.micro as u64));
    (probes.iter().map(start).max().unwrap_or(0).max(named), per_sample)
}

impl MicroPlan {
    /// Bytes that tensors are expected to hold at most.
    pub fn expected_peak(&self) -> u64 {
        let samples = self.per_sample.saturating_mul(self.micro as u64);
        self.fixed.total().saturating_add(self.other).saturating_add(samples)
    }

    /// The plan for people: what fills the memory, and how the batch is split.
    pub fn lines(&self) -> Vec<String> {
        let parts = [
            ("weights", self.fixed.weights),
            ("gradients", self.fixed.gradients),
            ("optimizer", self.fixed.optimizer),
            ("average", self.fixed.average),
            ("other", self.other),
        ];
        let fixed: Vec<_> = parts
            .into_iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(name, bytes)| format!("{name} {}", in_words(bytes)))
            .collect();
        let split = format!(
            "micro-batch {} of {}: about {} of {}",
            self.micro,
            self.batch,
            in_words(self.expected_peak()),
            in_words(self.budget)
        );
        let norm = self.below_group.map(|group| {
            format!("BatchNorm statistics are over {} samples instead of {group}: no more fit", self.micro)
        });
        let memory = format!("memory: {}; per sample {}", fixed.join(", "), in_words(self.per_sample));
        [Some(memory), Some(split), norm].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miette::Diagnostic;
    use proptest::prelude::*;

    const MB: u64 = 1_000_000;

    fn plan(probes: &[(usize, u64)], budget: u64, batch: usize) -> Result<MicroPlan, MicroPlanError> {
        let probes: Vec<_> = probes.iter().map(|&(micro, mb)| Probe { micro, peak_bytes: mb * MB }).collect();
        let fixed = FixedBytes { weights: 7 * MB, gradients: 7 * MB, optimizer: 14 * MB, average: 0 };
        plan_micro(&probes, fixed, budget * MB, batch, None, &MemoryConfig::default())
    }

    #[test]
    fn batches_of_four_become_two_halves() {
        // 4500 MB for four samples, 3000 MB for two.
        let two = plan(&[(2, 3000), (4, 4500)], 4900, 4).unwrap();
        assert_eq!((two.micro, two.per_sample, two.expected_peak()), (2, 750 * MB, 3000 * MB));
        assert_eq!(plan(&[(2, 3000), (4, 4500)], 5000, 4).unwrap().micro, 4, "nine tenths are 4500 MB");
        assert_eq!(
            two.lines(),
            [
                "memory: weights 7.0 MB, gradients 7.0 MB, optimizer 14 MB, other 1.5 GB; per sample 750 MB",
                "micro-batch 2 of 4: about 3.0 GB of 4.9 GB",
            ]
        );
    }

    #[test]
    fn sizes_beyond_the_probes_are_planned() {
        assert_eq!(plan(&[(1, 90), (2, 150)], 2000, 64).unwrap().micro, 16, "30 and 60 per sample");
        assert_eq!(plan(&[(1, 90), (2, 150)], 100_000, 64).unwrap().micro, 64);
    }

    #[test]
    fn one_probe_none_and_contradictory_ones() {
        let one = plan(&[(2, 148)], 1000, 32).unwrap();
        assert_eq!((one.per_sample, one.other, one.micro), (60 * MB, 0, 8));
        assert_eq!(plan(&[], 1000, 32).unwrap().micro, 32);
        let falling = plan(&[(1, 200), (2, 148)], 1000, 32).unwrap();
        assert_eq!(falling.per_sample, 86 * MB);
    }

    #[test]
    fn a_probe_above_the_line_raises_it() {
        let curved = plan(&[(1, 100), (2, 400), (4, 460)], 1000, 4).unwrap();
        assert_eq!((curved.per_sample, curved.other), (120 * MB, (160 - 28) * MB));
    }

    #[test]
    fn one_sample_may_fill_the_last_tenth() {
        assert_eq!(plan(&[(1, 950), (2, 1800)], 1000, 4).unwrap().micro, 1);
    }

    #[test]
    fn what_cannot_fit_is_refused_with_what_would() {
        let sample = plan(&[(1, 1128), (2, 2128)], 628, 4).unwrap_err();
        assert_eq!(
            sample.to_string(),
            "one sample needs 1.0 GB beside 128 MB that are always in use, and there are 628 MB"
        );
        let help = sample.help().unwrap().to_string();
        assert!(help.starts_with("a sample with 50 % of the pixels would fit"), "{help}");
        let model = plan(&[(1, 1128)], 20, 4).unwrap_err();
        assert_eq!(model.to_string(), "the model alone needs 28 MB and there are 20 MB");
        let workspace = plan(&[(1, 1128), (2, 2128)], 120, 4).unwrap_err();
        assert_eq!(workspace.to_string(), "the model alone needs 128 MB and there are 120 MB");
    }

    #[test]
    fn a_group_that_does_not_fit_is_told() {
        let probes = [(1, 100), (2, 200)].map(|(micro, mb)| Probe { micro, peak_bytes: mb * MB });
        let of = |budget| {
            plan_micro(&probes, FixedBytes::default(), budget * MB, 12, Some(4), &MemoryConfig::default())
                .unwrap()
        };
        assert_eq!((of(900).micro, of(900).below_group), (4, None));
        let below = of(300);
        assert_eq!((below.micro, below.below_group), (2, Some(4)));
        assert_eq!(below.lines()[2], "BatchNorm statistics are over 2 samples instead of 4: no more fit");
    }

    proptest! {
        #[test]
        fn a_plan_keeps_its_word_where_memory_is_a_line(
            fixed in 0u64..1 << 40, per_sample in 1u64..1 << 40, first in 1usize..8, second in 8usize..64,
            budget: u64, batch in 1usize..5000,
        ) {
            let need = |micro: usize| fixed + per_sample * micro as u64;
            let probes = [second, first].map(|micro| Probe { micro, peak_bytes: need(micro) });
            let config = MemoryConfig::default();
            match plan_micro(&probes, FixedBytes::default(), budget, batch, None, &config) {
                Ok(plan) => {
                    prop_assert_eq!(plan.expected_peak(), need(plan.micro));
                    prop_assert!(need(plan.micro) <= budget);
                    prop_assert!(plan.micro == 1 || need(plan.micro) as f64 <= 0.9 * budget as f64 + 1.0);
                    // The next larger size would not have stayed below.
                    let doubled = plan.micro * 2;
                    prop_assert!(plan.micro == batch || need(doubled) as f64 >= 0.9 * budget as f64 - 1.0
                        || doubled > batch || !batch.is_power_of_two());
                }
                Err(_) => prop_assert!(need(1) > budget || budget == 0),
            }
        }

        #[test]
        fn no_numbers_make_it_panic(
            probes in proptest::collection::vec((any::<usize>(), any::<u64>()), 0..4), parts: [u64; 4],
            budget: u64, batch: usize, group in proptest::option::of(any::<usize>()),
        ) {
            let probes: Vec<_> =
                probes.into_iter().map(|(micro, peak_bytes)| Probe { micro, peak_bytes }).collect();
            let [weights, gradients, optimizer, average] = parts;
            let fixed = FixedBytes { weights, gradients, optimizer, average };
            if let Ok(plan) = plan_micro(&probes, fixed, budget, batch, group, &MemoryConfig::default()) {
                prop_assert!(plan.micro >= 1 && plan.micro <= batch.max(1) && plan.expected_peak() <= budget);
                plan.lines();
            }
        }
    }
}
