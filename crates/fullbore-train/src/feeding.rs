//! Where batches are prepared, where they are trained on, and how many wait in between.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fullbore_data::{FaultPolicy, Hooks, Loader, LoaderConfig};
use fullbore_events::{Event, Reporter};
use fullbore_feed::{Feed, StageConfig};
use fullbore_governor::buffer::{
    BufferConfig, BufferNeeds, BufferPlan, BufferSize, MAX_BUFFER, Warming, may_start,
};
use fullbore_governor::placement::{GpuSeen, Placement, Seat};
use fullbore_nn::compute::DeviceChoice;
use fullbore_torch::{CudaState, Device, device_memory};
use fullbore_types::{Position, SampleId};

use crate::TrainError;
use crate::augmentation::Augmentation;
use crate::caching::Caching;
use crate::notices;
use crate::plan::Plan;
use crate::setup::{self, Prepared};

/// How often a run that waits for its buffer looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Decides who does what on this machine.
///
/// # Errors
/// Settings that contradict each other, and devices that are not there.
pub(crate) fn place(plan: &Plan) -> Result<Placement, TrainError> {
    let gpus: Vec<GpuSeen> = match &fullbore_torch::start().cuda {
        CudaState::Ready(devices) => {
            devices.iter().map(|d| GpuSeen { index: d.index, name: d.name.clone() }).collect()
        }
        _ => Vec::new(),
    };
    let named = match plan.device {
        DeviceChoice::Auto => None,
        DeviceChoice::Named(device) => Some(seat(device)),
    };
    let placement = plan.placement.place(&gpus, named, seat(DeviceChoice::Auto.resolve()?))?;
    DeviceChoice::Named(device(placement.model())).resolve()?;
    Ok(placement)
}

fn seat(device: Device) -> Seat {
    match device {
        Device::Cuda(index) => Seat::Gpu(index),
        _ => Seat::Cpu,
    }
}

pub(crate) fn device(seat: Seat) -> Device {
    match seat {
        Seat::Cpu => Device::Cpu,
        Seat::Gpu(index) => Device::Cuda(index),
    }
}

/// The training batches of a run, from the files to the device that trains.
pub struct Pipeline {
    /// Gives them in order.
    pub feed: Feed,
    /// Where decoded samples are kept.
    pub caching: Caching,
    /// Host memory of the batches on their way.
    pub slab_bytes: u64,
    /// Batches that wait ready on the device at most; 0 where none ever does.
    pub buffer: usize,
    /// How many could, within the bytes that they may take.
    pub most_buffered: usize,
}

/// Which training batches.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The first.
    pub from: Position,
    /// The epoch that gives none any more.
    pub end_epoch: u64,
    /// Samples that are known to be bad.
    pub known_bad: Vec<SampleId>,
}

impl Pipeline {
    /// Starts loading, and waits until the buffer is full. Tells the reporter what it decides. `plan` is that of the
    /// phase; `ground` has been [fitted](crate::setup::fit) to it. With `going_on` it takes the place of a
    /// stream with that cache: tells and waits for nothing.
    ///
    /// # Errors
    /// When there is nothing to load, the device fails, or memory or threads are lacking.
    pub fn start(
        plan: &Plan,
        ground: &Prepared,
        stretch: Stretch,
        going_on: Option<Caching>,
        reporter: &Reporter,
        stop: &AtomicBool,
    ) -> Result<Self, TrainError> {
        let Stretch { from, end_epoch, known_bad } = stretch;
        let config = LoaderConfig {
            epochs: end_epoch,
            faults: FaultPolicy { known_bad, ..plan.data.fault_policy() },
            hooks: Hooks {
                notify: Some(notices::to_events(ground.data.train.clone(), reporter.clone())),
                pin: fullbore_feed::pin_for(ground.device),
            },
            stage: ground.augment.stage.clone(),
            ..setup::loader_config(plan, ground.workers)
        };
        let begins = going_on.is_none();
        let caching = going_on.unwrap_or_else(|| {
            let decided = Caching::decide(plan, &ground.data, &config);
            decided.announce(reporter);
            decided.keep_out_of_tensors();
            decided
        });
        let config = LoaderConfig { cache: caching.cache.clone(), ..config };
        let mut feeding = Feeding::plan(plan, ground.placement, &config)?;
        let config = feeding.loader(config)?;
        let slab_bytes = config.ring_bytes().unwrap_or(0) as u64;
        let loader = Loader::start(ground.data.train.clone(), config, from)?;
        let feed = feeding.start(loader, &ground.augment)?;
        if begins {
            let start_delay = plan.placement.start_delay();
            let mode = feeding.announce(start_delay);
            reporter.emit(Event::Feeding { mode, buffer: feeding.buffer.size as u64 });
            let warmed = warm_up(&feed, start_delay, stop);
            if let Some(level) = feed.level() {
                let (batches, seconds) = (level.waiting as u64, warmed.as_secs_f64());
                reporter.emit(Event::BufferWarm { batches, seconds });
            }
        }
        let BufferPlan { size: buffer, bytes, .. } = feeding.buffer;
        let most_buffered = usize::try_from(bytes / feeding.batch_bytes.max(1)).unwrap_or(usize::MAX);
        Ok(Self { feed, caching, slab_bytes, buffer, most_buffered: most_buffered.min(MAX_BUFFER) })
    }
}

