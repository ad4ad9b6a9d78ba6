//! Blocks that run twice: the same values, the state of their first run, errors that come back as values.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use fullbore_torch::{
    Autocast, Device, Error, Kind, NoGrad, Result, Tensor, cpu_memory, is_recomputing, manual_seed,
    recompute, release_cached_cpu_memory, rng_state, set_cpu_budget, start,
};

/// Generator and budget belong to the whole process, and `cargo test` runs these tests in threads of one.
static PROCESS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    start();
    PROCESS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn leaf(size: &[i64]) -> Tensor {
    Tensor::randn(size, Device::Cpu).unwrap().set_requires_grad(true).unwrap()
}

fn scalar(t: &Tensor) -> Tensor {
    t.mul(t).unwrap().sum(Kind::Float).unwrap()
}

/// Loss and gradients of `leaves`, which are dropped for the next call.
fn gradients(loss: &Tensor, leaves: &[&Tensor]) -> Vec<Vec<f32>> {
    loss.backward().unwrap();
    let list = fullbore_torch::TensorList::new(leaves.iter().copied()).unwrap();
    let mut values = vec![loss.detach().unwrap().to_vec_f32().unwrap()];
    for leaf in leaves {
        values.push(leaf.grad().unwrap().expect("a gradient").to_vec_f32().unwrap());
    }
    list.drop_grads().unwrap();
    values
}

#[test]
fn gradients_are_those_of_a_plain_call() {
    let _alone = alone();
    let (a, b, weight) = (leaf(&[3, 5]), leaf(&[3, 5]), leaf(&[3, 5]));
    let frozen = Tensor::randn(&[3, 5], Device::Cpu).unwrap();
    let weights = [weight.clone(), frozen];
    let block = {
        let weights = weights.clone();
        move |[x, y]: &[Tensor; 2]| x.mul(&weights[0])?.add(&y.mul(&weights[1])?)?.sigmoid()
    };
    let plain = gradients(&scalar(&block(&[a.clone(), b.clone()]).unwrap()), &[&a, &b, &weight]);
    let again = recompute([&a, &b], &weights, block.clone()).unwrap();
    assert!(again.requires_grad());
    assert_eq!(gradients(&scalar(&again), &[&a, &b, &weight]), plain);

    // A block within a block, and one whose inputs want no gradient.
    let (inner, parameters) = (block.clone(), weights.clone());
    let nested = recompute([&a, &b], &weights, move |[x, y]: &[Tensor; 2]| {
        recompute([x, y], &parameters, inner.clone())
    });
    assert_eq!(gradients(&scalar(&nested.unwrap()), &[&a, &b, &weight]), plain);
    let data = [a.detach().unwrap(), b.detach().unwrap()];
    let first = recompute([&data[0], &data[1]], &weights, block).unwrap();
    assert_eq!(gradients(&scalar(&first), &[&weight])[1], plain[3]);
}

#[test]
fn without_recording_a_block_runs_once() {
    let _alone = alone();
    let (x, runs) = (leaf(&[4]), Arc::new(AtomicUsize::new(0)));
    let block = {
        let runs = runs.clone();
        move |[x]: &[Tensor; 1]| {
            // The first run counts 1, the second 10.
            runs.fetch_add(if is_recomputing() { 10 } else { 1 }, Ordering::Relaxed);
            x.relu()
        }
    };
    {
        let _off = NoGrad::new();
        assert!(!recompute([&x], &[], block.clone()).unwrap().requires_grad());
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    let y = recompute([&x], &[], block).unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    assert_eq!(Arc::strong_count(&runs), 2, "the graph holds the block");
    scalar(&y).backward().unwrap();
    assert_eq!((runs.load(Ordering::Relaxed), is_recomputing()), (12, false));
    drop(y);
    assert_eq!(Arc::strong_count(&runs), 1, "the block goes with the graph");
}

#[test]
fn the_second_run_finds_autocast_and_random_state_of_the_first() {
    let _alone = alone();
    manual_seed(3).unwrap();
    let (x, weight) = (leaf(&[2, 4, 6, 6]), leaf(&[4, 4, 3, 3]));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let block = {
        let (weight, seen) = (weight.clone(), seen.clone());
        move |[x]: &[Tensor; 1]| {
            // Twice, so that the cache of cast weights would show.
            let y = x.conv2d(&weight, None, 1, 1)?.conv2d(&weight, None, 1, 1)?;
            let noise = Tensor::randn(&y.size(), Device::Cpu)?;
            seen.lock().unwrap().push((y.kind(), noise.to_vec_f32()?));
            y.mul(&noise)
        }
    };
    let loss = {
        let _low = Autocast::new(Device::Cpu, Some(Kind::BFloat16)).unwrap();
        let y = recompute([&x], std::slice::from_ref(&weight), block).unwrap();
        // The first run left no weights behind that were cast without recording.
        y.add(&x.conv2d(&weight, None, 1, 1).unwrap()).unwrap().sum(Kind::Float).unwrap()
    };
    Tensor::randn(&[7], Device::Cpu).unwrap();
    let before = rng_state(Device::Cpu).unwrap();
    loss.backward().unwrap();
    assert!(before.equal(&rng_state(Device::Cpu).unwrap()).unwrap());
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), seen[0].0), (2, Kind::BFloat16));
    assert_eq!(seen[0], seen[1]);
    // Autocast is off again.
    assert_eq!(x.conv2d(&weight, None, 1, 1).unwrap().kind(), Kind::Float);
}

