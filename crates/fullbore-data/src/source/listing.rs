//! What lies in one folder, by name.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::SourceError;
use super::names::{ends_like_picture, stem};

/// Names listed in one message.
pub(super) const EXAMPLES: usize = 5;

/// A picture's file name; sorts by stem, then by the whole name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
}

impl Entry {
    pub(super) fn stem(&self) -> &str {
        stem(&self.name)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.stem().cmp(other.stem()).then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What lies in one folder, without a look at any single file.
pub(super) struct Listing {
    pub(super) folder: PathBuf,
    pub(super) pictures: Vec<Entry>,
    /// Everything else that is not hidden: count by kind.
    pub(super) others: BTreeMap<String, usize>,
}

impl Listing {
    pub(super) fn read(folder: &Path) -> Result<Self, SourceError> {
        let unreadable = |source| SourceError::Unreadable { path: folder.into(), source };
        let mut listing = Listing { folder: folder.into(), pictures: Vec::new(), others: BTreeMap::new() };
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let name = name.into_string().map_err(|name| SourceError::NotUtf8 { path: folder.join(name) })?;
            let ending = name.rsplit_once('.').map(|(_, ending)| ending);
            if entry.file_type().map_err(unreadable)?.is_dir() {
                listing.count(format!("folder {name}/"));
            } else if ends_like_picture(&name) {
                listing.pictures.push(Entry { name });
            } else {
                listing.count(ending.map_or("file without ending".into(), |e| format!(".{e} file")));
            }
        }
        Ok(listing)
    }

    /// Counts a kind; beyond some number of kinds all are one.
    fn count(&mut self, kind: String) {
        const KINDS: usize = 20;
        let full = self.others.len() >= KINDS && !self.others.contains_key(&kind);
        let kind = if full { "entry of other kinds".to_owned() } else { kind };
        *self.others.entry(kind).or_default() += 1;
    }

    pub(super) fn summary(&self) -> String {
        let mut kinds: Vec<(&str, usize)> = self.others.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        if !self.pictures.is_empty() {
            kinds.push(("picture", self.pictures.len()));
        }
        kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let mut words: Vec<String> = kinds
            .iter()
            .take(EXAMPLES)
            .map(|(kind, n)| match kind.starts_with("folder ") {
                true => (*kind).to_owned(),
                false => format!("{n} {kind}{}", plural(*n)),
            })
            .collect();
        if kinds.len() > EXAMPLES {
            words.push("more".into());
        }
        if words.is_empty() { "nothing".into() } else { words.join(", ") }
    }
}
