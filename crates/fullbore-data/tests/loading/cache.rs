//! Loaders with a cache give what loaders without one give.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fullbore_data::cache::{SampleCost, probe};
use fullbore_data::source::Format;
use fullbore_data::source::{Renumbered, Source, hold_out};
use fullbore_data::{Cache, CacheStats, CacheWarning, EvalConfig, EvalLoader, Loader, LoaderConfig, Resize};
use fullbore_types::{Classes, Position, Size};
use proptest::prelude::*;

use crate::data_set::{Folder, InMemory, Seen, classes, config, seen};
use crate::eval::eval_config;

const PLENTY: u64 = 1 << 20;
const RESIZES: [Resize; 3] = [Resize::Stretch, Resize::Letterbox, Resize::Crop];

/// Pictures larger than, smaller than and just like the canvas of 12x8.
fn data_set(n: u32) -> Folder {
    let folder = Folder::new();
    for i in 0..n {
        let (width, height) = [(20, 16), (12, 8), (9, 30), (5, 5)][i as usize % 4];
        folder.pair(&format!("s{i}"), i, width, height);
    }
    folder
}

fn ram() -> Option<Arc<Cache>> {
    Some(Arc::new(Cache::in_memory(PLENTY)))
}

fn disk(folder: &Path) -> Option<Arc<Cache>> {
    Some(Arc::new(Cache::on_disk(folder.into(), PLENTY)))
}

fn run_from(source: &Arc<dyn Source>, config: LoaderConfig, from: Position) -> (Vec<Seen>, CacheStats) {
    let mut loader = Loader::start(source.clone(), config, from).unwrap();
    let batches = loader.by_ref().map(|batch| seen(&batch.unwrap())).collect();
    (batches, loader.stats().cache)
}

fn run(source: &Arc<dyn Source>, config: LoaderConfig) -> (Vec<Seen>, CacheStats) {
    run_from(source, config, Position::default())
}

fn counted(stats: CacheStats) -> [u64; 4] {
    [stats.hits, stats.misses, stats.rejected, stats.held_samples]
}

/// Everything that evaluation shows of its samples.
fn evaluated(source: &Arc<dyn Source>, config: EvalConfig) -> (Vec<String>, CacheStats) {
    let mut loader = EvalLoader::start(source.clone(), config).unwrap();
    let samples = loader.by_ref().map(|sample| format!("{:?}", sample.unwrap())).collect();
    (samples, loader.stats().cache)
}

#[test]
fn the_second_epoch_comes_from_the_cache() {
    let folder = data_set(7);
    let source = folder.source();
    let dir = tempfile::tempdir().unwrap();
    for cache in [ram(), disk(dir.path())] {
        // Two workers may decode a sample for two epochs at the same time.
        let config = LoaderConfig { epochs: 3, cache: cache.clone(), workers: 1, ..config(2) };
        let (_, stats) = run(&source, config);
        assert_eq!(counted(stats), [14, 7, 0, 7]);
        assert!(stats.held_bytes > 7 * 300 && stats.held_bytes <= cache.unwrap().bytes() + 64);
    }
    let (_, stats) = run(&source, LoaderConfig { epochs: 1, cache: disk(dir.path()), ..config(2) });
    assert_eq!(counted(stats), [7, 0, 0, 7], "a later run");
}

#[test]
fn a_small_budget_keeps_the_first_samples_for_good() {
    let folder = data_set(8);
    let source = folder.source();
    let stretch = LoaderConfig { resize: Resize::Stretch, workers: 1, ..config(2) };
    let whole = run(&source, LoaderConfig { epochs: 4, ..stretch.clone() });
    // An image of 288 bytes, its mask, and what an entry takes in memory or on disk.
    let dir = tempfile::tempdir().unwrap();
    for cache in [Cache::in_memory(1400), Cache::on_disk(dir.path().into(), 1100)] {
        let config = LoaderConfig { epochs: 4, cache: Some(Arc::new(cache)), ..stretch.clone() };
        let (batches, stats) = run(&source, config);
        assert_eq!(batches, whole.0);
        assert!((2..=3).contains(&stats.held_samples), "{stats:?}");
        assert_eq!(stats.hits, 3 * stats.held_samples);
        assert!(stats.held_bytes <= 1400);
    }
}

#[test]
fn crops_of_one_picture_share_it() {
    let folder = data_set(3);
    let source: Arc<dyn Source> = Arc::new(Renumbered::repeat(folder.source(), 5).unwrap());
    let (_, stats) = run(&source, LoaderConfig { workers: 0, epochs: 1, cache: ram(), ..config(4) });
    assert_eq!(counted(stats), [12, 3, 0, 3]);
}

