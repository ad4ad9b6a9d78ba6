use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use fullbore_data::source::{BoxedPictures, Cropped, Part, Pictures};
use fullbore_data::{Crop, DecodeLimits, EvalConfig, EvalLoader, FaultPolicy, Source};
use fullbore_feed::PassPlan;
use fullbore_feed::whole_images::{Answer, answer_whole_images};
use fullbore_governor::{Bounds, Change, MemoryConfig};
use fullbore_types::SampleId;

use crate::answer::Asked;
use crate::desk::{Desk, Job};
use crate::results::{OVERLAYS, Results};
use crate::{PointFormat, PredictError, Trained};

/// How a prediction is made.
#[derive(Clone, Debug)]
pub struct PredictConfig {
    /// The folder that results go to. Made when missing.
    pub output: PathBuf,
    /// Write pictures with what was found drawn on them as well, in `overlays/` below it.
    pub overlays: bool,
    /// How landmarks are written; `None`: [`PointFormat::Csv`]. Only for models of landmarks.
    pub format: Option<PointFormat>,
    /// CSV file with a box around what is looked for, see [`BoxedPictures`]. Only for models of landmarks that were
    /// trained on crops, and needed for these.
    pub boxes: Option<PathBuf>,
    /// Images per forward pass at most; `None`: 16 at first and up to 32, where memory is plentiful, or
    /// [`Trained::batch`].
    pub batch: Option<usize>,
    /// Decoding threads, and as many that write, at least one; 0 decodes in the calling thread.
    pub workers: usize,
}

/// What the caller may want to tell while it goes on.
#[derive(Debug)]
pub enum Notice<'a> {
    /// One more picture, or box of one, is computed or given up.
    Done,
    /// One was given up.
    Failed(&'a Failure),
    /// It goes on with another number of pictures at once.
    Resized(Change),
}

/// A picture, or a box of one, without a prediction.
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
    /// Pictures with a result.
    pub pictures: usize,
    /// Pictures and boxes given up.
    pub failed: Vec<Failure>,
    /// Pictures passed over, because the file of boxes has none for them.
    pub without_box: usize,
    /// Wall time.
    pub seconds: f64,
}

/// Predicts every picture and writes what is found into the output folder, upright as viewers show it.
///
/// A mask is written as `NAME.png`: 8-bit gray, the training masks' values, at the picture's own size. Landmarks are
/// written as [`PointFormat`] says, in pixels of the picture. Decoding, computing and writing overlap. A picture that
/// cannot be read, or does not fit into memory alone, is reported and passed over.
///
/// # Errors
/// When the configuration does not fit the model, the output cannot be written or the device fails.
pub fn predict(
    trained: &Trained,
    pictures: Arc<Pictures>,
    config: &PredictConfig,
    notice: impl FnMut(Notice<'_>),
) -> Result<Predicted, PredictError> {
    let start = Instant::now();
    let (source, without_box) = source(trained, pictures.clone(), config)?;
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
    let mut results = Results::new(trained, &pictures, &*source, config)?;
    let samples = EvalLoader::start(source.clone(), eval)?;
    let desk = Desk::default();
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
        compute(trained, &*source, samples, plan, &mut results, jobs, notice)
    });
    if let Some(fault) = desk.into_fault() {
        return Err(fault);
    }
    let failed = computed?;
    let pictures = results.done;
    results.finish()?;
    Ok(Predicted { pictures, failed, without_box, seconds: start.elapsed().as_secs_f64() })
}

/// What is looked at, and how many pictures are not.
fn source(
    trained: &Trained,
    pictures: Arc<Pictures>,
    config: &PredictConfig,
) -> Result<(Arc<dyn Source>, usize), PredictError> {
    if trained.landmark_names().is_none() {
        let option = match (config.format, &config.boxes) {
            (Some(_), _) => "--format",
            (None, Some(_)) => "--boxes",
            (None, None) => return Ok((pictures, 0)),
        };
        return Err(PredictError::ForLandmarks { option });
    }
    match (trained.crop(), &config.boxes) {
        ((Crop::None, _), None) => Ok((pictures, 0)),
        ((Crop::None, _), Some(_)) => Err(PredictError::BoxesUnused),
        ((crop, _), None) => Err(PredictError::BoxesMissing { crop }),
        ((_, margin), Some(file)) => {
            let boxed = BoxedPictures::open(pictures, file)?;
            let without_box = boxed.without_box();
            Ok((Arc::new(Cropped::new(Arc::new(boxed), Crop::Box, margin, file)?), without_box))
        }
    }
}

/// Runs the network over all samples and queues what is to be written. Ends early when nobody writes any more.
fn compute<'a>(
    trained: &Trained,
    source: &dyn Source,
    samples: EvalLoader,
    mut plan: PassPlan,
    results: &mut Results<'a>,
    jobs: SyncSender<Job<'a>>,
    mut notice: impl FnMut(Notice<'_>),
) -> Result<Vec<Failure>, PredictError> {
    let mut failed = Vec::new();
    let mut give_up = |id: SampleId, reason: String, notice: &mut dyn FnMut(Notice<'_>)| {
        let failure = Failure { file: source.file(id, Part::Image), reason };
        notice(Notice::Failed(&failure));
        notice(Notice::Done);
        failed.push(failure);
    };
    let ended = answer_whole_images(samples, &mut plan, trained.device(), &mut Asked(trained), |answer| {
        match answer {
            Answer::Ready(sample, prediction) => {
                results.take(sample, prediction, &jobs)?;
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
    match ended.and_then(|()| results.close(&jobs)) {
        // Why nobody writes stands on the desk.
        Ok(()) | Err(Ended::NobodyWrites) => Ok(failed),
        Err(Ended::Because(error)) => Err(error),
    }
}

/// Why the samples were not gone through to the last.
pub(crate) enum Ended {
    NobodyWrites,
    Because(PredictError),
}

impl From<PredictError> for Ended {
    fn from(error: PredictError) -> Self {
        Ended::Because(error)
    }
}

impl From<fullbore_torch::Error> for Ended {
    fn from(error: fullbore_torch::Error) -> Self {
        Ended::Because(error.into())
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
