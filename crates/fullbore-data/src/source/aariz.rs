use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fullbore_types::SampleId;
use serde::Deserialize;

use super::listing::Listing;
use super::names::{NameTable, stem};
use super::{About, Annotator, Origin, Part, Source, SourceError, Target, TargetKind};
use crate::points::{Point, PointTable};

/// The 29 landmarks by their symbols, in the order of the files. Soft-tissue ones end in a backtick.
pub(super) const SYMBOLS: [&str; 29] = [
    "A", "ANS", "B", "Me", "N", "Or", "Pog", "PNS", "Pn", "R", "S", "Ar", "Co", "Gn", "Go", "Po", "LPM",
    "LIT", "LMT", "UPM", "UIA", "UIT", "UMT", "LIA", "Li", "Ls", "N`", "Pog`", "Sn",
];
const IMAGES: &str = "Cephalograms";
const PARTS: [&str; 3] = ["train", "valid", "test"];
const READERS: [&str; 2] = ["Junior Orthodontists", "Senior Orthodontists"];
const DEVICES: &str = "cephalogram_machine_mappings.csv";

/// One part (train, valid or test) of the Aariz cephalograms: 29 landmarks by two orthodontists, and millimetres per
/// pixel by X-ray device. Folder names match in any capitals. Whole numbers are the centres of pixels.
#[derive(Debug)]
pub struct Aariz {
    images: PathBuf,
    /// Folder of the annotations shown as the source of the target.
    annotations: PathBuf,
    names: NameTable,
    points: PointTable,
    /// Empty when there is no table of devices.
    mm_per_px: Vec<f32>,
}

#[derive(Deserialize)]
struct Document {
    landmarks: Vec<Landmark>,
}

#[derive(Deserialize)]
struct Landmark {
    symbol: String,
    value: Value,
}

#[derive(Deserialize)]
struct Value {
    x: f64,
    y: f64,
}

#[derive(Deserialize)]
struct Device {
    cephalogram_id: String,
    pixel_size: f32,
}

/// The folder of the first part in the folder of the whole data set.
pub(super) fn part_below(whole: &Listing) -> Option<PathBuf> {
    let parts = PARTS.iter().filter_map(|part| whole.folder_named(part));
    parts.into_iter().find(|part| child(part, IMAGES).is_ok_and(|images| images.is_some()))
}

/// The folder of this name, whatever its capitals.
pub(super) fn child(folder: &Path, name: &str) -> Result<Option<PathBuf>, SourceError> {
    Ok(Listing::read(folder)?.folder_named(name))
}

impl Aariz {
    /// Lists the images and reads all their annotations; opens no picture. Without the table of devices
    /// (`cephalogram_machine_mappings.csv` in the folder above) there are no millimetres.
    ///
    /// # Errors
    /// When `folder` is not one part of the data set, or an image lacks its annotations, a landmark, or its line in
    /// the table of devices.
    pub fn open(folder: &Path, annotator: Annotator) -> Result<Self, SourceError> {
        let mut listing = Listing::read(folder)?;
        // Some copies have one more folder of the data set's name.
        if let Some(nested) = listing.folder_named("Aariz") {
            listing = Listing::read(&nested)?;
        }
        if let Some(part) = part_below(&listing) {
            return Err(SourceError::OutsideFolder { path: folder.into(), part });
        }
        let lacks = |what: &str| {
            let found = format!("{}, and no {what}/", listing.summary());
            SourceError::Layout { path: listing.folder.clone(), found }
        };
        let images = listing.folder_named(IMAGES).ok_or_else(|| lacks(IMAGES))?;
        let annotations = listing.folder_named("Annotations").ok_or_else(|| lacks("Annotations"))?;
        let annotations = child(&annotations, "Cephalometric Landmarks")?
            .ok_or_else(|| lacks("Annotations/Cephalometric Landmarks"))?;
        let mut readers = Vec::new();
        for reader in READERS {
            readers.push(child(&annotations, reader)?.ok_or_else(|| lacks(reader))?);
        }
        let mut pictures = Listing::read(&images)?;
        if pictures.pictures.is_empty() {
            return Err(SourceError::Empty { folder: images, found: pictures.summary() });
        }
        super::renumbered::check_count(pictures.pictures.len() as u64)?;
        pictures.pictures.sort_unstable();
        let devices = devices(&listing.folder)?;

        let mut names = NameTable::default();
        let mut points = PointTable { names: SYMBOLS.map(String::from).to_vec(), points: Vec::new() };
        let mut mm_per_px = Vec::new();
        for picture in &pictures.pictures {
            let id = picture.stem();
            names.push(&picture.name);
            let [junior, senior] =
                [0, 1].map(|reader| landmarks(&readers[reader].join(format!("{id}.json"))));
            let (junior, senior) = (junior?, senior?);
            let pairs = junior.into_iter().zip(senior);
            points.points.extend(pairs.map(|(junior, senior)| annotator.of(junior, senior, f64::ceil)));
            if let Some(Devices { table, mm_per_px: sizes }) = &devices {
                let size = sizes.get(id).ok_or_else(|| SourceError::Entry {
                    path: table.clone(),
                    entry: format!("cephalogram_id {id}"),
                    detail: "there is no such line; expected one for each image".into(),
                })?;
                mm_per_px.push(*size);
            }
        }
        let annotations = readers.swap_remove(usize::from(annotator != Annotator::Junior));
        Ok(Aariz { images, annotations, names, points, mm_per_px })
    }
}

