//! BatchNorm, addition and ReLU in one operation: what libtorch computes one after the other in f64.

use fullbore_torch::{BatchNorm, Device, Kind, NoGrad, Tensor, TensorList, Threads, manual_seed, start};

const MOMENTUM: f64 = 0.3;
const EPS: f64 = 1e-5;

/// What goes in, in f64 and NCHW.
struct Input {
    x: Tensor,
    added: Option<Tensor>,
    weight: Tensor,
    bias: Tensor,
    gradient: Tensor,
}

/// What comes out, in f64: output, running mean and variance, and the gradients of input, weight, bias and what was added.
type Output = Vec<Tensor>;

fn input(size: &[i64; 4], mean: f64, adds: bool) -> Input {
    start();
    manual_seed(7).unwrap();
    let random = |size: &[i64]| Tensor::randn(size, Device::Cpu).unwrap().to_kind(Kind::Double).unwrap();
    let x = random(size);
    x.add_scalar_(mean).unwrap();
    let channels = [size[1]];
    Input {
        x,
        added: adds.then(|| random(size)),
        weight: random(&channels),
        bias: random(&channels),
        gradient: random(size),
    }
}

/// `kind`, that of the images, and order in memory are what decides who computes.
fn run(input: &Input, kind: Kind, channels_last: bool, fused: bool) -> Output {
    let few = if kind == Kind::Double { kind } else { Kind::Float };
    let leaf = |t: &Tensor, image: bool| {
        let t = t.to_kind(if image { kind } else { few }).unwrap().copy().unwrap();
        let t = if image && channels_last { t.channels_last().unwrap() } else { t };
        t.detach().unwrap().set_requires_grad(true).unwrap()
    };
    let (x, weight, bias) = (leaf(&input.x, true), leaf(&input.weight, false), leaf(&input.bias, false));
    let added = input.added.as_ref().map(|added| leaf(added, true));
    let state = |value: f64| {
        let t = Tensor::zeros(&weight.size(), few, Device::Cpu).unwrap();
        t.fill_(value).unwrap();
        t
    };
    let running = (state(0.5), state(2.0));
    let norm = BatchNorm {
        weight: &weight,
        bias: &bias,
        running: Some((&running.0, &running.1)),
        training: true,
        momentum: MOMENTUM,
        eps: EPS,
    };
    let y = match (fused, &added) {
        (true, added) => x.batch_norm_relu(&norm, added.as_ref()),
        (false, None) => x.batch_norm(&norm).unwrap().relu(),
        (false, Some(added)) => x.batch_norm(&norm).unwrap().add(added).unwrap().relu(),
    }
    .unwrap();
    y.mul(&input.gradient.to_kind(kind).unwrap()).unwrap().sum(kind).unwrap().backward().unwrap();
    let grad = |leaf: &Tensor| leaf.grad().unwrap().expect("a gradient");
    let mut all = vec![y.detach().unwrap(), running.0.clone(), running.1.clone()];
    all.extend([grad(&x), grad(&weight), grad(&bias)]);
    all.extend(added.as_ref().map(grad));
    let leaves: Vec<&Tensor> = [&x, &weight, &bias].into_iter().chain(&added).collect();
    TensorList::new(leaves).unwrap().drop_grads().unwrap();
    all.iter().map(|t| t.to_kind(Kind::Double).unwrap()).collect()
}

/// Largest difference of each output over its largest value, or over 1.
fn apart(a: &Output, b: &Output) -> f64 {
    assert_eq!(a.len(), b.len());
    let of =
        |(a, b): (&Tensor, &Tensor)| a.sub(b).unwrap().max_abs().unwrap() / b.max_abs().unwrap().max(1.0);
    a.iter().zip(b).map(of).fold(0.0, f64::max)
}

/// Few and many channels, rows that do not come out even, one pixel a sample.
const SIZES: [[i64; 4]; 7] = [
    [2, 1, 5, 3],
    [3, 3, 7, 5],
    [2, 8, 64, 64],
    [1, 17, 33, 31],
    [4, 64, 9, 9],
    [2, 300, 6, 5],
    [8, 512, 1, 1],
];

