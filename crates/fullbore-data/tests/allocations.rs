//! Counts allocations: once its buffers have grown, a loader asks for no memory per sample beyond what the decoders
//! ask for. A binary of its own with a single test, because every allocation of the process is counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fullbore_data::source::{Part, Source, SourceError};
use fullbore_data::yardstick::RawDecoder;
use fullbore_data::{DecodeLimits, Loader, LoaderConfig, Resize};
use fullbore_types::{Classes, Position, SampleId, Size};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from the system.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above; the pointer came from the system.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_in<T>(work: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// The same JPEG and PNG mask under every id. Its files have no names, so that naming them asks for no memory.
struct Same {
    image: Vec<u8>,
    mask: Vec<u8>,
}

const SIDE: u32 = 64;
const SAMPLES: usize = 1024;

impl Same {
    fn new() -> Self {
        let image = RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
        let mask = GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([if x > y { 255 } else { 0 }]));
        let encoded = |image: DynamicImage, format| {
            let mut bytes = std::io::Cursor::new(Vec::new());
            image.write_to(&mut bytes, format).unwrap();
            bytes.into_inner()
        };
        Same { image: encoded(image.into(), ImageFormat::Jpeg), mask: encoded(mask.into(), ImageFormat::Png) }
    }
}

impl Source for Same {
    fn len(&self) -> usize {
        SAMPLES
    }

    fn name(&self, _: SampleId) -> String {
        String::new()
    }

    fn file(&self, _: SampleId, _: Part) -> PathBuf {
        PathBuf::new()
    }

    fn read(&self, _: SampleId, part: Part, _: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        bytes.clear();
        bytes.extend(if part == Part::Image { &self.image } else { &self.mask });
        Ok(())
    }
}

/// Allocations of the decoders alone for one sample.
fn raw_per_sample(source: &Same) -> u64 {
    let mut decoder = RawDecoder::new(3, DecodeLimits::default());
    decoder.decode(source, SampleId(0)).unwrap();
    allocations_in(|| decoder.decode(source, SampleId(1)).unwrap())
}

/// Allocations of a loader for one batch in the middle of an epoch.
fn loader_per_batch(source: &Arc<Same>, batch_size: usize, resize: Resize, side: u32) -> u64 {
    let classes =
        Classes { names: vec!["background".into(), "thing".into()], values: vec![0, 255], void_value: None };
    let config = LoaderConfig {
        resize,
        seed: 1,
        epochs: 1,
        drop_last: true,
        // Inline, so that a batch's work is done between two calls and not around them.
        workers: 0,
        prefetch: 1,
        ..LoaderConfig::new(batch_size, Size::new(side, side), Some(classes))
    };
    let mut loader = Loader::start(source.clone(), config, Position::default()).unwrap();
    let mut batch = || loader.next().unwrap().unwrap();
    drop((batch(), batch()));
    let first = allocations_in(|| drop(batch()));
    assert_eq!(first, allocations_in(|| drop(batch())), "steady from the third batch on");
    first
}

/// Small tables that the general resizer builds anew for each picture: one for each target row and column, and few
/// others. Halving needs none.
fn resizer_tables(side: u32) -> u64 {
    u64::from(2 * side) + 8
}

#[test]
fn samples_ask_for_no_memory_beyond_the_decoders() {
    let source = Arc::new(Same::new());
    let raw = raw_per_sample(&source);
    assert!(raw > 0, "the decoders allocate, or nothing is counted");
    for (what, resize, side, most) in [
        ("at its own size", Resize::Stretch, SIDE, 0),
        ("halved", Resize::Stretch, SIDE / 2, 0),
        ("cropped", Resize::Crop, SIDE / 4, 0),
        ("padded", Resize::Crop, 2 * SIDE, 0),
        ("resized", Resize::Stretch, SIDE / 3, resizer_tables(SIDE / 3)),
    ] {
        let [small, large] = [4, 12].map(|n| loader_per_batch(&source, n, resize, side));
        // What is asked for once per batch cancels out.
        let per_sample = (large - small) as f64 / 8.0;
        let excess = per_sample - raw as f64;
        assert!(
            (0.0..=most as f64).contains(&excess),
            "an image {what}: {per_sample} allocations per sample, {raw} of them in decoders"
        );
        assert!(small - 4 * raw <= 4 * most + 16, "an image {what}: {small} allocations for a batch of 4");
    }
}