#[test]
fn evaluations_share_what_they_decoded() {
    let folder = data_set(6);
    let source = folder.source();
    let dir = tempfile::tempdir().unwrap();
    for resize in RESIZES {
        for masks in [Some(classes()), None] {
            let config = EvalConfig { resize, classes: masks, ..eval_config() };
            let plain = evaluated(&source, config.clone()).0;
            for cache in [ram(), disk(dir.path())] {
                let config = EvalConfig { cache, ..config.clone() };
                for expected in [[0, 6, 0, 6], [6, 0, 0, 6]] {
                    let (samples, stats) = evaluated(&source, config.clone());
                    assert_eq!(samples, plain);
                    assert_eq!(counted(stats), expected);
                }
                // Pictures to draw on are not kept.
                let drawing = EvalConfig { keep_native: true, ..config };
                let without = EvalConfig { cache: None, ..drawing.clone() };
                assert_eq!(evaluated(&source, drawing).0, evaluated(&source, without).0);
            }
        }
    }
}

#[test]
fn training_and_evaluation_under_one_roof_do_not_mix() {
    let folder = data_set(9);
    let (train, val) = hold_out(folder.source(), 3).unwrap();
    let (train, val): (Arc<dyn Source>, Arc<dyn Source>) = (Arc::new(train), Arc::new(val));
    let dir = tempfile::tempdir().unwrap();
    for cache in [ram(), disk(dir.path())] {
        for _ in 0..2 {
            for resize in RESIZES {
                for size in [Size::new(12, 8), Size::new(8, 12)] {
                    let training = LoaderConfig { resize, size, epochs: 1, ..config(3) };
                    let evaluation = EvalConfig { resize, size, ..eval_config() };
                    let with = LoaderConfig { cache: cache.clone(), ..training.clone() };
                    assert_eq!(run(&train, with).0, run(&train, training).0);
                    let with = EvalConfig { cache: cache.clone(), ..evaluation.clone() };
                    assert_eq!(evaluated(&val, with).0, evaluated(&val, evaluation).0);
                }
            }
        }
    }
}

#[test]
fn other_classes_mean_other_masks() {
    let folder = data_set(4);
    let source = folder.source();
    let dir = tempfile::tempdir().unwrap();
    let swapped = Classes { values: vec![255, 0], ..classes() };
    for classes in [classes(), swapped] {
        let plain = LoaderConfig { resize: Resize::Stretch, classes: Some(classes), ..config(2) };
        let with = LoaderConfig { cache: disk(dir.path()), ..plain.clone() };
        assert_eq!(run(&source, with).0, run(&source, plain).0);
    }
}

#[test]
fn a_changed_file_is_read_anew_from_disk_and_kept_in_memory() {
    let folder = data_set(4);
    let source = folder.source();
    let dir = tempfile::tempdir().unwrap();
    let in_memory = ram();
    let epoch = |cache| LoaderConfig { epochs: 1, cache, ..config(2) };
    let before = run(&source, epoch(None)).0;
    let on_disk = disk(dir.path());
    run(&source, epoch(on_disk.clone()));
    run(&source, epoch(in_memory.clone()));
    // The same length and another time: an image, then a mask.
    for (name, part) in [("images/s0.png", 0), ("masks/s1.png", 1)] {
        let path = folder.path().join(name);
        let other = ["images/s4.png", "masks/s5.png"][part];
        folder.pair("s4", 40, 20, 16).pair("s5", 7, 12, 8);
        fs::copy(folder.path().join(other), &path).unwrap();
        let later = SystemTime::now() + Duration::from_secs(10 + part as u64);
        fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    }
    let after = run(&source, epoch(None)).0;
    assert_ne!(before, after);
    let (batches, stats) = run(&source, epoch(on_disk));
    assert_eq!((batches, counted(stats)), (after.clone(), [2, 2, 0, 4]), "within a run");
    assert_eq!(run(&source, epoch(disk(dir.path()))).0, after, "in a later run");
    assert_eq!(run(&source, epoch(in_memory)).0, before, "memory keeps what it read");
    assert_eq!(run(&source, epoch(ram())).0, after);
}

#[test]
fn a_cache_that_cannot_be_had_is_said_once_and_stops_nothing() {
    let folder = data_set(4);
    let source = folder.source();
    let file = folder.path().join("images/s0.png");
    let cache = disk(&file);
    for _ in 0..2 {
        let with = LoaderConfig { cache: cache.clone(), ..config(2) };
        let (batches, stats) = run(&source, with);
        assert_eq!((batches, stats), (run(&source, config(2)).0, CacheStats::default()));
    }
    let warnings = cache.unwrap().take_warnings();
    assert!(matches!(warnings[..], [CacheWarning::Unusable { .. }]), "{warnings:?}");
}

