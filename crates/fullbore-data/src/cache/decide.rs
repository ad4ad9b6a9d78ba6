//! Where to keep samples, from what is known before a run.

use std::time::Duration;

use super::CacheMode;

/// How fast a disk is taken to give back what it holds. Slower than most, so that a cache is not chosen for
/// nothing.
const DISK_BYTES_PER_S: f64 = 500e6;
/// Reading back must be that many times faster than decoding.
const WORTHWHILE: f64 = 2.0;
/// A cache that holds less of the set than this saves too little.
const LEAST_SHARE: f64 = 0.1;

/// What a decision rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CacheNeeds {
    /// Samples that the cache would hold: files, not repeats.
    pub n_samples: u64,
    /// What one of them costs, see [`probe`](super::probe).
    pub sample: SampleCost,
    /// Times that each sample is used in this run.
    pub uses: u64,
    /// `data.cache_bytes`, less the ring; `None` when not set.
    pub bytes: Option<u64>,
    /// Bytes of memory that may be used, limits of the control group and the ring considered. Half of them are
    /// left to the rest of the run when `bytes` is not set.
    pub free_memory: u64,
    /// Bytes of disk that may be used, [`KEEP_FREE_BYTES`](super::KEEP_FREE_BYTES) left out; `None` without a
    /// folder for the cache.
    pub free_disk: Option<u64>,
}

/// What one sample costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SampleCost {
    /// Bytes in the cache.
    pub bytes: u64,
    /// Time of one thread to read and decode it.
    pub decode: Duration,
}

/// Where samples will be kept, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDecision {
    /// Never [`CacheMode::Auto`].
    pub mode: CacheMode,
    /// Most bytes that the cache may take.
    pub bytes: u64,
    /// The reason in one sentence, for the user.
    pub why: String,
}

/// Decides where samples are kept; only [`CacheMode::Auto`] leaves a choice.
///
/// Memory is taken when all samples fit. Otherwise disk is, when it holds more of them than memory would and reading
/// back is clearly faster than decoding. Otherwise as much as fits is kept in memory, unless that is hardly anything.
pub fn decide(asked: CacheMode, needs: &CacheNeeds) -> CacheDecision {
    let CacheNeeds { n_samples, sample, uses, bytes, free_memory, free_disk } = *needs;
    let ram = bytes.unwrap_or(free_memory / 2).min(free_memory);
    let disk = free_disk.map(|free| bytes.map_or(free, |bytes| bytes.min(free)));
    let need = n_samples.saturating_mul(sample.bytes);
    let share = |room: u64| (room as f64 / need.max(1) as f64).min(1.0);
    let (in_ram, on_disk) = (share(ram), share(disk.unwrap_or(0)));
    let set = format!("{n_samples} samples take {}", gigabytes(need));
    let room = format!(
        "memory has room for {} and disk for {}",
        percent(in_ram),
        disk.map_or("nothing (no folder)".into(), |_| percent(on_disk))
    );
    let read_back = sample.bytes as f64 / DISK_BYTES_PER_S;
    let decode = sample.decode.as_secs_f64();
    let speed =
        format!("decoding takes {:.1} ms a sample, reading back {:.1}", decode * 1e3, read_back * 1e3);
    let decision = |mode, bytes, why| CacheDecision { mode, bytes, why };
    match asked {
        CacheMode::Off => return decision(CacheMode::Off, 0, "data.cache is off".into()),
        CacheMode::Ram => {
            return decision(CacheMode::Ram, ram, format!("data.cache is ram: {set}, {room}"));
        }
        CacheMode::Disk => {
            return decision(
                CacheMode::Disk,
                disk.unwrap_or(0),
                format!("data.cache is disk: {set}, {room}"),
            );
        }
        CacheMode::Auto => {}
    }
    if uses < 2 {
        return decision(CacheMode::Off, 0, "no cache: each sample is used once".into());
    }
    if in_ram >= 1.0 {
        // The need is an estimate from a few samples; twice of it is surely enough.
        let bytes = ram.min(need.saturating_mul(2));
        let why = format!("cache in memory: {set}, {} may be used", gigabytes(bytes));
        return decision(CacheMode::Ram, bytes, why);
    }
    let pays = decode >= WORTHWHILE * read_back;
    if pays && on_disk > in_ram && on_disk >= LEAST_SHARE {
        let why = format!("cache on disk: {set}, {room}; {speed}");
        return decision(CacheMode::Disk, disk.unwrap_or(0), why);
    }
    if in_ram >= LEAST_SHARE {
        let why = match pays || on_disk <= in_ram {
            true => format!("cache in memory: {set}, {room}"),
            false => format!("cache in memory: {set}, {room}, but {speed}"),
        };
        return decision(CacheMode::Ram, ram, why);
    }
    let why = match pays || on_disk < LEAST_SHARE {
        true => format!("no cache: {set}, {room}"),
        false => format!("no cache: {set}, {room}, but {speed}"),
    };
    decision(CacheMode::Off, 0, why)
}

