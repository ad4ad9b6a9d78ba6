//! The safe layer: layouts, guards, lists, the fused step's own checks.

use std::sync::Mutex;

use fullbore_torch::{
    AdamWStep, Autocast, Deterministic, Device, Error, Kind, NoGrad, Tensor, TensorList, Threads, adamw_step,
    is_deterministic, manual_seed, num_threads, rng_state, set_rng_state, start,
};

const STEP: AdamWStep =
    AdamWStep { lr: 1e-3, betas: (0.9, 0.999), weight_decay: 0.01, eps: 1e-8, max_norm: Some(1.0) };

fn device() -> Device {
    let runtime = start();
    match std::env::var("FULLBORE_TEST_DEVICE") {
        Ok(name) if name.starts_with("cuda") => runtime.check_device(Device::Cuda(0)).unwrap(),
        _ => Device::Cpu,
    }
}

/// The random generator belongs to the whole process, and `cargo test` runs these tests in threads of one.
static GENERATOR: Mutex<()> = Mutex::new(());

fn image() -> Tensor {
    let _mine = GENERATOR.lock().unwrap();
    Tensor::randn(&[2, 4, 6, 5], device()).unwrap()
}

#[test]
fn convolutions_keep_channels_last() {
    let x = image().channels_last().unwrap();
    assert!(x.is_channels_last().unwrap() && !image().is_channels_last().unwrap());
    let weight = Tensor::randn(&[8, 4, 3, 3], device()).unwrap().channels_last().unwrap();
    let y = x.conv2d(&weight, None, 1, 1).unwrap().relu_().unwrap();
    assert!(y.is_channels_last().unwrap());
}

#[test]
fn autocast_ends_with_its_guard() {
    let (x, w) = (image(), Tensor::randn(&[8, 4, 3, 3], device()).unwrap());
    {
        let _low = Autocast::new(x.device(), Some(Kind::BFloat16)).unwrap();
        assert_eq!(x.conv2d(&w, None, 1, 1).unwrap().kind(), Kind::BFloat16);
        let _off = Autocast::new(x.device(), None).unwrap();
        assert_eq!(x.conv2d(&w, None, 1, 1).unwrap().kind(), Kind::Float);
    }
    assert_eq!(x.conv2d(&w, None, 1, 1).unwrap().kind(), Kind::Float);
    assert!(Autocast::new(x.device(), Some(Kind::Int64)).is_err());
}

#[test]
fn no_grad_ends_with_its_guard_even_after_a_panic() {
    let x = image().set_requires_grad(true).unwrap();
    let panicked = std::panic::catch_unwind(|| {
        let _off = NoGrad::new();
        assert!(!image().set_requires_grad(true).unwrap().relu().unwrap().requires_grad());
        panic!("inside the region");
    });
    assert!(panicked.is_err());
    assert!(x.relu().unwrap().requires_grad());
}

#[test]
fn determinism_ends_with_its_guard() {
    assert!(!is_deterministic());
    {
        let _outer = Deterministic::new().unwrap();
        drop(Deterministic::new().unwrap());
        assert!(is_deterministic(), "the inner guard must not end the outer one");
    }
    assert!(!is_deterministic());
}

#[test]
fn the_thread_count_ends_with_its_guard() {
    let before = num_threads();
    {
        let _more = Threads::new(before + 1);
        assert_eq!(num_threads(), before + 1);
    }
    assert_eq!(num_threads(), before);
}

#[test]
fn the_random_state_can_be_put_back() {
    let _mine = GENERATOR.lock().unwrap();
    let draw = || Tensor::randn(&[16], device()).unwrap();
    manual_seed(5).unwrap();
    let state = rng_state(device()).unwrap();
    let first = draw();
    set_rng_state(device(), &state).unwrap();
    assert!(first.equal(&draw()).unwrap());
}

/// Parameters with gradients, and their moments.
fn problem(channels_last_moments: bool) -> (TensorList, TensorList, TensorList, Tensor) {
    let weight = image().channels_last().unwrap().set_requires_grad(true).unwrap();
    weight.mul(&weight).unwrap().sum(Kind::Float).unwrap().backward().unwrap();
    let params = TensorList::new([&weight]).unwrap();
    let moments = || match channels_last_moments {
        true => params.zeros_like().unwrap(),
        false => TensorList::new([&Tensor::zeros(&weight.size(), Kind::Float, device()).unwrap()]).unwrap(),
    };
    let step = Tensor::zeros(&[], Kind::Float, device()).unwrap();
    (TensorList::new([&weight]).unwrap(), moments(), moments(), step)
}

#[test]
fn moments_of_another_layout_are_refused() {
    let (params, first, second, step) = problem(false);
    let before = params.copy().unwrap();
    let error = adamw_step(&params, &first, &second, &step, STEP).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("strides"), "{error}");
    assert!(before.get(0).unwrap().equal(&params.get(0).unwrap().detach().unwrap()).unwrap());
    assert_eq!(step.item().unwrap(), 0.0);
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    let (params, first, second, step) = problem(true);
    adamw_step(&params, &first, &second, &step, STEP).unwrap();
    let before = params.copy().unwrap();
    params.get(0).unwrap().grad().unwrap().unwrap().select(0, 0).unwrap().fill_(f64::NAN).unwrap();
    let norm = adamw_step(&params, &first, &second, &step, STEP).unwrap();
    assert!(norm.item().unwrap().is_nan());
    assert!(before.get(0).unwrap().equal(&params.get(0).unwrap().detach().unwrap()).unwrap());
    assert_eq!(step.item().unwrap(), 1.0);
    assert!(first.norm().unwrap().item().unwrap().is_finite());
}

#[test]
fn lists_do_what_their_names_say() {
    let (a, b) = (Tensor::from_slice(&[1.0f32, 2.0]).unwrap(), Tensor::from_slice(&[3.0f32, 6.0]).unwrap());
    let (list, other) = (TensorList::new([&a]).unwrap(), TensorList::new([&b]).unwrap());
    list.lerp_(&other, 0.5).unwrap();
    assert_eq!(a.to_vec_f32().unwrap(), [2.0, 4.0]);
    list.scale_(2.0).unwrap();
    assert_eq!(a.to_vec_f32().unwrap(), [4.0, 8.0]);
    assert!((list.norm().unwrap().item().unwrap() - 80f64.sqrt()).abs() < 1e-6);
    list.copy_(&other).unwrap();
    other.zero_().unwrap();
    assert_eq!(a.to_vec_f32().unwrap(), [3.0, 6.0]);
    assert_eq!(b.to_vec_f32().unwrap(), [0.0, 0.0]);
    assert_eq!((list.len(), list.get(0).unwrap().size()), (1, vec![2]));
    assert!(list.get(1).is_err());
}
