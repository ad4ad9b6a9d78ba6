//! The safe layer: layouts, guards, lists, the fused step's own checks.

use std::sync::Mutex;

use fullbore_torch::{
    Autocast, Clip, Deterministic, Device, Error, Gate, Kind, Moments, NoGrad, Result, Tensor, TensorList,
    Threads, UpdateGroup, UpdateRule, is_deterministic, manual_seed, num_threads, optimizer_step, rng_state,
    set_rng_state, start,
};

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

/// A parameter with a gradient, and two states for it.
struct Problem {
    params: TensorList,
    first: TensorList,
    second: TensorList,
    gate: Gate,
    loss: Tensor,
}

fn problem(channels_last_state: bool, scaled: bool) -> Problem {
    let weight = image().channels_last().unwrap().set_requires_grad(true).unwrap();
    let loss = weight.mul(&weight).unwrap().sum(Kind::Float).unwrap();
    loss.backward().unwrap();
    let params = TensorList::new([&weight]).unwrap();
    let state = || match channels_last_state {
        true => params.zeros_like().unwrap(),
        false => TensorList::new([&Tensor::zeros(&weight.size(), Kind::Float, device()).unwrap()]).unwrap(),
    };
    let (first, second) = (state(), state());
    Problem {
        params,
        first,
        second,
        gate: Gate::new(device(), scaled).unwrap(),
        loss: loss.detach().unwrap(),
    }
}

impl Problem {
    fn rules(&self) -> [UpdateRule<'_>; 5] {
        let (exp_avgs, exp_avg_sqs) = (&self.first, &self.second);
        let moments = Moments { exp_avgs, exp_avg_sqs, betas: (0.9, 0.999), eps: 1e-8 };
        let rms = |buffers, momentum| UpdateRule::RmsProp {
            square_avgs: &self.second,
            buffers,
            alpha: 0.99,
            eps: 1e-8,
            momentum,
        };
        [
            UpdateRule::AdamW(moments),
            UpdateRule::Adam(moments),
            UpdateRule::Sgd { buffers: Some(&self.first), momentum: 0.9, nesterov: true },
            rms(None, 0.0),
            rms(Some(&self.first), 0.9),
        ]
    }

    fn step(&self, rule: UpdateRule<'_>, groups: &[UpdateGroup]) -> Result<Tensor> {
        optimizer_step(&self.params, rule, groups, Clip::Norm(1.0), &self.loss, &self.gate)
    }

    /// Values of parameters and state.
    fn values(&self) -> Vec<Vec<f32>> {
        [&self.params, &self.first, &self.second]
            .map(|list| list.get(0).unwrap().detach().unwrap().to_vec_f32().unwrap())
            .to_vec()
    }

    /// Steps, skipped in a row, skipped.
    fn counts(&self) -> [f64; 3] {
        let Gate { step, skipped_in_row, skipped, .. } = &self.gate;
        [step, skipped_in_row, skipped].map(|count| count.item().unwrap())
    }

    fn grad(&self) -> Tensor {
        self.params.get(0).unwrap().grad().unwrap().unwrap()
    }
}

const ALL: [UpdateGroup; 1] = [UpdateGroup { end: 1, lr: 1e-3, weight_decay: 0.01 }];

#[test]
fn state_of_another_layout_is_refused() {
    let problem = problem(false, false);
    let before = problem.values();
    for rule in problem.rules() {
        let error = problem.step(rule, &ALL).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("strides"), "{error}");
    }
    assert_eq!(problem.values(), before);
    assert_eq!(problem.counts(), [0.0; 3]);
}

#[test]
fn groups_that_leave_parameters_out_are_refused() {
    let problem = problem(true, false);
    for groups in [&[][..], &[UpdateGroup { end: 2, ..ALL[0] }]] {
        assert!(matches!(problem.step(problem.rules()[0], groups), Err(Error::Invalid { .. })), "{groups:?}");
    }
}

