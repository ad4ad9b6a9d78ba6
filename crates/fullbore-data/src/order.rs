//! The order of samples in an epoch, its batches, and each rank's share of them.

use fullbore_types::{Purpose, SampleId, SampleKey};

/// How the samples of an epoch are mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shuffle {
    /// Every order is equally likely.
    #[default]
    Full,
    /// For sources that are best read in sequence: blocks of `block` neighbouring samples come in random order,
    /// and samples mix only within `window` consecutive blocks of that order. At any time an epoch so reads from
    /// about `window` places. Zeros count as one.
    Windows {
        /// Neighbouring samples that stay together; the last block of a source may hold fewer.
        block: u32,
        /// Blocks that are mixed with each other.
        window: u32,
    },
}

/// One of several runs that share each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Zero-based number of this run.
    pub rank: u32,
    /// How many there are.
    pub world: u32,
}

impl Default for Shard {
    /// The only one.
    fn default() -> Self {
        Shard { rank: 0, world: 1 }
    }
}

/// What the batches of every epoch have in common.
///
/// Batch `b` of all ranks together is batch `b` of a single run with `world * batch_size` samples per batch; each
/// rank takes its turn of neighbouring samples in it. So an epoch is the same for any number of ranks that share
/// one batch, and is split exactly. When samples are left over at its end, `drop_last` leaves them out; otherwise
/// they make one smaller batch, and where the ranks cannot share it evenly it is padded with the epoch's first
/// samples (at most `world - 1` of them), so that all ranks have batches of the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochShape {
    /// Samples in the source.
    pub n_samples: u32,
    /// Samples per batch and rank, at least 1.
    pub batch_size: usize,
    /// Leave out the last, smaller batch.
    pub drop_last: bool,
    /// Whose batches these are; `rank` is below `world`.
    pub shard: Shard,
    /// How samples are mixed.
    pub shuffle: Shuffle,
}

impl EpochShape {
    /// Number of batches, the same for each rank.
    pub fn n_batches(&self) -> u64 {
        let n = u64::from(self.n_samples);
        match self.drop_last {
            true => n / self.shared_batch(),
            false => n.div_ceil(self.shared_batch()),
        }
    }

    /// Samples of one batch over all ranks.
    fn shared_batch(&self) -> u64 {
        (self.batch_size as u64).saturating_mul(u64::from(self.shard.world)).max(1)
    }
}

/// The order of one epoch: a permutation of the samples, cut into batches. A pure function of its arguments.
#[derive(Clone, Debug)]
pub struct EpochPlan {
    shape: EpochShape,
    order: Vec<u32>,
}

impl EpochPlan {
    /// Draws the order. Takes about 10 ms and 4 MB for a million samples.
    pub fn new(shape: EpochShape, seed: u64, epoch: u64) -> Self {
        let mut rng = SampleKey { seed, epoch, sample: SampleId(0) }.rng(Purpose::Order);
        let n = shape.n_samples;
        let order = match shape.shuffle {
            Shuffle::Full => {
                let mut order: Vec<u32> = (0..n).collect();
                rng.shuffle(&mut order);
                order
            }
            Shuffle::Windows { block, window } => {
                let (block, window) = (block.max(1), window.max(1) as usize);
                let mut blocks: Vec<u32> = (0..n.div_ceil(block)).collect();
                rng.shuffle(&mut blocks);
                let mut order = Vec::with_capacity(n as usize);
                for mixed in blocks.chunks(window) {
                    let start = order.len();
                    for first in mixed.iter().map(|i| i * block) {
                        order.extend(first..first.saturating_add(block).min(n));
                    }
                    rng.shuffle(&mut order[start..]);
                }
                order
            }
        };
        EpochPlan { shape, order }
    }

    /// What this plan was drawn for.
    pub fn shape(&self) -> &EpochShape {
        &self.shape
    }