/// The landmarks of one annotation, in the order of [`SYMBOLS`].
fn landmarks(path: &Path) -> Result<[Point; 29], SourceError> {
    let document: Document = super::read_json(path, "Aariz annotations")?;
    let mut points = [None; 29];
    let wrong = |symbol: &str, detail: String| SourceError::Entry {
        path: path.into(),
        entry: format!("landmark {symbol}"),
        detail,
    };
    for Landmark { symbol, value } in &document.landmarks {
        let Some(place) = SYMBOLS.iter().position(|known| known == symbol) else {
            return Err(wrong(symbol, format!("unknown; the 29 are {}", SYMBOLS.join(" "))));
        };
        let point = Point::read(value.x, value.y, 2.0).map_err(|detail| wrong(symbol, detail))?;
        if points[place].replace(point).is_some() {
            return Err(wrong(symbol, "it occurs twice".into()));
        }
    }
    match points.iter().position(Option::is_none) {
        Some(missing) => Err(wrong(SYMBOLS[missing], "it is missing".into())),
        None => Ok(points.map(|point| point.unwrap_or(Point::NOT_LABELLED))),
    }
}

/// The table of devices.
struct Devices {
    table: PathBuf,
    mm_per_px: HashMap<String, f32>,
}

/// `None` where there is no table.
fn devices(part: &Path) -> Result<Option<Devices>, SourceError> {
    let above = part.join("..");
    let Some(path) =
        [part, &above].map(|folder| folder.join(DEVICES)).into_iter().find(|path| path.is_file())
    else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    super::read_file(&path, super::MAX_JSON_BYTES, &mut bytes)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(&bytes[..]);
    let mut sizes = HashMap::new();
    for (i, device) in reader.deserialize().enumerate() {
        let line_error = |detail| SourceError::ListLine { path: path.clone(), line: i as u64 + 2, detail };
        let Device { cephalogram_id, pixel_size } =
            device.map_err(|e: csv::Error| line_error(e.to_string()))?;
        if !(pixel_size.is_finite() && pixel_size > 0.0) {
            return Err(line_error(format!("pixel_size is {pixel_size}; expected millimetres above 0")));
        }
        sizes.insert(cephalogram_id, pixel_size);
    }
    Ok(Some(Devices { table: path, mm_per_px: sizes }))
}

