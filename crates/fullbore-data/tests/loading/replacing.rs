//! Bad samples within the budget: replaced in the same way whatever the workers and after every resume, reported
//! once, counted.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use fullbore_data::source::{Part, Renumbered, Source};
use fullbore_data::{BadSample, DataError, FaultPolicy, Hooks, Loader, LoaderConfig, Notice, Resize, Shard};
use fullbore_types::{Position, SampleId, Size};
use proptest::prelude::*;

use crate::data_set::{InMemory, Seen, config, image_of, seen};

/// `n` samples, some of which are no pictures.
fn some_bad(n: u32, bad: &BTreeSet<u32>) -> Arc<dyn Source> {
    let torn = |source: InMemory, id: &u32| source.with(*id as usize, Part::Image, b"no picture".to_vec());
    bad.iter().fold(InMemory::new(n), torn).shared()
}

fn tolerant(batch: usize) -> LoaderConfig {
    let faults = FaultPolicy { max_bad: 100, max_bad_share: 1.0, ..FaultPolicy::default() };
    LoaderConfig { faults, ..config(batch) }
}

/// What a run shows: its batches, its bad samples, the error that ended it, and what to remember after each batch.
#[derive(Debug, Default, PartialEq)]
struct Run {
    batches: Vec<Seen>,
    bad: Vec<BadSample>,
    error: Option<String>,
    known: Vec<Vec<SampleId>>,
}

fn run(source: Arc<dyn Source>, config: LoaderConfig, from: Position) -> Run {
    let bad = Arc::new(Mutex::new(Vec::new()));
    let sink = bad.clone();
    let notify = move |notice| match notice {
        Notice::BadSample(sample) => sink.lock().unwrap().push(sample),
        other => panic!("unexpected: {other:?}"),
    };
    let hooks = Hooks { notify: Some(Arc::new(notify)), pin: None };
    let mut loader = Loader::start(source, LoaderConfig { hooks, ..config }, from).unwrap();
    let mut run = Run::default();
    while let Some(batch) = loader.next() {
        match batch {
            Ok(batch) => run.batches.push(seen(&batch)),
            Err(error) => run.error = Some(error.to_string()),
        }
        run.known.push(loader.bad_samples());
    }
    run.bad = bad.lock().unwrap().clone();
    run
}

fn position(seen: &Seen) -> Position {
    Position { epoch: seen.0, batch: seen.1 }
}

#[test]
fn a_substitute_lies_in_the_place_of_the_bad_sample() {
    let whole = run(some_bad(6, &BTreeSet::new()), tolerant(2), Position::default());
    let bad = run(some_bad(6, &BTreeSet::from([3])), tolerant(2), Position::default());
    assert_eq!(bad.error, None);
    let mut reports = bad.bad.iter();
    for (whole, bad) in whole.batches.iter().zip(&bad.batches) {
        for (slot, (before, after)) in whole.2.iter().zip(&bad.2).enumerate() {
            if *before != 3 {
                assert_eq!(before, after);
                continue;
            }
            assert_ne!(*after, 3);
            assert_eq!(u32::from(bad.3[slot * 288]), *after, "the pixels are the substitute's");
            if let Some(report) = reports.next() {
                assert_eq!((report.id, report.position), (SampleId(3), position(bad)));
                assert_eq!((report.name.as_str(), report.replaced_by), ("s3", Some(SampleId(*after))));
                assert_eq!(report.file.to_str(), Some("Image/s3"));
                assert_eq!(report.reason, "Image/s3 is not an image: it starts with `no picture`");
            }
        }
    }
    assert_eq!(bad.bad.len(), 1, "reported once in two epochs");
}

#[test]
fn substitutes_change_from_epoch_to_epoch() {
    let config = LoaderConfig { epochs: 12, ..tolerant(9) };
    let run = run(some_bad(9, &BTreeSet::from([3])), config, Position::default());
    let twice = |ids: &Vec<u32>| ids.iter().copied().find(|id| ids.iter().filter(|i| *i == id).count() == 2);
    let substitutes: BTreeSet<_> = run.batches.iter().map(|batch| twice(&batch.2).unwrap()).collect();
    assert!(substitutes.len() > 2, "{substitutes:?}");
}

#[test]
fn too_many_bad_samples_end_the_stream_at_the_same_batch_for_any_workers() {
    let bad = BTreeSet::from([1, 4, 5, 8]);
    let faults = FaultPolicy { max_bad: 2, ..tolerant(2).faults };
    let config = |workers| LoaderConfig { workers, faults: faults.clone(), ..tolerant(2) };
    let expected = run(some_bad(10, &bad), config(0), Position::default());
    let error = expected.error.as_ref().unwrap();
    assert!(error.contains(" bad samples, more than the 2 allowed: `s"), "{error}");
    assert!(expected.bad.len() >= 3 && expected.batches.len() < 5);
    for workers in [1, 2, 7] {
        assert_eq!(run(some_bad(10, &bad), config(workers), Position::default()), expected);
    }
}

