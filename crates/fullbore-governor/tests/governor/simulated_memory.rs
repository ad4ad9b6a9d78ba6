//! Properties in memories that behave like real ones: something fixed, something per sample, noise, and other
//! programs that come and go.

use std::collections::HashMap;

use fullbore_governor::{
    Attempt, Bounds, Decision, DeviceReading, Governor, GovernorState, MemoryConfig, Outcome, Readings,
};
use proptest::prelude::*;

const SAMPLE: u64 = 4096;

/// A device on which a micro-batch takes `fixed + per_sample * samples` bytes, more or less `noise`.
#[derive(Clone, Copy, Debug)]
struct Device {
    fixed: u64,
    per_sample: u64,
    noise: u64,
    /// With recomputed activations a sample takes that many hundredths.
    recomputed: u64,
}

impl Device {
    fn need(&self, samples: usize, recompute: bool, chance: u64) -> u64 {
        let per_sample = if recompute { self.per_sample * self.recomputed / 100 } else { self.per_sample };
        let exact = self.fixed + per_sample * samples as u64 + self.noise;
        exact - chance % (2 * self.noise + 1)
    }

    fn try_step(&self, governor: &mut Governor, limit: u64, chance: u64) -> (Attempt, Decision) {
        let samples = governor.micro(SAMPLE);
        let need = self.need(samples, governor.recomputes(), chance);
        let outcome = if need <= limit { Outcome::Done } else { Outcome::OutOfMemory };
        let peak = need.min(limit);
        let reading = DeviceReading {
            used: self.fixed.min(peak),
            peak,
            reserved: peak,
            free: Some(limit - peak),
            budget: None,
        };
        let attempt = Attempt { samples, sample_bytes: SAMPLE, outcome };
        (attempt, governor.observe(attempt, &Readings { device: reading, ..Readings::default() }))
    }
}

fn device() -> impl Strategy<Value = Device> {
    (1u64..1000, 1u64..500, 0u64..60, 20u64..80).prop_map(|(fixed, per_sample, noise, recomputed)| Device {
        fixed: fixed + noise,
        per_sample,
        noise,
        recomputed,
    })
}

fn bounds() -> impl Strategy<Value = Bounds> {
    (1usize..70, proptest::option::of(1usize..9), any::<bool>())
        .prop_map(|(batch, group, can_recompute)| Bounds { group, can_recompute, ..Bounds::whole(batch) })
}

