//! Order, positions, prefetching and shutting down.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::mpsc::channel;

use fullbore_data::source::Part;
use fullbore_data::{FaultPolicy, Hooks, HostBatch, Loader, LoaderConfig, Notice, Notify, PinHost, Resize};
use fullbore_types::{IGNORE_INDEX, Position, Size};
use proptest::prelude::*;

use crate::data_set::{InMemory, Seen, config, seen};

fn all(n: u32, config: LoaderConfig, from: Position) -> Vec<Seen> {
    let loader = Loader::start(InMemory::new(n).shared(), config, from).unwrap();
    loader.map(|batch| seen(&batch.unwrap())).collect()
}

fn position(epoch: u64, batch: u64) -> Position {
    Position { epoch, batch }
}

#[test]
fn a_loader_and_its_batches_can_move_between_threads() {
    fn movable<T: Send + 'static>() {}
    movable::<Loader>();
    movable::<HostBatch>();
    movable::<fullbore_data::EvalLoader>();
}

#[test]
fn every_sample_comes_once_an_epoch_and_lies_in_its_slot() {
    let batches = all(11, config(4), Position::default());
    assert_eq!(batches.iter().map(|b| b.2.len()).collect::<Vec<_>>(), [4, 4, 3, 4, 4, 3]);
    for epoch in 0..2 {
        let mut ids: Vec<u32> = batches.iter().filter(|b| b.0 == epoch).flat_map(|b| b.2.clone()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..11).collect::<Vec<_>>());
    }
    for (_, _, ids, images, masks, _) in &batches {
        assert_eq!((images.len(), masks.len()), (ids.len() * 96 * 3, ids.len() * 96));
        for (i, id) in ids.iter().enumerate() {
            for (p, pixel) in images[i * 288..][..288].chunks_exact(3).enumerate() {
                assert_eq!(u32::from(pixel[0]), *id);
                let inside = u32::from(pixel[1]) <= id % 20;
                assert_eq!(masks[i * 96 + p], u8::from(inside), "sample {id}, pixel {p}");
            }
        }
    }
}

#[test]
fn frames_map_the_crop_back() {
    let loader = Loader::start(InMemory::new(4).shared(), config(4), Position::default()).unwrap();
    for batch in loader {
        let batch = batch.unwrap();
        for (i, frame) in batch.frames().iter().enumerate() {
            let first = &batch.images()[i * 288..][..3];
            let back = frame.canvas_from_source.inverse().unwrap().apply((0.0, 0.0));
            assert_eq!(back, (f64::from(first[1]), f64::from(first[2])));
            assert_eq!(frame.source_size, Size::new(20, 16));
        }
    }
}

#[test]
fn stretch_without_change_of_size_keeps_every_pixel() {
    let config = LoaderConfig { resize: Resize::Stretch, size: Size::new(20, 16), ..config(1) };
    for (_, _, ids, images, masks, _) in all(3, config, Position::default()) {
        assert_eq!(images, crate::data_set::image_of(ids[0], 20, 16).into_raw());
        let mask = crate::data_set::mask_of(ids[0], 20, 16).into_raw();
        assert_eq!(masks, mask.iter().map(|v| u8::from(*v == 255)).collect::<Vec<_>>());
    }
}

#[test]
fn letterbox_marks_its_padding_as_ignored() {
    let config = LoaderConfig { resize: Resize::Letterbox, size: Size::new(10, 12), ..config(1) };
    for (_, _, _, images, masks, _) in all(2, config, Position::default()) {
        for (p, (pixel, mask)) in images.chunks_exact(3).zip(&masks).enumerate() {
            let shown = (2..10).contains(&(p / 10));
            assert_eq!(*mask != IGNORE_INDEX, shown, "pixel {p}");
            assert!(shown || pixel == [0, 0, 0]);
        }
    }
}

#[test]
fn one_channel_comes_as_luma() {
    let gray = all(3, LoaderConfig { channels: 1, ..config(3) }, Position::default());
    let rgb = all(3, config(3), Position::default());
    for (gray, rgb) in gray.iter().zip(&rgb) {
        let luma = rgb.3.chunks_exact(3).map(|p| {
            let sum = 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]);
            sum.round() as u8
        });
        assert_eq!(gray.3, luma.collect::<Vec<_>>());
        assert_eq!(gray.4, rgb.4);
    }
}

