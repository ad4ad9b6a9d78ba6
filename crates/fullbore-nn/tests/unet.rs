//! The U-Net's counts and keys, against the published ones, and what freezing leaves alone.

use fullbore_nn::models::{ModelConfig, ModelName, Up};
use fullbore_nn::optim::{GroupConfig, Optimizer, OptimizerConfig, OptimizerName};
use fullbore_nn::{NormConfig, NormKind, NormMode, Params, weights};
use fullbore_torch::{Device, Kind, Tensor};

const NORM: NormConfig = NormConfig { kind: NormKind::Batch, group: None, groups: 8 };

fn unet(base: u32, up: Up, channels_in: i64, classes: i64) -> Params {
    let mut params = Params::new(Device::Cpu);
    let config = ModelConfig { name: ModelName::Unet, base, depth: 4, up, weights: None };
    config.build(&mut params, channels_in, classes, &NORM).unwrap();
    params
}

#[test]
fn parameter_counts_are_exact() {
    // Columns: (3 in, 1 class), (3, 2), (1, 1), (1, 2).
    let table = [
        (64, Up::Transposed, [31_037_633, 31_037_698, 31_036_481, 31_036_546]),
        (64, Up::Bilinear, [17_262_977, 17_263_042, 17_261_825, 17_261_890]),
        (32, Up::Transposed, [7_763_041, 7_763_074, 7_762_465, 7_762_498]),
        (32, Up::Bilinear, [4_318_401, 4_318_434, 4_317_825, 4_317_858]),
        (16, Up::Transposed, [1_942_577, 1_942_594, 1_942_289, 1_942_306]),
        (16, Up::Bilinear, [1_080_929, 1_080_946, 1_080_641, 1_080_658]),
    ];
    for (base, up, counts) in table {
        for ((channels_in, classes), expected) in [(3, 1), (3, 2), (1, 1), (1, 2)].into_iter().zip(counts) {
            assert_eq!(unet(base, up, channels_in, classes).count(), expected, "{base} {up:?}");
        }
    }
    assert_eq!(unet(64, Up::Transposed, 3, 29).count(), 31_039_453);
}

#[test]
fn state_entries_are_those_of_the_original() {
    let transposed = unet(64, Up::Transposed, 3, 1);
    assert_eq!(transposed.entries().count(), 118);
    assert_eq!(transposed.parameters().count(), 64);
    assert_eq!(unet(64, Up::Bilinear, 3, 1).entries().count(), 110);
    let names: Vec<&str> = transposed.entries().map(|(name, _)| name).collect();
    for key in [
        "inc.double_conv.0.weight",
        "inc.double_conv.1.num_batches_tracked",
        "down4.maxpool_conv.1.double_conv.4.running_var",
        "up1.up.bias",
        "up4.conv.double_conv.3.weight",
        "outc.conv.bias",
    ] {
        assert!(names.contains(&key), "{key}");
    }
}

#[test]
fn a_frozen_part_keeps_its_statistics() {
    let mut params = Params::new(Device::Cpu);
    let config = ModelConfig { name: ModelName::Unet, base: 4, depth: 1, up: Up::Transposed, weights: None };
    let net = config.build(&mut params, 3, 1, &NORM).unwrap();
    let group = GroupConfig { pattern: "inc".into(), lr_factor: 1.0, frozen: true };
    let settings = OptimizerConfig { groups: vec![group], ..OptimizerConfig::new(OptimizerName::Sgd, 1e-2) };
    let optimizer = Optimizer::new(&params, &settings, false).unwrap();
    let before: Vec<_> = weights::save(&params, "").unwrap();

    params.norm().set(NormMode::Train { group: 2, step: 2 });
    let x = Tensor::randn(&[2, 3, 8, 8], Device::Cpu).unwrap();
    let logits = net.forward(&x).unwrap();
    let loss = logits.mul(&logits).unwrap().sum(Kind::Float).unwrap();
    loss.backward().unwrap();
    optimizer.step(1e-2, &loss.detach().unwrap()).unwrap();
    for (before, after) in before.iter().zip(weights::save(&params, "").unwrap()) {
        // Weights, running statistics and their counter.
        assert_eq!(before.bytes == after.bytes, after.name.starts_with("inc."), "{}", after.name);
    }
}
