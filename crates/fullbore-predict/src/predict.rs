use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use fullbore_data::source::{Part, Pictures};
use fullbore_data::{DecodeLimits, EvalConfig, EvalLoader, EvalSample, FaultPolicy, Source};
use fullbore_feed::PassPlan;
use fullbore_feed::whole_images::{Answer, Answerer, answer_whole_images, on_native_grid};
use fullbore_governor::{Bounds, Change, MemoryConfig};
use fullbore_nn::metrics::confusion::predicted_classes;
use fullbore_torch::{Kind, Tensor};
use fullbore_types::{SampleId, Size};

use crate::look::overlay;
use crate::write::write_png;
use crate::{MaskValues, PredictError, Trained};

/// Folder of the overlays, in the output folder.
const OVERLAYS: &str = "overlays";

/// How a prediction is made.
#[derive(Clone, Debug)]
pub struct PredictConfig {
    /// The folder that masks go to. Made when missing.
    pub output: PathBuf,
    /// Write pictures with the mask drawn on them as well, in `overlays/` below it.
    pub overlays: bool,
    /// Images per forward pass at most; `None`: 16 at first and up to 32, where memory is plentiful, or
    /// [`Trained::batch`].
    pub batch: Option<usize>,
    /// Decoding threads, and as many that write, at least one; 0 decodes in the calling thread.
    pub workers: usize,
}

/// What the caller may want to tell while it goes on.
#[derive(Debug)]
pub enum Notice<'a> {
    /// One more picture is computed or given up.
    Done,
    /// One was given up.
    Failed(&'a Failure),
    /// It goes on with another number of pictures at once.
    Resized(Change),
}

/// A picture without a prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub reason: String,
}

/// What was predicted.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// Masks written.
    pub masks: usize,
    /// Pictures given up.
    pub failed: Vec<Failure>,
    /// Wall time.
    pub seconds: f64,
}

/// Predicts the mask of every picture and writes it as `NAME.png` into the output folder: 8-bit gray, the training
/// masks' values, at the picture's own size, upright as viewers show it. Decoding, computing and writing overlap. A
/// picture that cannot be read, or does not fit into memory alone, is reported and passed over.
///
/// # Errors
/// When the output cannot be written or the device fails.
pub fn predict(
    trained: &Trained,
    pictures: Arc<Pictures>,
    config: &PredictConfig,
    notice: impl FnMut(Notice<'_>),
) -> Result<Predicted, PredictError> {
    let start = Instant::now();
    prepare_output(pictures.folder(), config)?;
    let bounds = Bounds::predict(config.batch.or(trained.batch()));
    let eval = EvalConfig {
        size: trained.canvas(),
        resize: trained.resize(),
        pad_multiple: trained.side_multiple(),
        channels: trained.channels(),
        classes: None,
        keep_native: config.overlays,
        workers: config.workers,
        prefetch: bounds.max.max(config.workers),
        limits: DecodeLimits::default(),
        read_timeout: FaultPolicy::default().read_timeout,
        cache: None,
    };
    let samples = EvalLoader::start(pictures.clone(), eval)?;
    let desk =
        Desk { output: &config.output, values: MaskValues::new(&trained.classes()), fault: Mutex::default() };
    let writers = config.workers.max(1);
    let (jobs, queue) = sync_channel(2 * writers);
    let queue = Arc::new(Mutex::new(queue));
    let computed = thread::scope(|scope| {
        for index in 0..writers {
            let (desk, queue) = (&desk, queue.clone());
            thread::Builder::new()
                .name(format!("write-{index}"))
                .spawn_scoped(scope, move || desk.work(&queue))
                .map_err(PredictError::Thread)?;
        }
        // Writers alone hold the queue: when they give up, sending fails instead of waiting for ever.
        drop(queue);
        let plan = PassPlan::new(MemoryConfig::default(), bounds, None);
        compute(trained, &pictures, samples, plan, jobs, notice)
    });
    if let Some(fault) = desk.fault().take() {
        return Err(fault);
    }
    let (masks, failed) = computed?;
    Ok(Predicted { masks, failed, seconds: start.elapsed().as_secs_f64() })
}

/// Runs the network over all samples and queues what is to be written. Ends early when nobody writes any more.
fn compute(
    trained: &Trained,
    pictures: &Pictures,
    samples: EvalLoader,
    mut plan: PassPlan,
    jobs: SyncSender<Job>,
    mut notice: impl FnMut(Notice<'_>),
) -> Result<(usize, Vec<Failure>), PredictError> {
    let mut masks = 0;
    let mut failed = Vec::new();
    let mut give_up = |id: SampleId, reason: String, notice: &mut dyn FnMut(Notice<'_>)| {
        let failure = Failure { file: pictures.file(id, Part::Image), reason };
        notice(Notice::Failed(&failure));
        notice(Notice::Done);
        failed.push(failure);
    };
    let ended = answer_whole_images(samples, &mut plan, trained.device(), &mut Masks(trained), |answer| {
        match answer {
            Answer::Ready(sample, logits) => {
                let classes = predicted_classes(&logits)?.to_kind(Kind::Uint8)?.to_vec_u8()?;
                let name = pictures.result_name(sample.id);
                jobs.send(Job::new(name, sample, classes)).map_err(|_| Ended::NobodyWrites)?;
                masks += 1;
                notice(Notice::Done);
            }
            Answer::Unreadable(index, error) => {
                give_up(SampleId(index as u32), error.to_string(), &mut notice);
            }
            Answer::TooLarge(sample, error) => {
                let size = sample.frame.source_size;
                let reason = format!("{}x{} pixels do not fit into memory: {error}", size.width, size.height);
                give_up(sample.id, reason, &mut notice);
            }
            Answer::Resized(change, _) => notice(Notice::Resized(change)),
        }
        Ok(())
    });
    match ended {
        // Why nobody writes stands on the desk.
        Ok(()) | Err(Ended::NobodyWrites) => Ok((masks, failed)),
        Err(Ended::Torch(error)) => Err(error.into()),
    }
}

struct Masks<'a>(&'a Trained);

impl Answerer for Masks<'_> {
    /// Logits on the native grid.
    type Answer = Tensor;

    fn network(&mut self, _: &[EvalSample], images: &Tensor) -> fullbore_torch::Result<Tensor> {
        self.0.logits(images)
    }

    fn finish(&mut self, sample: &EvalSample, logits: &Tensor) -> fullbore_torch::Result<Tensor> {
        on_native_grid(logits, sample)
    }
}

