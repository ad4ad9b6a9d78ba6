//! Time per sample of the CPU twin, 512x512 to 512x512, on one thread.
//!
//! Outputs go round a slab of 16 samples, as a loader's do, so that they are not in the first caches.

use divan::Bencher;
use fullbore_augment::cpu::{Augmenter, Isa, Layout, PixelsMut};
use fullbore_augment::{AugmentConfig, AugmentParams, Policy, Preset, keyed_hash};
use fullbore_types::{SampleId, SampleKey, Size};

const SIDE: u32 = 512;
const SAMPLES: usize = 16;
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn main() {
    divan::main();
}

fn policy(change: impl FnOnce(&mut AugmentConfig)) -> Policy {
    let mut config = AugmentConfig::of(Preset::Standard);
    change(&mut config);
    let size = Size::new(SIDE, SIDE);
    config.resolve(size, size, None).expect("the settings are right")
}

fn draws(policy: &Policy) -> Vec<AugmentParams> {
    (0..64).map(|i| policy.draw(SampleKey { seed: 1, epoch: 0, sample: SampleId(i) })).collect()
}

/// Rotating samples of `channels` into numbers of a type.
fn images<T: Copy + Default>(
    bencher: Bencher,
    policy: Policy,
    isa: Isa,
    channels: usize,
    layout: Layout,
    pixels: fn(&mut [T]) -> PixelsMut<'_>,
) {
    if !isa.is_available() {
        return;
    }
    let n = (SIDE * SIDE) as usize * channels;
    let canvas: Vec<u8> = (0..n as u32).map(|i| keyed_hash([1, 2], i) as u8).collect();
    let mut augmenter = Augmenter::with_isa(&policy, &MEAN[..channels], &STD[..channels], isa);
    let mut slab = vec![T::default(); SAMPLES * n];
    let draws = draws(&policy);
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        let out = &mut slab[turn % SAMPLES * n..][..n];
        augmenter.image(&draws[turn % draws.len()], &canvas, layout, pixels(out));
    });
}

#[divan::bench(args = Isa::ALL)]
fn standard_rgb_f32_planar(bencher: Bencher, isa: Isa) {
    images(bencher, policy(|_| ()), isa, 3, Layout::Planar, |out| PixelsMut::F32(out));
}

#[divan::bench(args = Isa::ALL)]
fn standard_rgb_f32_interleaved(bencher: Bencher, isa: Isa) {
    images(bencher, policy(|_| ()), isa, 3, Layout::Interleaved, |out| PixelsMut::F32(out));
}

#[divan::bench(args = Isa::ALL)]
fn standard_rgb_bf16_interleaved(bencher: Bencher, isa: Isa) {
    images(bencher, policy(|_| ()), isa, 3, Layout::Interleaved, |out| PixelsMut::Bf16(out));
}

#[divan::bench(args = Isa::ALL)]
fn standard_rgb_u8_interleaved(bencher: Bencher, isa: Isa) {
    images(bencher, policy(|_| ()), isa, 3, Layout::Interleaved, |out| PixelsMut::U8(out));
}

#[divan::bench(args = Isa::ALL)]
fn standard_gray_f32(bencher: Bencher, isa: Isa) {
    images(bencher, policy(|_| ()), isa, 1, Layout::Planar, |out| PixelsMut::F32(out));
}

#[divan::bench(args = Isa::ALL)]
fn with_gamma_and_noise(bencher: Bencher, isa: Isa) {
    let policy = policy(|c| (c.gamma.p, c.noise.p) = (Some(1.0), Some(1.0)));
    images(bencher, policy, isa, 3, Layout::Planar, |out| PixelsMut::F32(out));
}

#[divan::bench(args = Isa::ALL)]
fn with_elastic(bencher: Bencher, isa: Isa) {
    images(bencher, policy(|c| c.elastic.p = Some(1.0)), isa, 3, Layout::Planar, |out| PixelsMut::F32(out));
}

#[divan::bench(args = Isa::ALL)]
fn with_blur(bencher: Bencher, isa: Isa) {
    images(bencher, policy(|c| c.blur.p = Some(1.0)), isa, 3, Layout::Planar, |out| PixelsMut::F32(out));
}

#[divan::bench(args = Isa::ALL)]
fn mask(bencher: Bencher, isa: Isa) {
    if !isa.is_available() {
        return;
    }
    let policy = policy(|_| ());
    let n = (SIDE * SIDE) as usize;
    let canvas: Vec<u8> = (0..n as u32).map(|i| keyed_hash([1, 2], i) as u8).collect();
    let mut augmenter = Augmenter::with_isa(&policy, &MEAN, &STD, isa);
    let mut slab = vec![0; SAMPLES * n];
    let draws = draws(&policy);
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        let out = &mut slab[turn % SAMPLES * n..][..n];
        augmenter.mask(&draws[turn % draws.len()], &canvas, out);
    });
}

#[divan::bench]
fn draw_strong(bencher: Bencher) {
    let policy = policy(|c| c.preset = Preset::Strong);
    let mut sample = 0;
    bencher.bench_local(|| {
        sample += 1;
        policy.draw(SampleKey { seed: 1, epoch: 0, sample: SampleId(sample) })
    });
}