#[test]
fn all_shapes_and_thread_counts_give_what_f64_gives() {
    for size in SIZES {
        for adds in [false, true] {
            let input = input(&size, 0.3, adds);
            let reference = run(&input, Kind::Double, false, false);
            for threads in [1, 2, 3] {
                let _threads = Threads::new(threads);
                let apart = apart(&run(&input, Kind::Float, true, true), &reference);
                assert!(apart < 2e-6, "{size:?}, added: {adds}, {threads} threads: {apart}");
            }
        }
    }
}

#[test]
fn bf16_is_rounded_once_on_the_way_out() {
    // Half a unit of its 8 digits, and what f32 adds.
    let rounding = 2f64.powi(-8) + 1e-5;
    for (size, adds) in SIZES.into_iter().flat_map(|size| [(size, false), (size, true)]) {
        let mut input = input(&size, 0.3, adds);
        for image in
            [Some(&mut input.x), input.added.as_mut(), Some(&mut input.gradient)].into_iter().flatten()
        {
            *image = image.to_kind(Kind::BFloat16).unwrap().to_kind(Kind::Double).unwrap();
        }
        let reference = run(&input, Kind::Double, false, false);
        let apart = apart(&run(&input, Kind::BFloat16, true, true), &reference);
        assert!(apart < rounding, "{size:?}, added: {adds}: {apart}");
    }
}

#[test]
fn values_far_from_zero_lose_no_more_than_libtorch_loses() {
    let input = input(&[2, 16, 48, 48], 1000.0, false);
    let reference = run(&input, Kind::Double, false, false);
    let libtorch = apart(&run(&input, Kind::Float, true, false), &reference);
    let ours = apart(&run(&input, Kind::Float, true, true), &reference);
    assert!(ours <= 2.0 * libtorch && ours < 0.02, "{ours}, libtorch {libtorch}");
}

#[test]
fn what_is_not_for_the_fused_operation_is_computed_by_libtorch() {
    for adds in [false, true] {
        let input = input(&[2, 8, 6, 6], 0.0, adds);
        let reference = run(&input, Kind::Double, false, false);
        assert_eq!(apart(&run(&input, Kind::Double, false, true), &reference), 0.0);
        assert!(apart(&run(&input, Kind::Float, false, true), &reference) < 2e-6);
    }
}

#[test]
fn what_is_not_a_number_stays_visible() {
    for poison in [f64::NAN, f64::INFINITY] {
        let input = input(&[2, 8, 6, 6], 0.0, false);
        input.x.narrow(2, 3, 1).unwrap().narrow(3, 3, 1).unwrap().fill_(poison).unwrap();
        let [y, mean, variance, dx, ..] = &run(&input, Kind::Float, true, true)[..] else {
            panic!("too few")
        };
        for values in [y, mean, variance, dx] {
            let values = values.to_kind(Kind::Float).unwrap().to_vec_f32().unwrap();
            assert!(values.iter().all(|v| !v.is_finite()), "{poison}: {values:?}");
        }
    }
}

#[test]
fn evaluation_uses_the_running_statistics() {
    let input = input(&[2, 8, 6, 6], 0.0, true);
    let evaluate = |kind: Kind, fused: bool| {
        let [x, added] = [&input.x, input.added.as_ref().unwrap()]
            .map(|t| t.to_kind(kind).unwrap().channels_last().unwrap());
        let [weight, bias] = [&input.weight, &input.bias].map(|t| t.to_kind(kind).unwrap());
        let [mean, variance] = [0.5, 2.0].map(|value| {
            let t = Tensor::zeros(&[8], kind, Device::Cpu).unwrap();
            t.fill_(value).unwrap();
            t
        });
        let running = Some((&mean, &variance));
        let norm =
            BatchNorm { weight: &weight, bias: &bias, running, training: false, momentum: 0.0, eps: EPS };
        let y = match fused {
            true => x.batch_norm_relu(&norm, Some(&added)).unwrap(),
            false => x.batch_norm(&norm).unwrap().add(&added).unwrap().relu().unwrap(),
        };
        assert_eq!(mean.to_kind(Kind::Float).unwrap().to_vec_f32().unwrap(), [0.5; 8]);
        vec![y.to_kind(Kind::Double).unwrap()]
    };
    let reference = evaluate(Kind::Double, false);
    // Where gradients are wanted libtorch computes, and where not, we do.
    assert_eq!(apart(&evaluate(Kind::Float, true), &evaluate(Kind::Float, false)), 0.0);
    let _no_grad = NoGrad::new();
    assert!(apart(&evaluate(Kind::Float, true), &reference) < 1e-6);
}
