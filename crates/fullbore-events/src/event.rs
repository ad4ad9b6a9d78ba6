use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{PerClass, number};

/// Something that happened in a run.
///
/// Epochs are zero-based, as in `Position`; `step` counts the optimizer steps that are finished, so the first is 1.
/// Shares lie in 0..=1, times are in seconds, paths are in display form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The plan is resolved, the data is found and the model is built; training begins.
    RunStarted {
        /// The run folder.
        run_dir: String,
        /// Version of fullbore.
        version: String,
        /// Where the model lives, for example `cpu` or `cuda:0`.
        device: String,
        /// Arithmetic of forward and backward: `fp32`, `bf16`, ...
        precision: String,
        /// How steps reach the device, and why: `eager (...)`.
        #[serde(default)]
        step_mode: String,
        /// Threads that compute.
        threads: u64,
        /// Threads that decode; 0 means that the training thread decodes.
        workers: u64,
        /// Training samples per epoch.
        n_train: u64,
        /// Validation samples.
        n_val: u64,
        /// Trainable numbers in the model.
        parameters: u64,
        /// Epochs of the whole run.
        epochs: u64,
        /// Optimizer steps in one epoch.
        steps_per_epoch: u64,
        /// Optimizer steps of the whole run, those before a resume included.
        steps_total: u64,
        /// The resolved plan.
        plan: Option<serde_json::Value>,
    },
    /// The run begins with the weights of another one.
    FineTuning {
        /// The checkpoint that holds them.
        checkpoint: String,
        /// Optimizer steps that made them.
        step: u64,
        /// What is taken over, in words.
        kept: String,
        /// What begins anew, in words.
        anew: String,
        /// Settings that differ from that run's: `key: old -> new`.
        changed: Vec<String>,
    },
    /// The run begins with weights from a file, as `model.weights` asks. Told once, not after a resume.
    WeightsLoaded(LoadedWeights),
    /// An epoch begins.
    EpochStarted {
        /// The epoch.
        epoch: u64,
    },
    /// An optimizer step is done.
    Step {
        /// The epoch it belongs to.
        epoch: u64,
        /// Steps done, this one included.
        step: u64,
        /// Training loss, mean over the batch.
        #[serde(with = "number")]
        loss: f64,
        /// Learning rate of this step.
        #[serde(with = "number")]
        lr: f64,
        /// Norm of the gradient before clipping, where it was computed.
        #[serde(default, with = "number::option")]
        grad_norm: Option<f64>,
        /// Training samples per second since the last such event; high is good.
        #[serde(with = "number")]
        samples_per_s: f64,
        /// Share of that time spent waiting for data; high means that loading is the bottleneck.
        #[serde(with = "number")]
        data_wait: f64,
        /// Samples per forward pass.
        micro_batch: u64,
    },
    /// The validation set was scored.
    Evaluated {
        /// The epoch it belongs to.
        epoch: u64,
        /// Steps done so far.
        step: u64,
        /// Images scored.
        #[serde(default)]
        images: u64,
        /// Validation loss.
        #[serde(with = "number")]
        loss: f64,
        /// Mean Dice over the classes.
        #[serde(with = "number")]
        dice: f64,
        /// Dice by class.
        dice_per_class: PerClass,
        /// Intersection over union by class.
        iou_per_class: PerClass,
        /// Precision by class.
        precision_per_class: PerClass,
        /// Recall by class.
        recall_per_class: PerClass,
        /// Duration of the evaluation.
        #[serde(with = "number")]
        seconds: f64,
    },
    /// Landmarks were scored on the validation set. Null where there is nothing to take a mean of.
    LandmarksEvaluated {
        /// The epoch it belongs to.
        epoch: u64,
        /// Steps done so far.
        step: u64,
        /// Images scored.
        #[serde(default)]
        images: u64,
        /// Validation loss.
        #[serde(with = "number")]
        loss: f64,
        /// Normalised mean error, a fraction.
        nme: Option<f64>,
        /// Mean radial error in pixels of the images.
        mre_px: Option<f64>,
        /// Mean radial error in millimetres.
        mre_mm: Option<f64>,
        /// Shares of landmarks found within each of the radii.
        sdr: Vec<Option<f64>>,
        /// Area under the cumulative curve of the normalised mean error.
        auc: Option<f64>,
        /// Share of images above the failure threshold.
        failure_rate: Option<f64>,
        /// Duration of the evaluation.
        #[serde(with = "number")]
        seconds: f64,
    },
    /// A checkpoint is safely on disk.
    CheckpointSaved {
        /// Which one.
        kind: CheckpointKind,
        /// The file.
        path: String,
        /// Steps that are in it.
        step: u64,
    },
    /// How batches are split at first.
    MemoryPlanned {
        /// Samples per forward pass.
        micro_batch: u64,
        /// Whether activations are computed again in backward because no sample fits otherwise.
        recompute: bool,
        /// What is expected to fill the memory; none where that was not measured.
        bytes: Option<PlannedBytes>,
        /// The same in words, or why nothing was measured.
        lines: Vec<String>,
    },
    /// The governor changed how a batch is split.
    MicroBatchChanged {
        /// Steps done so far.
        step: u64,
        /// Samples per forward pass before.
        from: u64,
        /// Samples per forward pass from now on.
        to: u64,
        /// Why, in words.
        reason: String,
    },
    /// Evaluations take another number of images at once.
    EvalBatchChanged {
        /// Steps done so far.
        step: u64,
        /// Images per forward pass before.
        from: u64,
        /// Images per forward pass from now on, in later evaluations too.
        to: u64,
        /// Why, in words.
        reason: String,
    },
    /// Memory ran out; the work is repeated with less.
    OutOfMemory {
        /// Steps done so far.
        step: u64,
        /// What was being computed.
        at: OutOfMemoryAt,
        /// Samples per forward pass at that time.
        micro_batch: u64,
        /// What the allocator said.
        message: String,
    },
    /// Losses or gradients were NaN or infinite: those steps changed nothing.
    NonFinite {
        /// Steps done so far.
        step: u64,
        /// Which quantity: `loss`, `gradient`, ...
        what: String,
        /// Such steps since the last log point.
        skipped: u64,
        /// Such steps in a row, up to this one.
        in_row: u64,
    },
    /// The run had diverged, and goes on from its newest checkpoint with a smaller learning rate.
    RolledBack {
        /// Steps done before.
        from: u64,
        /// Steps done now.
        to: u64,
        /// What the learning rate of the schedule is multiplied by from now on.
        lr_factor: f64,
    },
    /// A training sample cannot be loaded. Told once for each, before the step that was to see it.
    BadSample {
        /// The sample's name.
        name: String,
        /// Its image file.
        file: String,
        /// What is wrong; names the very file, which may be another than the image.
        reason: String,
        /// Name of the sample that takes its place; none when the run ends here.
        replaced_by: Option<String>,
        /// Zero-based epoch of the batch that was to hold it.
        epoch: u64,
        /// That batch within the epoch.
        batch: u64,
    },
    /// Where decoded samples are kept from epoch to epoch.
    CacheDecided {
        /// `off`, `ram` or `disk`.
        mode: String,
        /// Most bytes that it may take.
        bytes: u64,
        /// Why, in words.
        reason: String,
    },
    /// What happens to training samples, and where. Evaluation never has it.
    Augmentation {
        /// `off`, `cpu` or `device`.
        side: String,
        /// Why there.
        reason: String,
        /// What it does, a line for each operation.
        operations: Vec<String>,
    },
    /// Images of another size are trained on from here on.
    PhaseStarted {
        /// Its number, from 0.
        phase: u64,
        /// How many there are, what comes after the plan's own included.
        phases: u64,
        /// Its first epoch, or the one that the run goes on in.
        epoch: u64,
        /// Width and height of the network's input, pixels.
        size: [u32; 2],
    },
    /// How batches come to the device.
    Feeding {
        /// Which device prepares and which trains, in words.
        mode: String,
        /// Batches that wait ready at most; 0 brings each when it is needed.
        buffer: u64,
    },
    /// The buffer was filled before the first step.
    BufferWarm {
        /// Batches that wait.
        batches: u64,
        /// How long it took.
        #[serde(with = "number")]
        seconds: f64,
    },
    /// Steps reach the device in another way from here on, all or some of them.
    StepModeChanged {
        /// Steps done so far.
        step: u64,
        /// How, and why, as in [`Event::RunStarted`].
        mode: String,
    },
    /// The number of decoding threads was adjusted to what was measured.
    WorkersChanged {
        /// Threads before.
        from: u64,
        /// Threads from now on.
        to: u64,
        /// Why, in words.
        reason: String,
    },
    /// The run makes its batches in another way from here on, and compares.
    Rearranged {
        /// Steps done so far.
        step: u64,
        /// What is different, in words.
        what: String,
        /// Why, in words.
        reason: String,
    },
    /// The run ends before its last epoch, because evaluations do not get better any more.
    EarlyStopped {
        /// The epoch of the last evaluation.
        epoch: u64,
        /// Steps done.
        step: u64,
        /// Which metric, how long and what its best value was, in words.
        reason: String,
    },
    /// Something the user should know that does not stop the run.
    Warning {
        /// The text.
        message: String,
    },
    /// The run is over.
    RunFinished {
        /// How it ended.
        status: RunStatus,
        /// Steps done.
        steps: u64,
        /// Wall time of the run, evaluations included.
        #[serde(with = "number")]
        seconds: f64,
        /// The part of it up to the end of its first step: memory is planned, the first batch loaded, kernels are chosen.
        #[serde(default, with = "number::option")]
        first_step_s: Option<f64>,
        /// Training samples per second, without evaluations and warm-up; high is good.
        #[serde(with = "number")]
        samples_per_s: f64,
        /// Share of the training time spent waiting for data; high means that loading is the bottleneck.
        #[serde(with = "number")]
        data_wait: f64,
        /// The best evaluation, if there was one.
        best: Option<BestScore>,
        /// What went wrong, when the run failed; why, when it ended early.
        message: Option<String>,
    },
}

