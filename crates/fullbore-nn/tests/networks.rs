//! Counts, keys and shapes of the networks beside the U-Net, against the published ones.

use fullbore_nn::models::{Head, ModelConfig, ModelName, Width};
use fullbore_nn::params::Entry;
use fullbore_nn::{NormConfig, NormKind, NormMode, Params};
use fullbore_torch::{Device, Kind, NoGrad, Tensor};

const NORM: NormConfig = NormConfig { kind: NormKind::Batch, group: None, groups: 8 };

fn built(config: ModelConfig, channels_in: i64, channels_out: i64) -> Params {
    config.check().unwrap();
    let mut params = Params::new(Device::Cpu);
    config.build(&mut params, channels_in, channels_out, &NORM).unwrap();
    params
}

fn resnet(name: ModelName, layers: u32) -> ModelConfig {
    ModelConfig { layers: Some(layers), ..ModelConfig::new(name) }
}

fn hrnet(width: Width, head: Head) -> ModelConfig {
    ModelConfig { width: Some(width), head: Some(head), ..ModelConfig::new(ModelName::Hrnet) }
}

/// Trainable values below the names that start with `prefix`.
fn part(params: &Params, prefix: &str) -> usize {
    params.parameters().filter(|(name, _)| name.starts_with(prefix)).map(|(_, tensor)| tensor.numel()).sum()
}

/// The head's last layer has as many equal slices as there are maps.
fn count_with(params: &Params, last: &str, built_with: usize, wanted: usize) -> usize {
    let last = part(params, last);
    params.count() - last + last / built_with * wanted
}

#[test]
fn hrnet_counts_are_exact() {
    use Width::{SmallV1, SmallV2, W18, W32, W48};
    let (facial, pose) = ([19, 29, 68, 98], [17, 29]);
    let full: [(Width, usize, [usize; 4], [usize; 2]); 3] = [
        (W18, 9_562_260, [9_641_119, 9_643_829, 9_654_398, 9_662_528], [9_318_215, 9_318_443]),
        (W32, 29_305_536, [29_546_515, 29_551_325, 29_570_084, 29_584_514], [28_536_113, 28_536_509]),
        (W48, 65_325_120, [65_859_379, 65_866_589, 65_894_708, 65_916_338], [63_595_745, 63_596_333]),
    ];
    for (width, backbone, facial_counts, pose_counts) in full {
        let params = built(hrnet(width, Head::Concatenated), 3, 29);
        assert_eq!(params.count() - part(&params, "head."), backbone, "{width:?}");
        for (maps, expected) in facial.into_iter().zip(facial_counts) {
            assert_eq!(count_with(&params, "head.3.", 29, maps), expected, "{width:?} {maps}");
        }
        drop(params);
        let params = built(hrnet(width, Head::Pose), 3, 17);
        for (maps, expected) in pose.into_iter().zip(pose_counts) {
            assert_eq!(count_with(&params, "final_layer.", 17, maps), expected, "{width:?} {maps}");
        }
    }
    for (width, backbone, with_head) in [(SmallV1, 1_477_920, 1_543_229), (SmallV2, 3_860_720, 3_942_289)] {
        let params = built(hrnet(width, Head::Concatenated), 3, 29);
        assert_eq!(params.count() - part(&params, "head."), backbone, "{width:?}");
        assert_eq!(params.count(), with_head, "{width:?}");
    }
}

