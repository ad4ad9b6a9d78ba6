//! On which side a run augments its training samples, chosen by measurement where the user leaves it open.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fullbore_augment::cpu::{Augmenter, Layout, PixelsMut};
use fullbore_augment::{AugmentDevice, AugmentError, Policy};
use fullbore_data::{PixelKind, SampleStage};
use fullbore_events::{Event, Reporter};
use fullbore_feed::OnDevice;
use fullbore_feed::augment::CpuStage;
use fullbore_nn::losses::Task;
use fullbore_torch::{Device, Kind, Tensor, num_threads, synchronize};
use fullbore_types::{SampleId, SampleKey, Size};

use crate::TrainError;
use crate::plan::Plan;

/// Samples that a measurement augments at a time, and how often; the best time counts.
const MEASURED: usize = 4;
const ROUNDS: usize = 3;
/// By this share of its time the device must be faster than the CPU: less is noise.
const MARGIN: f64 = 0.03;

/// Where augmentation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Nowhere: the policy changes nothing.
    Off,
    /// On the loader's workers.
    Cpu,
    /// On the device that trains.
    Device,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Off => "off",
            Side::Cpu => "cpu",
            Side::Device => "device",
        })
    }
}

/// How a run augments. Only the training stream is made with it: evaluation and prediction have no place for it.
pub struct Augmentation {
    /// Where.
    pub side: Side,
    /// Why there.
    pub why: String,
    /// For the loader, on the CPU's side.
    pub stage: Option<Arc<dyn SampleStage>>,
    /// For the feed, on the device's side.
    pub on_device: Option<OnDevice>,
    /// What it does, a line for each operation.
    pub operations: Vec<String>,
    policy: Arc<Policy>,
}

impl Augmentation {
    /// Checks the policy of a plan and decides on a side. `workers` decoding threads share the CPU's part.
    ///
    /// # Errors
    /// When a key of the policy cannot work, or the device fails.
    pub fn decide(plan: &Plan, device: Device, workers: usize) -> Result<Self, TrainError> {
        let policy = Arc::new(policy(plan)?);
        let operations = policy.describe();
        if operations.is_empty() {
            let (side, why) = (Side::Off, "the policy is empty".into());
            return Ok(Self { side, why, stage: None, on_device: None, operations, policy });
        }
        let (side, why) = match plan.augment.device {
            AugmentDevice::Cpu => (Side::Cpu, "augment.device is cpu".into()),
            AugmentDevice::Device => (Side::Device, "augment.device is device".into()),
            // The twins agree to rounding only, and a clock must not choose between them.
            AugmentDevice::Auto if plan.run.reproducible => (Side::Cpu, "the run is reproducible".into()),
            AugmentDevice::Auto => measure(plan, &policy, device, workers)?,
        };
        let mut augmentation = Self { side, why, stage: None, on_device: None, operations, policy };
        augmentation.move_to(side, plan, device);
        Ok(augmentation)
    }

    /// Augments on another side from the next stream of batches on.
    pub(crate) fn move_to(&mut self, side: Side, plan: &Plan, device: Device) {
        let (mean, std) = (&plan.data.mean, &plan.data.std);
        let stage = || -> Arc<dyn SampleStage> {
            // Where batches travel, bytes are a quarter of floats.
            let kind = if device == Device::Cpu { PixelKind::F32 } else { PixelKind::U8 };
            Arc::new(CpuStage::new(self.policy.clone(), mean, std, kind))
        };
        self.stage = (side == Side::Cpu).then(stage);
        self.on_device = (side == Side::Device).then(|| on_device(plan, &self.policy));
        self.side = side;
    }

    /// Tells what is on.
    pub fn announce(&self, reporter: &Reporter) {
        reporter.emit(Event::Augmentation {
            side: self.side.to_string(),
            reason: self.why.clone(),
            operations: self.operations.clone(),
        });
    }
}

