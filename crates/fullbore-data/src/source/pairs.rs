use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use fullbore_types::SampleId;

use super::listing::{EXAMPLES, Entry, Listing};
use super::names::{NameTable, stem};
use super::{Origin, Part, Source, SourceError};

const IMAGE_FOLDERS: [&str; 2] = ["images", "imgs"];
const MASK_FOLDER: &str = "masks";
const MASK_SUFFIX: &str = "_mask";

/// Pairs found by name: `images/X.jpg` with `masks/X.png` or `masks/X_mask.png`, or both in one folder as `X.jpg`
/// and `X_mask.png`. Samples are sorted by stem, byte by byte. Hidden files and files that do not end like
/// pictures are passed over, and so are masks without an image.
#[derive(Debug)]
pub struct PairFolders {
    images: PathBuf,
    masks: PathBuf,
    /// Image name and mask name of each sample, in turn.
    names: NameTable,
}

impl PairFolders {
    /// Lists the folders once and pairs the names; opens no picture.
    ///
    /// # Errors
    /// When the folder has no known layout or no pictures, an image has no mask, or a stem has two images or two
    /// masks.
    pub fn open(folder: &Path) -> Result<Self, SourceError> {
        let images = IMAGE_FOLDERS.iter().map(|name| folder.join(name)).find(|path| path.is_dir());
        let masks = folder.join(MASK_FOLDER);
        match images {
            Some(images) if masks.is_dir() => {
                let listed = Listing::read(&images)?;
                let pairs = (listed, Listing::read(&masks)?);
                Self::pair(images, masks, pairs)
            }
            Some(_) => Err(SourceError::Layout {
                path: folder.into(),
                found: format!("{}, and no masks/", Listing::read(folder)?.summary()),
            }),
            None => Self::open_single(folder),
        }
    }

    fn open_single(folder: &Path) -> Result<Self, SourceError> {
        let mut images = Listing::read(folder)?;
        let is_mask = |entry: &Entry| entry.stem().ends_with(MASK_SUFFIX);
        if images.pictures.iter().any(is_mask) {
            let masks = images.pictures.extract_if(.., |entry| is_mask(entry)).collect();
            let masks = Listing::of_pictures(folder, masks);
            return Self::pair(folder.into(), folder.into(), (images, masks));
        }
        let full = fs::canonicalize(folder).unwrap_or_else(|_| folder.into());
        match full.parent() {
            Some(parent) if !images.pictures.is_empty() && parent.join(MASK_FOLDER).is_dir() => {
                let named = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = named.unwrap_or(parent).into();
                Err(SourceError::InsideFolder { path: folder.into(), parent })
            }
            _ => Err(SourceError::Layout { path: folder.into(), found: images.summary() }),
        }
    }

    fn pair(images: PathBuf, masks: PathBuf, listed: (Listing, Listing)) -> Result<Self, SourceError> {
        let (mut image_list, mut mask_list) = listed;
        for list in [&image_list, &mask_list] {
            if list.pictures.is_empty() {
                return Err(SourceError::Empty { folder: list.folder.clone(), found: list.summary() });
            }
        }
        image_list.pictures.sort_unstable();
        if let Some(twins) = image_list.pictures.windows(2).find(|w| w[0].stem() == w[1].stem()) {
            return Err(SourceError::Twins {
                stem: twins[0].stem().into(),
                what: "images",
                first: images.join(&twins[0].name),
                second: images.join(&twins[1].name),
            });
        }
        mask_list.pictures.sort_unstable();
        // The same masks by the stem that is left without the suffix. Cut strings no longer sort as whole ones do.
        let mut suffixed: Vec<(&str, &Entry)> = mask_list
            .pictures
            .iter()
            .filter_map(|entry| entry.stem().strip_suffix(MASK_SUFFIX).map(|cut| (cut, entry)))
            .collect();
        suffixed.sort_unstable();
        let mut plain = mask_list.pictures.iter().map(|entry| (entry.stem(), entry)).peekable();
        let mut suffixed = suffixed.into_iter().peekable();

        let mut names = NameTable::default();
        let mut without = Vec::new();
        let mut n_without = 0;
        for image in &image_list.pictures {
            let stem = image.stem();
            let matches = [
                next_match(&mut plain, stem),
                next_match(&mut plain, stem),
                next_match(&mut suffixed, stem),
                next_match(&mut suffixed, stem),
            ];
            let mut matches = matches.into_iter().flatten();
            match (matches.next(), matches.next()) {
                (Some(first), Some(second)) => {
                    return Err(SourceError::Twins {
                        stem: stem.into(),
                        what: "masks",
                        first: masks.join(&first.name),
                        second: masks.join(&second.name),
                    });
                }
                (Some(mask), None) => {
                    names.push(&image.name);
                    names.push(&mask.name);
                }
                _ => {
                    n_without += 1;
                    if without.len() < EXAMPLES {
                        without.push(image.name.clone());
                    }
                }
            }
        }
        let of = image_list.pictures.len();
        if n_without > 0 {
            return Err(SourceError::NoMask { folder: masks, examples: without, count: n_without, of });
        }
        super::renumbered::check_count(of as u64)?;
        names.shrink_to_fit();
        Ok(PairFolders { images, masks, names })
    }
}

