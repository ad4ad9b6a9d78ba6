//! How many batches wait ready on the device, and when training may start.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::budget::{Budget, in_words};
use crate::memory_config::{SettingError, check_budget, refuse};

/// Most batches that wait.
pub const MAX_BUFFER: usize = 4096;
/// Batches that wait where memory is plentiful, and where it is not: with few data threads, and with many.
const PLENTIFUL: [usize; 2] = [75, 100];
const LIMITED: [usize; 2] = [25, 50];
/// Data threads from which on it counts as many: more than the usual rule ever starts with do not deepen the buffer.
const MANY_WORKERS: usize = 8;
/// Share of the free memory that batches may wait in, unless the user sets `buffer.bytes`.
const SHARE: u64 = 4;
/// One batch is trained on, another must be on its way; fewer would make the device wait.
const LEAST: usize = 2;

/// The `buffer:` part of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BufferConfig {
    /// Batches that wait ready on the device.
    pub size: BufferSize,
    /// Most memory that they may take; a share is of the free memory. `None`: a quarter of the free memory.
    pub bytes: Option<Budget>,
}

/// Batches that wait: written as `auto` or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BufferSize {
    /// 75 to 100 where memory is plentiful, else 25 to 50, the more the more data threads there are; fewer where
    /// they do not fit.
    #[default]
    Auto,
    /// That many where they fit. 0: none, each batch is brought when it is needed.
    Count(usize),
}

impl BufferConfig {
    /// Checks the keys.
    ///
    /// # Errors
    /// The first key whose value cannot work, with the values that can.
    pub fn check(&self) -> Result<(), SettingError> {
        match self.size {
            BufferSize::Count(n) if n > MAX_BUFFER => {
                Err(refuse("buffer.size", n, format!("auto, or 0 to {MAX_BUFFER} batches")))
            }
            _ => check_budget("buffer.bytes", self.bytes),
        }
    }
}

/// What a buffer is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferNeeds {
    /// Bytes of one batch as it waits.
    pub batch_bytes: u64,
    /// Data threads.
    pub workers: usize,
    /// Bytes of the device's memory that are free at the peak of a step.
    pub free_bytes: u64,
}

/// A buffer, planned. Displays as a sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferPlan {
    /// Batches that wait at most.
    pub size: usize,
    /// Bytes that they may take: with batches of different sizes, this is the limit that counts.
    pub bytes: u64,
    /// Whether memory, not the rule or the user, set the size.
    pub cut: bool,
}

impl BufferPlan {
    /// Plans a buffer. At least two batches wait unless the user wants none, even where they do not fit into the
    /// bytes: one alone cannot hide the way to the device.
    pub fn new(config: &BufferConfig, needs: &BufferNeeds) -> Self {
        let batch = needs.batch_bytes.max(1);
        let bytes = match config.bytes {
            Some(budget) => budget.bytes(Some(needs.free_bytes)).unwrap_or(needs.free_bytes),
            None => needs.free_bytes / SHARE,
        };
        let fit = usize::try_from(bytes / batch).unwrap_or(usize::MAX);
        let wanted = match config.size {
            BufferSize::Count(0) => return Self { size: 0, bytes: 0, cut: false },
            BufferSize::Count(n) => n,
            BufferSize::Auto => {
                let [few, many] = if fit >= PLENTIFUL[1] { PLENTIFUL } else { LIMITED };
                few + (many - few) * needs.workers.min(MANY_WORKERS) / MANY_WORKERS
            }
        };
        let size = wanted.min(fit.max(LEAST)).min(MAX_BUFFER);
        Self { size, bytes: bytes.max(batch.saturating_mul(size as u64)), cut: size < wanted }
    }

    /// Half the buffer, for when memory is short: batches waiting are given up before micro-batches are. `None` when
    /// nothing can be given up.
    pub fn halved(self) -> Option<Self> {
        let size = (self.size / 2).max(LEAST);
        (size < self.size).then(|| Self {
            size,
            bytes: self.bytes / self.size as u64 * size as u64,
            cut: true,
        })
    }

    /// Whether one more batch of `batch_bytes` may be brought while `waiting` batches of `waiting_bytes` in all are
    /// ready. The first always may.
    pub fn takes(&self, waiting: usize, waiting_bytes: u64, batch_bytes: u64) -> bool {
        waiting == 0 || (waiting < self.size && waiting_bytes.saturating_add(batch_bytes) <= self.bytes)
    }
}

impl fmt::Display for BufferPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.size, self.cut) {
            (0, _) => f.write_str("no buffer"),
            (size, false) => write!(f, "buffer of {size} batches"),
            (size, true) => write!(f, "buffer of {size} batches, as many as {} hold", in_words(self.bytes)),
        }
    }
}

/// What the buffer is like while training has not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warming {
    /// Since the first batch was asked for.
    pub elapsed: Duration,
    /// The buffer takes no further batch, be it for their number or their bytes.
    pub full: bool,
    /// No further batch will come: the data set is small, or a stage has failed and will say so when it is asked.
    pub ended: bool,
}

/// Whether training may start: the buffer is warm, and `start_delay` (`placement.start_delay`) is over.
pub fn may_start(start_delay: Duration, now: &Warming) -> bool {
    now.ended || (now.full && now.elapsed >= start_delay)
}

impl Serialize for BufferSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            BufferSize::Auto => serializer.serialize_str("auto"),
            BufferSize::Count(n) => serializer.serialize_u64(*n as u64),
        }
    }
}