/// Sizes of `bounds`, found by failing at all of them.
fn sizes(bounds: Bounds) -> Vec<usize> {
    let mut governor = Governor::new(MemoryConfig::default(), Bounds { can_recompute: false, ..bounds });
    let mut sizes = vec![governor.micro(SAMPLE)];
    loop {
        let attempt =
            Attempt { samples: sizes[sizes.len() - 1], sample_bytes: SAMPLE, outcome: Outcome::OutOfMemory };
        match governor.observe(attempt, &Readings::default()) {
            Decision::Halve(change) => sizes.push(change.to),
            _ => return sizes,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// However memory comes and goes: sizes stay on the chain, a size fails at most once under one limit, it is tried
    /// again only under clearly more room than in all its failures, and the changes stay few.
    #[test]
    fn nothing_flaps(
        device in device(), bounds in bounds(),
        limits in proptest::collection::vec((1500u64..9000, 1usize..400), 1..12),
        chances in proptest::collection::vec(any::<u64>(), 64),
    ) {
        let sizes = sizes(bounds);
        let mut governor = Governor::new(MemoryConfig::default(), bounds);
        let (mut changes, mut step) = (0, 0);
        // Highest limit at which a size was given up, by size and recomputing.
        let mut failed: HashMap<(usize, bool), u64> = HashMap::new();
        for (limit, steps) in &limits {
            let mut failures_here: HashMap<(usize, bool), u32> = HashMap::new();
            for _ in 0..*steps {
                step += 1;
                let chance = chances[step % chances.len()];
                let recomputed = governor.recomputes();
                let (attempt, decision) = device.try_step(&mut governor, *limit, chance);
                prop_assert!(sizes.contains(&attempt.samples));
                if attempt.outcome == Outcome::OutOfMemory {
                    let key = (attempt.samples, recomputed);
                    let here = failures_here.entry(key).or_default();
                    *here += 1;
                    prop_assert!(*here == 1 || attempt.samples == sizes[sizes.len() - 1], "{key:?} failed again");
                }
                match decision {
                    Decision::Halve(change) => {
                        let at = failed.entry((change.from, recomputed)).or_default();
                        *at = (*at).max(*limit);
                        prop_assert!(change.to < change.from && change.from == attempt.samples);
                        changes += 1;
                    }
                    Decision::Grow(change) => {
                        prop_assert!(change.to > change.from && attempt.outcome == Outcome::Done);
                        let known = failed.get(&(change.to, recomputed)).copied().unwrap_or(0);
                        prop_assert!(*limit as f64 >= known as f64 * 1.1, "{change:?} under {limit}, known {known}");
                        changes += 1;
                    }
                    Decision::Recompute => prop_assert!(bounds.can_recompute && !recomputed),
                    Decision::GiveUp { .. } => {
                        prop_assert!(attempt.samples == sizes[sizes.len() - 1]);
                        prop_assert!(governor.recomputes() || !bounds.can_recompute);
                        return Ok(());
                    }
                    Decision::CleanUp { .. } | Decision::Nothing => {}
                }
                prop_assert!(governor.micro(SAMPLE) <= sizes[0]);
            }
        }
        // Down and up at most once under each limit, with recomputing and without.
        prop_assert!(changes <= 4 * sizes.len() * limits.len(), "{changes} changes");
    }

    /// Under one limit and without noise: at most one way down before the first finished step, then at rest.
    #[test]
    fn a_steady_memory_gives_a_steady_size(device in device(), bounds in bounds(), limit in 100u64..40_000) {
        let device = Device { noise: 0, ..device };
        let sizes = sizes(bounds);
        let smallest = sizes[sizes.len() - 1];
        let mut governor = Governor::new(MemoryConfig::default(), bounds);
        let (mut failures, mut halved_after_done) = (0, 0);
        for _ in 0..3000 {
            match device.try_step(&mut governor, limit, 0) {
                (_, Decision::GiveUp { .. }) => {
                    prop_assert!(device.need(smallest, bounds.can_recompute, 0) > limit, "it would have fitted");
                    return Ok(());
                }
                (Attempt { outcome: Outcome::OutOfMemory, .. }, _) => failures += 1,
                (_, Decision::Halve(_)) => halved_after_done += 1,
                _ => {}
            }
        }
        prop_assert!(failures <= sizes.len() + 1, "{failures} failures");
        prop_assert!(halved_after_done <= sizes.len());
        let at = governor.micro(SAMPLE);
        let need = device.need(at, governor.recomputes(), 0);
        prop_assert!(need <= limit);
        prop_assert!(at == smallest || need as f64 <= 0.9 * limit as f64);
    }

    /// A neighbour takes memory and gives it back: the size comes back too.
    #[test]
    fn it_grows_back_when_room_returns(device in device(), batch in 2usize..65, squeeze in 0.3f64..0.8) {
        let device = Device { noise: 0, ..device };
        let whole = device.need(batch, false, 0);
        // Room in which the whole batch fills 60 %, and a part of it in which it does not fit.
        let roomy = whole * 10 / 6;
        let tight = (whole as f64 * squeeze) as u64;
        prop_assume!(device.need(1, false, 0) < tight);
        let mut governor = Governor::new(MemoryConfig::default(), Bounds::whole(batch));
        (0..100).for_each(|_| drop(device.try_step(&mut governor, tight, 0)));
        prop_assert!(governor.micro(SAMPLE) < batch);
        (0..2000).for_each(|_| drop(device.try_step(&mut governor, roomy, 0)));
        prop_assert_eq!(governor.micro(SAMPLE), batch);
    }

    /// A state from a file may hold anything that reads; nothing panics, sizes stay in bounds.
    #[test]
    fn damaged_states_do_no_harm(
        tried: usize, recompute: bool, done: u64, attempts: u32, numbers: [u64; 4], counts: [u32; 3], micro: usize,
        lifted: bool, batch in 1usize..100,
    ) {
        let state = serde_json::json!({
            "tried": tried, "recompute": recompute, "recent": {"done": done, "attempts": attempts},
            "ceilings": [{"sample_bytes": numbers[0], "micro": micro, "room": numbers[1], "strikes": counts[0],
                "lifted": lifted}],
            "streak": {"sample_bytes": numbers[2], "micro": micro, "steps": counts[1], "peak": numbers[3]},
            "stuck": counts[2], "largest_done": numbers[0],
        });
        let state: GovernorState = serde_json::from_value(state).unwrap();
        let mut governor = Governor::resume(MemoryConfig::default(), Bounds::whole(batch), state);
        let device = Device { fixed: 100, per_sample: 10, noise: 0, recomputed: 50 };
        for limit in [50, 500, 5000] {
            for _ in 0..50 {
                device.try_step(&mut governor, limit, 0);
                prop_assert!((1..=batch).contains(&governor.micro(SAMPLE)));
            }
        }
    }
}
