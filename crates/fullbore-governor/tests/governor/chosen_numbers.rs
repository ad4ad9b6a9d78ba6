//! The thresholds of adaptive batch sizes: 0.8, 0.9, 0.7, 0.95; batch 8 between 1 and 32; batch 4 in two halves.

use fullbore_governor::{
    Attempt, Bounds, Change, Decision, DeviceReading, Governor, GovernorState, HostReading, MemoryConfig,
    Outcome, Readings, WhyMicro,
};

const SAMPLE: u64 = 1000;
const GROW_AFTER: usize = 20;

/// Tensors at the peak hold this much of 1000 bytes, of which 100 are always in use.
fn peak(peak: u64) -> Readings {
    let device =
        DeviceReading { used: 100, peak, reserved: peak, free: Some(1000 - peak), budget: Some(1000) };
    Readings { device, ..Readings::default() }
}

fn full() -> Readings {
    peak(1000)
}

fn with_limit(peak_bytes: u64, limit: u64) -> Readings {
    let device =
        DeviceReading { used: 100, peak: peak_bytes, reserved: peak_bytes, free: None, budget: Some(limit) };
    Readings { device, ..Readings::default() }
}

fn attempt(samples: usize, outcome: Outcome) -> Attempt {
    Attempt { samples, sample_bytes: SAMPLE, outcome }
}

fn governor(bounds: Bounds) -> Governor {
    Governor::new(MemoryConfig::default(), bounds)
}

/// Finishes steps at the governor's own size until it decides something; `None` after `steps` without a decision.
fn until_decided(governor: &mut Governor, steps: usize, readings: Readings) -> Option<(usize, Decision)> {
    (1..=steps).find_map(|step| {
        let samples = governor.micro(SAMPLE);
        let decision = governor.observe(attempt(samples, Outcome::Done), &readings);
        (decision != Decision::Nothing).then_some((step, decision))
    })
}

fn sizes(decision: Decision) -> (usize, usize) {
    match decision {
        Decision::Halve(Change { from, to, .. }) | Decision::Grow(Change { from, to, .. }) => (from, to),
        other => panic!("no change of size: {other:?}"),
    }
}

#[test]
fn over_nine_tenths_it_halves_and_not_below() {
    let mut governor = governor(Bounds::whole(8));
    assert_eq!(governor.observe(attempt(8, Outcome::Done), &peak(900)), Decision::Nothing);
    let decision = governor.observe(attempt(8, Outcome::Done), &peak(901));
    let why = WhyMicro::NearlyFull { peak: 901, limit: 1000 };
    assert_eq!(decision, Decision::Halve(Change { from: 8, to: 4, why, below_group: None }));
    assert_eq!(governor.micro(SAMPLE), 4);
}

#[test]
fn out_of_memory_halves_at_once_and_the_sizes_end_at_one() {
    let mut governor = governor(Bounds::whole(8));
    for (from, to) in [(8, 4), (4, 2), (2, 1)] {
        assert_eq!(governor.micro(SAMPLE), from);
        let decision = governor.observe(attempt(from, Outcome::OutOfMemory), &full());
        assert_eq!(
            decision,
            Decision::Halve(Change { from, to, why: WhyMicro::OutOfMemory, below_group: None })
        );
    }
    let Decision::GiveUp { why, fits } = governor.observe(attempt(1, Outcome::OutOfMemory), &full()) else {
        panic!("nothing is left to try")
    };
    assert_eq!(why, "memory ran out with the smallest micro-batch, 1 sample");
    assert_eq!(
        fits,
        "beside the 100 B that are always in use, 900 B are left for 1 sample; none has fitted so far"
    );
}

#[test]
fn a_predictor_starts_at_16_and_doubles_to_32_under_seven_tenths() {
    let mut at_seven = governor(Bounds::predict(None));
    assert_eq!(at_seven.micro(SAMPLE), 16);
    let roomy = |governor: &mut Governor, bytes| until_decided(governor, 100, peak(bytes));
    // Twice 400 less what is always in use makes 700: room enough.
    let (after, decision) = roomy(&mut at_seven, 400).unwrap();
    assert_eq!((after, sizes(decision)), (GROW_AFTER, (16, 32)));
    assert!(roomy(&mut at_seven, 400).is_none(), "32 is the most");

    // At 500 twice as much would fill exactly nine tenths; at 501 it would not stay below.
    assert!(roomy(&mut governor(Bounds::predict(None)), 500).is_some());
    assert!(roomy(&mut governor(Bounds::predict(None)), 501).is_none());
    // What is always in use counts once: 690 of 700 leave the doubling at 700, but 700 itself is not below.
    let mostly_fixed = |peak| {
        let device = DeviceReading { used: peak - 10, peak, reserved: peak, free: None, budget: Some(1000) };
        Readings { device, ..Readings::default() }
    };
    let decided = |bytes| until_decided(&mut governor(Bounds::predict(None)), 100, mostly_fixed(bytes));
    assert!(decided(699).is_some() && decided(700).is_none());
    assert_eq!(governor(Bounds::predict(Some(12))).micro(SAMPLE), 12);
}