#[test]
fn the_next_position_leads_through_the_whole_run() {
    let loader = Loader::start(InMemory::new(7).shared(), config(3), Position::default()).unwrap();
    let mut expected = position(0, 0);
    for batch in loader {
        let batch = batch.unwrap();
        assert_eq!(batch.position(), expected);
        expected = batch.next_position();
    }
    assert_eq!(expected, position(2, 0));
}

#[test]
fn positions_outside_the_data_are_refused() {
    let start = |from| Loader::start(InMemory::new(6).shared(), config(3), from);
    assert_eq!(start(position(0, 2)).unwrap().next().unwrap().unwrap().position(), position(1, 0));
    assert!(start(position(2, 0)).unwrap().next().is_none());
    assert!(start(position(u64::MAX, 0)).unwrap().next().is_none());
    let error = start(position(1, 3)).err().unwrap().to_string();
    assert_eq!(error, "the run stood at batch 3 of epoch 1, but an epoch has 2 batches now");
}

#[test]
fn a_batch_larger_than_the_data_is_refused_unless_ragged_ones_are_kept() {
    let start = |config| Loader::start(InMemory::new(6).shared(), config, Position::default());
    let error = start(LoaderConfig { drop_last: true, ..config(7) }).err().unwrap().to_string();
    assert_eq!(error, "batch.size is 7 but there are only 6 samples to train on");
    assert_eq!(start(config(7)).unwrap().count(), 2);
    assert!(start(config(0)).is_err());
    assert!(Loader::start(InMemory::new(0).shared(), config(1), Position::default()).is_err());
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let config = LoaderConfig { size: Size::new(16384, 16384), prefetch: usize::MAX, ..config(1 << 30) };
    assert_eq!(config.ring_bytes(), None);
    let error = Loader::start(InMemory::new(1).shared(), config, Position::default()).err().unwrap();
    assert!(error.to_string().starts_with("no memory for"), "{error}");
}

#[test]
fn a_limit_on_bytes_shortens_the_ring() {
    let slab = LoaderConfig { prefetch: 0, ..config(4) }.ring_bytes().unwrap();
    let limited = |max_ring_bytes| LoaderConfig { max_ring_bytes, prefetch: 9, ..config(4) };
    assert_eq!(limited(usize::MAX).slabs().unwrap(), 10);
    assert_eq!(limited(3 * slab).ring_bytes(), Some(3 * slab));
    assert_eq!(all(11, limited(3 * slab), Position::default()), all(11, config(4), Position::default()));
    let error = Loader::start(InMemory::new(4).shared(), limited(slab), Position::default()).err().unwrap();
    assert!(error.to_string().contains("more than the 8192 they may have"), "{error}");
}

#[test]
fn memory_that_cannot_be_pinned_is_reported_and_used() {
    struct NoDevice;
    impl PinHost for NoDevice {
        fn pin(&self, _: NonNull<u8>, _: usize) -> Result<Box<dyn Send + Sync>, String> {
            Err("no device".into())
        }
    }
    let (sender, notices) = channel();
    let notify: Notify = Arc::new(move |notice| sender.send(notice).unwrap());
    let hooks = Hooks { notify: Some(notify), pin: Some(Arc::new(NoDevice)) };
    let config = LoaderConfig { hooks, ..config(2) };
    let bytes = config.ring_bytes().unwrap();
    assert_eq!(all(4, config, Position::default()).len(), 4);
    assert_eq!(notices.iter().collect::<Vec<_>>(), [Notice::NotPinned { bytes, reason: "no device".into() }]);
}

#[test]
fn a_consumer_may_hold_as_many_batches_as_are_prefetched() {
    for workers in [0, 3] {
        let config = LoaderConfig { workers, prefetch: 3, epochs: 5, ..config(1) };
        let loader = Loader::start(InMemory::new(4).shared(), config, Position::default()).unwrap();
        let mut held = std::collections::VecDeque::new();
        let mut n = 0;
        for batch in loader {
            let batch = batch.unwrap();
            held.push_back((seen(&batch), batch));
            n += 1;
            if held.len() == 3 {
                let (before, batch) = held.pop_front().unwrap();
                assert_eq!(seen(&batch), before, "a batch in the consumer's hands was written to");
            }
        }
        assert_eq!(n, 20);
    }
}

