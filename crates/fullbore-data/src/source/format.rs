use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use fullbore_types::Classes;
use serde::{Deserialize, Serialize};

use super::listing::Listing;
use super::{
    Aariz, Annotator, CocoMasks, CocoPoints, Faces, Isbi, LabelMeMasks, LabelMePoints, List, PairFolders,
    PtsFolder, Shards, Source, SourceError, TargetKind, metadata,
};

/// How a data set is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Told from what lies there.
    #[default]
    Auto,
    /// A folder of images and masks: [`PairFolders`].
    Pairs,
    /// A CSV or JSONL list of images with masks or points: [`List`].
    List,
    /// A COCO JSON file: [`CocoMasks`] or [`CocoPoints`].
    Coco,
    /// A folder of LabelMe JSON files: [`LabelMeMasks`] or [`LabelMePoints`].
    LabelMe,
    /// The folder of one part of the Aariz cephalograms: [`Aariz`].
    Aariz,
    /// The pictures of one part of the ISBI 2015 cephalograms: [`Isbi`].
    Isbi,
    /// A folder of pictures with `.pts` files, as 300-W has them: [`PtsFolder`].
    Pts,
    /// A list of WFLW: [`Faces::open_wflw`].
    Wflw,
    /// An XML file of dlib: [`Faces::open_dlib`].
    Dlib,
    /// A tar file or a folder of them, in WebDataset's layout: [`Shards`].
    Shards,
}

/// Opens what `data.train` or `data.val` names. `classes` says that masks are wanted, and of which classes; `None`
/// says that points are. Of formats that hold both, the wanted one is read.
///
/// Where masks are drawn from regions, a class is found by its name, and pixels that no region covers are of the
/// first class.
///
/// Where two people annotated each image, the mean of both is taken.
///
/// # Errors
/// When nothing known lies there, it does not hold what is wanted, or it cannot be indexed: see the sources.
pub fn open(path: &Path, format: Format, classes: Option<&Classes>) -> Result<Arc<dyn Source>, SourceError> {
    open_read_as(path, format, Reading::default(), classes)
}

/// What the files of some formats leave open.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Whose annotations are taken where two people annotated each image.
    pub annotator: Annotator,
    /// Coordinate of the centre of the first pixel in a list of points.
    pub first_pixel: f64,
}

/// The same as [`open`], with a choice where a format leaves one.
///
/// # Errors
/// As [`open`], and when there is a choice other than the default where the format leaves none.
pub fn open_read_as(
    path: &Path,
    format: Format,
    Reading { annotator, first_pixel }: Reading,
    classes: Option<&Classes>,
) -> Result<Arc<dyn Source>, SourceError> {
    let format = match format {
        Format::Auto => recognise(path)?,
        given => given,
    };
    if annotator != Annotator::Mean && !matches!(format, Format::Aariz | Format::Isbi) {
        return Err(SourceError::OneAnnotator { path: path.into(), annotator });
    }
    if first_pixel != 0.0 && (format != Format::List || classes.is_some()) {
        return Err(SourceError::FirstPixelIsKnown { path: path.into(), first_pixel });
    }
    let source: Arc<dyn Source> = match (format, classes) {
        (Format::Auto | Format::Pairs, _) => Arc::new(PairFolders::open(path)?),
        (Format::List, _) => Arc::new(List::open_from(path, first_pixel)?),
        (Format::Coco, Some(classes)) => Arc::new(CocoMasks::open(path, classes)?),
        (Format::Coco, None) => Arc::new(CocoPoints::open(path)?),
        (Format::LabelMe, Some(classes)) => Arc::new(LabelMeMasks::open(path, classes)?),
        (Format::LabelMe, None) => Arc::new(LabelMePoints::open(path)?),
        (Format::Aariz, _) => Arc::new(Aariz::open(path, annotator)?),
        (Format::Isbi, _) => Arc::new(Isbi::open(path, annotator)?),
        (Format::Pts, _) => Arc::new(PtsFolder::open(path)?),
        (Format::Wflw, _) => Arc::new(Faces::open_wflw(path)?),
        (Format::Dlib, _) => Arc::new(Faces::open_dlib(path)?),
        (Format::Shards, _) => Arc::new(Shards::open(path)?),
    };
    let wanted = match classes {
        Some(_) => TargetKind::Masks.words(),
        None => TargetKind::Points { k: 0 }.words(),
    };
    match source.kind().words() {
        found if found != wanted => Err(SourceError::WrongTarget { path: path.into(), found, wanted }),
        _ => Ok(source),
    }
}

