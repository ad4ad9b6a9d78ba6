use std::path::{Path, PathBuf};

use fullbore_types::SampleId;

use super::listing::Listing;
use super::names::{NameTable, stem};
use super::{Origin, Part, Source, SourceError, Target, TargetKind, metadata};

/// Pictures without targets, for prediction: one file, or those of a folder sorted by name. Hidden files, folders
/// and files that do not end like pictures are passed over. A sample's name is its whole file name.
#[derive(Debug)]
pub struct Pictures {
    folder: PathBuf,
    names: NameTable,
}

impl Pictures {
    /// Lists the folder once; opens no picture. A single file is taken whatever its ending.
    ///
    /// # Errors
    /// When the path does not exist or cannot be listed, or a folder holds no pictures.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let mut names = NameTable::default();
        if !metadata(path)?.is_dir() {
            let name = path.file_name().and_then(|name| name.to_str());
            names.push(name.ok_or_else(|| SourceError::NotUtf8 { path: path.into() })?);
            let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
            return Ok(Self { folder, names });
        }
        let mut listing = Listing::read(path)?;
        if listing.pictures.is_empty() {
            return Err(SourceError::Empty { folder: path.into(), found: listing.summary() });
        }
        super::renumbered::check_count(listing.pictures.len() as u64)?;
        listing.pictures.sort_unstable();
        listing.pictures.iter().for_each(|entry| names.push(&entry.name));
        Ok(Self { folder: path.into(), names })
    }

    /// The folder that the pictures lie in; empty for a single file named without one.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What to call the result for a picture: its name without ending, or with it where two pictures differ in
    /// nothing else.
    pub fn result_name(&self, id: SampleId) -> String {
        let at = |i: usize| (i < self.names.len()).then(|| self.names.get(i));
        let i = id.0 as usize;
        let name = self.names.get(i);
        // Names are sorted by what stands before the ending.
        let twin = [at(i.wrapping_sub(1)), at(i + 1)].into_iter().flatten().any(|n| stem(n) == stem(name));
        if twin { name.to_owned() } else { stem(name).to_owned() }
    }
}

impl Source for Pictures {
    fn len(&self) -> usize {
        self.names.len()
    }

    fn kind(&self) -> TargetKind {
        TargetKind::None
    }

    fn name(&self, id: SampleId) -> String {
        self.names.get(id.0 as usize).to_owned()
    }

    fn target(&self, _: SampleId) -> Target<'_> {
        Target::None
    }

    /// # Panics
    /// When asked for a mask.
    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        assert_eq!(part, Part::Image, "pictures have no masks");
        self.folder.join(self.names.get(id.0 as usize))
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn pictures_of_a_folder_come_sorted_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.JPG", "a.png", "a.jpg", "notes.txt", ".hidden.png"] {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        fs::create_dir(dir.path().join("folder.png")).unwrap();
        let pictures = Pictures::open(dir.path()).unwrap();
        let names: Vec<_> = (0..pictures.len() as u32).map(|i| pictures.name(SampleId(i))).collect();
        assert_eq!(names, ["a.jpg", "a.png", "b.JPG"]);
        assert_eq!(pictures.file(SampleId(2), Part::Image), dir.path().join("b.JPG"));
        let results: Vec<_> = (0..3).map(|i| pictures.result_name(SampleId(i))).collect();
        assert_eq!(results, ["a.jpg", "a.png", "b"], "two results may not have one name");
    }

    #[test]
    fn one_file_is_one_picture() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("photo");
        fs::write(&file, b"x").unwrap();
        let pictures = Pictures::open(&file).unwrap();
        assert_eq!((pictures.len(), pictures.file(SampleId(0), Part::Image)), (1, file));
    }

    #[test]
    fn nothing_to_predict_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Pictures::open(dir.path()), Err(SourceError::Empty { .. })));
        assert!(matches!(Pictures::open(&dir.path().join("x")), Err(SourceError::NotFound { .. })));
    }
}