#[test]
fn a_gradient_or_loss_that_is_not_finite_changes_nothing() {
    for which in 0..5 {
        let mut problem = problem(true, true);
        problem.step(problem.rules()[which], &ALL).unwrap();
        assert_eq!(problem.counts(), [1.0, 0.0, 0.0]);
        let before = problem.values();

        problem.loss.fill_(f64::INFINITY).unwrap();
        problem.step(problem.rules()[which], &ALL).unwrap();
        assert_eq!((problem.values(), problem.counts()), (before.clone(), [1.0, 1.0, 1.0]), "rule {which}");

        problem.loss = Tensor::zeros(&[], Kind::Float, device()).unwrap();
        problem.grad().select(0, 0).unwrap().fill_(f64::NAN).unwrap();
        let norm = problem.step(problem.rules()[which], &ALL).unwrap();
        assert!(norm.item().unwrap().is_nan());
        assert_eq!((problem.values(), problem.counts()), (before.clone(), [1.0, 2.0, 2.0]), "rule {which}");
        // Each time the loss scale was halved.
        assert_eq!(problem.gate.scaler.as_ref().unwrap().scale.item().unwrap(), 65536.0 / 4.0);

        problem.grad().fill_(1.0).unwrap();
        problem.step(problem.rules()[which], &ALL).unwrap();
        assert_ne!(problem.values(), before, "rule {which}");
        assert_eq!(problem.counts(), [2.0, 0.0, 2.0]);
    }
}

#[test]
fn the_loss_scale_grows_after_two_thousand_finite_steps() {
    let problem = problem(true, true);
    let scaler = problem.gate.scaler.as_ref().unwrap();
    scaler.growth.fill_(1998.0).unwrap();
    problem.step(problem.rules()[2], &ALL).unwrap();
    assert_eq!(scaler.scale.item().unwrap(), 65536.0);
    problem.step(problem.rules()[2], &ALL).unwrap();
    assert_eq!((scaler.scale.item().unwrap(), scaler.growth.item().unwrap()), (2.0 * 65536.0, 0.0));
}

#[test]
fn a_copy_that_the_device_decides_on_is_exact_whatever_the_values() {
    let spoilt = [f32::NAN, f32::INFINITY, -0.0, 1e-40, 3.5];
    let good = [1.0, -2e38, 0.0, f32::MIN_POSITIVE, -0.1];
    let bits =
        |tensor: &Tensor| tensor.to_vec_f32().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    for (now, then) in [(&spoilt, &good), (&good, &spoilt)] {
        let (now, then) = (Tensor::from_slice(now).unwrap(), Tensor::from_slice(then).unwrap());
        let (list, source) = (TensorList::new([&now]).unwrap(), TensorList::new([&then]).unwrap());
        let (before, when) = (bits(&now), Tensor::zeros(&[], Kind::Float, Device::Cpu).unwrap());
        list.copy_if_(&source, &when).unwrap();
        assert_eq!(bits(&now), before);
        when.fill_(1.0).unwrap();
        list.copy_if_(&source, &when).unwrap();
        assert_eq!(bits(&now), bits(&then));
        assert!(list.copy_if_(&TensorList::new([&now, &then]).unwrap(), &when).is_err());
    }
    let whole = Tensor::zeros(&[2], Kind::Int64, Device::Cpu).unwrap();
    let list = TensorList::new([&whole]).unwrap();
    assert!(list.copy_if_(&list, &Tensor::zeros(&[], Kind::Float, Device::Cpu).unwrap()).is_err());
    let none = TensorList::new([]).unwrap();
    none.copy_if_(&none, &whole).unwrap();
}

#[test]
fn lists_do_what_their_names_say() {
    let (a, b) = (Tensor::from_slice(&[1.0f32, 2.0]).unwrap(), Tensor::from_slice(&[3.0f32, 6.0]).unwrap());
    let (list, other) = (TensorList::new([&a]).unwrap(), TensorList::new([&b]).unwrap());
    let (never, now) = (Tensor::from_slice(&[1.0f32]).unwrap(), Tensor::from_slice(&[0.0f32]).unwrap());
    list.lerp_(&other, 0.5, Some(&never)).unwrap();
    assert_eq!(a.to_vec_f32().unwrap(), [1.0, 2.0]);
    list.lerp_(&other, 0.5, Some(&now)).unwrap();
    assert_eq!(a.to_vec_f32().unwrap(), [2.0, 4.0]);
    list.lerp_(&other, 0.0, None).unwrap();
    assert!(list.lerp_(&TensorList::new([&a, &b]).unwrap(), 0.5, None).is_err());
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
