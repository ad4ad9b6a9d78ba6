//! Running out of memory, for real: a typed error, and the next operation works. One test per process matters here
//! only for the budget, which is process-wide; the tests therefore share one function.

use fullbore_torch::{
    Device, Error, Kind, Tensor, cpu_memory, release_cached_cpu_memory, set_cpu_budget, start,
};

const MIB: u64 = 1 << 20;

/// A chain whose backward pass needs more than its forward pass: `x` and each product stay alive until then.
fn loss(x: &Tensor) -> Result<Tensor, Error> {
    x.mul(x)?.sigmoid()?.mul(x)?.sum(Kind::Float)
}

#[test]
fn out_of_memory_is_an_error_and_the_next_step_works() {
    start();
    far_too_large();
    in_forward();
    in_backward();
}

fn far_too_large() {
    // 2^45 floats: beyond any machine, but not beyond the address arithmetic.
    let error = Tensor::zeros(&[1 << 45], Kind::Float, Device::Cpu).unwrap_err();
    assert!(error.is_out_of_memory(), "{error:?}");
    assert!(Tensor::zeros(&[16], Kind::Float, Device::Cpu).is_ok());
    // An overflow of the size itself is not a lack of memory.
    let error = Tensor::zeros(&[1 << 62, 1 << 62], Kind::Float, Device::Cpu).unwrap_err();
    assert!(!error.is_out_of_memory(), "{error:?}");
}

fn in_forward() {
    let x = Tensor::randn(&[MIB as i64], Device::Cpu).unwrap();
    release_cached_cpu_memory();
    set_cpu_budget(Some(cpu_memory().in_use + 6 * MIB));
    let error = loss(&x).unwrap_err();
    assert!(error.is_out_of_memory(), "{error:?}");
    assert!(error.to_string().contains("budget"), "{error}");
    set_cpu_budget(None);
    assert!(loss(&x).unwrap().item().unwrap().is_finite());
}

fn in_backward() {
    let x = Tensor::randn(&[MIB as i64], Device::Cpu).unwrap().set_requires_grad(true).unwrap();
    let held = cpu_memory().in_use;
    let value = loss(&x).unwrap();
    release_cached_cpu_memory();
    set_cpu_budget(Some(cpu_memory().in_use + 2 * MIB));
    let error = value.backward().unwrap_err();
    assert!(error.is_out_of_memory(), "{error:?}");
    set_cpu_budget(None);
    drop(value);

    // What the attempt held is free again, up to the gradient it may have begun.
    assert!(cpu_memory().in_use <= held + 5 * MIB, "{:?}", cpu_memory());
    let value = loss(&x).unwrap();
    value.backward().unwrap();
    assert!(x.grad().unwrap().is_some());
}
