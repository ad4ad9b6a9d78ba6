//! Reads that do not end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use fullbore_data::source::{Part, Source, SourceError};
use fullbore_data::{
    DataError, EvalConfig, EvalLoader, FaultPolicy, Hooks, Loader, LoaderConfig, Notice, PinHost,
};
use fullbore_types::{Position, SampleId};

use crate::data_set::{InMemory, Seen, config, seen};
use crate::eval::eval_config;

/// Samples of which some masks cannot be read to their end before the gate opens.
struct Stuck {
    samples: InMemory,
    stuck: BTreeSet<u32>,
    gate: Arc<Gate>,
    /// Hears of each read that gets stuck.
    entered: Sender<u32>,
    /// Its other end hears when nobody holds the source any more.
    _gone: Sender<()>,
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
    }
}

impl Source for Stuck {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn name(&self, id: SampleId) -> String {
        self.samples.name(id)
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        self.samples.file(id, part)
    }

    fn read(&self, id: SampleId, part: Part, max: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        if part == Part::Target && self.stuck.contains(&id.0) {
            self.entered.send(id.0).unwrap();
            self.gate.pass();
        }
        self.samples.read(id, part, max, bytes)
    }
}

struct Ends {
    gate: Arc<Gate>,
    entered: Receiver<u32>,
    gone: Receiver<()>,
}

impl Ends {
    /// Lets the stuck reads end and waits until the threads that were left behind have let go of the source.
    fn clear(self) {
        self.gate.open();
        assert!(self.gone.recv().is_err());
    }
}

fn stuck(n: u32, stuck: impl IntoIterator<Item = u32>) -> (Arc<dyn Source>, Ends) {
    let (gate, (entered, entering), (_gone, gone)) = (Arc::new(Gate::default()), channel(), channel());
    let samples = InMemory::new(n);
    let source = Stuck { samples, stuck: stuck.into_iter().collect(), gate: gate.clone(), entered, _gone };
    (Arc::new(source), Ends { gate, entered: entering, gone })
}

/// Long against any sound read here, also on a busy machine.
const PATIENCE: Duration = Duration::from_millis(400);

fn patient(batch: usize, workers: usize) -> LoaderConfig {
    let faults = FaultPolicy { max_bad_share: 1.0, read_timeout: PATIENCE, ..FaultPolicy::default() };
    LoaderConfig { workers, faults, ..config(batch) }
}

fn all(source: Arc<dyn Source>, config: LoaderConfig) -> Vec<Seen> {
    Loader::start(source, config, Position::default()).unwrap().map(|batch| seen(&batch.unwrap())).collect()
}

#[test]
fn a_stuck_read_is_given_up_named_and_replaced() {
    let expected = all(InMemory::new(7).with(4, Part::Target, b"torn".to_vec()).shared(), patient(2, 0));
    for workers in [1, 3] {
        let (source, ends) = stuck(7, [4]);
        let reasons = Arc::new(Mutex::new(Vec::new()));
        let (sink, gate) = (reasons.clone(), ends.gate.clone());
        let notify = move |notice| {
            if let Notice::BadSample(bad) = notice {
                sink.lock().unwrap().push(bad.reason);
                // The read ends while the loader goes on: its result must be thrown away.
                gate.open();
            }
        };
        let hooks = Hooks { notify: Some(Arc::new(notify)), pin: None };
        assert_eq!(all(source, LoaderConfig { hooks, ..patient(2, workers) }), expected);
        let reasons = reasons.lock().unwrap();
        assert_eq!(*reasons, ["reading Target/s4 (Target of sample `s4`) had not ended after 0.4 s"]);
        ends.clear();
    }
}

#[test]
fn each_sample_gets_stuck_once_not_once_an_epoch() {
    let (source, ends) = stuck(3, [1]);
    let config = LoaderConfig { epochs: 20, ..patient(3, 1) };
    assert_eq!(all(source, config).len(), 20);
    assert_eq!(ends.entered.try_iter().count(), 1);
    ends.clear();
}

/// Sends when the memory is let go.
struct Watched(Sender<&'static str>);

impl PinHost for Watched {
    fn pin(&self, _: NonNull<u8>, _: usize) -> Result<Box<dyn Send + Sync>, String> {
        struct Release(Sender<&'static str>);
        impl Drop for Release {
            fn drop(&mut self) {
                self.0.send("freed").unwrap();
            }
        }
        Ok(Box::new(Release(self.0.clone())))
    }
}

#[test]
fn dropping_a_loader_leaves_a_stuck_read_behind_but_no_slab() {
    for workers in [1, 3] {
        let (source, ends) = stuck(6, [0, 1, 2, 3, 4, 5]);
        let (sender, freed) = channel();
        let hooks = Hooks { notify: None, pin: Some(Arc::new(Watched(sender))) };
        let config = LoaderConfig { hooks, ..patient(2, workers) };
        let loader = Loader::start(source, config, Position::default()).unwrap();
        for _ in 0..workers {
            ends.entered.recv().unwrap();
        }
        drop(loader);
        assert_eq!(freed.try_recv(), Ok("freed"), "the reads are still stuck");
        ends.clear();
    }
}

#[test]
fn storage_that_does_not_answer_ends_the_stream_before_threads_pile_up() {
    let (source, ends) = stuck(60, 0..60);
    let faults = FaultPolicy { read_timeout: Duration::from_millis(10), ..patient(1, 1).faults };
    let config = LoaderConfig { faults, ..patient(20, 4) };
    let mut loader = Loader::start(source, config, Position::default()).unwrap();
    let error = loader.next().unwrap().err().unwrap();
    assert!(matches!(&error, DataError::StorageStuck { count: 17..=20, .. }), "{error}");
    assert!(ends.entered.try_iter().count() <= 20, "16 and one for each worker");
    assert!(loader.next().is_none());
    drop(loader);
    ends.clear();
}

#[test]
fn evaluation_goes_on_after_a_stuck_read() {
    for workers in [1, 3] {
        let (source, ends) = stuck(7, [4]);
        let config = EvalConfig { workers, read_timeout: PATIENCE, ..eval_config() };
        let samples: Vec<_> = EvalLoader::start(source, config).unwrap().collect();
        assert_eq!(samples.iter().filter(|sample| sample.is_ok()).count(), 6);
        let error = samples[4].as_ref().unwrap_err().to_string();
        assert_eq!(error, "reading Target/s4 (Target of sample `s4`) had not ended after 0.4 s");
        ends.clear();
    }
}

#[test]
fn evaluation_ends_when_storage_does_not_answer() {
    let (source, ends) = stuck(60, 0..60);
    let config = EvalConfig { workers: 4, read_timeout: Duration::from_millis(10), ..eval_config() };
    let samples: Vec<_> = EvalLoader::start(source, config).unwrap().collect();
    let (last, before) = samples.split_last().unwrap();
    assert!(matches!(last, Err(DataError::StorageStuck { count: 17, .. })));
    assert!(before.iter().all(|sample| matches!(sample, Err(DataError::StuckRead { .. }))));
    ends.clear();
}