#[test]
fn too_large_a_share_ends_the_epoch() {
    let faults = FaultPolicy { max_bad_share: 0.1, ..tolerant(2).faults };
    for workers in [0, 3] {
        let config = LoaderConfig { workers, faults: faults.clone(), ..tolerant(2) };
        let run = run(some_bad(10, &BTreeSet::from([1, 7])), config, Position::default());
        let error = run.error.unwrap();
        assert!(
            error.starts_with("2 of 10 samples of epoch 0 were bad, more than a share of 0.1"),
            "{error}"
        );
        assert_eq!(run.batches.len(), 4);
    }
}

#[test]
fn when_nothing_can_be_loaded_the_walk_ends() {
    for workers in [0, 1, 4] {
        let config = LoaderConfig { workers, ..tolerant(2) };
        let run = run(some_bad(5, &(0..5).collect()), config, Position::default());
        assert!(run.batches.is_empty());
        let error = run.error.unwrap();
        assert!(error.starts_with("none of the 5 samples can be loaded: Image/s"), "{error}");
    }
}

#[test]
fn crops_of_one_image_count_once() {
    let faults = FaultPolicy { max_bad: 1, ..tolerant(4).faults };
    for workers in [0, 3] {
        let source = Arc::new(Renumbered::repeat(some_bad(4, &BTreeSet::from([2])), 8).unwrap());
        let config = LoaderConfig { workers, faults: faults.clone(), ..tolerant(4) };
        let run = run(source, config, Position::default());
        assert_eq!((run.error, run.bad.len(), run.batches.len()), (None, 1, 16));
        assert!(run.batches.iter().flat_map(|batch| &batch.2).all(|id| id / 8 != 2));
    }
}

#[test]
fn no_tolerance_gives_the_error_itself_and_still_reports() {
    for workers in [0, 2] {
        let config = LoaderConfig { workers, ..config(2) };
        let run = run(some_bad(6, &BTreeSet::from([3])), config, Position::default());
        assert_eq!(run.error.unwrap(), "Image/s3 is not an image: it starts with `no picture`");
        assert_eq!((run.bad.len(), run.bad[0].replaced_by), (1, None));
    }
}

#[test]
fn a_panic_while_loading_is_a_bad_sample_too() {
    struct Trap(InMemory);
    impl Source for Trap {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn name(&self, id: SampleId) -> String {
            self.0.name(id)
        }
        fn file(&self, id: SampleId, part: Part) -> std::path::PathBuf {
            self.0.file(id, part)
        }
        fn read(
            &self,
            id: SampleId,
            part: Part,
            max: u64,
            bytes: &mut Vec<u8>,
        ) -> Result<(), fullbore_data::SourceError> {
            assert!(id.0 != 3, "the trap");
            self.0.read(id, part, max, bytes)
        }
    }
    for workers in [0, 1, 3] {
        let config = LoaderConfig { workers, ..tolerant(2) };
        let run = run(Arc::new(Trap(InMemory::new(6))), config, Position::default());
        assert_eq!((run.error, run.batches.len(), run.bad.len()), (None, 6, 1));
        let expected = "loading sample `s3` (Image/s3) failed unexpectedly: the trap";
        assert_eq!(run.bad[0].reason, expected);
    }
}

#[test]
fn ranks_share_an_epoch() {
    let single = run(InMemory::new(11).shared(), tolerant(6), Position::default());
    let rank = |rank| {
        let shard = Shard { rank, world: 3 };
        run(InMemory::new(11).shared(), LoaderConfig { shard, ..tolerant(2) }, Position::default()).batches
    };
    let ranks = [rank(0), rank(1), rank(2)];
    for (b, batch) in single.batches.iter().enumerate() {
        let shared: Vec<u32> = ranks.iter().flat_map(|rank| rank[b].2.clone()).collect();
        assert_eq!(shared[..batch.2.len()], batch.2[..]);
        assert!(ranks.iter().all(|rank| rank[b].2.len() == ranks[0][b].2.len()));
    }
    let shard = Shard { rank: 3, world: 3 };
    let refused =
        Loader::start(InMemory::new(11).shared(), LoaderConfig { shard, ..tolerant(2) }, Position::default());
    assert!(matches!(refused.err(), Some(DataError::NoSuchRank { rank: 3, world: 3 })));
}

