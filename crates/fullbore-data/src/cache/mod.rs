//! Samples kept from one epoch to the next, so that they are decoded once.
//!
//! What is kept is the last thing about a sample that is the same in every epoch: the image on its canvas with
//! its class indices, or, where random windows are cut, both as decoded. Images are kept raw: compressed they
//! would hardly be smaller, photographs being what they are, and a raw one is used at the cost of a copy. Masks
//! are packed by runs.
//!
//! In memory, the first samples that fit stay until the run ends, also when their files change meanwhile. On disk
//! they outlast the run; there a sample is known by the paths, lengths and times of change of its files, looked
//! up at every use, so a changed file is read anew. (A file rewritten with the same length within the clock tick
//! of its file system looks unchanged.)
//!
//! A cache never fails a run: what cannot be kept is decoded, and [`Cache::take_warnings`] says why.

mod budget;
mod decide;
mod folder;
mod key;
mod pack;
mod probe;
mod ram;
mod recipe;
mod row;
mod runs;
mod shape;
mod shards;
mod shelf;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

pub use decide::{CacheDecision, CacheNeeds, SampleCost, decide};
pub(crate) use key::Key;
pub use probe::probe;
pub(crate) use shelf::{CacheCounters, Found, Pixels, Shelf};

use budget::Budget;
use folder::Folder;
pub(crate) use recipe::{Form, Recipe};

/// Bytes of a disk that a cache leaves free.
pub const KEEP_FREE_BYTES: u64 = 2 << 30;

/// Where samples are kept: `data.cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// Nowhere: every epoch decodes.
    Off,
    /// In this process's memory.
    Ram,
    /// In a folder, for later runs too.
    Disk,
    /// Whichever [`decide`] finds best.
    Auto,
}

impl fmt::Display for CacheMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CacheMode::Off => "off",
            CacheMode::Ram => "ram",
            CacheMode::Disk => "disk",
            CacheMode::Auto => "auto",
        })
    }
}

/// Where samples are kept on disk unless the user names a folder: `samples` in fullbore's cache folder,
/// `$FULLBORE_CACHE`, or `fullbore` in `$XDG_CACHE_HOME` or `~/.cache`. `None` where there is no home.
pub fn default_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let fullbore = variable("FULLBORE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("fullbore")))
        .or_else(|| Some(variable("HOME")?.join(".cache/fullbore")))?;
    Some(fullbore.join("samples"))
}

/// Bytes of the disk under `folder`, or under its nearest parent that exists, that a cache there may take:
/// [`KEEP_FREE_BYTES`] are left out. `None` where the system does not tell.
pub fn free_disk(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|path| path.exists())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(KEEP_FREE_BYTES))
}

/// Samples kept for all loaders of a run under one budget. Each kind of canvas has a shelf of its own, which
/// stays when its loader goes: the next evaluation finds what the last one left.
pub struct Cache {
    place: Place,
    /// By recipe; `None` where there is none to be had.
    shelves: Mutex<HashMap<u128, Option<Arc<Shelf>>>>,
}

enum Place {
    Ram(Arc<Budget>),
    Disk(Arc<Folder>),
}

impl Cache {
    /// Keeps samples in memory, at most `bytes` in all. Counted are pixels, tables and headers as they are asked
    /// from the allocator. All of it is freed with the cache and its loaders.
    pub fn in_memory(bytes: u64) -> Self {
        Self::new(Place::Ram(Arc::new(Budget::new(bytes, 0))))
    }

    /// Keeps samples in `folder`, which is made when it is not there, and holds at most `bytes` of them: those
    /// of other settings that were used longest ago make room. [`KEEP_FREE_BYTES`] of the disk stay free. Runs
    /// that use one folder at a time may each add up to the budget; one of them writes for each kind of canvas.
    pub fn on_disk(folder: PathBuf, bytes: u64) -> Self {
        Self::on_disk_with(folder, bytes, KEEP_FREE_BYTES)
    }

