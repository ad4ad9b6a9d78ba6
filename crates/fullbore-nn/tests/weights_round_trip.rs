//! Weights written here are read by Python's safetensors and PyTorch, and back: `fixtures/weights` holds the file that
//! this code wrote and what Python made of it.

mod fixture;

use std::collections::{BTreeMap, BTreeSet};

use fixture::{Fixture, assert_close, distance, drawn_from, folder, test_device};
use fullbore_checkpoint::{Dtype, NamedTensor};
use fullbore_nn::models::{Model, ModelConfig, ModelName};
use fullbore_nn::{NormConfig, NormKind, NormMode, Params, weights};
use fullbore_torch::{Device, NoGrad, Tensor};

const SEED: u64 = 7;
/// Other initial weights, so that what a file does not give is seen.
const OTHER_SEED: u64 = 8;

fn unet(seed: u64, device: Device) -> (Params, Box<dyn Model>) {
    let config = ModelConfig { base: Some(4), depth: Some(2), ..ModelConfig::new(ModelName::Unet) };
    let norm = NormConfig { kind: NormKind::Batch, group: None, groups: 1 };
    let mut params = Params::new(device);
    let net = drawn_from(seed, || config.build(&mut params, 3, 2, &norm).unwrap());
    (params, net)
}

/// The network of `ours.safetensors`: weights as drawn, statistics moved by one forward in training mode. On the CPU,
/// as the file was: another device rounds the statistics otherwise.
fn network_with_statistics() -> Params {
    fullbore_torch::start();
    let (params, net) = unet(SEED, Device::Cpu);
    let size = [2, 3, 16, 16];
    // Of the patterns tried, one of those whose statistics depend least on the order of summation: within 4.2e-7 of
    // float64 in PyTorch, channels-last or not, with oneDNN or not, with AVX or not.
    let values: Vec<f32> =
        (0..size.iter().product::<i64>()).map(|i| ((131 * i + i * i) % 241) as f32 / 241.0 - 0.25).collect();
    let x = Tensor::from_slice(&values).unwrap().reshape(&size).unwrap();
    params.norm().set(NormMode::Train { group: 2, step: 2 });
    let _no_grad = NoGrad::new();
    net.forward(&x).unwrap();
    params
}

fn by_name(tensors: Vec<NamedTensor<'static>>) -> BTreeMap<String, NamedTensor<'static>> {
    tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect()
}

#[test]
fn the_committed_file_is_what_this_code_writes() {
    let saved = weights::save(&network_with_statistics(), "").unwrap();
    let path = folder("weights").join("ours.safetensors");
    if std::env::var_os("FULLBORE_WRITE_FIXTURES").is_some() {
        fullbore_checkpoint::write(&path, &saved, &BTreeMap::new()).unwrap();
        return;
    }
    let committed = fullbore_checkpoint::read(&path).unwrap();
    assert_eq!(committed.format, Some(fullbore_checkpoint::FORMAT));
    let saved = by_name(saved);
    let names = |tensors: &BTreeMap<String, _>| tensors.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&saved), names(&committed.tensors));
    for (name, theirs) in &committed.tensors {
        let ours = &saved[name];
        assert_eq!((ours.dtype, &ours.shape), (theirs.dtype, &theirs.shape), "{name}");
        if ours.dtype == Dtype::I64 {
            assert_eq!(ours.bytes, theirs.bytes, "{name}");
        } else {
            let d = distance(&weights::from_named(ours).unwrap(), &weights::from_named(theirs).unwrap());
            assert!(d <= 1e-6, "{name}: relative distance {d:.1e}");
        }
    }
}

#[test]
fn weights_go_to_python_and_back_unchanged() {
    let fixture = Fixture::load("weights");
    let (params, _net) = unet(OTHER_SEED, test_device());
    assert_eq!(fixture.manifest["parameters"].as_u64(), Some(params.count() as u64));
    let report = weights::load(&params, fixture.group("state.")).unwrap();
    assert!(report.is_complete() && report.missing.is_empty() && report.unused.is_empty(), "{report}");
    assert_eq!(report.applied, params.entries().count());
    assert!(params.counters().iter().all(|&batches| batches == 1), "{:?}", params.counters());

    let python: BTreeMap<_, _> =
        fixture.file.tensors.iter().filter(|(name, _)| name.starts_with("state.")).collect();
    let saved = by_name(weights::save(&params, "state.").unwrap());
    assert!(saved.iter().eq(python), "saved again, the weights differ from what Python saved");

    let sent = fullbore_checkpoint::read(&folder("weights").join("ours.safetensors")).unwrap();
    assert_eq!(sent.tensors.len(), saved.len());
    for (name, tensor) in &sent.tensors {
        let returned = &saved[&format!("state.{name}")];
        assert_eq!((tensor.dtype, &tensor.shape), (returned.dtype, &returned.shape), "{name}");
        assert!(tensor.bytes == returned.bytes, "{name}: Python read other values than were written");
    }
}