impl<'de> Deserialize<'de> for BufferSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Batches;

        impl de::Visitor<'_> for Batches {
            type Value = BufferSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto or a number of batches")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<BufferSize, E> {
                usize::try_from(n)
                    .map(BufferSize::Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BufferSize, E> {
                match text {
                    "auto" => Ok(BufferSize::Auto),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const MB: u64 = 1_000_000;

    fn auto(workers: usize, free_mb: u64) -> BufferPlan {
        let needs = BufferNeeds { batch_bytes: 10 * MB, workers, free_bytes: free_mb * MB };
        BufferPlan::new(&BufferConfig::default(), &needs)
    }

    #[test]
    fn plentiful_memory_holds_75_to_100_and_limited_25_to_50() {
        assert_eq!([0, 4, 8, 64].map(|workers| auto(workers, 4000).size), [75, 87, 100, 100]);
        assert_eq!([0, 4, 8, 64].map(|workers| auto(workers, 3999).size), [25, 37, 50, 50]);
        assert!(!auto(8, 4000).cut && !auto(8, 3999).cut);
    }

    #[test]
    fn memory_cuts_the_buffer_but_two_batches_stay() {
        let short = auto(8, 400);
        assert_eq!((short.size, short.cut, short.bytes), (10, true, 100 * MB));
        assert_eq!(short.to_string(), "buffer of 10 batches, as many as 100 MB hold");
        assert_eq!((auto(8, 0).size, auto(8, 0).bytes), (2, 20 * MB));
    }

    #[test]
    fn the_user_decides_within_what_fits() {
        let needs = BufferNeeds { batch_bytes: 10 * MB, workers: 8, free_bytes: 4000 * MB };
        let plan = |size, bytes| BufferPlan::new(&BufferConfig { size, bytes }, &needs);
        assert_eq!(plan(BufferSize::Count(50), None).to_string(), "buffer of 50 batches");
        assert_eq!(plan(BufferSize::Count(200), None).size, 100);
        assert_eq!(plan(BufferSize::Count(200), Some(Budget::Percent(80.0))).size, 200);
        assert_eq!(plan(BufferSize::Auto, Some(Budget::Bytes(60 * MB))).size, 6);
        assert_eq!(plan(BufferSize::Count(1), None).size, 1);
        assert_eq!(plan(BufferSize::Count(0), None).to_string(), "no buffer");
    }

    #[test]
    fn when_memory_is_short_half_of_it_goes_until_two_are_left() {
        let sizes: Vec<_> =
            std::iter::successors(Some(auto(0, 3999)), |plan| plan.halved()).map(|plan| plan.size).collect();
        assert_eq!(sizes, [25, 12, 6, 3, 2]);
        assert_eq!(BufferPlan { size: 0, bytes: 0, cut: false }.halved(), None);
        let tight = BufferPlan { size: 3, bytes: 30, cut: false }.halved().unwrap();
        assert!(tight.takes(1, 10, 10), "two still fit: {tight:?}");
    }

    #[test]
    fn a_buffer_is_full_by_number_or_by_bytes() {
        let plan = BufferPlan { size: 4, bytes: 100, cut: false };
        assert!(plan.takes(3, 75, 25) && !plan.takes(4, 40, 10) && !plan.takes(3, 76, 25));
        assert!(plan.takes(0, 0, 1000), "one that is larger than all the buffer must come through");
    }

    #[test]
    fn training_starts_when_the_buffer_is_full_and_the_delay_is_over() {
        let may_start = |now: &Warming| may_start(Duration::from_secs(2), now);
        let now = |seconds, full, ended| Warming { elapsed: Duration::from_secs(seconds), full, ended };
        assert!(may_start(&now(2, true, false)));
        assert!(!may_start(&now(1, true, false)), "the delay is a minimum");
        assert!(!may_start(&now(60, false, false)), "the delay is no maximum");
        assert!(may_start(&now(0, false, true)), "nothing more will come");
    }

    #[test]
    fn settings_are_read_and_checked() {
        let read = |value| serde_json::from_value::<BufferConfig>(value);
        assert_eq!(read(json!({})).unwrap(), BufferConfig::default());
        let config = read(json!({"size": 50, "bytes": "2GB"})).unwrap();
        assert_eq!(config.size, BufferSize::Count(50));
        assert_eq!(read(serde_json::to_value(config).unwrap()).unwrap(), config);
        assert!(
            read(json!({"size": "big"})).unwrap_err().to_string().contains("auto or a number of batches")
        );
        let refused = |value| read(value).unwrap().check().unwrap_err().key;
        assert_eq!(refused(json!({"size": 5000})), "buffer.size");
        assert_eq!(refused(json!({"bytes": "1KB"})), "buffer.bytes");
    }

    proptest! {
        #[test]
        fn a_buffer_never_takes_more_than_it_may(
            batch_bytes: u64, workers: usize, free_bytes: u64, count in proptest::option::of(0usize..5000),
            bytes in proptest::option::of(any::<u64>()),
        ) {
            let size = count.map_or(BufferSize::Auto, BufferSize::Count);
            let config = BufferConfig { size, bytes: bytes.map(Budget::Bytes) };
            let plan = BufferPlan::new(&config, &BufferNeeds { batch_bytes, workers, free_bytes });
            prop_assert!(plan.size <= MAX_BUFFER);
            let takes = batch_bytes.max(1).saturating_mul(plan.size as u64);
            prop_assert!(plan.size <= 2 || takes <= bytes.unwrap_or(free_bytes / 4).min(free_bytes));
            prop_assert!(plan.size == 0 || plan.takes(plan.size - 1, 0, batch_bytes));
            prop_assert!(!plan.takes(plan.size.max(1), 0, batch_bytes));
        }
    }
}