#[test]
fn errors_and_panics_of_either_run_are_values() {
    let _alone = alone();
    let x = leaf(&[4]);
    let out_of_memory = || Error::OutOfMemory { message: "no \0 room".into() };
    // In the first run.
    let error = recompute([&x], &[], move |_: &[Tensor; 1]| Err(out_of_memory())).unwrap_err();
    assert!(error.is_out_of_memory() && error.to_string().contains("no   room"), "{error:?}");
    // In the second one, under another block, which must come to its end as well.
    let fail = |how: fn() -> Result<()>| {
        let y = recompute([&x], &[], move |[x]: &[Tensor; 1]| {
            if is_recomputing() {
                how()?;
            }
            x.sigmoid()
        });
        let y = recompute([&y.unwrap()], &[], |[x]: &[Tensor; 1]| x.sigmoid()).unwrap();
        let error = scalar(&y).backward().unwrap_err();
        assert!(!is_recomputing() && x.grad().unwrap().is_none());
        error
    };
    assert!(fail(|| Err(Error::OutOfMemory { message: "none".into() })).is_out_of_memory());
    let error = fail(|| Err(Error::Device { message: "gone".into() }));
    assert!(matches!(&error, Error::Device { message } if message == "gone"), "{error:?}");
    let error = fail(|| Tensor::ones(&[2], Kind::Float, Device::Cpu)?.reshape(&[3]).map(drop));
    assert!(matches!(&error, Error::Invalid { message, .. } if message.contains("reshape")), "{error:?}");
    let error = fail(|| panic!("in a test, on purpose: {}", 7));
    assert!(
        matches!(&error, Error::Invalid { message, .. } if message.contains("on purpose: 7")),
        "{error:?}"
    );
    // Recording and the next pass work.
    let y = recompute([&x], &[], |[x]: &[Tensor; 1]| x.sigmoid()).unwrap();
    scalar(&y).backward().unwrap();
    assert!(x.grad().unwrap().is_some());
}

/// Activations of 4 MiB each: memory that is kept, and memory that runs out in the second run.
#[test]
fn inner_results_are_not_kept_and_may_not_fit_again() {
    let _alone = alone();
    const MIB: u64 = 1 << 20;
    let chain = |[x]: &[Tensor; 1]| x.sigmoid()?.sigmoid()?.sigmoid()?.sigmoid();
    let x = leaf(&[MIB as i64]);
    let held = |run: &dyn Fn() -> Tensor| {
        let start = cpu_memory().in_use;
        let _y = run();
        (cpu_memory().in_use - start) / (4 * MIB)
    };
    assert_eq!(held(&|| chain(std::array::from_ref(&x)).unwrap()), 4);
    assert_eq!(held(&|| recompute([&x], &[], chain).unwrap()), 1);

    let value = recompute([&x], &[], chain).unwrap().sum(Kind::Float).unwrap();
    release_cached_cpu_memory();
    // Room for the output's gradient and some of the second run.
    set_cpu_budget(Some(cpu_memory().in_use + 13 * MIB));
    let error = value.backward().unwrap_err();
    set_cpu_budget(None);
    assert!(error.is_out_of_memory(), "{error:?}");
    drop(value);
    let start = cpu_memory().in_use;
    recompute([&x], &[], chain).unwrap().sum(Kind::Float).unwrap().backward().unwrap();
    assert!(cpu_memory().in_use <= start + 5 * MIB, "the gradient alone is left");
}
