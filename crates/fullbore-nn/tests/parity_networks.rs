//! Equality with PyTorch of networks whose weights come from a formula (fixtures/README.md).

mod fixture;

use fixture::{Fixture, distance, test_device};
use fullbore_nn::models::{Head, ModelConfig, ModelName, Width};
use fullbore_nn::params::Entry;
use fullbore_nn::{NormConfig, NormKind, NormMode, Params, weights};
use fullbore_torch::{Kind, NoGrad, Tensor};

const SIDE: i64 = 64;
const SAMPLES: i64 = 2;

/// The formula of the manifest: numbers in [-1, 1) from a name, for the row-major places of a tensor.
fn uniform(name: &str, n: usize) -> impl Iterator<Item = f64> {
    let start = name.bytes().fold(0x811c_9dc5_u32, |h, byte| (h ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (0..n as u32).map(move |i| {
        let mut x = start.wrapping_add(i.wrapping_mul(2_654_435_761));
        x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
        x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
        f64::from(x ^ (x >> 16)) / f64::from(1_u32 << 31) - 1.0
    })
}

fn filled(name: &str, size: &[i64], value: impl Fn(f64) -> f64) -> Tensor {
    let n = size.iter().product::<i64>() as usize;
    let values: Vec<f32> = uniform(name, n).map(|u| value(u) as f32).collect();
    Tensor::from_slice(&values).unwrap().reshape(size).unwrap().to_device(test_device()).unwrap()
}

fn fill(params: &Params) {
    let _no_grad = NoGrad::new();
    for (name, entry) in params.entries() {
        let (Entry::Parameter(tensor) | Entry::Buffer(tensor)) = entry else { continue };
        let size = tensor.size();
        let values = if let [_, rest @ ..] = size.as_slice()
            && rest.len() == 3
        {
            let bound = (6.0 / rest.iter().product::<i64>() as f64).sqrt();
            filled(name, &size, |u| u * bound)
        } else if name.ends_with("running_mean") || name.ends_with("bias") {
            filled(name, &size, |u| u / 4.0)
        } else {
            filled(name, &size, |u| 1.0 + u / 4.0)
        };
        tensor.copy_(&values).unwrap();
    }
}

fn equals_pytorch(folder: &str, config: ModelConfig) {
    let fixture = Fixture::load(folder);
    let manifest = &fixture.manifest;
    let tolerance = manifest["tolerance"].as_f64().unwrap();
    let assert_close = |what: &str, ours: &Tensor, theirs: &Tensor| {
        let d = distance(ours, theirs);
        assert!(d <= tolerance, "{what}: relative distance {d:.1e}");
    };
    let number = |key: &str| manifest["model"][key].as_i64().unwrap();
    let norm = NormConfig { kind: NormKind::Batch, group: None, groups: 1 };
    let mut params = Params::new(test_device());
    let net = config.build(&mut params, number("inputs"), number("outputs"), &norm).unwrap();
    assert_eq!(params.count() as u64, manifest["parameters"].as_u64().unwrap());
    fill(&params);

    let key = manifest["input_key"].as_str().unwrap();
    let x = filled(&format!("x.{key}"), &[SAMPLES, number("inputs"), SIDE, SIDE], |u| u);
    params.norm().set(NormMode::Train { group: SAMPLES, step: SAMPLES });
    let mut loss = Tensor::zeros(&[], Kind::Float, test_device()).unwrap();
    for (i, logits) in net.forward_levels(&x.channels_last().unwrap()).unwrap().into_iter().enumerate() {
        assert_close(&format!("logits {i}"), &logits, &fixture.tensor(&format!("logits.{i}")));
        let difference = logits.sub(&filled(&format!("target.{i}"), &logits.size(), |u| u)).unwrap();
        let sum = difference.mul(&difference).unwrap().sum(Kind::Float).unwrap();
        loss = loss.add(&sum.mul_scalar(1.0 / logits.numel() as f64).unwrap()).unwrap();
    }
    assert_close("loss", &loss, &fixture.tensor("loss"));
    loss.backward().unwrap();

    // Every gradient's norm, and some gradients whole.
    let norms = manifest["gradient_norms"].as_object().unwrap();
    let zero = manifest["zero_gradients"].as_array().unwrap();
    assert_eq!(norms.len() + zero.len(), params.parameters().count());
    for (name, parameter) in params.parameters() {
        let grad = parameter.grad().unwrap().expect("every parameter has a gradient");
        let Some(expected) = norms.get(name) else {
            assert!(zero.iter().any(|zero| zero == name), "{name}");
            continue;
        };
        // In f64: millions of squares lose digits in f32.
        let norm = grad.to_kind(Kind::Double).unwrap().norm().unwrap();
        let (found, expected) = (norm.item().unwrap(), expected.as_f64().unwrap());
        let d = (found - expected).abs() / expected;
        assert!(d <= tolerance, "gradient norm of {name}: relative distance {d:.1e}");
        if fixture.file.tensors.contains_key(format!("grad.{name}").as_str()) {
            assert_close(&format!("gradient of {name}"), &grad, &fixture.tensor(&format!("grad.{name}")));
        }
    }
    let after = weights::save(&params, "").unwrap();
    let mut statistics = 0;
    for (name, theirs) in fixture.group("after.") {
        let ours = after.iter().find(|tensor| tensor.name == name).unwrap();
        let (ours, theirs) = (weights::from_named(ours).unwrap(), weights::from_named(theirs).unwrap());
        assert_close(&format!("{name} after a step"), &ours, &theirs);
        statistics += 1;
    }
    assert!(statistics > 0);

    let _no_grad = NoGrad::new();
    params.norm().set(NormMode::Eval);
    let logits = net.forward(&x.narrow(0, 0, 1).unwrap().channels_last().unwrap()).unwrap();
    assert_close("logits in evaluation", &logits, &fixture.tensor("logits_eval"));
}

fn hrnet(head: Head) -> ModelConfig {
    ModelConfig { width: Some(Width::SmallV1), head: Some(head), ..ModelConfig::new(ModelName::Hrnet) }
}

#[test]
fn hrnet_with_the_facial_head() {
    equals_pytorch("hrnet_concatenated", hrnet(Head::Concatenated));
}

#[test]
fn hrnet_with_the_pose_head() {
    equals_pytorch("hrnet_pose", hrnet(Head::Pose));
}

#[test]
fn resnet_with_up_convolutions() {
    let config = ModelConfig { layers: Some(18), ..ModelConfig::new(ModelName::ResnetDeconv) };
    equals_pytorch("resnet_deconv", config);
}

#[test]
fn unet_with_a_resnet_encoder_and_deep_heads() {
    let plain = ModelConfig::new(ModelName::ResnetUnet);
    equals_pytorch("resnet_unet", ModelConfig { layers: Some(18), deep_supervision: 2, ..plain });
}