/// Tells the format from a file's ending or from what lies in a folder. Folders that look like nothing known are
/// left to [`PairFolders`], whose error says what was looked for and what lies there.
fn recognise(path: &Path) -> Result<Format, SourceError> {
    if !metadata(path)?.is_dir() {
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        return Ok(match ending.as_ref().and_then(|ending| ending.to_str()) {
            Some("json") => Format::Coco,
            Some("tar") => Format::Shards,
            Some("xml") => Format::Dlib,
            Some("txt") if super::wflw::starts_like_list(&start_of(path)) => Format::Wflw,
            _ => Format::List,
        });
    }
    let listing = Listing::read(path)?;
    let has_folder = |names: &[&str]| names.iter().any(|name| listing.folder_named(name).is_some());
    if has_folder(&["images", "imgs"]) && has_folder(&["masks"]) {
        return Ok(Format::Pairs);
    }
    if has_folder(&["cephalograms", "aariz"]) || super::aariz::part_below(&listing).is_some() {
        return Ok(Format::Aariz);
    }
    if super::isbi::is_known(path, &listing) {
        return Ok(Format::Isbi);
    }
    if listing.files_ending("pts").next().is_some() {
        return Ok(Format::Pts);
    }
    if listing.files_ending("tar").next().is_some() {
        return Ok(Format::Shards);
    }
    Ok(match listing.files_ending("json").next() {
        // LabelMe's files have their shapes before their long parts.
        Some(first) if start_of(&path.join(first)).contains("\"shapes\"") => Format::LabelMe,
        Some(_) => Format::Coco,
        None => Format::Pairs,
    })
}

/// The first bytes of a file as text; nothing where it cannot be read.
fn start_of(path: &Path) -> String {
    const LOOK: u64 = 8192;
    let is_file = fs::metadata(path).is_ok_and(|meta| meta.is_file());
    let Some(file) = is_file.then(|| File::open(path).ok()).flatten() else { return String::new() };
    let mut start = Vec::new();
    let read = file.take(LOOK).read_to_end(&mut start);
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&start).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, content) in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn format_of(files: &[(&str, &str)]) -> Format {
        recognise(folder(files).path()).unwrap()
    }

    #[test]
    fn folders_are_told_by_what_lies_there() {
        let shapes = r#"{"version": "5", "shapes": []}"#;
        assert_eq!(
            format_of(&[("images/a.png", ""), ("masks/a.png", ""), ("notes.json", "{}")]),
            Format::Pairs
        );
        assert_eq!(format_of(&[("a.png", ""), ("a_mask.png", "")]), Format::Pairs);
        assert_eq!(format_of(&[("a.png", ""), ("a.json", shapes)]), Format::LabelMe);
        assert_eq!(format_of(&[("a.png", ""), ("set.json", r#"{"images": []}"#)]), Format::Coco);
        assert_eq!(format_of(&[("CEPHALOGRAMS/a.png", ""), ("Annotations/x", "")]), Format::Aariz);
        assert_eq!(format_of(&[("Train/Cephalograms/a.png", "")]), Format::Aariz);
        assert_eq!(format_of(&[("a.png", ""), ("a.PTS", "")]), Format::Pts);
        assert_eq!(format_of(&[("RawImage/TrainingData/1.bmp", ""), ("400_junior/1.txt", "")]), Format::Isbi);
        assert_eq!(format_of(&[("0.tar", ""), ("index.json", "{}")]), Format::Shards);
        assert_eq!(format_of(&[("readme.txt", "")]), Format::Pairs);
    }

    #[test]
    fn files_are_told_by_their_ending() {
        let dir = folder(&[("a.CSV", ""), ("a.jsonl", ""), ("a.JSON", ""), ("a.tar", ""), ("a", "")]);
        let format = |name: &str| recognise(&dir.path().join(name)).unwrap();
        let found = ["a.CSV", "a.jsonl", "a.JSON", "a.tar", "a"].map(format);
        assert_eq!(found, [Format::List, Format::List, Format::Coco, Format::Shards, Format::List]);
        assert!(matches!(recognise(&dir.path().join("b")), Err(SourceError::NotFound { .. })));
    }

    #[test]
    fn nothing_known_is_answered_with_what_lies_there() {
        let dir = folder(&[("readme.txt", ""), ("l.csv", "image,x0,y0\na.png,1,2\n")]);
        let error =
            |path: &Path, format, classes: Option<&Classes>| open(path, format, classes).err().unwrap();
        let classes = Classes { names: vec!["a".into(), "b".into()], values: vec![0, 1], void_value: None };
        let unknown = error(dir.path(), Format::Auto, Some(&classes));
        assert!(matches!(&unknown, SourceError::Layout { found, .. } if found == "1 .csv file, 1 .txt file"));
        let list = dir.path().join("l.csv");
        assert_eq!(open(&list, Format::Auto, None).unwrap().len(), 1);
        let wrong = error(&list, Format::Auto, Some(&classes)).to_string();
        assert!(wrong.ends_with("l.csv holds points, but masks are needed"), "{wrong}");
        let read_as =
            |path: &Path, reading| open_read_as(path, Format::Auto, reading, None).err().unwrap().to_string();
        let senior = read_as(&list, Reading { annotator: Annotator::Senior, ..Reading::default() });
        assert!(
            senior.starts_with("data.annotator is senior, but ") && senior.ends_with("of each image"),
            "{senior}"
        );
        let from_one = read_as(dir.path(), Reading { first_pixel: 1.0, ..Reading::default() });
        assert!(from_one.starts_with("data.first_pixel is 1, but "), "{from_one}");
        for format in
            [Format::Coco, Format::LabelMe, Format::Aariz, Format::Isbi, Format::Pts, Format::Shards]
        {
            let layout = error(dir.path(), format, None).to_string();
            assert!(layout.contains("1 .txt file, and no"), "{format:?}: {layout}");
        }
    }
}