fn percent(share: f64) -> String {
    // 99.9 % is not all of it.
    format!("{:.0} %", (share * 100.0).floor())
}

fn gigabytes(bytes: u64) -> String {
    match bytes < 1 << 30 {
        true => format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)),
        false => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    /// 1000 samples of 1 MiB that take 6 ms to decode, with room for them anywhere.
    fn needs() -> CacheNeeds {
        CacheNeeds {
            n_samples: 1000,
            sample: SampleCost { bytes: MIB, decode: Duration::from_millis(6) },
            uses: 10,
            bytes: None,
            free_memory: 4000 * MIB,
            free_disk: Some(9000 * MIB),
        }
    }

    fn auto(needs: CacheNeeds) -> (CacheMode, u64, String) {
        let CacheDecision { mode, bytes, why } = decide(CacheMode::Auto, &needs);
        (mode, bytes / MIB, why)
    }

    #[test]
    fn memory_is_taken_when_all_fits() {
        let why = "cache in memory: 1000 samples take 1000 MiB, 2.0 GiB may be used";
        assert_eq!(auto(needs()), (CacheMode::Ram, 2000, why.into()));
    }

    #[test]
    fn disk_is_taken_when_memory_is_short_and_decoding_slow() {
        let short = CacheNeeds { free_memory: 600 * MIB, ..needs() };
        let why = "cache on disk: 1000 samples take 1000 MiB, memory has room for 30 % and disk for 100 %; \
                   decoding takes 6.0 ms a sample, reading back 2.1";
        assert_eq!(auto(short), (CacheMode::Disk, 9000, why.into()));
        let fast = SampleCost { decode: Duration::from_millis(1), ..short.sample };
        let (mode, bytes, why) = auto(CacheNeeds { sample: fast, ..short });
        assert_eq!((mode, bytes), (CacheMode::Ram, 300));
        assert!(why.ends_with("but decoding takes 1.0 ms a sample, reading back 2.1"), "{why}");
        assert_eq!(auto(CacheNeeds { free_disk: None, ..short }).0, CacheMode::Ram);
        assert_eq!(auto(CacheNeeds { free_disk: Some(200 * MIB), ..short }).0, CacheMode::Ram);
    }

    #[test]
    fn hardly_anything_is_not_worth_it() {
        let nothing = CacheNeeds { free_memory: 100 * MIB, free_disk: Some(50 * MIB), ..needs() };
        let why = "no cache: 1000 samples take 1000 MiB, memory has room for 5 % and disk for 5 %";
        assert_eq!(auto(nothing), (CacheMode::Off, 0, why.into()));
        let once = CacheNeeds { uses: 1, ..needs() };
        assert_eq!(auto(once), (CacheMode::Off, 0, "no cache: each sample is used once".into()));
    }

    #[test]
    fn what_the_user_asks_for_is_done() {
        let asked = CacheNeeds { bytes: Some(100 * MIB), uses: 1, ..needs() };
        assert_eq!(decide(CacheMode::Off, &asked).mode, CacheMode::Off);
        let ram = decide(CacheMode::Ram, &asked);
        assert_eq!((ram.mode, ram.bytes), (CacheMode::Ram, 100 * MIB));
        assert!(ram.why.contains("memory has room for 10 %"), "{}", ram.why);
        let disk = decide(CacheMode::Disk, &asked);
        assert_eq!((disk.mode, disk.bytes), (CacheMode::Disk, 100 * MIB));
    }

    proptest! {
        #[test]
        fn a_decision_stays_within_what_there_is(
            n_samples: u64, sample_bytes: u64, uses: u64, bytes: Option<u64>, free_memory: u64,
            free_disk: Option<u64>, decode_us: u32,
        ) {
            let sample = SampleCost { bytes: sample_bytes, decode: Duration::from_micros(decode_us.into()) };
            let needs = CacheNeeds { n_samples, sample, uses, bytes, free_memory, free_disk };
            for asked in [CacheMode::Off, CacheMode::Ram, CacheMode::Disk, CacheMode::Auto] {
                let decision = decide(asked, &needs);
                let room = match decision.mode {
                    CacheMode::Off => 0,
                    CacheMode::Ram => free_memory,
                    CacheMode::Disk => free_disk.unwrap_or(0),
                    CacheMode::Auto => panic!("no decision"),
                };
                prop_assert!(decision.bytes <= room.min(bytes.unwrap_or(u64::MAX)));
                prop_assert!(asked == CacheMode::Auto || asked == decision.mode);
            }
        }
    }
}