#[test]
fn growing_wants_more_than_95_percent_of_the_latest_attempts() {
    let after_failures = |failures| {
        let mut governor = governor(Bounds { start: 16, ..Bounds::whole(32) });
        let other = Attempt { sample_bytes: 50 * SAMPLE, ..attempt(16, Outcome::OutOfMemory) };
        (0..failures).for_each(|_| {
            governor.observe(other, &full());
        });
        until_decided(&mut governor, 100, peak(400)).unwrap().0
    };
    assert_eq!(after_failures(1), 20, "20 of 21 are 95.2 %");
    assert_eq!(after_failures(2), 39, "39 of 41 are 95.1 %, 38 of 40 are not enough");
}

#[test]
fn a_size_that_failed_waits_for_clearly_more_room() {
    let mut governor = governor(Bounds::whole(8));
    governor.observe(attempt(8, Outcome::OutOfMemory), &full());
    assert!(until_decided(&mut governor, 1000, peak(300)).is_none());
    assert!(until_decided(&mut governor, 1000, with_limit(300, 1099)).is_none());
    let (after, decision) = until_decided(&mut governor, 1000, with_limit(300, 1101)).unwrap();
    assert_eq!((after, sizes(decision)), (1, (4, 8)));
    // The second failure makes it wait four times as long.
    governor.observe(attempt(8, Outcome::OutOfMemory), &with_limit(1101, 1101));
    let (after, decision) = until_decided(&mut governor, 1000, with_limit(300, 1300)).unwrap();
    assert_eq!((after, sizes(decision)), (4 * GROW_AFTER, (4, 8)));
}

#[test]
fn smaller_last_batches_say_nothing_about_room() {
    let mut governor = governor(Bounds { start: 8, ..Bounds::whole(16) });
    for _ in 0..100 {
        assert_eq!(governor.observe(attempt(3, Outcome::Done), &peak(200)), Decision::Nothing);
    }
}

#[test]
fn large_samples_that_fail_leave_small_ones_alone() {
    let mut governor = governor(Bounds::whole(8));
    let large = Attempt { sample_bytes: 4 * SAMPLE, ..attempt(8, Outcome::OutOfMemory) };
    assert_eq!(sizes(governor.observe(large, &full())), (8, 4));
    assert_eq!((governor.micro(SAMPLE), governor.micro(4 * SAMPLE), governor.micro(9 * SAMPLE)), (8, 4, 4));
}

#[test]
fn groups_of_samples_stay_whole_or_the_change_says_so() {
    let mut governor = governor(Bounds { group: Some(4), ..Bounds::whole(12) });
    let mut halve = |from| match governor.observe(attempt(from, Outcome::OutOfMemory), &full()) {
        Decision::Halve(change) => change,
        other => panic!("{other:?}"),
    };
    assert_eq!(halve(12).below_group, None);
    let below = halve(4);
    assert_eq!((below.to, below.below_group), (2, Some(4)));
    assert_eq!(below.to_string(), "out of memory; BatchNorm statistics are now over 2 samples instead of 4");
}

#[test]
fn recomputing_comes_after_the_smallest_size_and_sizes_start_anew() {
    let mut governor = governor(Bounds { can_recompute: true, ..Bounds::whole(2) });
    assert_eq!(sizes(governor.observe(attempt(2, Outcome::OutOfMemory), &full())), (2, 1));
    assert_eq!(governor.observe(attempt(1, Outcome::OutOfMemory), &full()), Decision::Recompute);
    assert!(governor.recomputes() && governor.micro(SAMPLE) == 1);
    let (after, decision) = until_decided(&mut governor, 100, peak(300)).unwrap();
    assert_eq!((after, sizes(decision)), (39, (1, 2)), "39 of 41 attempts went well");
    governor.observe(attempt(2, Outcome::OutOfMemory), &full());
    let Decision::GiveUp { why, fits } = governor.observe(attempt(1, Outcome::OutOfMemory), &full()) else {
        panic!("recomputing is on already")
    };
    assert!(why.ends_with("1 sample, although activations are recomputed"), "{why}");
    assert!(fits.ends_with("samples of up to 1 KB have fitted"), "{fits}");
}

