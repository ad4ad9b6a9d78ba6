//! Agreement with PyTorch's `grid_sample` and plain formulas, from `fixtures/augment` (fixtures/README.md).

use std::path::Path;

use fullbore_augment::{AugmentConfig, AugmentParams, Border, EraseBox, row};
use fullbore_checkpoint::Checkpoint;
use fullbore_feed::augment::{Augmented, DeviceTwin, Points, Way};
use fullbore_torch::{Kind, Tensor};
use fullbore_types::Size;

use crate::cases::device;

fn params_of(numbers: &[f32]) -> AugmentParams {
    let mut boxes = numbers[row::ERASE].as_chunks().0.iter().map(|b: &[f32; 4]| b.map(|v| v as u32));
    AugmentParams {
        source_from_output: numbers[row::SOURCE_FROM_OUTPUT].try_into().unwrap(),
        colour: numbers[row::COLOUR].try_into().unwrap(),
        gamma: numbers[row::GAMMA],
        noise_std: numbers[row::NOISE_STD],
        noise_key: [0, 1].map(|i| numbers[row::NOISE_KEY.start + i] as u32),
        erase: std::array::from_fn(|_| {
            boxes.next().map(|[x0, y0, x1, y1]| EraseBox { x0, y0, x1, y1 }).unwrap()
        }),
        swap_landmarks: numbers[row::SWAP_LANDMARKS] != 0.0,
        blur_sigma: numbers[row::BLUR_SIGMA],
        elastic_alpha: numbers[row::ELASTIC_ALPHA],
        elastic_cells: numbers[row::ELASTIC_CELLS] as u32,
        elastic_key: [0, 1].map(|i| numbers[row::ELASTIC_KEY.start + i] as u32),
    }
}

fn floats(file: &Checkpoint, name: &str) -> Vec<f32> {
    file.tensors[name].bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn both_ways_agree_with_grid_sample() {
    let folder = Path::new("../../fixtures/augment");
    let file = fullbore_checkpoint::read(&folder.join("tensors.safetensors")).unwrap();
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let [mean, std] =
        ["mean", "std"].map(|key| serde_json::from_value::<Vec<f32>>(manifest[key].clone()).unwrap());
    let [out_h, out_w]: [u32; 2] = serde_json::from_value(manifest["out"].clone()).unwrap();
    let tolerance = manifest["tolerance"].as_f64().unwrap() as f32;
    let [h, w, _] = file.tensors["canvas"].shape[..] else { panic!("three sizes") };
    let (h, w) = (h as i64, w as i64);
    let bytes = |name: &str, size: &[i64]| {
        Tensor::from_bytes(&file.tensors[name].bytes, size, Kind::Uint8).unwrap().to_device(device()).unwrap()
    };
    let (images, masks) = (bytes("canvas", &[1, h, w, 3]), bytes("mask", &[1, h, w]));
    let places = floats(&file, "points");
    let k = places.len() as i64 / 2;
    let points = Points {
        places: Tensor::from_slice(&places)
            .unwrap()
            .reshape(&[1, k, 2])
            .unwrap()
            .to_device(device())
            .unwrap(),
        visibility: Tensor::ones(&[1, k], Kind::Uint8, device()).unwrap(),
    };

    let borders = manifest["borders"].as_object().unwrap();
    assert_eq!(borders.len(), 8);
    for ((case, border), way) in borders.iter().flat_map(|b| [(b, Way::Operations), (b, Way::Kernel)]) {
        let border: Border = serde_json::from_value(border.clone()).unwrap();
        let config = AugmentConfig { border, ..AugmentConfig::default() };
        let policy = config.resolve(Size::new(w as u32, h as u32), Size::new(out_w, out_h), None).unwrap();
        let twin = DeviceTwin::with_way(&policy, &mean, &std, Kind::Float, device(), way).unwrap();
        let params = params_of(&floats(&file, &format!("params.{case}")));
        let Augmented { images, masks, points } =
            twin.apply(&images, Some(&masks), Some(&points), &[params]).unwrap();

        let area = (out_h * out_w) as usize;
        let expected = floats(&file, &format!("image.{case}"));
        for (i, (found, expected)) in images.to_vec_f32().unwrap().iter().zip(&expected).enumerate() {
            let distance = (found - expected).abs() * std[i / area];
            assert!(distance <= tolerance, "{case}, {way:?}, number {i}: {found}, expected {expected}");
        }
        let (expected, sure) =
            (&file.tensors[&format!("mask.{case}")].bytes, &file.tensors[&format!("sure.{case}")].bytes);
        for (i, found) in masks.unwrap().to_vec_u8().unwrap().iter().enumerate() {
            assert!(
                sure[i] == 0 || *found == expected[i],
                "{case}, {way:?}: pixel {i} of the mask is {found}"
            );
        }
        let expected = floats(&file, &format!("points.{case}"));
        for (found, expected) in points.unwrap().places.to_vec_f32().unwrap().iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-3, "{case}: {found}, expected {expected}");
        }
    }
}