#[test]
fn loaded_weights_compute_what_python_computes() {
    let fixture = Fixture::load("weights");
    let (params, net) = unet(OTHER_SEED, test_device());
    weights::load(&params, fixture.group("state.")).unwrap();
    params.norm().set(NormMode::Eval);
    let _no_grad = NoGrad::new();
    assert_close("logits", &net.forward(&fixture.tensor("x")).unwrap(), &fixture.tensor("logits"));
}

/// A network on one channel, with the weights of a file for three, computes what three equal channels give.
#[test]
fn gray_images_give_what_gray_in_colour_gives() {
    let mut file = fullbore_checkpoint::read_weights(&folder("pth").join("unet.pth")).unwrap();
    let load = |params: &Params, file: &BTreeMap<String, NamedTensor<'static>>| {
        let report =
            weights::load(params, file.iter().map(|(name, tensor)| (name.as_str(), tensor))).unwrap();
        assert_eq!(report.applied, report.entries(), "{report}");
        params.norm().set(NormMode::Eval);
    };
    let (in_colour, colour) = unet(OTHER_SEED, test_device());
    assert_eq!(weights::sum_input_channels(&in_colour, &mut file.tensors).unwrap(), None);
    load(&in_colour, &file.tensors);
    let config = ModelConfig { base: Some(4), depth: Some(2), ..ModelConfig::new(ModelName::Unet) };
    let norm = NormConfig { kind: NormKind::Batch, group: None, groups: 1 };
    let mut in_gray = Params::new(test_device());
    let gray = config.build(&mut in_gray, 1, 2, &norm).unwrap();
    let summed = weights::sum_input_channels(&in_gray, &mut file.tensors).unwrap();
    assert_eq!(summed.as_deref(), Some("inc.double_conv.0.weight"));
    load(&in_gray, &file.tensors);

    let _no_grad = NoGrad::new();
    let values: Vec<f32> = (0..16 * 16).map(|i| (i * i % 251) as f32 - 125.0).collect();
    let image = |channels: usize| {
        let values = Tensor::from_slice(&values.repeat(channels)).unwrap();
        values.reshape(&[1, channels as i64, 16, 16]).unwrap().to_device(test_device()).unwrap()
    };
    assert_close("logits", &gray.forward(&image(1)).unwrap(), &colour.forward(&image(3)).unwrap());
}

#[test]
fn the_report_names_what_does_not_fit() {
    let fixture = Fixture::load("weights");
    let mut file: BTreeMap<&str, NamedTensor<'_>> =
        fixture.group("state.").map(|(name, tensor)| (name, tensor.clone())).collect();
    let (lost, renamed) =
        ("down1.maxpool_conv.1.double_conv.0.weight", "down1.pool_conv.1.double_conv.0.weight");
    let moved = file.remove(lost).unwrap();
    file.insert(renamed, moved);
    let head = file.get_mut("outc.conv.weight").unwrap();
    head.shape = vec![3, 4, 1, 1];
    head.bytes = vec![0; 3 * 4 * 4].into();
    file.insert("outc.conv.scale", file["outc.conv.bias"].clone());

    let (params, _net) = unet(OTHER_SEED, test_device());
    let before = by_name(weights::save(&params, "").unwrap());
    let report = weights::load(&params, file.iter().map(|(&name, tensor)| (name, tensor))).unwrap();
    assert_eq!(report.missing, [(lost.to_string(), Some(renamed.to_string()))]);
    assert_eq!(report.unused, [renamed, "outc.conv.scale"]);
    assert_eq!(report.mismatched, [("outc.conv.weight".to_string(), vec![2, 4, 1, 1], vec![3, 4, 1, 1])]);
    assert_eq!(report.applied, params.entries().count() - 2);
    assert!(!report.is_complete());
    let text = report.to_string();
    for name in [lost, renamed, "outc.conv.scale", "outc.conv.weight"] {
        assert!(text.contains(name), "{name} is not in: {text}");
    }

    // What does not fit is left alone, the rest is the file's.
    for (name, tensor) in weights::save(&params, "").unwrap().iter().map(|tensor| (&*tensor.name, tensor)) {
        let expected = match name {
            name if name == lost || name == "outc.conv.weight" => &before[name],
            _ => &file[name],
        };
        assert!(tensor.bytes == expected.bytes, "{name}");
    }
}
