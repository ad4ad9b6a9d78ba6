//! Which cached sample belongs to which files.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use fullbore_types::SampleId;
use twox_hash::{XxHash3_64, XxHash3_128};

use crate::source::{Origin, Part, Source};

/// Names the content of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Where the content lies.
    pub(crate) place: u128,
    /// Length and time of change of the files there: other content, another state. 0 where nobody looked.
    pub(crate) state: u64,
}

impl Key {
    /// The key by names alone. `None` when the source does not tell where its bytes lie.
    pub(crate) fn of_names(source: &dyn Source, id: SampleId, with_mask: bool) -> Option<Self> {
        let origins = Origins::of(source, id, with_mask)?;
        Some(Key { place: origins.place(), state: 0 })
    }

    /// The key by names and by what the file system says of the files. `None` when one of them is not there.
    pub(crate) fn of_files(source: &dyn Source, id: SampleId, with_mask: bool) -> Option<Self> {
        let origins = Origins::of(source, id, with_mask)?;
        Some(Key { place: origins.place(), state: origins.state()? })
    }
}

struct Origins {
    image: Origin,
    mask: Option<Origin>,
}

impl Origins {
    fn of(source: &dyn Source, id: SampleId, with_mask: bool) -> Option<Self> {
        let image = source.origin(id, Part::Image)?;
        let mask = if with_mask { Some(source.origin(id, Part::Target)?) } else { None };
        Some(Origins { image, mask })
    }

    fn all(&self) -> impl Iterator<Item = &Origin> {
        std::iter::once(&self.image).chain(&self.mask)
    }

    fn place(&self) -> u128 {
        let mut hasher = XxHash3_128::new();
        for Origin { file, within } in self.all() {
            // A relative path means another file in another working folder.
            let path = std::path::absolute(file);
            let path = path.as_deref().unwrap_or(file).as_os_str().as_encoded_bytes();
            hasher.write(&(path.len() as u64).to_le_bytes());
            hasher.write(path);
            hasher.write(&within.to_le_bytes());
        }
        hasher.finish_128()
    }

    fn state(&self) -> Option<u64> {
        let mut bytes = Vec::with_capacity(48);
        for origin in self.all() {
            let (length, changed) = look(&origin.file)?;
            bytes.extend(length.to_le_bytes());
            bytes.extend(changed.to_le_bytes());
        }
        Some(XxHash3_64::oneshot(&bytes))
    }
}

/// Length, and time of change in nanoseconds.
fn look(file: &Path) -> Option<(u64, i128)> {
    let meta = fs::metadata(file).ok()?;
    let changed = meta.modified().ok()?;
    let nanoseconds = match changed.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    };
    Some((meta.len(), nanoseconds))
}
