//! A hundred steps of every optimizer against PyTorch's, from the fixture `optimizers`.

// Nothing is drawn here.
#[allow(dead_code)]
mod fixture;

use fixture::{Fixture, assert_close, test_device};
use fullbore_nn::Params;
use fullbore_nn::optim::{Optimizer, OptimizerConfig};
use fullbore_torch::{Kind, Tensor};
use serde_json::{Value, json};

/// The settings of a case; what it leaves out is PyTorch's.
fn settings(case: &Value) -> OptimizerConfig {
    let mut all = json!({ "decay_norm_and_bias": true, "groups": [] });
    let case = case.as_object().unwrap();
    case.iter().for_each(|(key, value)| all[key] = value.clone());
    let config: OptimizerConfig = serde_json::from_value(all).unwrap();
    config.check().unwrap();
    config
}

fn parameters(fixture: &Fixture) -> Params {
    let mut params = Params::new(test_device());
    let names = fixture.group("initial.").map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    for name in names {
        params.root().parameter(&name, &fixture.tensor(&format!("initial.{name}"))).unwrap();
    }
    params
}

/// The gradients of all steps, parameter by parameter.
fn gradients(fixture: &Fixture, params: &Params) -> Vec<Tensor> {
    params.parameters().map(|(name, _)| fixture.tensor(&format!("grads.{name}"))).collect()
}

/// A loss whose gradient is the given one, exactly.
fn loss_with(gradients: &[Tensor], params: &Params, step: i64) -> Tensor {
    let mut loss = Tensor::zeros(&[], Kind::Float, test_device()).unwrap();
    for ((_, parameter), gradient) in params.parameters().zip(gradients) {
        let share = parameter.mul(&gradient.select(0, step).unwrap()).unwrap().sum(Kind::Float).unwrap();
        loss = loss.add(&share).unwrap();
    }
    loss
}

fn a_hundred_steps(scaled: bool) {
    let fixture = Fixture::load("optimizers");
    let steps = fixture.manifest["steps"].as_u64().unwrap();
    assert_eq!(steps, 100);
    let cases = fixture.manifest["cases"].as_object().unwrap();
    assert!(cases.len() >= 4);
    for (name, case) in cases {
        let (config, params) = (settings(case), parameters(&fixture));
        let gradients = gradients(&fixture, &params);
        let optimizer = Optimizer::new(&params, &config, scaled).unwrap();
        for step in 0..steps {
            let loss = loss_with(&gradients, &params, step as i64);
            optimizer.gate().scale_loss(&loss).unwrap().backward().unwrap();
            let lr = config.lr * (1.0 - step as f64 / (2 * steps) as f64);
            optimizer.step(lr, &loss.detach().unwrap()).unwrap();
            optimizer.drop_grads().unwrap();
        }
        for (parameter, ours) in params.parameters() {
            assert_close(
                &format!("{name}: {parameter}"),
                ours,
                &fixture.tensor(&format!("{name}.{parameter}")),
            );
        }
        assert_eq!(optimizer.gate().step.item().unwrap(), steps as f64);
    }
}

#[test]
fn every_optimizer_equals_pytorch_for_a_hundred_steps() {
    a_hundred_steps(false);
}

#[test]
fn a_loss_scale_changes_nothing() {
    a_hundred_steps(true);
}

#[test]
fn state_put_into_a_new_optimizer_goes_on_as_the_old_one() {
    let fixture = Fixture::load("optimizers");
    for (name, case) in fixture.manifest["cases"].as_object().unwrap() {
        let (config, params) = (settings(case), parameters(&fixture));
        let gradients = gradients(&fixture, &params);
        let steps = |optimizer: &Optimizer, steps: std::ops::Range<i64>| {
            for step in steps {
                let loss = loss_with(&gradients, &params, step);
                optimizer.gate().scale_loss(&loss).unwrap().backward().unwrap();
                optimizer.step(config.lr, &loss.detach().unwrap()).unwrap();
                optimizer.drop_grads().unwrap();
            }
        };
        let values = || -> Vec<_> { params.parameters().map(|(_, t)| t.to_vec_f32().unwrap()).collect() };
        let old = Optimizer::new(&params, &config, true).unwrap();
        steps(&old, 0..5);
        let middle: Vec<_> = params.parameters().map(|(_, t)| t.copy().unwrap()).collect();
        let saved: Vec<_> =
            old.state().unwrap().into_iter().map(|(name, t)| (name, t.copy().unwrap())).collect();
        steps(&old, 5..8);
        let straight = values();

        let new = Optimizer::new(&params, &config, true).unwrap();
        let _no_grad = fullbore_torch::NoGrad::new();
        for ((name, tensor), (saved_name, value)) in new.state().unwrap().iter().zip(&saved) {
            assert_eq!(name, saved_name);
            tensor.copy_(value).unwrap();
        }
        params.parameters().zip(&middle).for_each(|((_, t), value)| t.copy_(value).unwrap());
        drop(_no_grad);
        steps(&new, 5..8);
        assert_eq!(values(), straight, "{name}");
    }
}

#[test]
fn what_is_frozen_keeps_still() {
    let fixture = Fixture::load("optimizers");
    let params = parameters(&fixture);
    let case = json!({ "name": "sgd", "lr": 0.1, "groups": [{ "match": "inc", "frozen": true }] });
    let optimizer = Optimizer::new(&params, &settings(&case), false).unwrap();
    let loss = loss_with(&gradients(&fixture, &params), &params, 0);
    loss.backward().unwrap();
    optimizer.step(0.1, &loss.detach().unwrap()).unwrap();
    for (name, parameter) in params.parameters() {
        let same = parameter.detach().unwrap().equal(&fixture.tensor(&format!("initial.{name}"))).unwrap();
        assert_eq!(same, name.starts_with("inc."), "{name}");
        assert_eq!(parameter.grad().unwrap().is_none(), name.starts_with("inc."), "{name}");
    }
    assert!(optimizer.state().unwrap().iter().all(|(name, _)| !name.contains("inc.")));
}