/// What a file of weights gave a new model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedWeights {
    /// The file.
    pub path: String,
    /// Entries of the model that got their values from it.
    pub applied: u64,
    /// All entries, without the counters that the file lacks.
    pub entries: u64,
    /// What was taken off its names, outermost first: `state_dict`, `module.`.
    pub stripped: Vec<String>,
    /// What stood beside its weights and is none: `epoch`, `optimizer`.
    pub passed_over: Vec<String>,
    /// The convolution that was summed over its input channels, because the model has gray images.
    pub summed: Option<String>,
    /// What the model has and the file lacks: it keeps its fresh values.
    pub missing: Vec<String>,
    /// What the file has and the model lacks.
    pub unused: Vec<String>,
    /// What has another shape in the file, and both shapes: it keeps its fresh values.
    pub mismatched: Vec<String>,
}

/// What is expected to fill the device's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBytes {
    /// Parameters and buffers of the network.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// The optimizer's moments.
    pub optimizer: u64,
    /// The average of the weights.
    pub average: u64,
    /// More that does not depend on the micro-batch.
    pub other: u64,
    /// What each sample of a micro-batch adds.
    pub per_sample: u64,
    /// Most that tensors will hold.
    pub expected_peak: u64,
    /// What there is for them.
    pub limit: u64,
}

