//! The memory of a run: what the governor is told of it, and the faults that are injected on purpose.

use std::cell::{Cell, RefCell};
use std::fs;

use fullbore_feed::device_reading;
use fullbore_governor::faults::{FaultPlan, FaultPoint};
use fullbore_governor::{Bounds, Governor, GovernorState, HostReading, Readings};
use fullbore_nn::NormKind;
use fullbore_nn::layers::recompute::Activation;
use fullbore_torch::{Device, Error, HostMemory, cpu_memory, device_memory, set_cpu_budget};

use crate::plan::Plan;

/// Bytes of one training sample, by which the governor remembers what fitted.
pub(crate) fn sample_bytes(plan: &Plan) -> u64 {
    let pixels = u64::from(plan.data.size.width) * u64::from(plan.data.size.height);
    pixels * (u64::from(plan.data.channels) + 1)
}

/// The governor of a plan's training, with what an earlier part of the run has learnt.
pub(crate) fn governor(plan: &Plan, learnt: Option<GovernorState>) -> Governor {
    let batch = plan.batch.size;
    let group = plan.norm.group.map_or(batch, |n| n as usize);
    let bounds = Bounds {
        group: (plan.norm.kind == NormKind::Batch).then_some(group),
        can_recompute: plan.activation == Activation::Auto,
        live: !plan.run.reproducible,
        ..Bounds::whole(plan.first_micro())
    };
    match learnt {
        None => Governor::new(plan.memory.clone(), bounds),
        Some(state) => Governor::resume(plan.memory.clone(), bounds, state),
    }
}

/// What the plan allows of the device's memory, in bytes. On the CPU, tensors beyond it fail as on a GPU.
pub(crate) fn budget(plan: &Plan, device: Device) -> fullbore_torch::Result<Option<u64>> {
    let Some(budget) = plan.memory.budget else { return Ok(None) };
    let total = match device {
        Device::Cpu => HostMemory::read().map(|memory| memory.limit.unwrap_or(memory.total)),
        _ => device_memory(device)?.total,
    };
    let bytes = budget.bytes(total);
    if let (Device::Cpu, Some(bytes)) = (device, bytes) {
        set_cpu_budget(Some(cpu_memory().budget.map_or(bytes, |set| set.min(bytes))));
    }
    Ok(bytes)
}

/// What memory holds now; the peak is that since it was last reset. Waits for nothing.
pub(crate) fn readings(
    device: Device,
    budget: Option<u64>,
    (slabs, cache): (u64, u64),
) -> fullbore_torch::Result<Readings> {
    let host = HostMemory::read();
    Ok(Readings {
        device: device_reading(device, budget)?,
        host: HostReading {
            rss: resident().unwrap_or(0),
            limit: host.map(|memory| memory.limit.unwrap_or(memory.total)),
            slabs,
            cache,
        },
    })
}

/// Most bytes that a step's tensors may come to beside `batches` bytes of batches that wait; `None` where it is not
/// known.
pub(crate) fn limit(
    device: Device,
    budget: Option<u64>,
    batches: u64,
) -> fullbore_torch::Result<Option<u64>> {
    let mut reading = device_reading(device, budget)?;
    let left = |bytes: Option<u64>| bytes.map(|bytes| bytes.saturating_sub(batches));
    reading.free = left(reading.free);
    if device != Device::Cpu {
        // A budget of the CPU's is for tensors alone; there batches wait in memory of their own.
        reading.budget = left(reading.budget);
    }
    Ok(reading.limit())
}

/// Bytes of memory that this process holds.
fn resident() -> Option<u64> {
    const PAGE: u64 = 4096;
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * PAGE)
}

/// Failures that the user has asked for, where the engine can fail.
#[derive(Debug, Default)]
pub struct Faults {
    plan: RefCell<FaultPlan>,
    /// Forward passes of evaluations so far.
    evaluated: Cell<u64>,
}

impl Faults {
    /// Those of a plan.
    pub fn new(plan: FaultPlan) -> Self {
        Self { plan: RefCell::new(plan), evaluated: Cell::new(0) }
    }

    /// Fails as if memory had run out, when that was asked for here.
    pub(crate) fn check(&self, at: FaultPoint, number: u64) -> fullbore_torch::Result<()> {
        match self.plan.borrow_mut().strikes(at, number) {
            true => {
                Err(Error::OutOfMemory { message: format!("out of memory, injected at {at:?} {number}") })
            }
            false => Ok(()),
        }
    }

    /// The same for the next forward pass of an evaluation.
    pub(crate) fn check_evaluation(&self) -> fullbore_torch::Result<()> {
        self.evaluated.set(self.evaluated.get() + 1);
        self.check(FaultPoint::Eval, self.evaluated.get())
    }
}
