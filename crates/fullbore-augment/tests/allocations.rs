//! Counts allocations: once its buffers have grown, the CPU twin asks for no memory. A binary of its own with a single
//! test, because every allocation of the process is counted.

use std::alloc::{GlobalAlloc, System};
use std::sync::atomic::{AtomicU64, Ordering};

use fullbore_augment::cpu::{Augmenter, Layout, PixelsMut};
use fullbore_augment::{AugmentConfig, Preset, render_heatmaps};
use fullbore_types::{SampleId, SampleKey, Size};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged; the trait's other methods call these two.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: as above; the pointer came from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn samples_cost_no_memory() {
    let (canvas_size, out) = (Size::new(70, 50), Size::new(64, 48));
    let mut config = AugmentConfig::of(Preset::Strong);
    (config.blur.p, config.elastic.p, config.flip_pairs) = (Some(0.5), Some(0.5), Some(vec![[0, 1]]));
    let policy = config.resolve(canvas_size, out, Some(2)).unwrap();
    let mut augmenter = Augmenter::new(&policy, &[0.5; 3], &[0.25; 3]);
    let canvas: Vec<u8> = (0..70 * 50 * 3).map(|i| (i * 7) as u8).collect();
    let mut image = vec![0; 64 * 48 * 3];
    let mut mask = vec![0; 64 * 48];
    let mut maps = vec![0.0; 2 * 16 * 12];
    let mut pass = || {
        for sample in 0..60 {
            let params = policy.draw(SampleKey { seed: 3, epoch: 0, sample: SampleId(sample) });
            augmenter.image(&params, &canvas, Layout::Interleaved, PixelsMut::Bf16(&mut image));
            augmenter.mask(&params, &canvas[..70 * 50], &mut mask);
            let (mut points, mut visibility) = ([[3.0, 4.0], [60.0, 20.0]], [1, 1]);
            augmenter.points(&params, &mut points, &mut visibility);
            render_heatmaps(&points, &visibility, &[1.5; 2], out, Size::new(16, 12), &mut maps);
        }
    };
    pass();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    pass();
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}
