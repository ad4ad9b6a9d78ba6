use std::path::{Path, PathBuf};

use fullbore_types::SampleId;

use super::aariz::child;
use super::listing::Listing;
use super::names::{NameTable, stem};
use super::text::{last_line, line_error, number, numbered_lines, read_text};
use super::{About, Annotator, Origin, Part, Source, SourceError, Target, TargetKind};
use crate::points::{Point, PointTable};

/// The 19 landmarks in the order of the files, by the symbols that [`Aariz`](super::Aariz) has for them.
const SYMBOLS: [&str; 19] = [
    "S", "N", "Or", "Po", "A", "B", "Pog", "Me", "Gn", "Go", "LIT", "UIT", "Ls", "Li", "Sn", "Pog`", "PNS",
    "ANS", "Ar",
];
const PICTURES: &str = "RawImage";
const PARTS: [&str; 3] = ["TrainingData", "Test1Data", "Test2Data"];
const READERS: [&str; 2] = ["400_junior", "400_senior"];
/// The folder of the two readers' folders in some copies.
const NESTED: &str = "AnnotationsByMD";
const MM_PER_PX: f32 = 0.1;
/// Longest file of one image.
const MAX_BYTES: u64 = 1 << 16;

/// One part (the pictures of `RawImage/TrainingData`, `Test1Data` or `Test2Data`) of the cephalograms of the ISBI 2015
/// challenge: 19 landmarks by two doctors (`400_junior` and `400_senior` beside `RawImage`, or in `AnnotationsByMD`
/// there) at 0.1 mm per pixel. Points are called as in [`Aariz`](super::Aariz). Folder names match in any capitals.
/// Whole numbers are the centres of pixels.
#[derive(Debug)]
pub struct Isbi {
    images: PathBuf,
    /// Folder of the annotations shown as the source of the target.
    annotations: PathBuf,
    names: NameTable,
    points: PointTable,
}

/// True for one of the parts, and for the folders that hold them.
pub(super) fn is_known(folder: &Path, listing: &Listing) -> bool {
    let absolute = std::path::absolute(folder).ok();
    let above = absolute.as_deref().and_then(Path::parent).and_then(Path::file_name);
    above.is_some_and(|name| name.eq_ignore_ascii_case(PICTURES)) || part_below(listing).is_some()
}

/// The folder of the first part in the folder of the whole data set or of its pictures.
fn part_below(listing: &Listing) -> Option<PathBuf> {
    let pictures = listing.folder_named(PICTURES).and_then(|folder| Listing::read(&folder).ok());
    PARTS.iter().find_map(|part| pictures.as_ref().unwrap_or(listing).folder_named(part))
}

impl Isbi {
    /// Lists the images and reads all their annotations; opens no picture.
    ///
    /// # Errors
    /// When `folder` is not one part of the data set, or an image lacks its annotations or a landmark.
    pub fn open(folder: &Path, annotator: Annotator) -> Result<Self, SourceError> {
        let mut listing = Listing::read(folder)?;
        if let Some(part) = part_below(&listing) {
            return Err(SourceError::OutsideFolder { path: folder.into(), part });
        }
        let whole = folder.join("../..");
        let within = child(&whole, NESTED)?.unwrap_or(whole);
        let mut readers = Vec::new();
        for reader in READERS {
            readers.push(child(&within, reader)?.ok_or_else(|| {
                let found = format!("{}, and no {reader}/ beside the folder above", listing.summary());
                SourceError::Layout { path: folder.into(), found }
            })?);
        }
        if listing.pictures.is_empty() {
            return Err(SourceError::Empty { folder: folder.into(), found: listing.summary() });
        }
        super::renumbered::check_count(listing.pictures.len() as u64)?;
        listing.pictures.sort_unstable();

        let mut names = NameTable::default();
        let mut points = PointTable { names: SYMBOLS.map(String::from).to_vec(), points: Vec::new() };
        for picture in &listing.pictures {
            let [junior, senior] =
                [0, 1].map(|reader| landmarks(&readers[reader].join(format!("{}.txt", picture.stem()))));
            let pairs = junior?.into_iter().zip(senior?);
            points.points.extend(pairs.map(|(junior, senior)| annotator.of(junior, senior, f64::floor)));
            names.push(&picture.name);
        }
        let annotations = readers.swap_remove(usize::from(annotator != Annotator::Junior));
        Ok(Isbi { images: folder.into(), annotations, names, points })
    }
}

/// The first lines of a file, `x,y` each. Class labels follow them.
fn landmarks(path: &Path) -> Result<Vec<Point>, SourceError> {
    let text = read_text(path, MAX_BYTES)?;
    let mut points = Vec::with_capacity(SYMBOLS.len());
    for (line, content) in numbered_lines(&text).take(SYMBOLS.len()) {
        let point = || {
            let (x, y) = content.split_once(',').ok_or("expected x,y of a landmark")?;
            Point::read(number(x)?, number(y)?, 2.0)
        };
        points.push(point().map_err(|detail| line_error(path, line, detail))?);
    }
    match points.len() == SYMBOLS.len() {
        true => Ok(points),
        false => {
            let detail = format!("the file ends after {} of {} landmarks", points.len(), SYMBOLS.len());
            Err(line_error(path, last_line(&text), detail))
        }
    }
}

