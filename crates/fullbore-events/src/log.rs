use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::{Record, Sink};

/// Longest line that [`read_events`] takes; a longer one is reported and skipped.
pub const MAX_LINE_BYTES: usize = 4 << 20;

/// Why the event log could not be opened or read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum EventLogError {
    /// The file could not be created or opened for writing.
    #[error("cannot write the event log {path}", path = path.display())]
    #[diagnostic(code(output::event_log), help("make the run folder writable, or choose another run.dir"))]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The file could not be opened for reading, or reading failed on the way.
    #[error("cannot read the event log {path}", path = path.display())]
    #[diagnostic(
        code(data::event_log_unreadable),
        help("check that this is a run folder and that you may read it")
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// One line is no event. Reading can go on with the next line.
    #[error("line {line} of the event log {path} is not an event: {reason}", path = path.display())]
    #[diagnostic(
        code(data::event_log_line),
        help("the rest of the log can be used; a newer fullbore may know this event")
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// Appends events to a file, one JSON object per line and one write per line, so that a killed process leaves at
/// most its last line torn.
///
/// A write that fails (a full disk) does not stop the run: the first failure is told once through
/// [`Sink::take_trouble`], and later events are tried again.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    out: File,
    /// The file ends within a line; the next write must end that line first.
    torn: bool,
    failed_before: bool,
    trouble: Option<String>,
}

impl EventLog {
    /// Opens `path` to append to it, and creates it when it is not there. A torn last line, as a killed process leaves
    /// it, is cut off.
    ///
    /// # Errors
    /// [`EventLogError::Create`].
    pub fn open(path: &Path) -> Result<Self, EventLogError> {
        let fail = |source| EventLogError::Create { path: path.into(), source };
        let mut out = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(fail)?;
        let torn = !ends_with_a_line(&mut out).map_err(fail)?;
        Ok(Self { path: path.into(), out, torn, failed_before: false, trouble: None })
    }

    fn write_line(&mut self, record: &Record) -> io::Result<()> {
        let mut line = Vec::new();
        if self.torn {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, record)?;
        line.push(b'\n');
        self.torn = true;
        self.out.write_all(&line)?;
        self.torn = false;
        Ok(())
    }
}

impl Sink for EventLog {
    fn emit(&mut self, record: &Record) {
        if let Err(error) = self.write_line(record)
            && !std::mem::replace(&mut self.failed_before, true)
        {
            let path = self.path.display();
            self.trouble =
                Some(format!("events are missing from {path} from now on: {error}; the run goes on"));
        }
    }

    fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}

/// Cuts off a last line that is no event. Says whether the file then ends with a line's end.
fn ends_with_a_line(file: &mut File) -> io::Result<bool> {
    let bytes = file.metadata()?.len();
    let start = bytes.saturating_sub(MAX_LINE_BYTES as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(bytes - start).read_to_end(&mut tail)?;
    let last = tail.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if last.is_empty() {
        return Ok(true);
    }
    if serde_json::from_slice::<Record>(last).is_err() {
        file.set_len(bytes - last.len() as u64)?;
        return Ok(last.len() < tail.len() || start == 0);
    }
    Ok(false)
}

/// Reads the events of a run, one at a time.
///
/// A torn last line, as a running or killed process leaves it, is not there yet and ends the events quietly. A bad
/// line elsewhere is an item of its own, after which the events go on.
///
/// # Errors
/// [`EventLogError::Unreadable`] when the file cannot be opened.
pub fn read_events(path: &Path) -> Result<Events, EventLogError> {
    match File::open(path) {
        Ok(file) => Ok(Events { path: path.into(), lines: BufReader::new(file), line: 0, done: false }),
        Err(source) => Err(EventLogError::Unreadable { path: path.into(), source }),
    }
}

/// The events of a log in order; see [`read_events`].
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    lines: BufReader<File>,
    line: u64,
    done: bool,
}

impl Events {
    /// The next line without its end, `None` at the end of the file. The flag says whether the line is whole.
    fn next_line(&mut self) -> io::Result<Option<(Vec<u8>, bool)>> {
        let mut text = Vec::new();
        (&mut self.lines).take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut text)?;
        if text.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let whole = text.pop_if(|last| *last == b'\n').is_some();
        if !whole && text.len() > MAX_LINE_BYTES {
            self.lines.skip_until(b'\n')?;
            return Ok(Some((text, true)));
        }
        Ok(Some((text, whole)))
    }
}