/// The evaluation that the best checkpoint holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestScore {
    /// Key of the metric that decides, for example `dice`.
    pub metric: String,
    /// Its value.
    #[serde(with = "number")]
    pub value: f64,
    /// Epoch of the evaluation.
    pub epoch: u64,
    /// Steps done then.
    pub step: u64,
}

/// Which checkpoint was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointKind {
    /// The newest state, to resume from.
    Last,
    /// The state that scored best.
    Best,
}

/// What was being computed when memory ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfMemoryAt {
    /// The forward pass of training.
    Forward,
    /// The backward pass.
    Backward,
    /// An evaluation.
    Eval,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// All steps are done.
    Completed,
    /// The user stopped it; the last checkpoint is saved.
    Interrupted,
    /// An error stopped it.
    Failed,
}

/// An event and when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Wall-clock time; kept to the millisecond in the log.
    #[serde(serialize_with = "time_to_text", deserialize_with = "time_from_text")]
    pub time: SystemTime,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// Time from `earlier` to this record; zero when the clock was set back in between.
    pub fn since(&self, earlier: SystemTime) -> Duration {
        self.time.duration_since(earlier).unwrap_or_default()
    }
}

fn time_to_text<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    // A clock outside jiff's range (years -9999 to 9999) is broken; the event matters more than its time.
    let time = jiff::Timestamp::try_from(*time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    serializer.collect_str(&format_args!("{time:.3}"))
}