impl Source for Aariz {
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
            Part::Target => self.annotations.join(format!("{}.json", self.name(id))),
        }
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        Target::Points(self.points.of(id.0 as usize))
    }

    fn about(&self, id: SampleId) -> About {
        About { mm_per_px: self.mm_per_px.get(id.0 as usize).copied(), ..About::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Format, open};
    use serde_json::json;
    use std::fs;

    /// Two images whose landmark `i` lies at (i, 10 i) for the junior and one pixel on for the senior.
    fn data_set() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("train");
        fs::create_dir_all(part.join("cephalograms")).unwrap();
        for (reader, shift) in READERS.into_iter().zip([0, 1]) {
            let folder = part.join("Annotations/Cephalometric Landmarks").join(reader);
            fs::create_dir_all(&folder).unwrap();
            for id in ["ks", "kt"] {
                fs::write(folder.join(format!("{id}.json")), annotations(shift).to_string()).unwrap();
            }
        }
        fs::write(part.join("cephalograms/ks.png"), b"x").unwrap();
        fs::write(part.join("cephalograms/kt.bmp"), b"x").unwrap();
        let table = "\u{feff}cephalogram_id,machine,pixel_size,image_format,mode\n\
            kt,ART Plus,0.1,bmp,Train\nks,ProMax 2D,0.139,png,Train\n";
        fs::write(dir.path().join(DEVICES), table).unwrap();
        dir
    }

    fn annotations(shift: usize) -> serde_json::Value {
        let landmark = |(i, symbol): (usize, &&str)| {
            json!({"landmark_id": format!("id{i}"), "title": "T", "symbol": symbol,
                "value": {"x": i + shift, "y": 10 * i + shift}})
        };
        let mut landmarks: Vec<_> = SYMBOLS.iter().enumerate().map(landmark).collect();
        landmarks.reverse();
        json!({"ceph_id": "x", "landmarks": landmarks, "dataset_name": "Aariz", "open_issues": 0})
    }

    fn second_point(source: &dyn Source) -> (f32, f32) {
        match source.target(SampleId(1)) {
            Target::Points(points) => (points[2].x, points[2].y),
            _ => panic!("points"),
        }
    }

    #[test]
    fn both_readers_and_millimetres_are_read() {
        let dir = data_set();
        let part = dir.path().join("train");
        let at = |annotator| second_point(&Aariz::open(&part, annotator).unwrap());
        assert_eq!(at(Annotator::Junior), (2.0, 20.0));
        assert_eq!(at(Annotator::Senior), (3.0, 21.0));
        assert_eq!(at(Annotator::Mean), (2.5, 20.5));
        assert_eq!(at(Annotator::Official), (3.0, 21.0));
        let source = open(&part, Format::Auto, None).unwrap();
        assert_eq!([0, 1].map(|i| source.name(SampleId(i))), ["ks", "kt"]);
        assert_eq!([0, 1].map(|i| source.about(SampleId(i)).mm_per_px), [Some(0.139), Some(0.1)]);
        assert_eq!(
            (source.kind(), &source.point_names()[26]),
            (TargetKind::Points { k: 29 }, &"N`".to_owned())
        );
        assert_eq!(source.file(SampleId(1), Part::Image), part.join("cephalograms/kt.bmp"));
        fs::remove_file(dir.path().join(DEVICES)).unwrap();
        assert_eq!(open(&part, Format::Aariz, None).unwrap().about(SampleId(0)).mm_per_px, None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = data_set();
        let part = dir.path().join("train");
        let error = || Aariz::open(&part, Annotator::Mean).unwrap_err().to_string();
        let whole = open(dir.path(), Format::Auto, None).err().unwrap();
        assert!(matches!(whole, SourceError::OutsideFolder { part: p, .. } if p == part));
        fs::write(dir.path().join(DEVICES), "cephalogram_id,pixel_size\nks,0.1\n").unwrap();
        assert!(error().contains("cephalogram_id kt: there is no such line"), "{}", error());
        fs::write(dir.path().join(DEVICES), "cephalogram_id,pixel_size\nks,-1\n").unwrap();
        assert!(error().contains("line 2: pixel_size is -1"), "{}", error());
        let file = part.join("Annotations/Cephalometric Landmarks/Junior Orthodontists/kt.json");
        let with = |change: &dyn Fn(&mut Vec<serde_json::Value>)| {
            let mut value = annotations(0);
            change(value["landmarks"].as_array_mut().unwrap());
            fs::write(&file, value.to_string()).unwrap();
            Aariz::open(&part, Annotator::Mean).unwrap_err().to_string()
        };
        fs::remove_file(dir.path().join(DEVICES)).unwrap();
        assert!(with(&|l| drop(l.pop())).contains("kt.json, landmark A: it is missing"));
        assert!(with(&|l| l.push(l[3].clone())).contains("kt.json, landmark Ls: it occurs twice"),);
        assert!(with(&|l| l[0]["symbol"] = json!("XX")).contains("landmark XX: unknown; the 29 are A ANS"));
        assert!(with(&|l| l[0]["value"]["x"] = json!(-1e30)).contains("landmark Sn: a coordinate of -1"));
        fs::remove_file(&file).unwrap();
        assert!(error().ends_with("kt.json does not exist"), "{}", error());
        fs::remove_dir_all(part.join("Annotations")).unwrap();
        assert!(error().contains("folder cephalograms/, and no Annotations/"), "{}", error());
    }
}
