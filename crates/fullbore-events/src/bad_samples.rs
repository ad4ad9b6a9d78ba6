use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io,
    path::PathBuf,
};

use crate::{Event, Record, Sink};

/// Lists the bad samples of a run in a CSV file with the columns name, file, reason, replaced_by: one row for each,
/// in the order in which they were met. The file appears with the first one and grows over resumed runs; a run that
/// repeats steps after a kill does not list a sample again.
#[derive(Debug)]
pub struct BadSampleList {
    path: PathBuf,
    out: Option<csv::Writer<File>>,
    /// Samples of earlier runs.
    listed: HashSet<String>,
    trouble: Option<String>,
}

impl BadSampleList {
    /// A list that will be written to `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, out: None, listed: HashSet::new(), trouble: None }
    }

    fn append(&mut self, row: [&str; 4]) -> csv::Result<()> {
        let out = match &mut self.out {
            Some(out) => out,
            None => {
                let file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
                let is_new = file.metadata()?.len() == 0;
                let rows = csv::ReaderBuilder::new().flexible(true).from_reader(&file).into_records();
                self.listed =
                    rows.map_while(Result::ok).filter_map(|row| row.get(0).map(str::to_string)).collect();
                let out = self.out.insert(csv::Writer::from_writer(file));
                if is_new {
                    out.write_record(["name", "file", "reason", "replaced_by"])?;
                }
                out
            }
        };
        if !self.listed.contains(row[0]) {
            out.write_record(row)?;
        }
        Ok(out.flush()?)
    }
}

impl Sink for BadSampleList {
    fn emit(&mut self, record: &Record) {
        if let Event::BadSample { name, file, reason, replaced_by, .. } = &record.event
            && let Err(error) = self.append([name, file, reason, replaced_by.as_deref().unwrap_or("")])
        {
            let (path, error) = (self.path.display(), io::Error::from(error));
            self.trouble = Some(format!("{path} lacks the bad sample `{name}`: {error}; the run goes on"));
        }
    }

    fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Collected, Reporter};

    fn bad(name: &str, reason: &str, replaced_by: Option<&str>) -> Event {
        Event::BadSample {
            name: name.into(),
            file: format!("images/{name}.jpg"),
            reason: reason.into(),
            replaced_by: replaced_by.map(Into::into),
            epoch: 0,
            batch: 0,
        }
    }

    #[test]
    fn the_list_has_a_header_once_and_a_row_for_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad_samples.csv");
        for (name, replaced_by) in [("a", Some("b")), ("c", None), ("a", Some("b"))] {
            let reporter = Reporter::new(vec![Box::new(BadSampleList::new(path.clone()))]);
            reporter.emit(Event::EpochStarted { epoch: 0 });
            reporter.emit(bad(name, "torn, \"here\"", replaced_by));
        }
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "name,file,reason,replaced_by\n\
             a,images/a.jpg,\"torn, \"\"here\"\"\",b\n\
             c,images/c.jpg,\"torn, \"\"here\"\"\",\n"
        );
    }

    #[test]
    fn without_bad_samples_there_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad_samples.csv");
        Reporter::new(vec![Box::new(BadSampleList::new(path.clone()))]).warn("w");
        assert!(!path.exists());
    }

    #[test]
    fn a_list_that_cannot_be_written_becomes_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let seen = Collected::default();
        let list = BadSampleList::new(folder.path().join("missing/bad_samples.csv"));
        let reporter = Reporter::new(vec![Box::new(list), Box::new(seen.clone())]);
        reporter.emit(bad("a", "torn", None));
        let Event::Warning { message } = &seen.events()[1] else { panic!("{:?}", seen.events()) };
        assert!(message.contains("lacks the bad sample `a`"), "{message}");
    }
}
