//! Recorded work. On the CPU a replay runs it again; `FULLBORE_TEST_DEVICE=cuda` records CUDA graphs.

use std::cell::Cell;
use std::rc::Rc;

use fullbore_torch::{Device, Error, Graph, Kind, Result, Tensor, start, synchronize};

fn device() -> Device {
    let runtime = start();
    match std::env::var("FULLBORE_TEST_DEVICE") {
        Ok(name) if name.starts_with("cuda") => runtime.check_device(Device::Cuda(0)).unwrap(),
        _ => Device::Cpu,
    }
}

fn zeros() -> Tensor {
    Tensor::zeros(&[64], Kind::Float, device()).unwrap()
}

fn filled(value: f64) -> Tensor {
    let tensor = zeros();
    tensor.fill_(value).unwrap();
    tensor
}

fn first(tensor: &Tensor) -> f32 {
    tensor.to_vec_f32().unwrap()[0]
}

/// `sum += 2 * input`, with memory that is taken and given back.
fn adds(input: &Tensor, sum: &Tensor) -> impl Fn() -> Result<()> + 'static {
    let (input, sum) = (input.clone(), sum.clone());
    move || sum.add_(&input.mul_scalar(2.0)?)
}

#[test]
fn a_replay_reads_and_writes_the_same_memory() {
    let (input, sum) = (filled(1.0), zeros());
    adds(&input, &sum)().unwrap();
    let graph = Graph::record(device(), None, adds(&input, &sum)).unwrap();
    assert_eq!(first(&sum), 2.0, "recording does nothing");
    graph.replay().unwrap();
    input.fill_(10.0).unwrap();
    graph.replay().unwrap();
    assert_eq!(first(&sum), 24.0);
}

#[test]
fn graphs_share_memory_and_outlive_each_other() {
    let (input, sum, other) = (filled(1.0), zeros(), zeros());
    let first_graph = Graph::record(device(), None, adds(&input, &sum)).unwrap();
    let second_graph = Graph::record(device(), Some(&first_graph), adds(&input, &other)).unwrap();
    for _ in 0..3 {
        first_graph.replay().unwrap();
        second_graph.replay().unwrap();
    }
    drop(first_graph);
    second_graph.replay().unwrap();
    assert_eq!((first(&sum), first(&other)), (6.0, 8.0));
    let third_graph = Graph::record(device(), Some(&second_graph), adds(&input, &sum)).unwrap();
    drop(second_graph);
    third_graph.replay().unwrap();
    assert_eq!(first(&sum), 8.0);
}

#[test]
fn backward_is_recorded() {
    let weight = filled(3.0).set_requires_grad(true).unwrap();
    let input = filled(1.0);
    let pass = {
        let (weight, input) = (weight.clone(), input.clone());
        move || weight.mul(&input)?.sum(Kind::Float)?.backward()
    };
    pass().unwrap();
    let grad = weight.grad().unwrap().unwrap();
    let graph = Graph::record(device(), None, pass).unwrap();
    assert_eq!(first(&grad), 1.0);
    input.fill_(5.0).unwrap();
    graph.replay().unwrap();
    graph.replay().unwrap();
    assert_eq!(first(&grad), 11.0);
    assert_eq!(first(&weight.grad().unwrap().unwrap()), 11.0, "gradients stay where they are");
}

/// Only a GPU can fail here: the CPU runs the work in every replay.
#[test]
fn the_host_asks_for_recorded_work_once() {
    let asked = Rc::new(Cell::new(0));
    let (sum, counter) = (zeros(), asked.clone());
    let work = {
        let (add, one) = (sum.clone(), filled(1.0));
        move || {
            counter.set(counter.get() + 1);
            add.add_(&one)
        }
    };
    work().unwrap();
    let graph = Graph::record(device(), None, work).unwrap();
    for _ in 0..5 {
        graph.replay().unwrap();
    }
    assert_eq!(first(&sum), 6.0);
    assert_eq!(asked.get(), if device() == Device::Cpu { 6 } else { 2 });
}

/// Only a GPU can fail here: the CPU records nothing.
#[test]
fn a_recording_that_fails_leaves_the_device_as_it_was() {
    if device() == Device::Cpu {
        eprintln!("skipped: FULLBORE_TEST_DEVICE=cuda records");
        return;
    }
    let (input, sum) = (filled(1.0), zeros());
    let said = |error: &Error| error.to_string();
    for round in 0..2 {
        // An error of the work itself, in the middle of it.
        let add = adds(&input, &sum);
        let failed = Graph::record(device(), None, move || {
            add()?;
            Err(Error::OutOfMemory { message: "for the test".into() })
        });
        assert!(failed.is_err_and(|error| error.is_out_of_memory()));
        // Waiting for the device cannot be recorded: the driver gives the recording up.
        let (add, read) = (adds(&input, &sum), sum.clone());
        let failed = Graph::record(device(), None, move || {
            add()?;
            read.select(0, 0)?.item().map(|_| ())
        });
        let failed = failed.unwrap_err();
        assert!(!failed.is_out_of_memory(), "{}", said(&failed));
        // More than any device has.
        let failed = Graph::record(device(), None, || {
            Tensor::zeros(&[1 << 42], Kind::Float, Device::Cuda(0)).map(|_| ())
        });
        let failed = failed.unwrap_err();
        assert!(failed.is_out_of_memory(), "{}", said(&failed));

        assert_eq!(first(&sum), 2.0 * round as f32, "nothing was done");
        let graph = Graph::record(device(), None, adds(&input, &sum)).unwrap();
        graph.replay().unwrap();
        synchronize(device()).unwrap();
        assert_eq!(first(&sum), 2.0 * (round + 1) as f32);
        // The allocator and the random generator are not recording any more.
        let noise = Tensor::randn(&[1 << 20], device()).unwrap();
        assert!(noise.max_abs().unwrap() > 1.0);
    }
}