#[test]
fn hrnet_parts_and_keys_are_those_of_the_original() {
    let facial = built(hrnet(Width::W18, Head::Concatenated), 3, 29);
    let parts = [
        ("layer1.", 286_208),
        ("transition1.", 124_524),
        ("stage2.", 124_092),
        ("transition2.", 23_472),
        ("stage3.", 2_162_880),
        ("transition3.", 93_600),
        ("stage4.", 6_708_636),
    ];
    for (prefix, expected) in parts {
        assert_eq!(part(&facial, prefix), expected, "{prefix}");
    }
    let stem: usize = ["conv1.", "bn1.", "conv2.", "bn2."].iter().map(|prefix| part(&facial, prefix)).sum();
    assert_eq!(stem, 38_848);
    assert_eq!(facial.entries().count(), 1839);
    assert_eq!(facial.parameters().count(), 921);
    assert_eq!(facial.parameters().filter(|(_, tensor)| tensor.size().len() == 4).count(), 307);
    let pose = built(hrnet(Width::W18, Head::Pose), 3, 17);
    assert_eq!((pose.entries().count(), pose.parameters().count()), (1754, 878));

    assert_has(
        &facial,
        &[
            "conv2.weight",
            "layer1.0.downsample.1.running_var",
            "layer1.3.bn3.bias",
            "transition1.0.0.weight",
            "transition1.1.0.1.weight",
            "transition2.2.0.0.weight",
            "transition3.3.0.1.num_batches_tracked",
            "stage2.0.branches.1.3.bn2.running_mean",
            "stage3.3.fuse_layers.0.2.0.weight",
            "stage4.2.fuse_layers.3.0.2.1.weight",
            "stage4.2.fuse_layers.3.2.0.0.weight",
            "head.0.bias",
            "head.1.running_mean",
            "head.3.weight",
        ],
    );
    assert_has(&pose, &["stage4.2.fuse_layers.0.3.1.weight", "final_layer.bias"]);
    let next_target = "stage4.2.fuse_layers.1";
    assert_eq!((part(&pose, next_target), part(&facial, next_target) > 0), (0, true));
}

#[test]
fn resnet_unet_counts_and_keys_are_exact() {
    let config = |layers| resnet(ModelName::ResnetUnet, layers);
    for (layers, channels_in, classes, expected) in [
        (18, 3, 1, 14_328_209),
        (18, 3, 2, 14_328_354),
        (34, 3, 1, 24_436_369),
        (34, 3, 2, 24_436_514),
        (34, 1, 1, 24_430_097),
        (50, 3, 1, 32_521_105),
        (101, 3, 1, 51_513_233),
    ] {
        assert_eq!(built(config(layers), channels_in, classes).count(), expected, "{layers}");
    }
    let params = built(config(34), 3, 1);
    assert_eq!((params.entries().count(), params.parameters().count()), (278, 140));
    for (prefix, expected) in [("encoder.", 21_284_672), ("decoder.", 3_151_552), ("segmentation_head.", 145)]
    {
        assert_eq!(part(&params, prefix), expected, "{prefix}");
    }
    assert_has(
        &params,
        &[
            "encoder.conv1.weight",
            "encoder.bn1.num_batches_tracked",
            "encoder.layer3.5.bn2.running_var",
            "encoder.layer2.0.downsample.0.weight",
            "decoder.blocks.0.conv1.0.weight",
            "decoder.blocks.4.conv2.1.bias",
            "segmentation_head.0.weight",
        ],
    );
}

#[test]
fn resnet_deconv_counts_and_keys_are_exact() {
    for (layers, counts) in [
        (18, [15_376_721, 15_379_805]),
        (34, [25_484_881, 25_487_965]),
        (50, [33_999_697, 34_002_781]),
        (101, [52_991_825, 52_994_909]),
        (152, [68_635_473, 68_638_557]),
    ] {
        let params = built(resnet(ModelName::ResnetDeconv, layers), 3, 17);
        for (maps, expected) in [17, 29].into_iter().zip(counts) {
            assert_eq!(count_with(&params, "final_layer.", 17, maps), expected, "{layers} {maps}");
        }
        if layers == 50 {
            assert_has(
                &params,
                &[
                    "layer1.0.conv3.weight",
                    "layer1.0.downsample.1.weight",
                    "deconv_layers.0.weight",
                    "deconv_layers.6.weight",
                    "deconv_layers.7.running_var",
                    "final_layer.bias",
                ],
            );
        }
    }
}

fn assert_has(params: &Params, keys: &[&str]) {
    let names: Vec<&str> = params.entries().map(|(name, _)| name).collect();
    for key in keys {
        assert!(names.contains(key), "{key}");
    }
}

/// The smallest of each network.
fn small(name: ModelName) -> ModelConfig {
    let plain = ModelConfig::new(name);
    match name {
        ModelName::Unet => ModelConfig { base: Some(4), deep_supervision: 2, ..plain },
        ModelName::ResnetUnet => ModelConfig { layers: Some(18), deep_supervision: 2, ..plain },
        ModelName::Hrnet => ModelConfig { width: Some(Width::SmallV1), ..plain },
        ModelName::ResnetDeconv => ModelConfig { layers: Some(18), ..plain },
    }
}