/// Bytes that a run's batches will take where the model trains.
///
/// # Errors
/// When the device does not tell its memory, or not even two batches fit into the host's.
pub(crate) fn bytes_beside_the_model(plan: &Plan, ground: &Prepared) -> Result<u64, TrainError> {
    let config =
        LoaderConfig { stage: ground.augment.stage.clone(), ..setup::loader_config(plan, ground.workers) };
    let mut feeding = Feeding::plan(plan, ground.placement, &config)?;
    let slabs = feeding.loader(config)?.ring_bytes().unwrap_or(0) as u64;
    Ok(feeding.bytes_beside_the_model(slabs))
}

/// How a run's batches come to the device.
struct Feeding {
    /// Who does what.
    placement: Placement,
    /// How many batches wait.
    buffer: BufferPlan,
    batch_bytes: u64,
}

impl Feeding {
    /// Plans the buffer. On the CPU nothing is copied, so that the loader's own batches can wait as well: there a buffer
    /// is made only when it is asked for.
    ///
    /// # Errors
    /// When the device does not tell its memory.
    fn plan(plan: &Plan, placement: Placement, loader: &LoaderConfig) -> Result<Self, TrainError> {
        let device = device(placement.data());
        let on_cpu = device == Device::Cpu;
        let alone = matches!(placement, Placement::Single(_));
        let size = match plan.buffer.size {
            BufferSize::Auto if on_cpu && alone => BufferSize::Count(0),
            size => size,
        };
        let layout = loader.layout();
        let batch_bytes = (layout.batch * (layout.image_bytes() + layout.mask_bytes())) as u64;
        let needs = BufferNeeds {
            batch_bytes,
            workers: loader.workers,
            free_bytes: device_memory(device)?.free.unwrap_or(0),
        };
        let buffer = BufferPlan::new(&BufferConfig { size, ..plan.buffer }, &needs);
        Ok(Self { placement, buffer, batch_bytes })
    }

    /// The loader's settings, with room for batches that wait in the loader's own memory.
    fn loader(&mut self, mut config: LoaderConfig) -> Result<LoaderConfig, TrainError> {
        if device(self.placement.data()) == Device::Cpu && self.buffer.size > 0 {
            config.prefetch += self.buffer.size;
            let slabs = config.slabs().map_err(fullbore_data::DataError::from)?;
            // One is trained on and one is being filled.
            self.buffer.size = self.buffer.size.min(slabs.saturating_sub(2).max(1));
        }
        Ok(config)
    }

    /// Bytes that batches take where the model trains: those that wait there, and the one that is trained on. `slabs` is
    /// what they take on the host.
    fn bytes_beside_the_model(&self, slabs: u64) -> u64 {
        let (data, model) = (self.placement.data(), self.placement.model());
        let waiting = if data == model { self.buffer.size as u64 } else { 0 };
        match device(model) {
            Device::Cpu => slabs,
            _ => self.batch_bytes.saturating_mul(waiting + 1),
        }
    }

    /// The mode for people.
    fn announce(&self, start_delay: Duration) -> String {
        self.placement.announce(&self.buffer, start_delay)
    }

    /// Starts the stages.
    ///
    /// # Errors
    /// When the device fails or a thread cannot be started.
    fn start(&self, loader: Loader, augment: &Augmentation) -> Result<Feed, TrainError> {
        let stage = StageConfig {
            data: device(self.placement.data()),
            model: device(self.placement.model()),
            hands_over: matches!(self.placement, Placement::Pair { .. }),
            augment: augment.on_device.clone(),
        };
        Ok(Feed::start(loader, stage, self.buffer)?)
    }
}

/// Waits until the buffer is full and `start_delay` is over, or until nothing more comes, or `stop`. How long it took.
fn warm_up(feed: &Feed, start_delay: Duration, stop: &AtomicBool) -> Duration {
    let start = Instant::now();
    while let Some(level) = feed.level() {
        let now = Warming { elapsed: start.elapsed(), full: level.full, ended: level.ended };
        if may_start(start_delay, &now) || stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(LOOK_EVERY);
    }
    start.elapsed()
}