#[test]
fn samples_from_nowhere_are_not_kept() {
    let source = InMemory::new(5).shared();
    for cache in [ram(), ram()] {
        let (batches, stats) = run(&source, LoaderConfig { cache, ..config(2) });
        assert_eq!((batches, stats), (run(&source, config(2)).0, CacheStats::default()));
    }
}

#[test]
fn memory_is_given_back_with_the_cache_and_its_loaders() {
    let folder = data_set(4);
    let cache = Arc::new(Cache::in_memory(PLENTY));
    let config = LoaderConfig { cache: Some(cache.clone()), ..config(2) };
    let mut loader = Loader::start(folder.source(), config, Position::default()).unwrap();
    assert_eq!(loader.by_ref().count(), 4);
    assert!(cache.bytes() > 0);
    assert_eq!(Arc::strong_count(&cache), 1, "a loader holds its shelf alone");
    drop(cache);
    assert_eq!(loader.stats().cache.held_samples, 4);
}

#[test]
fn a_probe_tells_what_samples_cost() {
    let folder = data_set(40);
    let SampleCost { bytes, decode } = probe(&*folder.source(), &config(2)).unwrap();
    // Whole pictures, as windows are cut: 320, 96, 270 and 25 pixels of 3 bytes.
    let pixels = 3 * (320 + 96 + 270 + 25) / 4;
    assert!((pixels..pixels + 300).contains(&bytes), "{bytes}");
    assert!(!decode.is_zero());
    folder.put("images/s0.png", b"no picture");
    assert!(probe(&*folder.source(), &config(2)).is_some());
    assert_eq!(probe(&*InMemory::new(3).shared(), &config(2)), None);
}

const CHILD: &str = "FULLBORE_TEST_CACHE_CHILD";

/// The other process of the next test: fills the cache over and over until it is killed.
#[test]
fn child_process() {
    let Ok(paths) = std::env::var(CHILD) else { return };
    let (data, cache) = paths.split_once('\n').unwrap();
    let source = fullbore_data::source::open(Path::new(data), Format::Auto, Some(&classes())).unwrap();
    let config = LoaderConfig { epochs: u64::MAX, cache: disk(Path::new(cache)), ..config(2) };
    for batch in Loader::start(source, config, Position::default()).unwrap() {
        batch.unwrap();
    }
}

#[test]
fn two_processes_share_a_cache_and_one_may_be_killed() {
    let folder = data_set(12);
    let source = folder.source();
    let dir = tempfile::tempdir().unwrap();
    let plain = run(&source, config(2)).0;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cache::child_process"])
        .env(CHILD, format!("{}\n{}", folder.path().display(), dir.path().display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let first_row = |entry: fs::DirEntry| {
        let is_index = entry.path().extension().is_some_and(|end| end == "index");
        is_index && entry.metadata().is_ok_and(|meta| meta.len() >= 128)
    };
    while !fs::read_dir(dir.path()).unwrap().flatten().any(first_row) {
        assert!(child.try_wait().unwrap().is_none(), "the other process ended");
        std::thread::yield_now();
    }
    let shared = disk(dir.path());
    let (batches, stats) = run(&source, LoaderConfig { cache: shared.clone(), ..config(2) });
    assert_eq!((batches, stats.rejected), (plain.clone(), 0));
    assert!(stats.hits > 0);
    let warnings = shared.as_ref().unwrap().take_warnings();
    assert!(matches!(warnings[..], [CacheWarning::Shared { .. }]), "{warnings:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let (batches, stats) = run(&source, LoaderConfig { cache: disk(dir.path()), ..config(2) });
    assert_eq!((batches, stats.held_samples), (plain, 12));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_cache_changes_no_byte(
        n in 1u32..10, batch in 1usize..5, seed: u64, resize in prop::sample::select(RESIZES.to_vec()),
        channels in prop::sample::select(vec![1u8, 3]), budget in 0u64..6000, at in any::<prop::sample::Index>(),
    ) {
        let folder = data_set(n);
        let source = folder.source();
        let dir = tempfile::tempdir().unwrap();
        let plain = LoaderConfig { seed, resize, channels, epochs: 3, ..config(batch) };
        let whole = run(&source, LoaderConfig { workers: 0, ..plain.clone() }).0;
        let at = at.index(whole.len());
        let from = Position { epoch: whole[at].0, batch: whole[at].1 };
        for workers in [0, 1, 2, 7] {
            let on_disk = || Some(Arc::new(Cache::on_disk(dir.path().into(), budget)));
            for cache in [ram(), Some(Arc::new(Cache::in_memory(budget))), on_disk(), disk(dir.path())] {
                let with = LoaderConfig { workers, cache, ..plain.clone() };
                prop_assert_eq!(&run(&source, with.clone()).0, &whole);
                prop_assert_eq!(&run_from(&source, with, from).0[..], &whole[at..]);
            }
        }
    }
}