/// What a plan's augmentation draws from.
///
/// # Errors
/// When one of its keys cannot work.
pub fn policy(plan: &Plan) -> Result<Policy, AugmentError> {
    let canvas = plan.data.size.into();
    let landmarks = plan.landmarks.names.as_ref().filter(|_| plan.task() == Task::Landmarks).map(Vec::len);
    plan.augment.resolve(canvas, canvas, landmarks)
}

/// Tries both twins on a few made-up samples. A run that waits for data all the same tries the other side later
/// (`fullbore_governor::arrangement`).
///
/// On the CPU both take time from the same cores, so the one that takes less core time wins. Beside a GPU the workers'
/// time for a batch stands against the device's.
fn measure(
    plan: &Plan,
    policy: &Arc<Policy>,
    device: Device,
    workers: usize,
) -> Result<(Side, String), TrainError> {
    let on_cpu = time_cpu(plan, policy);
    let on_device = time_device(plan, policy, device)?;
    let (cpu, on_device, of) = match device {
        Device::Cpu => (on_cpu, on_device * num_threads() as u32, "core time"),
        _ => (on_cpu / workers.max(1) as u32, on_device, "time"),
    };
    let side = if on_device < cpu.mul_f64(1.0 - MARGIN) { Side::Device } else { Side::Cpu };
    let per_sample = |time: Duration| 1e3 * time.as_secs_f64() / MEASURED as f64;
    let (cpu, on_device) = (per_sample(cpu), per_sample(on_device));
    Ok((side, format!("measured: {cpu:.2} ms of {of} a sample on the CPU, {on_device:.2} on the device")))
}

fn on_device(plan: &Plan, policy: &Arc<Policy>) -> OnDevice {
    let (mean, std) = (plan.data.mean.clone(), plan.data.std.clone());
    OnDevice { policy: policy.clone(), seed: plan.run.seed, mean, std }
}

fn keys() -> impl Iterator<Item = SampleKey> {
    (0..MEASURED as u32).map(|i| SampleKey { seed: 0, epoch: u64::MAX, sample: SampleId(i) })
}

/// Pixels that no operation finds special.
fn noise(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn time_cpu(plan: &Plan, policy: &Policy) -> Duration {
    let (pixels, channels) = (policy.canvas().area() as usize, usize::from(plan.data.channels));
    let (canvas, mask) = (noise(pixels * channels), vec![0; pixels]);
    let mut augmenter = Augmenter::new(policy, &plan.data.mean, &plan.data.std);
    let out_pixels = policy.out().area() as usize;
    let (mut out, mut out_mask) = (vec![0.0; out_pixels * channels], vec![0; out_pixels]);
    let params: Vec<_> = keys().map(|key| policy.draw(key)).collect();
    best(|| {
        for params in &params {
            augmenter.image(params, &canvas, Layout::Interleaved, PixelsMut::F32(&mut out));
            augmenter.mask(params, &mask, &mut out_mask);
        }
        Ok::<(), Infallible>(())
    })
    .unwrap_or(Duration::MAX)
}

fn time_device(plan: &Plan, policy: &Arc<Policy>, device: Device) -> Result<Duration, TrainError> {
    let Size { width, height } = policy.canvas();
    let (n, h, w, c) = (MEASURED as i64, i64::from(height), i64::from(width), i64::from(plan.data.channels));
    let bytes = |sizes: &[i64]| {
        let bytes = noise(sizes.iter().product::<i64>() as usize);
        Tensor::from_bytes(&bytes, sizes, Kind::Uint8)?.to_device(device)
    };
    let (images, masks) = (bytes(&[n, h, w, c])?, bytes(&[n, h, w])?);
    let twin = on_device(plan, policy).twin(device)?;
    let params: Vec<_> = keys().map(|key| policy.draw(key)).collect();
    best(|| {
        twin.apply(&images, Some(&masks), None, &params)?;
        synchronize(device)
    })
    .map_err(TrainError::from)
}

/// The best time of a few rounds, one more than that run before.
fn best<E>(mut round: impl FnMut() -> Result<(), E>) -> Result<Duration, E> {
    round()?;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round()?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}