    fn on_disk_with(folder: PathBuf, bytes: u64, keep_free: u64) -> Self {
        Self::new(Place::Disk(Arc::new(Folder::new(folder, bytes, keep_free))))
    }

    fn new(place: Place) -> Self {
        Cache { place, shelves: Mutex::default() }
    }

    /// Bytes held in all: in memory, or in the folder with what other runs left there.
    pub fn bytes(&self) -> u64 {
        match &self.place {
            Place::Ram(budget) => budget.used(),
            Place::Disk(folder) => folder.budget().used(),
        }
    }

    /// What has gone wrong since this was last asked. Each trouble is told once for each
    /// kind of canvas; the run goes on without.
    pub fn take_warnings(&self) -> Vec<CacheWarning> {
        match &self.place {
            Place::Ram(_) => Vec::new(),
            Place::Disk(folder) => folder.take_warnings(),
        }
    }

    /// The shelf for one recipe. `None` when it cannot be had.
    pub(crate) fn shelf(&self, recipe: Recipe) -> Option<Arc<Shelf>> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = shelves.entry(recipe.id).or_insert_with(|| match &self.place {
            Place::Ram(budget) => Some(Arc::new(Shelf::in_memory(recipe, budget.clone()))),
            Place::Disk(folder) => match Shelf::on_disk(recipe, folder.clone()) {
                Ok(shelf) => Some(Arc::new(shelf)),
                Err(source) => {
                    folder.warn(folder.unusable(source));
                    None
                }
            },
        });
        opened.clone()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// How much a cache helps one loader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Samples that were found. After the first epoch nearly as high as the samples loaded: the cache holds the
    /// set. Low: the set does not fit, see [`held_samples`](Self::held_samples).
    pub hits: u64,
    /// Samples that had to be decoded. High in a first epoch; later, those that do not fit. 0 with `hits` 0:
    /// there is no cache, or the source does not tell where its bytes lie.
    pub misses: u64,
    /// Samples that were found damaged, and decoded instead; counted as misses too. More than a few: the disk
    /// is failing, or something else writes to the folder.
    pub rejected: u64,
    /// Samples held now. Low against the size of the set: raise `data.cache_bytes` where memory or disk allow.
    pub held_samples: u64,
    /// Bytes that they take.
    pub held_bytes: u64,
}

impl CacheStats {
    /// What was counted since `earlier`, a reading of the same loader; what is held is as it is now.
    pub fn since(&self, earlier: &CacheStats) -> CacheStats {
        CacheStats {
            hits: self.hits - earlier.hits,
            misses: self.misses - earlier.misses,
            rejected: self.rejected - earlier.rejected,
            ..*self
        }
    }
}

/// Why a cache on disk does not do all that it could.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CacheWarning {
    /// The folder or a file in it cannot be made, read or written.
    #[error("the cache in {} cannot be used, samples are decoded instead: {source}", folder.display())]
    #[diagnostic(
        code(output::cache),
        help("check the folder's permissions and the disk, or set data.cache: off")
    )]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Too little of the disk is free.
    #[error("the cache in {} grows no more: {free} bytes of the disk are free", folder.display())]
    #[diagnostic(
        code(limit::disk),
        help("{keep_free} bytes are left alone; free some, or name another folder")
    )]
    DiskFull {
        /// The folder.
        folder: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes that stay free.
        keep_free: u64,
    },
    /// Another process writes.
    #[error("another run fills the cache in {}; this one reads what is there", folder.display())]
    #[diagnostic(code(output::cache::shared), help("nothing need be done"))]
    Shared {
        /// The folder.
        folder: PathBuf,
    },
    /// The file system has no locks.
    #[error("files in {} cannot be locked, so nothing is added to the cache: {source}", folder.display())]
    #[diagnostic(code(output::cache::lock), help("name a folder on a local disk"))]
    Unlockable {
        /// The folder.
        folder: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
