use fullbore_types::KeyedRng;

/// Random values of one image, drawn in a fixed order from one keyed stream.
pub(crate) struct Draw(KeyedRng);

impl Draw {
    pub(crate) fn new(rng: KeyedRng) -> Self {
        Draw(rng)
    }

    /// Uniform in `0.0..1.0`, in steps of 2^-24, so that an f32 holds it exactly.
    pub(crate) fn unit(&mut self) -> f32 {
        self.0.below(1 << 24) as f32 / (1 << 24) as f32
    }

    /// Uniform from `low` to `high`.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Between `low` and `high`, both above 0, every factor equally likely: small values are as frequent as large.
    pub(crate) fn scale(&mut self, low: f32, high: f32) -> f32 {
        low * (high / low).powf(self.unit())
    }

    /// Roughly normal with mean 0 and standard deviation 1, between -3.5 and 3.5.
    pub(crate) fn normal(&mut self) -> f32 {
        ((0..4).map(|_| self.unit()).sum::<f32>() - 2.0) * 3f32.sqrt()
    }

    /// True with this probability; 0 never is, 1 always.
    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// 1 or -1.
    pub(crate) fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// Uniform integer from `low` to `high`, both included.
    pub(crate) fn count(&mut self, low: usize, high: usize) -> usize {
        low + self.0.below((high - low + 1) as u64) as usize
    }

    /// One of the values.
    pub(crate) fn pick<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.0.below(values.len() as u64) as usize]
    }

    /// Where [`hash`] starts from, for noise that needs a value per pixel.
    pub(crate) fn hash_seed(&mut self) -> u64 {
        self.0.below(u64::MAX)
    }
}

/// 64 well mixed bits for each `index` (the finaliser of SplitMix64): thousands of times per image, where a
/// cryptographic stream would cost too much.
pub(crate) fn hash(seed: u64, index: u64) -> u64 {
    let mut bits = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
