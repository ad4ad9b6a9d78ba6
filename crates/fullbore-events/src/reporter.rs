use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use crate::{Event, Record};

/// Takes events: a file, a terminal, a list.
pub trait Sink: Send {
    /// Takes one event. Must not fail or wait for long: training stands still meanwhile.
    fn emit(&mut self, record: &Record);

    /// What has gone wrong in this sink and was not told yet, for the user. Told once.
    fn take_trouble(&mut self) -> Option<String> {
        None
    }
}

/// The handle through which parts report. Clones are cheap and share the sinks; all sinks see all events in the
/// same order.
#[derive(Clone, Default)]
pub struct Reporter {
    sinks: Arc<Mutex<Vec<Box<dyn Sink>>>>,
}

impl Reporter {
    /// A reporter that feeds `sinks`. Without sinks (also [`Reporter::default`]) events go nowhere.
    pub fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self { sinks: Arc::new(Mutex::new(sinks)) }
    }

    /// Adds a sink for all later events.
    pub fn add(&self, sink: Box<dyn Sink>) {
        lock(&self.sinks).push(sink);
    }

    /// Stamps `event` with the time and hands it to every sink. Trouble in a sink becomes a [`Event::Warning`]
    /// to all of them.
    pub fn emit(&self, event: Event) {
        let mut sinks = lock(&self.sinks);
        let record = Record { time: SystemTime::now(), event };
        sinks.iter_mut().for_each(|sink| sink.emit(&record));
        let troubles: Vec<_> = sinks.iter_mut().filter_map(|sink| sink.take_trouble()).collect();
        for message in troubles {
            let warning = Record { time: record.time, event: Event::Warning { message } };
            sinks.iter_mut().for_each(|sink| sink.emit(&warning));
        }
    }

    /// Reports something the user should know that does not stop the run.
    pub fn warn(&self, message: impl Into<String>) {
        self.emit(Event::Warning { message: message.into() });
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").field("sinks", &lock(&self.sinks).len()).finish()
    }
}

/// A list of the events so far, for tests: keep one clone and give the other to a [`Reporter`].
#[derive(Clone, Debug, Default)]
pub struct Collected(Arc<Mutex<Vec<Record>>>);

impl Collected {
    /// The events so far.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.0).iter().map(|record| record.event.clone()).collect()
    }

    /// The events so far, with their times.
    pub fn records(&self) -> Vec<Record> {
        lock(&self.0).clone()
    }
}

impl Sink for Collected {
    fn emit(&mut self, record: &Record) {
        lock(&self.0).push(record.clone());
    }
}

/// A part that panicked while it reported must not silence the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken {
        trouble: Option<String>,
    }

    impl Sink for Broken {
        fn emit(&mut self, _: &Record) {}

        fn take_trouble(&mut self) -> Option<String> {
            self.trouble.take()
        }
    }

    #[test]
    fn every_sink_sees_every_event_in_order() {
        let (one, two) = (Collected::default(), Collected::default());
        let reporter = Reporter::new(vec![Box::new(one.clone())]);
        reporter.clone().emit(Event::EpochStarted { epoch: 0 });
        reporter.add(Box::new(two.clone()));
        reporter.emit(Event::EpochStarted { epoch: 1 });
        assert_eq!(one.events(), [Event::EpochStarted { epoch: 0 }, Event::EpochStarted { epoch: 1 }]);
        assert_eq!(two.events(), [Event::EpochStarted { epoch: 1 }]);
    }

    #[test]
    fn trouble_in_a_sink_is_told_once() {
        let seen = Collected::default();
        let broken = Broken { trouble: Some("the log is gone".into()) };
        let reporter = Reporter::new(vec![Box::new(broken), Box::new(seen.clone())]);
        reporter.emit(Event::EpochStarted { epoch: 0 });
        reporter.emit(Event::EpochStarted { epoch: 1 });
        let warning = Event::Warning { message: "the log is gone".into() };
        assert_eq!(
            seen.events(),
            [Event::EpochStarted { epoch: 0 }, warning, Event::EpochStarted { epoch: 1 }]
        );
    }

    #[test]
    fn a_panic_while_reporting_does_not_silence_the_rest() {
        struct Panics;
        impl Sink for Panics {
            fn emit(&mut self, record: &Record) {
                assert_ne!(record.event, Event::EpochStarted { epoch: 0 });
            }
        }
        let seen = Collected::default();
        let reporter = Reporter::new(vec![Box::new(seen.clone()), Box::new(Panics)]);
        let panicking = reporter.clone();
        std::thread::spawn(move || panicking.emit(Event::EpochStarted { epoch: 0 })).join().unwrap_err();
        reporter.emit(Event::EpochStarted { epoch: 1 });
        assert_eq!(seen.events().len(), 2);
    }
}