    /// This rank's samples of batch `batch`, or `None` past the end.
    pub fn batch(&self, batch: u64) -> Option<impl ExactSizeIterator<Item = SampleId> + '_> {
        if batch >= self.shape.n_batches() {
            return None;
        }
        let Shard { rank, world } = self.shape.shard;
        let start = batch * self.shape.shared_batch();
        let left = self.order.len() as u64 - start;
        // Fits a usize: it is at most `batch_size`.
        let length = left.min(self.shape.shared_batch()).div_ceil(u64::from(world)) as usize;
        let start = start as usize + rank as usize * length;
        Some((start..start + length).map(|i| SampleId(self.order[i % self.order.len()])))
    }
}

/// The sample that takes the place of a bad one after `attempt` - 1 others have proved bad too: a walk over all
/// samples in steps of a length drawn for (seed, epoch, sample), which meets each of them once. `None` when it
/// has met them all.
pub fn substitute(n_samples: u32, seed: u64, epoch: u64, sample: SampleId, attempt: u32) -> Option<SampleId> {
    if attempt == 0 || attempt >= n_samples {
        return None;
    }
    let n = u64::from(n_samples);
    let draw = SampleKey { seed, epoch, sample }.rng(Purpose::Substitute).below(n - 1) + 1;
    // A step without a common divisor with n comes to every number before it is back; n - 1 is such a step.
    let step = (draw..n).find(|&step| gcd(step, n) == 1)?;
    Some(SampleId(((u64::from(sample.0) + u64::from(attempt) * step) % n) as u32))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(n_samples: u32, batch_size: usize) -> EpochShape {
        let (shard, shuffle) = (Shard::default(), Shuffle::Full);
        EpochShape { n_samples, batch_size, drop_last: false, shard, shuffle }
    }

    fn batches(shape: EpochShape, seed: u64, epoch: u64) -> Vec<Vec<u32>> {
        let plan = EpochPlan::new(shape, seed, epoch);
        assert!(plan.batch(shape.n_batches()).is_none());
        (0..shape.n_batches()).map(|b| plan.batch(b).unwrap().map(|id| id.0).collect()).collect()
    }

    fn sorted(mut ids: Vec<u32>) -> Vec<u32> {
        ids.sort_unstable();
        ids
    }

    fn shuffles() -> impl Strategy<Value = Shuffle> {
        let windows = (0u32..40, 0u32..6).prop_map(|(block, window)| Shuffle::Windows { block, window });
        prop_oneof![Just(Shuffle::Full), windows]
    }

    #[test]
    fn epochs_and_seeds_differ() {
        for shuffle in [Shuffle::Full, Shuffle::Windows { block: 5, window: 3 }] {
            let order = |seed, epoch| batches(EpochShape { shuffle, ..shape(50, 50) }, seed, epoch);
            assert_eq!(order(1, 2), order(1, 2));
            assert_ne!(order(1, 2), order(1, 3));
            assert_ne!(order(1, 2), order(2, 2));
        }
    }

    #[test]
    fn orders_never_change_between_versions() {
        let order = |shuffle| batches(EpochShape { shuffle, ..shape(12, 12) }, 7, 1).concat();
        let windows = Shuffle::Windows { block: 3, window: 2 };
        let walk = (1..9).map(|attempt| substitute(97, 7, 1, SampleId(5), attempt).unwrap().0).collect();
        assert_eq!([order(Shuffle::Full), order(windows), walk], GOLDEN);
    }

    const GOLDEN: [&[u32]; 3] = [
        &[9, 6, 5, 2, 3, 10, 8, 4, 7, 1, 11, 0],
        &[6, 4, 3, 7, 5, 8, 11, 10, 0, 2, 9, 1],
        &[71, 40, 9, 75, 44, 13, 79, 48],
    ];

    #[test]
    fn a_batch_beyond_all_numbers_is_one_batch() {
        let shard = Shard { rank: u32::MAX - 1, world: u32::MAX };
        let huge = EpochShape { shard, ..shape(3, usize::MAX) };
        assert_eq!(batches(huge, 1, 0).concat().len(), 1);
    }

    proptest! {
        #[test]
        fn an_epoch_is_a_permutation(
            n in 0u32..500, batch in 1usize..70, shuffle in shuffles(), seed: u64, epoch: u64,
        ) {
            let batches = batches(EpochShape { shuffle, ..shape(n, batch) }, seed, epoch);
            prop_assert_eq!(sorted(batches.concat()), (0..n).collect::<Vec<_>>());
            let (last, full) = batches.split_last().map_or((0, &[][..]), |(l, f)| (l.len(), f));
            prop_assert!(full.iter().all(|b| b.len() == batch));
            prop_assert!(n == 0 || (1..=batch).contains(&last));
        }

        #[test]
        fn drop_last_only_leaves_out_the_ragged_batch(n in 0u32..500, batch in 1usize..70, seed: u64) {
            let whole = batches(shape(n, batch), seed, 0);
            let dropped = batches(EpochShape { drop_last: true, ..shape(n, batch) }, seed, 0);
            prop_assert!(dropped.iter().all(|b| b.len() == batch));
            prop_assert_eq!(&whole[..dropped.len()], &dropped[..]);
            prop_assert_eq!(dropped.len(), n as usize / batch);
        }

        #[test]
        fn the_ranks_share_every_batch_of_a_single_run(
            n in 1u32..300, batch in 1usize..9, world in 1u32..12, drop_last: bool, shuffle in shuffles(),
            seed: u64, epoch: u64,
        ) {
            let single = EpochShape { drop_last, shuffle, ..shape(n, batch * world as usize) };
            let order = batches(EpochShape { drop_last: false, ..single }, seed, epoch).concat();
            let ranks: Vec<_> = (0..world)
                .map(|rank| {
                    let shard = Shard { rank, world };
                    batches(EpochShape { batch_size: batch, shard, ..single }, seed, epoch)
                })
                .collect();
            for (b, whole) in batches(single, seed, epoch).iter().enumerate() {
                let size = ranks[0][b].len();
                prop_assert!(ranks.iter().all(|rank| rank[b].len() == size), "equal on all ranks");
                let shared: Vec<u32> = ranks.iter().flat_map(|rank| rank[b].clone()).collect();
                let padding = shared.len() - whole.len();
                prop_assert!(padding < world as usize);
                let start = order.iter().cycle().take(padding);
                prop_assert_eq!(&shared, &whole.iter().chain(start).copied().collect::<Vec<_>>());
            }
            prop_assert!(ranks.iter().all(|rank| rank.len() as u64 == single.n_batches()));
            prop_assert!(!drop_last || ranks.iter().flatten().all(|b| b.len() == batch));
        }

        #[test]
        fn windows_mix_whole_blocks_and_no_more_than_a_window_of_them(
            n in 1u32..400, block in 1u32..30, window in 1u32..6, seed: u64,
        ) {
            let shuffle = Shuffle::Windows { block, window };
            let order = batches(EpochShape { shuffle, ..shape(n, 1) }, seed, 0).concat();
            // Blocks by first appearance; each must be finished before the window after its own begins.
            let mut blocks: Vec<u32> = Vec::new();
            let mut place = 0;
            for id in order {
                if !blocks.contains(&(id / block)) {
                    blocks.push(id / block);
                }
                let at = blocks.iter().position(|b| *b == id / block).unwrap();
                prop_assert!(at / window as usize >= place, "a block is met again after its window");
                place = at / window as usize;
            }
        }

        #[test]
        fn substitutes_meet_every_other_sample_once(n in 1u32..200, sample: u32, seed: u64, epoch: u64) {
            let sample = SampleId(sample % n);
            let walk = (1..).map_while(|attempt| substitute(n, seed, epoch, sample, attempt));
            let mut met: Vec<u32> = walk.map(|id| id.0).collect();
            met.push(sample.0);
            prop_assert_eq!(sorted(met), (0..n).collect::<Vec<_>>());
        }
    }
}