fn time_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
    Ok(if time < jiff::Timestamp::UNIX_EPOCH { UNIX_EPOCH } else { time.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(loss: f64, grad_norm: Option<f64>) -> Event {
        Event::Step {
            epoch: 0,
            step: 12,
            loss,
            lr: 1e-3,
            grad_norm,
            samples_per_s: 31.5,
            data_wait: 0.02,
            micro_batch: 8,
        }
    }

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_record_is_one_flat_object() {
        let record = Record { time: at(1_795_271_400_123), event: step(0.25, Some(1.5)) };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"time":"2026-11-21T14:30:00.123Z","event":"step","epoch":0,"step":12,"loss":0.25,"lr":0.001,"grad_norm":1.5,"samples_per_s":31.5,"data_wait":0.02,"micro_batch":8}"#
        );
    }

    #[test]
    fn milliseconds_are_always_written() {
        let record = Record { time: at(1_795_271_400_000), event: Event::EpochStarted { epoch: 1 } };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"time":"2026-11-21T14:30:00.000Z","event":"epoch_started","epoch":1}"#
        );
    }

    #[test]
    fn numbers_that_json_lacks_survive() {
        for loss in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MIN_POSITIVE, -0.0, 1e300, 3.0] {
            let record = Record { time: at(5), event: step(loss, Some(loss)) };
            let json = serde_json::to_string(&record).unwrap();
            let back: Record = serde_json::from_str(&json).unwrap();
            let Event::Step { loss: read, grad_norm, .. } = back.event else { panic!("{back:?}") };
            assert_eq!(read.to_bits(), loss.to_bits(), "{json}");
            assert_eq!(grad_norm.unwrap().to_bits(), loss.to_bits(), "{json}");
        }
        let json = serde_json::to_string(&step(f64::NAN, None)).unwrap();
        assert!(json.contains(r#""loss":"NaN""#) && json.contains(r#""grad_norm":null"#), "{json}");
    }

    #[test]
    fn every_kind_survives_json() {
        let scores: PerClass = [("cell", 0.5)].into_iter().collect();
        let events = [
            Event::RunStarted {
                run_dir: "runs/a".into(),
                version: "0.1.0".into(),
                device: "cpu".into(),
                precision: "bf16".into(),
                step_mode: "eager (as asked)".into(),
                threads: 2,
                workers: 1,
                n_train: 24,
                n_val: 6,
                parameters: 7,
                epochs: 3,
                steps_per_epoch: 3,
                steps_total: 9,
                plan: Some(serde_json::json!({"batch": {"size": 8}})),
            },
            Event::WeightsLoaded(LoadedWeights {
                path: "a.pth".into(),
                applied: 3,
                entries: 5,
                stripped: vec!["module.".into()],
                missing: vec!["w".into()],
                ..LoadedWeights::default()
            }),
            Event::EpochStarted { epoch: 2 },
            step(0.5, None),
            Event::Evaluated {
                epoch: 2,
                step: 9,
                images: 6,
                loss: 0.5,
                dice: 0.5,
                dice_per_class: scores.clone(),
                iou_per_class: scores.clone(),
                precision_per_class: scores.clone(),
                recall_per_class: scores,
                seconds: 1.0,
            },
            Event::LandmarksEvaluated {
                epoch: 2,
                step: 9,
                images: 6,
                loss: 0.5,
                nme: Some(0.05),
                mre_px: Some(2.0),
                mre_mm: None,
                sdr: vec![Some(0.5), None],
                auc: Some(0.5),
                failure_rate: None,
                seconds: 1.0,
            },
            Event::PhaseStarted { phase: 0, phases: 2, epoch: 3, size: [64, 32] },
            Event::Feeding { mode: "CPU mode".into(), buffer: 4 },
            Event::BufferWarm { batches: 4, seconds: 0.5 },
            Event::CheckpointSaved { kind: CheckpointKind::Best, path: "x".into(), step: 9 },
            Event::MemoryPlanned {
                micro_batch: 4,
                recompute: true,
                bytes: Some(PlannedBytes { weights: 7, limit: 9, ..PlannedBytes::default() }),
                lines: vec!["memory: weights 7 B".into()],
            },
            Event::MicroBatchChanged { step: 3, from: 8, to: 4, reason: "out of memory".into() },
            Event::EvalBatchChanged { step: 3, from: 8, to: 4, reason: "out of memory".into() },
            Event::OutOfMemory { step: 3, at: OutOfMemoryAt::Backward, micro_batch: 8, message: "m".into() },
            Event::NonFinite { step: 3, what: "loss".into(), skipped: 2, in_row: 1 },
            Event::RolledBack { from: 9, to: 6, lr_factor: 0.5 },
            Event::EarlyStopped { epoch: 2, step: 9, reason: "no better dice".into() },
            Event::BadSample {
                name: "a".into(),
                file: "images/a.jpg".into(),
                reason: "torn".into(),
                replaced_by: Some("b".into()),
                epoch: 1,
                batch: 2,
            },
            Event::CacheDecided { mode: "ram".into(), bytes: 7, reason: "all fits".into() },
            Event::Augmentation { side: "cpu".into(), reason: "r".into(), operations: vec!["flip".into()] },
            Event::WorkersChanged { from: 2, to: 3, reason: "the run waited".into() },
            Event::StepModeChanged { step: 3, mode: "graph (recorded)".into() },
            Event::Rearranged { step: 4, what: "3 threads compute".into(), reason: "busy".into() },
            Event::Warning { message: "w\n\"".into() },
            Event::RunFinished {
                status: RunStatus::Interrupted,
                steps: 9,
                seconds: 10.0,
                first_step_s: Some(0.5),
                samples_per_s: 30.0,
                data_wait: 0.0,
                best: Some(BestScore { metric: "dice".into(), value: 0.5, epoch: 2, step: 9 }),
                message: None,
            },
        ];
        for event in events {
            let record = Record { time: at(1_795_271_400_123), event };
            let json = serde_json::to_string(&record).unwrap();
            assert!(!json.contains('\n'));
            assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record, "{json}");
        }
    }

    #[test]
    fn a_clock_set_back_gives_no_negative_time() {
        let record = Record { time: at(5), event: Event::EpochStarted { epoch: 1 } };
        assert_eq!(record.since(at(2)), Duration::from_millis(3));
        assert_eq!(record.since(at(9)), Duration::ZERO);
    }
}