/// A run with some bad samples, and how it is cut into sessions.
fn cases() -> impl Strategy<Value = (u32, usize, BTreeSet<u32>, u64)> {
    (2u32..13, 1usize..5, any::<u64>()).prop_flat_map(|(n, batch, seed)| {
        (Just(n), Just(batch), proptest::collection::btree_set(0..n, 0..n as usize), Just(seed))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_number_of_workers_changes_nothing((n, batch, bad, seed) in cases(), max_bad in 0usize..8) {
        let faults = FaultPolicy { max_bad, ..tolerant(1).faults };
        let config = |workers| LoaderConfig { workers, seed, faults: faults.clone(), ..tolerant(batch) };
        let inline = run(some_bad(n, &bad), config(0), Position::default());
        prop_assert!(inline.batches.iter().flat_map(|batch| &batch.2).all(|id| !bad.contains(id)));
        prop_assert!(inline.bad.iter().all(|report| bad.contains(&report.id.0)));
        prop_assert_eq!(inline.error.is_some(), bad.len() > max_bad);
        for workers in [1, 2, 7] {
            let other = run(some_bad(n, &bad), config(workers), Position::default());
            prop_assert_eq!(&inline, &other, "workers {}", workers);
        }
    }

    #[test]
    fn resuming_twice_anywhere_equals_never_stopping(
        (n, batch, bad, seed) in cases(), stops in proptest::collection::vec(any::<prop::sample::Index>(), 2),
    ) {
        let config = |workers, known_bad: &[SampleId]| {
            let faults = FaultPolicy { known_bad: known_bad.to_vec(), ..tolerant(1).faults };
            LoaderConfig { workers, seed, epochs: 3, faults, ..tolerant(batch) }
        };
        let whole = run(some_bad(n, &bad), config(2, &[]), Position::default());
        let first = stops[0].index(whole.batches.len());
        let second = first + stops[1].index(whole.batches.len() - first);
        let mut known: Vec<SampleId> = Vec::new();
        let mut reports = whole.bad.iter().filter(|r| r.position < position(&whole.batches[first])).count();
        for (at, workers) in [(first, 3), (second, 0)] {
            if at > 0 {
                known = whole.known[at - 1].clone();
            }
            let resumed = run(some_bad(n, &bad), config(workers, &known), position(&whole.batches[at]));
            prop_assert_eq!(&whole.batches[at..], &resumed.batches[..]);
            prop_assert_eq!(&whole.known[at..], &resumed.known[..]);
            reports = whole.bad.len() - resumed.bad.len();
            prop_assert_eq!(&whole.bad[reports..], &resumed.bad[..]);
        }
        prop_assert!(reports <= whole.bad.len());
    }

    #[test]
    fn what_was_bad_stays_replaced_though_its_file_was_mended(n in 3u32..10, id: u32, seed: u64) {
        let id = id % n;
        let config = |known_bad| {
            let faults = FaultPolicy { known_bad, ..tolerant(1).faults };
            LoaderConfig { seed, faults, ..tolerant(2) }
        };
        let torn = run(some_bad(n, &BTreeSet::from([id])), config(vec![]), Position::default());
        let mended = run(InMemory::new(n).shared(), config(vec![SampleId(id)]), Position::default());
        prop_assert_eq!(torn.batches, mended.batches);
        prop_assert!(mended.bad.is_empty(), "not reported again");
    }

    #[test]
    fn the_share_of_bad_samples_is_judged_alike_after_a_resume(
        seed: u64, bad in proptest::collection::btree_set(0u32..30, 1..6), stop in any::<prop::sample::Index>(),
    ) {
        let config = |known_bad| {
            let faults = FaultPolicy { max_bad_share: 0.1, known_bad, ..tolerant(1).faults };
            LoaderConfig { seed, faults, ..tolerant(4) }
        };
        let whole = run(some_bad(30, &bad), config(vec![]), Position::default());
        let at = 1 + stop.index(whole.batches.len() - 1);
        let from = position(&whole.batches[at]);
        let resumed = run(some_bad(30, &bad), config(whole.known[at - 1].clone()), from);
        prop_assert_eq!(&whole.batches[at..], &resumed.batches[..]);
        prop_assert_eq!(whole.error.is_some(), bad.len() > 3);
        prop_assert_eq!(
            whole.error.map(|e| e.split(':').next().unwrap().to_owned()),
            resumed.error.map(|e| e.split(':').next().unwrap().to_owned())
        );
    }
}

#[test]
fn stretch_of_mixed_sizes_survives_a_bad_neighbour() {
    // A slot that was written halfway by a torn file must be whole again under its substitute.
    let mut png = crate::data_set::png(20, 16, image::ExtendedColorType::Rgb8, &image_of(9, 20, 16));
    png.truncate(png.len() / 2);
    let source = InMemory::new(4).with(1, Part::Image, png).shared();
    let config = LoaderConfig { resize: Resize::Stretch, size: Size::new(20, 16), ..tolerant(4) };
    for (_, _, ids, images, _, _) in run(source, config, Position::default()).batches {
        for (slot, id) in ids.iter().enumerate() {
            assert_eq!(images[slot * 960..][..960], image_of(*id, 20, 16).into_raw()[..]);
        }
    }
}