#[test]
fn every_network_gives_maps_of_its_stride_with_either_norm() {
    for &name in ModelName::ALL {
        for kind in [NormKind::Batch, NormKind::Group] {
            let config = small(name);
            let mut params = Params::new(Device::Cpu);
            let net = config.build(&mut params, 3, 5, &NormConfig { kind, ..NORM }).unwrap();
            params.norm().set(NormMode::Train { group: 2, step: 2 });
            let side = 2 * i64::from(config.side_multiple());
            let x = Tensor::randn(&[2, 3, side, side / 2], Device::Cpu).unwrap().channels_last().unwrap();
            let levels = net.forward_levels(&x).unwrap();
            assert_eq!(levels.len(), 1 + config.deep_supervision as usize, "{name:?}");
            let stride = i64::from(config.output_stride());
            let mut sum = Tensor::zeros(&[], Kind::Float, Device::Cpu).unwrap();
            for (i, level) in levels.iter().enumerate() {
                let height = (side / stride) >> i;
                assert_eq!(level.size(), [2, 5, height, height / 2], "{name:?} {i}");
                assert!(level.is_channels_last().unwrap(), "{name:?} {i}");
                sum = sum.add(&level.mul(level).unwrap().sum(Kind::Float).unwrap()).unwrap();
            }
            sum.backward().unwrap();
            for (key, parameter) in params.parameters() {
                let grad = parameter.grad().unwrap().unwrap_or_else(|| panic!("{name:?} {key} has none"));
                let norm = grad.norm().unwrap().item().unwrap();
                assert!(norm.is_finite(), "{name:?} {kind:?} {key}: {norm}");
                let is_weight = grad.size().len() == 4;
                assert!(!is_weight || grad.is_channels_last().unwrap(), "{name:?} {key}");
            }
            if kind == NormKind::Group {
                assert!(params.entries().all(|(_, entry)| matches!(entry, Entry::Parameter(_))));
            }
        }
    }
}

#[test]
fn deep_heads_leave_the_finest_map_alone() {
    for name in [ModelName::Unet, ModelName::ResnetUnet] {
        let mut params = Params::new(Device::Cpu);
        let net = small(name).build(&mut params, 3, 2, &NORM).unwrap();
        let keys: Vec<_> =
            params.parameters().map(|(key, _)| key).filter(|key| key.starts_with("deep.")).collect();
        assert_eq!(keys, ["deep.0.weight", "deep.0.bias", "deep.1.weight", "deep.1.bias"]);
        let _no_grad = NoGrad::new();
        let x = Tensor::randn(&[1, 3, 64, 32], Device::Cpu).unwrap();
        let levels = net.forward_levels(&x).unwrap();
        assert!(net.forward(&x).unwrap().equal(&levels[0]).unwrap(), "{name:?}");
    }
}

#[test]
fn initial_values_are_those_of_the_networks_authors() {
    let root_mean_square = |params: &Params, name: &str| {
        let (_, tensor) = params.parameters().find(|(key, _)| *key == name).unwrap();
        tensor.norm().unwrap().item().unwrap() / (tensor.numel() as f64).sqrt()
    };
    let hrnet = built(hrnet(Width::SmallV1, Head::Concatenated), 3, 5);
    let unet = built(resnet(ModelName::ResnetUnet, 18), 3, 5);
    let deconv = built(resnet(ModelName::ResnetDeconv, 18), 3, 5);
    for (params, name, expected) in [
        (&hrnet, "conv2.weight", 0.001),
        (&hrnet, "stage4.0.fuse_layers.3.0.2.0.weight", 0.001),
        (&hrnet, "head.0.bias", 0.0),
        (&unet, "encoder.layer1.0.conv1.weight", (2.0f64 / (64.0 * 9.0)).sqrt()),
        (&unet, "encoder.layer2.0.downsample.0.weight", (2.0f64 / 128.0).sqrt()),
        (&unet, "decoder.blocks.0.conv1.0.weight", (2.0f64 / (768.0 * 9.0)).sqrt()),
        (&unet, "segmentation_head.0.weight", (2.0f64 / (21.0 * 9.0)).sqrt()),
        (&unet, "segmentation_head.0.bias", 0.0),
        (&deconv, "deconv_layers.0.weight", 0.001),
        (&deconv, "layer4.1.conv2.weight", (2.0f64 / (512.0 * 9.0)).sqrt()),
    ] {
        let found = root_mean_square(params, name);
        assert!((found - expected).abs() <= 0.05 * expected, "{name}: {found}, expected {expected}");
    }
}
