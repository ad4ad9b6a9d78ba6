//! The events that every part emits, and the run folder that keeps them. No libtorch.
//!
//! Parts hold a [`Reporter`] and emit [`Event`]s; the reporter stamps each with the time and hands it to its
//! [`Sink`]s: the [`EventLog`] of the run folder, a progress view, a [`Collected`] list in tests. Nothing that a
//! sink does can fail the training: what goes wrong there becomes a [`Event::Warning`].
//!
//! The log is `RUN/events.jsonl`: one JSON object per line with `time` (RFC 3339, UTC, milliseconds), `event`
//! (the kind) and the event's own fields. Numbers that JSON cannot write are the strings `"NaN"`, `"Infinity"`
//! and `"-Infinity"`, which Python's `float()` and JavaScript's `Number()` read.

mod bad_samples;
mod event;
mod log;
mod number;
mod per_class;
mod reporter;
mod run_dir;

pub use bad_samples::BadSampleList;
pub use event::{
    BestScore, CheckpointKind, Event, LoadedWeights, OutOfMemoryAt, PlannedBytes, Record, RunStatus,
};
pub use log::{EventLog, EventLogError, Events, MAX_LINE_BYTES, read_events};
pub use per_class::PerClass;
pub use reporter::{Collected, Reporter, Sink};
pub use run_dir::{RunDir, RunDirError};