enum Ended {
    NobodyWrites,
    Torch(fullbore_torch::Error),
}

impl From<fullbore_torch::Error> for Ended {
    fn from(error: fullbore_torch::Error) -> Self {
        Ended::Torch(error)
    }
}

/// A picture's answer, to be written.
struct Job {
    name: String,
    size: Size,
    /// Class indices, u8 `[height, width]`.
    classes: Vec<u8>,
    /// The picture itself, or nothing.
    picture: Vec<u8>,
}

impl Job {
    fn new(name: String, sample: EvalSample, classes: Vec<u8>) -> Self {
        Job { name, size: sample.frame.source_size, classes, picture: sample.native }
    }
}

/// Where the writers work.
struct Desk<'a> {
    output: &'a Path,
    values: MaskValues,
    /// The first fault; after it nothing more is written.
    fault: Mutex<Option<PredictError>>,
}

impl Desk<'_> {
    /// A writer's life: until the last job, or the first fault of any writer.
    fn work(&self, queue: &Mutex<Receiver<Job>>) {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            if self.fault().is_some() {
                return;
            }
            if let Err(error) = self.write(job) {
                self.fault().get_or_insert(error);
                return;
            }
        }
    }

    fn write(&self, mut job: Job) -> Result<(), PredictError> {
        let file = format!("{}.png", job.name);
        if !job.picture.is_empty() {
            let picture = overlay(&job.picture, &job.classes);
            write_png(&self.output.join(OVERLAYS).join(&file), job.size, &picture)?;
        }
        self.values.apply(&mut job.classes);
        write_png(&self.output.join(&file), job.size, &job.classes)
    }

    fn fault(&self) -> MutexGuard<'_, Option<PredictError>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the folders; refuses to write over the pictures themselves.
fn prepare_output(input: &Path, config: &PredictConfig) -> Result<(), PredictError> {
    let output = &config.output;
    let folder = if config.overlays { output.join(OVERLAYS) } else { output.clone() };
    fs::create_dir_all(&folder).map_err(|source| PredictError::Folder { path: folder.clone(), source })?;
    let input = if input.as_os_str().is_empty() { Path::new(".") } else { input };
    match (fs::canonicalize(input), fs::canonicalize(output)) {
        (Ok(a), Ok(b)) if a == b => Err(PredictError::OutputIsInput { path: output.clone() }),
        _ => Ok(()),
    }
}
