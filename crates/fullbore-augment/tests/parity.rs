//! Agreement with PyTorch's `grid_sample` and plain formulas, from `fixtures/augment` (fixtures/README.md).

use std::path::Path;

use fullbore_augment::cpu::{Augmenter, Isa, Layout, PixelsMut};
use fullbore_augment::{AugmentConfig, AugmentParams, Border, EraseBox, Policy, row};
use fullbore_checkpoint::Checkpoint;
use fullbore_types::Size;

struct Fixture {
    file: Checkpoint,
    manifest: serde_json::Value,
}

impl Fixture {
    fn load() -> Self {
        let folder = Path::new("../../fixtures/augment");
        let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
        Self {
            file: fullbore_checkpoint::read(&folder.join("tensors.safetensors")).unwrap(),
            manifest: serde_json::from_str(&manifest).unwrap(),
        }
    }

    fn bytes(&self, name: &str) -> &[u8] {
        &self.file.tensors[name].bytes
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    fn points(&self, name: &str) -> Vec<[f32; 2]> {
        self.floats(name).as_chunks().0.to_vec()
    }

    /// Case and border.
    fn cases(&self) -> impl Iterator<Item = (&str, Border)> {
        self.manifest["borders"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, border)| (name.as_str(), serde_json::from_value(border.clone()).unwrap()))
    }

    fn policy(&self, border: Border) -> Policy {
        let [height, width, _] = self.file.tensors["canvas"].shape[..] else { panic!("three sizes") };
        let out: [u32; 2] = serde_json::from_value(self.manifest["out"].clone()).unwrap();
        let config = AugmentConfig { border, ..AugmentConfig::default() };
        let canvas = Size::new(width as u32, height as u32);
        config.resolve(canvas, Size::new(out[1], out[0]), None).unwrap()
    }
}

fn params_of(numbers: &[f32]) -> AugmentParams {
    let whole = |i: usize| numbers[i] as u32;
    let mut boxes = numbers[row::ERASE].chunks_exact(4).map(|b| {
        let [x0, y0, x1, y1] = [b[0], b[1], b[2], b[3]].map(|v| v as u32);
        EraseBox { x0, y0, x1, y1 }
    });
    AugmentParams {
        source_from_output: numbers[row::SOURCE_FROM_OUTPUT].try_into().unwrap(),
        colour: numbers[row::COLOUR].try_into().unwrap(),
        gamma: numbers[row::GAMMA],
        noise_std: numbers[row::NOISE_STD],
        noise_key: [whole(row::NOISE_KEY.start), whole(row::NOISE_KEY.start + 1)],
        erase: std::array::from_fn(|_| boxes.next().unwrap()),
        swap_landmarks: numbers[row::SWAP_LANDMARKS] != 0.0,
        blur_sigma: numbers[row::BLUR_SIGMA],
        elastic_alpha: numbers[row::ELASTIC_ALPHA],
        elastic_cells: whole(row::ELASTIC_CELLS),
        elastic_key: [whole(row::ELASTIC_KEY.start), whole(row::ELASTIC_KEY.start + 1)],
    }
}

#[test]
fn images_masks_and_points_agree_with_grid_sample() {
    let fixture = Fixture::load();
    let numbers = |key: &str| serde_json::from_value::<Vec<f32>>(fixture.manifest[key].clone()).unwrap();
    let (mean, std) = (numbers("mean"), numbers("std"));
    let tolerance = fixture.manifest["tolerance"].as_f64().unwrap() as f32;
    let mut n_cases = 0;
    for (case, border) in fixture.cases() {
        n_cases += 1;
        let row = fixture.floats(&format!("params.{case}"));
        let params = params_of(&row);
        assert_eq!(params.to_row()[..], row[..], "{case}: the row is laid out as it was read");
        let policy = fixture.policy(border);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let mut augmenter = Augmenter::with_isa(&policy, &mean, &std, isa);
            let expected = fixture.floats(&format!("image.{case}"));
            let mut image = vec![f32::NAN; expected.len()];
            augmenter.image(&params, fixture.bytes("canvas"), Layout::Planar, PixelsMut::F32(&mut image));
            let plane = image.len() / 3;
            for (i, (found, expected)) in image.iter().zip(&expected).enumerate() {
                let distance = (found - expected).abs() * std[i / plane];
                assert!(distance <= tolerance, "{case}, {isa:?}, number {i}: {found}, expected {expected}");
            }

            let expected = fixture.bytes(&format!("mask.{case}"));
            let mut mask = vec![0; expected.len()];
            augmenter.mask(&params, fixture.bytes("mask"), &mut mask);
            let sure = fixture.bytes(&format!("sure.{case}"));
            let wrong = (0..mask.len()).find(|&i| sure[i] == 1 && mask[i] != expected[i]);
            assert_eq!(wrong, None, "{case}, {isa:?}: first pixel of the mask that differs");
            assert!(sure.iter().filter(|&&sure| sure == 1).count() > mask.len() / 2);

            let expected = fixture.points(&format!("points.{case}"));
            let mut points = fixture.points("points");
            augmenter.points(&params, &mut points, &mut vec![1; expected.len()]);
            for (found, expected) in points.iter().zip(&expected) {
                let distance = (found[0] - expected[0]).abs().max((found[1] - expected[1]).abs());
                assert!(distance < 1e-3, "{case}: {found:?}, expected {expected:?}");
            }
        }
    }
    assert_eq!(n_cases, 8);
}
