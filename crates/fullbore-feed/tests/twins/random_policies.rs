//! Both twins under random policies.

use fullbore_augment::{AugmentConfig, AugmentParams, Elastic, keyed_hash};
use fullbore_feed::augment::Way;
use fullbore_torch::Kind;
use fullbore_types::{Affine, Size};
use proptest::prelude::*;

use crate::cases::{Batch, Case, K, STD, any_case};

/// A step and a half of a byte.
const TOLERANCE: f32 = 1.5 / 255.0;
/// A blurred pixel between two bytes may be rounded either way, and contrast enlarges the step.
const BLURRED_TOLERANCE: f32 = TOLERANCE + 2.0 / 255.0;
/// Rounding of f32 in another order, a hundredth of a byte step: on a smooth canvas coordinates do not enlarge it.
const ROUNDING: f32 = 3e-5;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_twins_agree(case in any_case(), way in prop::sample::select(vec![Way::Operations, Way::Kernel])) {
        let batch = case.batch();
        let (cpu, device) = (batch.on_cpu_twin(), batch.on_device_twin(way, Kind::Float));
        let area = case.out.area() as usize;
        for (i, (found, expected)) in device.images.iter().zip(&cpu.images).enumerate() {
            let (sample, c) = (i / area / case.channels, i / area % case.channels);
            let params = &batch.params[sample];
            let tolerance = if params.blur_sigma > 0.0 { BLURRED_TOLERANCE } else { TOLERANCE };
            prop_assert!((found - expected).abs() * STD[c] <= tolerance,
                "sample {sample}, channel {c}, pixel {}: {found}, expected {expected}, {params:?}", i % area);
        }
        for (i, (found, expected)) in device.masks.iter().zip(&cpu.masks).enumerate() {
            prop_assert!(found == expected || at_an_edge(&batch, i / area, i % area),
                "sample {}, pixel {}: {found}, expected {expected}", i / area, i % area);
        }
        let inside = |p: f32, side: u32| [p + 0.5, p + 0.5 - side as f32];
        for i in 0..batch.places.len() {
            let ([x, y], [cpu_x, cpu_y]) = (device.places[i], cpu.places[i]);
            prop_assert!((x - cpu_x).abs() < 1e-3 && (y - cpu_y).abs() < 1e-3,
                "{x} {y}, expected {cpu_x} {cpu_y}, {:?}", batch.params[i / K]);
            // The twins may only differ on whether a point is there where it lies on an edge.
            let to_edges = inside(cpu_x, case.out.width).into_iter().chain(inside(cpu_y, case.out.height));
            if to_edges.into_iter().all(|d| d.abs() > 1e-3) {
                prop_assert_eq!(device.visibility[i], cpu.visibility[i]);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_kernel_computes_what_the_operations_do(case in any_case()) {
        let mut batch = case.batch();
        batch.smooth();
        let kernel = batch.on_device_twin(Way::Kernel, Kind::Float);
        let operations = batch.on_device_twin(Way::Operations, Kind::Float);
        let area = case.out.area() as usize;
        for (i, (found, expected)) in kernel.images.iter().zip(&operations.images).enumerate() {
            prop_assert!((found - expected).abs() * STD[i / area % case.channels] <= ROUNDING, "{i}: {found}, expected {expected}, {:?}",
                batch.params[i / area / case.channels]);
        }
        for (i, (found, expected)) in kernel.masks.iter().zip(&operations.masks).enumerate() {
            prop_assert!(found == expected || at_an_edge(&batch, i / area, i % area));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn lower_precision_is_the_rounded_result(case in any_case(), kind in prop::sample::select(vec![Kind::BFloat16, Kind::Half])) {
        let batch = case.batch();
        let exact = batch.on_device_twin(Way::Operations, Kind::Float).images;
        let found = batch.on_device_twin(Way::Operations, kind).images;
        let by_kernel = batch.on_device_twin(Way::Kernel, kind).images;
        for (found, exact) in found.iter().chain(&by_kernel).zip(exact.iter().chain(&exact)) {
            prop_assert!((found - exact).abs() <= exact.abs() / 256.0 + 1e-4, "{found} for {exact}");
        }
    }
}

#[test]
fn points_under_the_strongest_displacements_are_found() {
    for grid in [1, 5] {
        let config = AugmentConfig {
            elastic: Elastic {
                p: Some(1.0),
                alpha: Some([400.0 / 8.0 / f64::from(grid); 2]),
                grid: Some(grid),
            },
            flip_pairs: Some(vec![]),
            ..AugmentConfig::default()
        };
        let size = Size::new(400, 400);
        let case = Case { config, canvas: size, out: size, channels: 1, samples: 6, seed: grid };
        let batch = case.batch();
        let (images, _, points) = batch.upload();
        let twin = batch.device_twin(Way::Operations, Kind::Float);
        let found = twin.apply(&images, None, Some(&points), &batch.params).unwrap().points.unwrap();
        let found = found.places.to_vec_f32().unwrap();
        for (found, expected) in found.iter().zip(batch.on_cpu_twin().places.as_flattened()) {
            assert!((found - expected).abs() < 1e-3, "grid {grid}: {found}, expected {expected}");
        }
    }
}

/// True when the source of an output pixel lies within 1e-3 of the edge between two canvas pixels.
fn at_an_edge(batch: &Batch, sample: usize, pixel: usize) -> bool {
    let (params, out) = (&batch.params[sample], batch.policy.out());
    let (x, y) = ((pixel as u32 % out.width).into(), (pixel as u32 / out.width).into());
    let (dx, dy) = displacement(params, out, x, y);
    let (u, v) = Affine(params.source_from_output.map(f64::from)).apply((x + dx, y + dy));
    let near = |p: f64| ((p + 0.5) - (p + 0.5).round()).abs() < 1e-3;
    near(u) || near(v)
}

fn displacement(params: &AugmentParams, out: Size, x: f64, y: f64) -> (f64, f64) {
    if params.elastic_alpha <= 0.0 {
        return (0.0, 0.0);
    }
    let cells = f64::from(params.elastic_cells);
    let place = |v: f64, side: u32| {
        let g = ((v + 0.5) * cells / f64::from(side)).clamp(0.0, cells);
        let i = g.floor().min(cells - 1.0);
        let f = g - i;
        (i as u32, f * f * (3.0 - 2.0 * f))
    };
    let ((i, s), (j, t)) = (place(x, out.width), place(y, out.height));
    let along = |axis| {
        let n = |i: u32, j: u32| {
            let hash = keyed_hash(params.elastic_key, 2 * ((params.elastic_cells + 1) * j + i) + axis);
            f64::from(hash >> 8) / 8_388_608.0 - 1.0
        };
        let near = (1.0 - s) * n(i, j) + s * n(i + 1, j);
        let far = (1.0 - s) * n(i, j + 1) + s * n(i + 1, j + 1);
        f64::from(params.elastic_alpha) * ((1.0 - t) * near + t * far)
    };
    (along(0), along(1))
}