/// The next entry of a sorted list whose key is `stem`; entries before it are dropped.
fn next_match<'a, I>(sorted: &mut Peekable<I>, stem: &str) -> Option<&'a Entry>
where
    I: Iterator<Item = (&'a str, &'a Entry)>,
{
    while sorted.next_if(|(key, _)| *key < stem).is_some() {}
    sorted.next_if(|(key, _)| *key == stem).map(|(_, entry)| entry)
}

impl Source for PairFolders {
    fn len(&self) -> usize {
        self.names.len() / 2
    }

    fn name(&self, id: SampleId) -> String {
        stem(self.names.get(2 * id.0 as usize)).to_owned()
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        let i = 2 * id.0 as usize;
        match part {
            Part::Image => self.images.join(self.names.get(i)),
            Part::Target => self.masks.join(self.names.get(i + 1)),
        }
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these empty files.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        dir
    }

    fn pairs(files: &[&str]) -> Result<Vec<(String, String, String)>, SourceError> {
        let dir = folder(files);
        let source = PairFolders::open(dir.path())?;
        let relative =
            |id, part| source.file(id, part).strip_prefix(dir.path()).unwrap().display().to_string();
        Ok((0..source.len() as u32)
            .map(SampleId)
            .map(|id| (source.name(id), relative(id, Part::Image), relative(id, Part::Target)))
            .collect())
    }

    fn row(name: &str, image: &str, mask: &str) -> (String, String, String) {
        (name.into(), image.into(), mask.into())
    }

    #[test]
    fn masks_match_by_stem_or_suffix_and_order_is_by_bytes() {
        let found = pairs(&[
            "imgs/b.JPG",
            "imgs/a_mask.png",
            "imgs/a.b.png",
            "imgs/Z.tif",
            "imgs/.hidden.png",
            "imgs/Thumbs.db",
            "masks/b_mask.png",
            "masks/a_mask_mask.gif.png",
            "masks/a_mask_mask.png",
            "masks/a.b.png",
            "masks/Z.png",
            "masks/unused.png",
        ])
        .unwrap();
        assert_eq!(
            found,
            [
                row("Z", "imgs/Z.tif", "masks/Z.png"),
                row("a.b", "imgs/a.b.png", "masks/a.b.png"),
                row("a_mask", "imgs/a_mask.png", "masks/a_mask_mask.png"),
                row("b", "imgs/b.JPG", "masks/b_mask.png"),
            ]
        );
    }

    #[test]
    fn one_folder_may_hold_both() {
        let found = pairs(&["b.jpg", "b_mask.png", "a.png", "a_mask.png"]).unwrap();
        assert_eq!(found, [row("a", "a.png", "a_mask.png"), row("b", "b.jpg", "b_mask.png")]);
    }

    #[test]
    fn stems_with_signs_below_the_underscore_still_match() {
        let found = pairs(&["images/a.png", "images/a-b.png", "masks/a_mask.png", "masks/a-b_mask.png"]);
        assert_eq!(found.unwrap().len(), 2);
    }

    #[test]
    fn twins_are_named() {
        let images = pairs(&["images/a.png", "images/a.jpg", "masks/a.png"]).unwrap_err().to_string();
        assert!(images.contains("`a` has two images") && images.contains("a.jpg"), "{images}");
        let masks = pairs(&["images/a.png", "masks/a.png", "masks/a_mask.png"]).unwrap_err().to_string();
        assert!(masks.contains("two masks") && masks.contains("a_mask.png"), "{masks}");
        let masks = pairs(&["images/a.png", "masks/a.png", "masks/a.tif"]).unwrap_err().to_string();
        assert!(masks.contains("a.png and") && masks.contains("a.tif"), "{masks}");
    }

    #[test]
    fn missing_masks_are_counted_and_some_named() {
        let mut files: Vec<String> = (0..9).map(|i| format!("images/{i}.png")).collect();
        files.push("masks/8.png".into());
        let error = pairs(&files.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_err().to_string();
        assert!(error.starts_with("8 of 9 images have no mask"), "{error}");
        assert!(error.ends_with("0.png, 1.png, 2.png, 3.png, 4.png"), "{error}");
    }

    #[test]
    fn empty_and_unknown_folders_say_what_lies_there() {
        let error = pairs(&["readme.txt", "a.gif", "b.gif"]).unwrap_err();
        assert!(matches!(&error, SourceError::Layout { found, .. } if found == "2 .gif files, 1 .txt file"));
        let error = pairs(&[]).unwrap_err();
        assert!(matches!(&error, SourceError::Layout { found, .. } if found == "nothing"));
        let error = pairs(&["images/a.npy", "masks/a.png"]).unwrap_err();
        assert!(matches!(&error, SourceError::Empty { found, .. } if found == "1 .npy file"));
        let error = pairs(&["images/a.png", "labels/a.png"]).unwrap_err();
        assert!(matches!(&error, SourceError::Layout { found, .. }
            if found == "folder images/, folder labels/, and no masks/"));
    }

    #[test]
    fn the_images_folder_itself_is_answered_with_its_parent() {
        let dir = folder(&["set/images/a.png", "set/masks/a.png"]);
        let error = PairFolders::open(&dir.path().join("set/images")).unwrap_err();
        assert!(matches!(error, SourceError::InsideFolder { parent, .. } if parent.ends_with("set")));
    }
}