impl Source for Isbi {
    fn len(&self) -> usize {
        self.names.len()
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Points { k: SYMBOLS.len() }
    }

    fn point_names(&self) -> &[String] {
        &self.points.names
    }

    fn name(&self, id: SampleId) -> String {
        stem(self.names.get(id.0 as usize)).to_owned()
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        match part {
            Part::Image => self.images.join(self.names.get(id.0 as usize)),
            Part::Target => self.annotations.join(format!("{}.txt", self.name(id))),
        }
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        Target::Points(self.points.of(id.0 as usize))
    }

    fn about(&self, _: SampleId) -> About {
        About { mm_per_px: Some(MM_PER_PX), ..About::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Format, open};
    use std::fs;

    /// Landmark `i` of both images lies at (10 i, i) for the junior, and 1 and 3 pixels on for the senior.
    fn data_set(annotations: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (part, images) in
            [("TrainingData", ["002.bmp", "001.bmp"]), ("Test1Data", ["151.bmp", "152.bmp"])]
        {
            let folder = dir.path().join(PICTURES).join(part);
            fs::create_dir_all(&folder).unwrap();
            images.iter().for_each(|image| fs::write(folder.join(image), b"x").unwrap());
        }
        for (reader, [dx, dy]) in READERS.into_iter().zip([[0, 0], [1, 3]]) {
            let folder = dir.path().join(annotations).join(reader.to_uppercase());
            fs::create_dir_all(&folder).unwrap();
            for image in ["001", "002"] {
                fs::write(folder.join(image).with_extension("txt"), text(dx, dy)).unwrap();
            }
        }
        dir
    }

    fn text(dx: usize, dy: usize) -> String {
        let lines: String = (0..19).map(|i| format!("{},{}\r\n", 10 * i + dx, i + dy)).collect();
        lines + "1\n2\n1\n1\n3\n1\n1\n4\n"
    }

    fn third(source: &dyn Source) -> (f32, f32) {
        match source.target(SampleId(1)) {
            Target::Points(points) => (points[2].x, points[2].y),
            _ => panic!("points"),
        }
    }

    #[test]
    fn the_symbols_are_those_of_aariz() {
        let of_aariz = [10, 4, 5, 15, 0, 2, 6, 3, 13, 14, 17, 21, 25, 24, 28, 27, 7, 1, 11];
        assert_eq!(SYMBOLS, of_aariz.map(|i: usize| super::super::aariz::SYMBOLS[i]));
    }

    #[test]
    fn both_readers_are_read_from_either_place() {
        for annotations in [".", "annotationsbymd"] {
            let dir = data_set(annotations);
            let part = dir.path().join(PICTURES).join("TrainingData");
            let at = |annotator| third(&Isbi::open(&part, annotator).unwrap());
            assert_eq!(at(Annotator::Junior), (20.0, 2.0));
            assert_eq!(at(Annotator::Senior), (21.0, 5.0));
            assert_eq!(at(Annotator::Mean), (20.5, 3.5));
            assert_eq!(at(Annotator::Official), (20.0, 3.0));
            let source = open(&part, Format::Auto, None).unwrap();
            assert_eq!([0, 1].map(|i| source.name(SampleId(i))), ["001", "002"]);
            assert_eq!(source.about(SampleId(0)).mm_per_px, Some(0.1));
            assert_eq!((source.kind(), third(&*source)), (TargetKind::Points { k: 19 }, (20.5, 3.5)));
            assert_eq!(source.file(SampleId(1), Part::Image), part.join("002.bmp"));
            assert!(source.file(SampleId(1), Part::Target).ends_with("400_SENIOR/002.txt"));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = data_set(".");
        let error = |folder: &Path| open(folder, Format::Auto, None).err().unwrap().to_string();
        let part = dir.path().join(PICTURES).join("TrainingData");
        for whole in [dir.path().to_path_buf(), dir.path().join(PICTURES)] {
            let error = open(&whole, Format::Auto, None).err().unwrap();
            assert!(matches!(error, SourceError::OutsideFolder { part: p, .. } if p == part));
        }
        assert!(error(&dir.path().join(PICTURES).join("Test1Data")).ends_with("151.txt does not exist"));
        let file = dir.path().join("400_JUNIOR/002.txt");
        let with = |content: &str| {
            fs::write(&file, content).unwrap();
            error(&part).rsplit_once("002.txt, ").unwrap().1.to_owned()
        };
        assert_eq!(with("1,2\n3;4"), "line 2: expected x,y of a landmark");
        assert_eq!(with("1,2\n3,4,5"), "line 2: `4,5` is no number; expected pixels");
        assert_eq!(with("1,2\n3,4\n"), "line 2: the file ends after 2 of 19 landmarks");
        assert!(with("1,nan").starts_with("line 1: a coordinate of NaN"));
        fs::write(&file, vec![b'1'; 1 << 17]).unwrap();
        assert!(error(&part).contains("more than the limit of 65536"));
        fs::remove_dir_all(dir.path().join("400_SENIOR")).unwrap();
        assert!(error(&part).contains("and no 400_senior/ beside the folder above"), "{}", error(&part));
    }
}