#[test]
fn batches_outlive_their_loader() {
    let mut loader = Loader::start(InMemory::new(4).shared(), config(2), Position::default()).unwrap();
    let batch = loader.next().unwrap().unwrap();
    let before = seen(&batch);
    drop(loader);
    assert_eq!(seen(&batch), before);
}

#[test]
fn a_slab_dropped_in_another_thread_lets_the_loader_go_on() {
    let config = LoaderConfig { prefetch: 1, epochs: 50, ..config(2) };
    let loader = Loader::start(InMemory::new(4).shared(), config, Position::default()).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel::<HostBatch>();
    let dropper = std::thread::spawn(move || receiver.into_iter().count());
    for batch in loader {
        sender.send(batch.unwrap()).unwrap();
    }
    drop(sender);
    assert_eq!(dropper.join().unwrap(), 100);
}

#[test]
fn dropping_a_loader_at_any_point_joins_its_threads() {
    // A thread that stayed would hold the source.
    for round in 0..1000 {
        let source = InMemory::new(6).with(round % 6, Part::Target, b"torn".to_vec()).shared();
        let faults = FaultPolicy { max_bad_share: 1.0, ..FaultPolicy::default() };
        let (workers, prefetch) = (round % 5, 1 + round % 3);
        let config = LoaderConfig { workers, prefetch, epochs: 9, faults, ..config(2) };
        let mut loader = Loader::start(source.clone(), config, Position::default()).unwrap();
        let held: Vec<_> = loader.by_ref().take(round % 7).take(1).collect();
        loader.by_ref().take(round % 4).for_each(drop);
        // Let the workers come to one point or another.
        (0..round % 11).for_each(|_| std::thread::yield_now());
        drop(loader);
        assert_eq!(Arc::strong_count(&source), 1, "round {round}");
        drop(held);
    }
}

#[test]
fn stats_count_what_was_done() {
    let one = LoaderConfig { workers: 1, epochs: 1, ..config(2) };
    let mut loader = Loader::start(InMemory::new(6).shared(), one, Position::default()).unwrap();
    assert_eq!(loader.by_ref().count(), 3);
    let stats = loader.stats();
    assert_eq!(stats.samples, 6);
    assert!(stats.bytes_read > 6 * 100);
    assert_eq!(stats.batches, 3);
    assert!((0.0..=2.0).contains(&stats.queue_depth()));
    assert!(!stats.decode.is_zero() && !stats.pack.is_zero() && !stats.wait_for_batch.is_zero());
    assert!(stats.resize.is_zero(), "crops are copied");
    let config = LoaderConfig { resize: Resize::Stretch, ..config(2) };
    let mut loader = Loader::start(InMemory::new(6).shared(), config, Position::default()).unwrap();
    loader.next().unwrap().unwrap();
    assert!(!loader.stats().resize.is_zero());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_number_of_workers_changes_nothing(
        n in 1u32..14, batch in 1usize..5, prefetch in 1usize..4, seed: u64, drop_last: bool,
    ) {
        let config = |workers| LoaderConfig {
            workers, prefetch, seed, drop_last: drop_last && n as usize >= batch, ..config(batch)
        };
        let inline = all(n, config(0), Position::default());
        for workers in [1, 2, 7] {
            prop_assert_eq!(&inline, &all(n, config(workers), Position::default()));
        }
    }

    #[test]
    fn resuming_anywhere_equals_never_stopping(
        n in 1u32..12, batch in 1usize..5, seed: u64,
    ) {
        let config = |workers| LoaderConfig { workers, seed, epochs: 3, ..config(batch) };
        let whole = all(n, config(2), Position::default());
        for at in 0..whole.len() {
            let from = position(whole[at].0, whole[at].1);
            prop_assert_eq!(&whole[at..], &all(n, config(at % 4), from)[..]);
        }
    }
}