#[test]
fn no_progress_for_ever_is_given_up() {
    // A caller that tries the same size again and again, whatever the answer is.
    let mut governor = governor(Bounds::whole(8));
    let given_up = (1..1000).find(|_| {
        let decision = governor.observe(attempt(8, Outcome::OutOfMemory), &full());
        matches!(decision, Decision::GiveUp { .. })
    });
    assert_eq!(given_up, Some(40));
}

#[test]
fn reproducible_runs_change_only_when_memory_runs_out() {
    let mut governor = governor(Bounds { live: false, start: 4, ..Bounds::whole(8) });
    assert!(until_decided(&mut governor, 1000, peak(200)).is_none());
    assert!(until_decided(&mut governor, 1, peak(950)).is_none());
    assert_eq!(sizes(governor.observe(attempt(4, Outcome::OutOfMemory), &full())), (4, 2));
}

#[test]
fn without_a_known_limit_only_failures_count() {
    let mut governor = governor(Bounds::whole(8));
    let unknown = Readings::default();
    assert_eq!(sizes(governor.observe(attempt(8, Outcome::OutOfMemory), &unknown)), (8, 4));
    assert!(until_decided(&mut governor, 1000, unknown).is_none());
}

#[test]
fn over_eight_tenths_it_cleans_up_what_is_held_for_nothing() {
    let held = |reserved, peak| {
        let device = DeviceReading { used: 100, peak, reserved, free: None, budget: Some(1000) };
        Readings { device, ..Readings::default() }
    };
    let cleaned = |reserved, peak| {
        let mut governor = governor(Bounds::whole(8));
        match governor.observe(attempt(8, Outcome::Done), &held(reserved, peak)) {
            Decision::CleanUp { of_host: false, aggressive, why } => Some((aggressive, why)),
            _ => None,
        }
    };
    assert_eq!(cleaned(800, 500), None);
    let why = "the allocator holds 801 B of 1000 B, 301 B of it for nothing".replace("1000 B", "1 KB");
    assert_eq!(cleaned(801, 500), Some((false, why)));
    assert!(cleaned(901, 500).unwrap().0, "over nine tenths it is aggressive");
    assert_eq!(cleaned(850, 840), None, "what the next step needs again is kept");
    let mut governor = governor(Bounds::whole(8));
    governor.observe(attempt(8, Outcome::Done), &held(850, 840));
    let last_batch = governor.observe(attempt(3, Outcome::Done), &held(850, 400));
    assert_eq!(last_batch, Decision::Nothing, "a smaller last batch makes it no less needed");
}

#[test]
fn a_full_host_is_cleaned_up_too() {
    let mut governor = governor(Bounds::whole(8));
    let gb = 1_000_000_000;
    let host = |rss| HostReading { rss, limit: Some(10 * gb), slabs: gb / 2, cache: 3 * gb };
    let mut clean =
        |rss| governor.observe(attempt(8, Outcome::Done), &Readings { host: host(rss), ..peak(500) });
    assert_eq!(clean(8 * gb), Decision::Nothing);
    let why = "this process holds 8.5 GB of the host's 10.0 GB: 500 MB in batches, 3.0 GB in cached samples";
    assert_eq!(
        clean(8 * gb + gb / 2),
        Decision::CleanUp { of_host: true, aggressive: false, why: why.into() }
    );
    assert_eq!(clean(8 * gb + gb / 2), Decision::Nothing, "not at every step");
    assert!(
        matches!(clean(9 * gb + 1), Decision::CleanUp { aggressive: true, .. }),
        "the next level at once"
    );
}

#[test]
fn what_was_learnt_survives_a_checkpoint() {
    let mut governor = governor(Bounds::whole(8));
    governor.observe(attempt(8, Outcome::OutOfMemory), &full());
    until_decided(&mut governor, 7, peak(300));
    let text = serde_json::to_string(governor.state()).unwrap();
    let state: GovernorState = serde_json::from_str(&text).unwrap();
    assert_eq!(&state, governor.state());
    let mut resumed = Governor::resume(MemoryConfig::default(), Bounds::whole(8), state.clone());
    assert_eq!(resumed.micro(SAMPLE), 4);
    assert!(until_decided(&mut resumed, 1000, peak(300)).is_none());
    // A device with more memory.
    let mut larger = Governor::resume(MemoryConfig::default(), Bounds::whole(8), state);
    let (after, decision) = until_decided(&mut larger, 1000, with_limit(300, 4000)).unwrap();
    assert_eq!((after, sizes(decision)), (33, (4, 8)), "40 steps, 7 of them before the checkpoint");
}
