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
    /// Names of folders that are not hidden.
    folders: Vec<String>,
    /// Names of annotation files and shards.
    files: Vec<String>,
    /// Everything that is not hidden and no picture: count by kind.
    others: BTreeMap<String, usize>,
}

/// Endings of files that are kept by name beside the pictures.
const NAMED_ENDINGS: [&str; 3] = ["json", "pts", "tar"];

impl Listing {
    pub(super) fn of_pictures(folder: &Path, pictures: Vec<Entry>) -> Self {
        let (folders, files, others) = Default::default();
        Listing { folder: folder.into(), pictures, folders, files, others }
    }

    /// The folder of this name, whatever its capitals.
    pub(super) fn folder_named(&self, name: &str) -> Option<PathBuf> {
        let mut folders = self.folders.iter();
        folders.find(|folder| folder.eq_ignore_ascii_case(name)).map(|folder| self.folder.join(folder))
    }

    /// Names of the files with one of the endings that are kept by name, sorted.
    pub(super) fn files_ending(&self, ending: &str) -> impl Iterator<Item = &str> {
        let is =
            move |name: &&str| name.rsplit_once('.').is_some_and(|(_, e)| e.eq_ignore_ascii_case(ending));
        self.files.iter().map(String::as_str).filter(is)
    }

    pub(super) fn read(folder: &Path) -> Result<Self, SourceError> {
        let unreadable = |source| SourceError::Unreadable { path: folder.into(), source };
        let mut listing = Listing::of_pictures(folder, Vec::new());
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let name = name.into_string().map_err(|name| SourceError::NotUtf8 { path: folder.join(name) })?;
            let ending = name.rsplit_once('.').map(|(_, ending)| ending);
            let is_picture = ends_like_picture(&name);
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() || kind.is_symlink() && !is_picture && entry.path().is_dir() {
                listing.count(format!("folder {name}/"));
                listing.folders.push(name);
            } else if is_picture {
                listing.pictures.push(Entry { name });
            } else {
                listing.count(ending.map_or("file without ending".into(), |e| format!(".{e} file")));
                if ending.is_some_and(|e| NAMED_ENDINGS.iter().any(|known| e.eq_ignore_ascii_case(known))) {
                    listing.files.push(name);
                }
            }
        }
        listing.folders.sort_unstable();
        listing.files.sort_unstable();
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
