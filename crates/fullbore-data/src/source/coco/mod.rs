//! COCO's JSON: all images, annotations and categories of a set in one file.
//!
//! Polygons and boxes count from the outer edge of the first pixel, key points from its centre; both hold for the
//! upright image.

mod json;
mod masks;
mod points;
mod runs;
#[cfg(test)]
mod tests;

pub use masks::CocoMasks;
pub use points::CocoPoints;
#[cfg(test)]
pub(crate) use runs::decompress;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fullbore_types::Size;

use super::listing::Listing;
use super::names::NameTable;
use super::{SourceError, metadata};

/// The images of a set, in the order of the file.
#[derive(Debug)]
struct Images {
    json: PathBuf,
    root: PathBuf,
    names: NameTable,
    sizes: Vec<Size>,
}

impl Images {
    /// # Errors
    /// When there are none, or the first one is not found.
    fn new(json: PathBuf, images: &[json::Image]) -> Result<Self, SourceError> {
        let Some(first) = images.first() else { return Err(SourceError::NoSamples { path: json }) };
        let root = image_root(&json, &first.file_name)?;
        let mut names = NameTable::default();
        images.iter().for_each(|image| names.push(&image.file_name));
        names.shrink_to_fit();
        Ok(Images { json, root, names, sizes: images.iter().map(json::Image::size).collect() })
    }

    fn file(&self, image: usize) -> PathBuf {
        self.root.join(self.names.get(image))
    }

    fn stem(&self, image: usize) -> String {
        let path = Path::new(self.names.get(image));
        path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    }
}

/// The JSON file that is meant: the path itself, or the one JSON file in a folder.
fn find_json(path: &Path) -> Result<PathBuf, SourceError> {
    if !metadata(path)?.is_dir() {
        return Ok(path.into());
    }
    let listing = Listing::read(path)?;
    let mut files = listing.files_ending("json");
    match (files.next(), files.next()) {
        (Some(only), None) => Ok(path.join(only)),
        _ => Err(SourceError::Layout {
            path: path.into(),
            found: format!("{}, and not exactly one .json file", listing.summary()),
        }),
    }
}

/// The folder that image names start at: wherever the first image lies.
fn image_root(json: &Path, first: &str) -> Result<PathBuf, SourceError> {
    let folder = json.parent().unwrap_or(Path::new(""));
    let above = folder.join("..");
    let stem = json.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    // As in `annotations/instances_train2017.json`.
    let split = stem.rsplit('_').next().unwrap_or_default();
    let roots = [
        folder.to_path_buf(),
        folder.join("images"),
        above.join(split),
        above.join("images").join(split),
        above.join("images"),
        above,
    ];
    match roots.iter().find(|root| root.join(first).is_file()) {
        Some(root) => Ok(root.clone()),
        None => Err(SourceError::ImagesNotFound {
            path: json.into(),
            image: first.into(),
            tried: roots.iter().map(|root| root.display().to_string()).collect(),
        }),
    }
}

/// Place in the file by image id.
fn by_id(images: &[json::Image], json: &Path) -> Result<HashMap<i64, usize>, SourceError> {
    let mut places = HashMap::new();
    for (place, json::Image { id, .. }) in images.iter().enumerate() {
        if places.insert(*id, place).is_some() {
            let detail = "two images have this id".into();
            return Err(SourceError::Entry { path: json.into(), entry: format!("image {id}"), detail });
        }
    }
    Ok(places)
}

fn annotation_error(json: &Path, id: i64, detail: String) -> SourceError {
    SourceError::Entry { path: json.into(), entry: format!("annotation {id}"), detail }
}
