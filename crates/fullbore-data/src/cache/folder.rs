//! The folder of a cache on disk: one pack for each recipe, one budget for all of them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::CacheWarning;
use super::budget::Budget;

const INDEX: &str = "index";
const PIXELS: &str = "pixels";
/// Openings of an index that others remove meanwhile.
const ATTEMPTS: usize = 3;

/// Knows the packs of a folder, and makes room by removing those that were used longest ago.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    budget: Budget,
    /// Bytes of the disk that stay free.
    keep_free: u64,
    /// Nothing more can be removed.
    crowded: AtomicBool,
    warnings: Mutex<Vec<CacheWarning>>,
}

/// The two files of a pack.
pub(super) struct PackFiles {
    pub(super) index: File,
    pub(super) pixels: File,
    /// True when nobody else writes to them as long as they are open here.
    pub(super) exclusive: bool,
}

impl Folder {
    pub(super) fn new(path: PathBuf, limit: u64, keep_free: u64) -> Self {
        let used = packs(&path).iter().map(|pack| pack.bytes).sum();
        let warnings = Mutex::default();
        Folder {
            path,
            budget: Budget::new(limit, used),
            keep_free,
            crowded: AtomicBool::new(false),
            warnings,
        }
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Opens the files of a recipe, making them where they are not there. Readable by this user alone, as the
    /// pictures may be.
    pub(super) fn open(&self, recipe: u128) -> io::Result<PackFiles> {
        fs::create_dir_all(&self.path)?;
        let path = self.path.join(format!("{recipe:032x}"));
        let index_path = path.with_extension(INDEX);
        let mut attempts = 1;
        let (index, exclusive) = loop {
            let (index, writable) = open_or_make(&index_path)?;
            match index.try_lock() {
                // Whoever made room may have removed the file between opening and locking.
                Ok(()) if !is_at(&index, &index_path) && attempts < ATTEMPTS => attempts += 1,
                Ok(()) => break (index, writable),
                Err(TryLockError::WouldBlock) => {
                    self.warn(CacheWarning::Shared { folder: self.path.clone() });
                    break (index, false);
                }
                // No locks here, so nobody can be told to stay away.
                Err(TryLockError::Error(source)) => {
                    self.warn(CacheWarning::Unlockable { folder: self.path.clone(), source });
                    break (index, false);
                }
            }
        };
        let (pixels, writable) = open_or_make(&path.with_extension(PIXELS))?;
        // Tells which packs were used last. Where that fails the pack seems older than it is, no more.
        let _ = index.set_modified(SystemTime::now());
        Ok(PackFiles { index, pixels, exclusive: exclusive && writable })
    }

    /// True when `bytes` more may fit, removing other packs.
    pub(super) fn may_have_room(&self, bytes: u64) -> bool {
        self.budget.has_room(bytes) || (bytes <= self.budget.limit() && !self.crowded.load(Ordering::Relaxed))
    }

    /// Takes bytes of the budget, removing other packs where they lack.
    pub(super) fn take(&self, bytes: u64) -> bool {
        if self.budget.take(bytes) {
            return true;
        }
        self.remove_others(bytes);
        self.budget.take(bytes)
    }

    /// Removes packs that nobody has open for writing, those used longest ago first, until `bytes` fit.
    pub(super) fn remove_others(&self, bytes: u64) {
        if self.crowded.load(Ordering::Relaxed) {
            return;
        }
        let mut packs = packs(&self.path);
        packs.sort_by_key(|pack| pack.used);
        for pack in packs {
            if self.budget.has_room(bytes) {
                return;
            }
            let Ok(index) = File::open(&pack.index) else { continue };
            if index.try_lock().is_ok() && is_at(&index, &pack.index) {
                // The index first: pixels without one are nothing.
                let removed = fs::remove_file(&pack.index);
                if removed.and_then(|()| fs::remove_file(pack.index.with_extension(PIXELS))).is_ok() {
                    self.budget.give_back(pack.bytes);
                }
            }
        }
        self.crowded.store(!self.budget.has_room(bytes), Ordering::Relaxed);
    }

    /// Refuses to write `bytes` more to a disk that is nearly full.
    pub(super) fn check_disk(&self, file: &File, bytes: u64) -> Result<(), CacheWarning> {
        // A file system that does not tell is written to until it refuses.
        let Ok(disk) = rustix::fs::fstatvfs(file) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        match free < self.keep_free.saturating_add(bytes) {
            true => {
                Err(CacheWarning::DiskFull { folder: self.path.clone(), free, keep_free: self.keep_free })
            }
            false => Ok(()),
        }
    }

    pub(super) fn unusable(&self, source: io::Error) -> CacheWarning {
        CacheWarning::Unusable { folder: self.path.clone(), source }
    }

    pub(super) fn warn(&self, warning: CacheWarning) {
        self.warnings().push(warning);
    }

    pub(super) fn take_warnings(&self) -> Vec<CacheWarning> {
        std::mem::take(&mut *self.warnings())
    }

    fn warnings(&self) -> std::sync::MutexGuard<'_, Vec<CacheWarning>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Listed {
    index: PathBuf,
    used: SystemTime,
    /// Of both files.
    bytes: u64,
}

/// The packs of a folder; none where it cannot be listed.
fn packs(folder: &Path) -> Vec<Listed> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let indices = entries.flatten().map(|entry| entry.path()).filter(|path| is_index(path));
    let listed = indices.filter_map(|index| {
        let meta = fs::metadata(&index).ok()?;
        let pixels = fs::metadata(index.with_extension(PIXELS)).map_or(0, |meta| meta.len());
        let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some(Listed { index, used, bytes: meta.len() + pixels })
    });
    listed.collect()
}

/// True for names that this cache gives, so that no other file is ever removed.
fn is_index(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    path.extension().is_some_and(|end| end == INDEX)
        && stem.len() == 32
        && stem.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Opens a file for reading and, where allowed, writing; true when it is.
fn open_or_make(path: &Path) -> io::Result<(File, bool)> {
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    match made {
        Ok(file) => Ok((file, true)),
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                File::open(path).map(|file| (file, false)).map_err(|_| error)
            }
            _ => Err(error),
        },
    }
}

/// True when the open file is still the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(|(a, b)| same(a, b))
}
