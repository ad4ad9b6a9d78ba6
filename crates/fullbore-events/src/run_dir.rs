use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use jiff::{Timestamp, tz::TimeZone};

/// Why a run folder could not be made or opened.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RunDirError {
    /// There is already something in the folder.
    #[error("the run folder {path} already exists and is not empty", path = path.display())]
    #[diagnostic(
        code(config::run_dir_exists),
        help("choose another run.dir, remove this folder, or go on with its run: fullbore train --resume {}", path.display())
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },

    /// A file is in the way.
    #[error("the run folder {path} is a file", path = path.display())]
    #[diagnostic(code(config::run_dir_is_a_file), help("choose another run.dir"))]
    IsAFile {
        /// The path.
        path: PathBuf,
    },

    /// The folder cannot be created or written to.
    #[error("cannot create the run folder {path}", path = path.display())]
    #[diagnostic(code(output::run_dir), help("make its parent folder writable, or choose another run.dir"))]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A path that should be a run folder is none.
    #[error("{path} is not a run folder: {reason}", path = path.display())]
    #[diagnostic(
        code(config::not_a_run_dir),
        help("name the folder that `fullbore train` printed, such as runs/20261121-143000")
    )]
    NotARunDir {
        /// The path.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
}

/// The folder of one run and the names of what lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Creates the folder of a new run, with its parents and its `checkpoints` folder. An empty folder is taken
    /// over. Of two processes that ask for the same folder one gets it.
    ///
    /// # Errors
    /// [`RunDirError::Exists`], [`RunDirError::IsAFile`], [`RunDirError::NotWritable`].
    pub fn create(path: &Path) -> Result<Self, RunDirError> {
        let not_writable = |source| RunDirError::NotWritable { path: path.into(), source };
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(RunDirError::Exists { path: path.into() });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path).map_err(not_writable)?;
            }
            Err(_) if path.is_file() => return Err(RunDirError::IsAFile { path: path.into() }),
            Err(error) => return Err(not_writable(error)),
        }
        let run = Self { path: path.into() };
        match fs::create_dir(run.checkpoints()) {
            Ok(()) => Ok(run),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(RunDirError::Exists { path: path.into() })
            }
            Err(error) => Err(not_writable(error)),
        }
    }

    /// Creates the folder of a new run below `parent`, named after the local time: `20261121-143000`, and
    /// `20261121-143000-2` when that is taken.
    ///
    /// # Errors
    /// [`RunDirError::NotWritable`].
    pub fn create_dated(parent: &Path, now: SystemTime) -> Result<Self, RunDirError> {
        let name = dated_name(now, TimeZone::system());
        let mut count = 1;
        loop {
            let name = if count == 1 { name.clone() } else { format!("{name}-{count}") };
            match Self::create(&parent.join(name)) {
                Err(RunDirError::Exists { .. } | RunDirError::IsAFile { .. }) => count += 1,
                result => return result,
            }
        }
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    /// [`RunDirError::NotARunDir`] says what is missing.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let fail = |reason: String| Err(RunDirError::NotARunDir { path: path.into(), reason });
        let run = Self { path: path.into() };
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return fail("it does not exist".into()),
            Err(error) => return fail(error.to_string()),
            Ok(found) if !found.is_dir() => return fail("it is not a folder".into()),
            Ok(_) => {}
        }
        for needed in [run.plan(), run.events()] {
            if !needed.is_file() {
                let name = needed.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return fail(format!("there is no {name} in it"));
            }
        }
        Ok(run)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `events.jsonl`, everything that happened.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// `plan.yaml`, the resolved plan.
    pub fn plan(&self) -> PathBuf {
        self.path.join("plan.yaml")
    }

    /// `summary.json`, the result in numbers.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// `bad_samples.csv`, the training samples that could not be loaded; absent when there was none.
    pub fn bad_samples(&self) -> PathBuf {
        self.path.join("bad_samples.csv")
    }

    /// The folder `checkpoints`.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// `checkpoints/last.safetensors`, the newest state.
    pub fn last_checkpoint(&self) -> PathBuf {
        self.checkpoints().join("last.safetensors")
    }

    /// `checkpoints/best.safetensors`, the state that scored best, for place 0; `best-2.safetensors` for place 1.
    pub fn best_checkpoint(&self, place: usize) -> PathBuf {
        self.checkpoints().join(match place {
            0 => "best.safetensors".to_string(),
            _ => format!("best-{}.safetensors", place + 1),
        })
    }
}

fn dated_name(now: SystemTime, zone: TimeZone) -> String {
    // A clock outside jiff's range (years -9999 to 9999) is broken; any name will do then.
    let now = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
    now.to_zoned(zone).strftime("%Y%m%d-%H%M%S").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use miette::Diagnostic;

    use super::*;

    fn code(error: RunDirError) -> String {
        error.code().unwrap().to_string()
    }

    #[test]
    fn a_new_folder_is_made_with_its_parents_and_an_empty_one_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("a/b")).unwrap();
        assert!(run.checkpoints().is_dir());
        assert_eq!(run.last_checkpoint(), folder.path().join("a/b/checkpoints/last.safetensors"));
        fs::create_dir(folder.path().join("empty")).unwrap();
        RunDir::create(&folder.path().join("empty")).unwrap();
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        RunDir::create(&path).unwrap();
        let error = RunDir::create(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the run folder {} already exists and is not empty", path.display())
        );
        assert_eq!(code(error), "config::run_dir_exists");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(code(RunDir::create(&file).unwrap_err()), "config::run_dir_is_a_file");
        assert_eq!(code(RunDir::create(&file.join("run")).unwrap_err()), "output::run_dir");
    }

    #[test]
    fn one_of_many_that_ask_for_a_folder_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let created: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| RunDir::create(&path).is_ok())).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
        });
        assert_eq!(created, 1);
    }

    #[test]
    fn dated_folders_never_collide() {
        let parent = tempfile::tempdir().unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_795_271_400);
        let first = RunDir::create_dated(parent.path(), now).unwrap();
        let second = RunDir::create_dated(parent.path(), now).unwrap();
        let third = RunDir::create_dated(parent.path(), now).unwrap();
        let name = first.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(second.path().file_name().unwrap().to_str().unwrap(), format!("{name}-2"));
        assert_eq!(third.path().file_name().unwrap().to_str().unwrap(), format!("{name}-3"));
    }

    #[test]
    fn the_name_is_date_and_time_in_the_zone() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_271_400);
        assert_eq!(dated_name(now, TimeZone::UTC), "20261121-143000");
        assert_eq!(dated_name(now, TimeZone::fixed(jiff::tz::offset(-5))), "20261121-093000");
    }

    #[test]
    fn opening_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let message = |path: &Path| {
            let error = RunDir::open(path).unwrap_err();
            assert_eq!(error.code().unwrap().to_string(), "config::not_a_run_dir");
            error.to_string().replace(&folder.path().display().to_string(), "TMP")
        };
        assert_eq!(message(&path), "TMP/run is not a run folder: it does not exist");
        let run = RunDir::create(&path).unwrap();
        assert_eq!(message(&path), "TMP/run is not a run folder: there is no plan.yaml in it");
        fs::write(run.plan(), "").unwrap();
        assert_eq!(message(&path), "TMP/run is not a run folder: there is no events.jsonl in it");
        assert_eq!(message(&run.plan()), "TMP/run/plan.yaml is not a run folder: it is not a folder");
        fs::write(run.events(), "").unwrap();
        assert_eq!(RunDir::open(&path).unwrap(), run);
    }
}