impl Iterator for Events {
    type Item = Result<Record, EventLogError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            let (text, whole) = match self.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(source) => {
                    self.done = true;
                    return Some(Err(EventLogError::Unreadable { path: self.path.clone(), source }));
                }
            };
            if text.is_empty() {
                continue;
            }
            let bad = |reason| Err(EventLogError::Line { path: self.path.clone(), line: self.line, reason });
            if text.len() > MAX_LINE_BYTES {
                return Some(bad(format!("longer than {MAX_LINE_BYTES} bytes")));
            }
            match serde_json::from_slice(&text) {
                Ok(record) => return Some(Ok(record)),
                Err(_) if !whole => break,
                Err(error) => return Some(bad(error.to_string())),
            }
        }
        self.done = true;
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::{Collected, Event, Reporter};

    fn record(epoch: u64) -> Record {
        Record { time: UNIX_EPOCH + Duration::from_secs(epoch), event: Event::EpochStarted { epoch } }
    }

    fn log_of(epochs: std::ops::Range<u64>, path: &Path) {
        let mut log = EventLog::open(path).unwrap();
        epochs.for_each(|epoch| log.emit(&record(epoch)));
        assert_eq!(log.take_trouble(), None);
    }

    fn good(path: &Path) -> Vec<Record> {
        read_events(path).unwrap().filter_map(Result::ok).collect()
    }

    #[test]
    fn what_was_logged_is_read_and_a_second_log_appends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        log_of(0..2, &path);
        log_of(2..3, &path);
        let read: Result<Vec<_>, _> = read_events(&path).unwrap().collect();
        assert_eq!(read.unwrap(), [record(0), record(1), record(2)]);
    }

    #[test]
    fn a_torn_last_line_ends_the_events_and_a_later_log_starts_afresh() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        log_of(0..2, &path);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        let read: Result<Vec<_>, _> = read_events(&path).unwrap().collect();
        assert_eq!(read.unwrap(), [record(0)]);

        log_of(2..3, &path);
        let read: Result<Vec<_>, _> = read_events(&path).unwrap().collect();
        assert_eq!(read.unwrap(), [record(0), record(2)]);
    }

    #[test]
    fn a_last_line_that_only_lacks_its_end_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::fs::write(&path, serde_json::to_string(&record(7)).unwrap()).unwrap();
        assert_eq!(good(&path), [record(7)]);
        log_of(8..9, &path);
        assert_eq!(good(&path), [record(7), record(8)]);
    }

    #[test]
    fn a_log_after_an_endless_torn_line_is_readable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        for (length, lost) in [(1, 0), (MAX_LINE_BYTES - 1, 0), (MAX_LINE_BYTES, 0), (MAX_LINE_BYTES + 9, 1)]
        {
            log_of(0..1, &path);
            let text = [std::fs::read(&path).unwrap(), vec![b'x'; length]].concat();
            std::fs::write(&path, text).unwrap();
            log_of(1..2, &path);
            let items: Vec<_> = read_events(&path).unwrap().collect();
            assert_eq!((items.len(), good(&path)), (2 + lost, vec![record(0), record(1)]), "{length}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn an_endless_line_is_skipped_without_holding_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let good_line = serde_json::to_string(&record(1)).unwrap();
        for length in [MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 3 * MAX_LINE_BYTES] {
            std::fs::write(&path, format!("{}\n{good_line}\n", "x".repeat(length))).unwrap();
            let items: Vec<_> = read_events(&path).unwrap().collect();
            assert!(matches!(items[0], Err(EventLogError::Line { line: 1, .. })), "{length}");
            assert_eq!(items[1].as_ref().unwrap(), &record(1), "{length}");
        }
    }

    #[test]
    fn a_full_disk_is_told_once_and_does_not_stop_the_run() {
        let seen = Collected::default();
        // Every write to this device fails as on a full disk.
        let log = EventLog::open(Path::new("/dev/full")).unwrap();
        let reporter = Reporter::new(vec![Box::new(log), Box::new(seen.clone())]);
        for epoch in 0..3 {
            reporter.emit(Event::EpochStarted { epoch });
        }
        let warnings: Vec<_> = seen
            .events()
            .into_iter()
            .filter_map(|event| match event {
                Event::Warning { message } => Some(message),
                _ => None,
            })
            .collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("events are missing from /dev/full from now on: No space left"));
        assert_eq!(seen.events().len(), 4);
    }

    #[test]
    fn paths_that_cannot_be_used_are_named() {
        use miette::Diagnostic;
        let folder = tempfile::tempdir().unwrap();
        let error = EventLog::open(folder.path()).unwrap_err();
        assert_eq!(error.code().unwrap().to_string(), "output::event_log");
        let error = read_events(&folder.path().join("none")).unwrap_err();
        assert_eq!(error.code().unwrap().to_string(), "data::event_log_unreadable");
        let error = read_events(folder.path()).unwrap().next().unwrap().unwrap_err();
        assert_eq!(error.code().unwrap().to_string(), "data::event_log_unreadable");
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("events.jsonl");
            std::fs::write(&path, &bytes).unwrap();
            let lines = bytes.split(|byte| *byte == b'\n').count();
            prop_assert!(read_events(&path).unwrap().count() <= lines);
        }
    }
}
