use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::SampleId;

/// What a stream of random numbers is for. Streams of different purposes are independent, so a new
/// consumer never shifts the draws of an old one. The discriminants are part of the format: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The order of samples in an epoch.
    Order = 1,
    /// Where a random crop is taken.
    Crop = 2,
    /// Which sample takes the place of one that cannot be loaded.
    Substitute = 3,
    /// How a training sample is augmented.
    Augment = 4,
    /// What a synthetic image shows beneath its mark, and how it is photographed and stored.
    SynthScene = 16,
    /// The mark laid over a synthetic image.
    SynthMark = 17,
    /// Which photo serves which split of a synthetic set.
    SynthPhotos = 18,
}

/// Names one draw: randomness is a pure function of (seed, epoch, sample, purpose), so it does not depend on
/// the number of workers, devices or restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleKey {
    /// The run's seed.
    pub seed: u64,
    /// Zero-based epoch.
    pub epoch: u64,
    /// The sample, or `SampleId(0)` for draws that concern the whole epoch.
    pub sample: SampleId,
}

impl SampleKey {
    /// The random stream for one purpose.
    pub fn rng(self, purpose: Purpose) -> KeyedRng {
        let mut key = [0u8; 32];
        key[0..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        key[16..24].copy_from_slice(&u64::from(self.sample.0).to_le_bytes());
        key[24..32].copy_from_slice(&(purpose as u64).to_le_bytes());
        KeyedRng(ChaCha8Rng::from_seed(key))
    }
}

/// Random numbers of one [`SampleKey`] and [`Purpose`]: ChaCha8, the same on every machine and version.
#[derive(Clone, Debug)]
pub struct KeyedRng(ChaCha8Rng);

impl KeyedRng {
    /// Uniform integer in `0..bound`, by multiply and shift (the bias is below 2^-32 for bounds below 2^32).
    ///
    /// # Panics
    /// Panics when `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no element to draw");
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform number in `[0, 1)`, a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(epoch: u64, sample: u32) -> SampleKey {
        SampleKey { seed: 7, epoch, sample: SampleId(sample) }
    }

    #[test]
    fn streams_are_pure_and_differ_by_epoch_sample_and_purpose() {
        let draw = |key: SampleKey, purpose| key.rng(purpose).below(u64::MAX);
        assert_eq!(draw(key(0, 0), Purpose::Crop), draw(key(0, 0), Purpose::Crop));
        assert_ne!(draw(key(0, 0), Purpose::Crop), draw(key(1, 0), Purpose::Crop));
        assert_ne!(draw(key(0, 0), Purpose::Crop), draw(key(0, 1), Purpose::Crop));
        assert_ne!(draw(key(0, 0), Purpose::Crop), draw(key(0, 0), Purpose::Order));
    }

    #[test]
    fn the_stream_never_changes_between_versions() {
        let mut rng = key(3, 5).rng(Purpose::Order);
        let mut order: Vec<u32> = (0..8).collect();
        rng.shuffle(&mut order);
        assert_eq!(order, GOLDEN_ORDER);
    }

    #[test]
    fn unit_draws_fill_the_interval_evenly() {
        let mut rng = key(1, 1).rng(Purpose::Augment);
        let draws: Vec<f64> = (0..4000).map(|_| rng.unit()).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }

    const GOLDEN_ORDER: [u32; 8] = [4, 6, 2, 1, 0, 3, 5, 7];
}
