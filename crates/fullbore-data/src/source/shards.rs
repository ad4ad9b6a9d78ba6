use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fullbore_types::SampleId;
use serde::Deserialize;

use super::jsonl::PointList;
use super::listing::Listing;
use super::names::{NameTable, ends_like_picture};
use super::tar::{Entries, Entry};
use super::{
    MAX_JSON_BYTES, Origin, Part, Source, SourceError, Target, TargetKind, json_error, metadata, open_file,
};
use crate::order::Shuffle;
use crate::points::{MAX_POINTS, PointTable};

/// Shards that stay open; the others are opened for each read, so that systems' limits on open files do not matter.
const MAX_OPEN: usize = 256;
/// 4,096 neighbours and strangers are mixed at a time; sets up to that size are mixed as a whole.
const SHUFFLE: Shuffle = Shuffle::Windows { block: 256, window: 16 };
/// What the name of a mask has before its ending.
const MASK_NAMES: [&str; 4] = ["seg", "mask", "label", "target"];

/// Tar files in WebDataset's layout: files with the same name up to the first dot, one after the other, are a sample:
/// `KEY.jpg` with `KEY.png` or `KEY.seg.png` (also `.mask.`, `.label.`, `.target.`) as mask, or with `KEY.json` that
/// has `points` as in a JSONL [`List`](super::List). All samples have targets of the first one's kind.
///
/// The headers are read once; pictures are read from where they lie, so that samples come in any order.
#[derive(Debug)]
pub struct Shards {
    shards: Vec<Shard>,
    samples: Vec<Spans>,
    /// Names of the image and of the mask or annotations of each sample, in turn; the latter may be empty.
    names: NameTable,
    target: Targets,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: Option<File>,
}

/// Where a sample lies.
#[derive(Debug)]
struct Spans {
    shard: u32,
    image: Span,
    mask: Span,
}

/// Offset and length.
#[derive(Clone, Copy, Debug, Default)]
struct Span(u64, u64);

#[derive(Debug)]
enum Targets {
    None,
    Masks,
    Points(PointTable),
}

impl Shards {
    /// Reads the headers of one tar file, or of all those in a folder, sorted by name.
    ///
    /// # Errors
    /// When there are none, one cannot be read or is damaged, or a sample lacks what the first one has.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let paths = match metadata(path)?.is_dir() {
            true => in_folder(path)?,
            false => vec![path.into()],
        };
        let mut index = Index::default();
        let mut shards = Vec::new();
        for path in paths {
            let (file, _) = open_file(&path, u64::MAX)?;
            index.add_shard(&file, &path, shards.len() as u32)?;
            let file = (shards.len() < MAX_OPEN).then_some(file);
            shards.push(Shard { path, file });
        }
        let Index { samples, mut names, target } = index;
        let Some(target) = target else { return Err(SourceError::NoSamples { path: path.into() }) };
        super::renumbered::check_count(samples.len() as u64)?;
        names.shrink_to_fit();
        Ok(Shards { shards, samples, names, target })
    }

    fn entry_name(&self, id: SampleId, part: Part) -> &str {
        self.names.get(2 * id.0 as usize + usize::from(part == Part::Target))
    }
}

/// The tar files of a folder.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let listing = Listing::read(folder)?;
    let paths: Vec<_> = listing.files_ending("tar").map(|name| folder.join(name)).collect();
    match paths.is_empty() {
        true => {
            let found = format!("{}, and no .tar files", listing.summary());
            Err(SourceError::Layout { path: folder.into(), found })
        }
        false => Ok(paths),
    }
}

/// Samples found so far.
#[derive(Default)]
struct Index {
    samples: Vec<Spans>,
    names: NameTable,
    /// What the first sample has; `None` before it.
    target: Option<Targets>,
}

/// The files of one sample.
#[derive(Default)]
struct Group {
    key: String,
    pictures: Vec<Entry>,
    masks: Vec<Entry>,
    annotations: Option<Entry>,
}

#[derive(Deserialize)]
struct Annotations {
    points: Option<PointList>,
}

impl Index {
    fn add_shard(&mut self, file: &File, path: &Path, shard: u32) -> Result<(), SourceError> {
        let mut entries = Entries::new(file, path)?;
        let mut group = Group::default();
        while let Some(entry) = entries.next()? {
            let (folder, name) = entry.name.rsplit_once('/').unwrap_or(("", &entry.name));
            let Some((stem, ending)) = name.split_once('.') else { continue };
            if stem.is_empty() {
                // Hidden.
                continue;
            }
            let key = if folder.is_empty() { stem.to_owned() } else { format!("{folder}/{stem}") };
            let ending = ending.to_ascii_lowercase();
            if key != group.key {
                self.add(std::mem::take(&mut group), file, path, shard)?;
                group.key = key;
            }
            match ending.rsplit_once('.') {
                None if ends_like_picture(&entry.name) => group.pictures.push(entry),
                None if ending == "json" => group.annotations = Some(entry),
                Some((kind, _)) if ends_like_picture(&entry.name) && MASK_NAMES.contains(&kind) => {
                    group.masks.push(entry)
                }
                _ => {}
            }
        }
        self.add(group, file, path, shard)
    }

    /// Adds a finished group, unless it holds no picture.
    fn add(&mut self, group: Group, file: &File, path: &Path, shard: u32) -> Result<(), SourceError> {
        let Group { key, mut pictures, mut masks, annotations } = group;
        let wrong = |detail: &str| SourceError::Entry {
            path: path.into(),
            entry: format!("sample {key}"),
            detail: detail.into(),
        };
        if pictures.len() == 2 && masks.is_empty() {
            // Of two pictures the PNG is the mask.
            let png = pictures.iter().rposition(|entry| entry.name.to_ascii_lowercase().ends_with(".png"));
            masks.extend(png.map(|png| pictures.remove(png)));
        }
        if pictures.len() > 1 || masks.len() > 1 {
            return Err(wrong("more than one image or mask; masks are called KEY.png or KEY.seg.png"));
        }
        let Some(image) = pictures.pop() else {
            let nothing = masks.is_empty() && annotations.is_none();
            return if nothing { Ok(()) } else { Err(wrong("no image")) };
        };
        let points = match (&masks[..], &annotations) {
            ([], Some(entry)) => read_points(entry, file, path)?,
            _ => None,
        };
        let target = self.target.get_or_insert_with(|| match (&masks[..], &points) {
            ([_], _) => Targets::Masks,
            ([], Some(points)) => Targets::Points(PointTable::numbered(points.len())),
            _ => Targets::None,
        });
        let mut span = Span::default();
        let mut name = String::new();
        match (target, masks.pop(), points) {
            (Targets::None, ..) => {}
            (Targets::Masks, Some(mask), _) => (span, name) = (Span(mask.offset, mask.length), mask.name),
            (Targets::Masks, None, _) => return Err(wrong("no mask, though the first sample has one")),
            (Targets::Points(table), _, Some(points)) => {
                points.add_to(table).map_err(|detail| wrong(&detail))?;
                name = annotations.map(|entry| entry.name).unwrap_or_default();
            }
            (Targets::Points(_), _, None) => {
                return Err(wrong("no points, though the first sample has them"));
            }
        }
        self.samples.push(Spans { shard, image: Span(image.offset, image.length), mask: span });
        self.names.push(&image.name);
        self.names.push(&name);
        Ok(())
    }
}

/// The points in a sample's annotations; `None` where these are of something else.
fn read_points(entry: &Entry, file: &File, path: &Path) -> Result<Option<PointList>, SourceError> {
    let mut bytes = Vec::new();
    read_span(file, path, &entry.name, Span(entry.offset, entry.length), MAX_JSON_BYTES, &mut bytes)?;
    let annotations: Annotations = serde_json::from_slice(&bytes)
        .map_err(|error| json_error(error, &path.join(&entry.name), "annotations of a sample"))?;
    Ok(annotations.points.filter(|points| (1..=MAX_POINTS).contains(&points.len())))
}

fn read_span(
    file: &File,
    shard: &Path,
    name: &str,
    Span(offset, length): Span,
    max_bytes: u64,
    bytes: &mut Vec<u8>,
) -> Result<(), SourceError> {
    if length > max_bytes {
        return Err(SourceError::TooLong { path: shard.join(name), length, limit: max_bytes });
    }
    bytes.resize(length as usize, 0);
    file.read_exact_at(bytes, offset).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => {
            let detail = "the archive has been cut off since it was indexed".into();
            SourceError::Shard { path: shard.into(), offset, detail }
        }
        _ => SourceError::Unreadable { path: shard.into(), source },
    })
}

impl Source for Shards {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn kind(&self) -> TargetKind {
        match &self.target {
            Targets::None => TargetKind::None,
            Targets::Masks => TargetKind::Masks,
            Targets::Points(points) => TargetKind::Points { k: points.k() },
        }
    }

    fn point_names(&self) -> &[String] {
        match &self.target {
            Targets::Points(points) => &points.names,
            _ => &[],
        }
    }

    fn name(&self, id: SampleId) -> String {
        let name = self.entry_name(id, Part::Image);
        let file = name.rfind('/').map_or(0, |slash| slash + 1);
        let end = name[file..].find('.').map_or(name.len(), |dot| file + dot);
        name[..end].to_owned()
    }

    /// The path of the shard with the name of the part in it: no file of its own.
    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        let shard = &self.shards[self.samples[id.0 as usize].shard as usize];
        shard.path.join(self.entry_name(id, part))
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        let sample = &self.samples[id.0 as usize];
        let span = if part == Part::Image { sample.image } else { sample.mask };
        Some(Origin { file: self.shards[sample.shard as usize].path.clone(), within: span.0 })
    }

    fn read(&self, id: SampleId, part: Part, max_bytes: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        let sample = &self.samples[id.0 as usize];
        let Shard { path, file } = &self.shards[sample.shard as usize];
        let span = if part == Part::Image { sample.image } else { sample.mask };
        let opened;
        let file = match file {
            Some(file) => file,
            None => {
                opened = open_file(path, u64::MAX)?.0;
                &opened
            }
        };
        read_span(file, path, self.entry_name(id, part), span, max_bytes, bytes)
    }

    /// Windows, so that at any time an epoch reads from few stretches of the shards and the system can read ahead.
    fn shuffle(&self) -> Shuffle {
        SHUFFLE
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        match &self.target {
            Targets::None => Target::None,
            Targets::Masks => Target::MaskFile,
            Targets::Points(points) => Target::Points(points.of(id.0 as usize)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tar::tests::{archive, entry};
    use crate::source::{Format, open};
    use fullbore_types::Classes;

    /// Names and contents.
    type Files<'a> = &'a [(&'a str, &'a [u8])];

    fn shards(files: &[(&str, Files<'_>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (shard, entries) in files {
            let entries: Vec<_> = entries.iter().map(|(name, content)| entry(name, b'0', content)).collect();
            std::fs::write(dir.path().join(shard), archive(&entries)).unwrap();
        }
        dir
    }

    fn part(source: &dyn Source, id: u32, part: Part) -> Vec<u8> {
        let mut bytes = b"left over from another".to_vec();
        source.read(SampleId(id), part, 99, &mut bytes).unwrap();
        bytes
    }

    fn error(files: Files<'_>) -> String {
        let dir = shards(&[("s.tar", files)]);
        let error = Shards::open(dir.path()).unwrap_err().to_string();
        error.replace(&format!("{}/", dir.path().display()), "")
    }

    #[test]
    fn samples_are_read_from_where_they_lie() {
        let dir = shards(&[
            ("b.tar", &[("x/2.seg.PNG", b"mask 2"), ("x/2.jpg", b"image 2"), ("x/2.cls", b"4")]),
            (
                "a.tar",
                &[
                    ("x/1.jpeg", b"image 1"),
                    ("x/1.png", b"mask 1"),
                    ("x/1.json", b"{}"),
                    ("x/._1.jpg", b"hidden"),
                    ("x/readme", b"text"),
                    ("1.a.b.jpg", b"no known part"),
                ],
            ),
        ]);
        let classes = Classes { names: vec!["a".into()], values: vec![0], void_value: None };
        let source = open(dir.path(), Format::Auto, Some(&classes)).unwrap();
        assert_eq!((source.len(), source.kind()), (2, TargetKind::Masks));
        assert_eq!([0, 1].map(|i| source.name(SampleId(i))), ["x/1", "x/2"]);
        for (id, image, mask) in [(1, &b"image 2"[..], &b"mask 2"[..]), (0, b"image 1", b"mask 1")] {
            assert_eq!(
                (part(&*source, id, Part::Image), part(&*source, id, Part::Target)),
                (image.into(), mask.into())
            );
        }
        assert_eq!(source.file(SampleId(1), Part::Target), dir.path().join("b.tar/x/2.seg.PNG"));
        let error = source.read(SampleId(0), Part::Image, 6, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, SourceError::TooLong { length: 7, limit: 6, .. }), "{error}");
        let wrong = open(dir.path(), Format::Shards, None).err().unwrap().to_string();
        assert!(wrong.ends_with("holds masks, but points are needed"), "{wrong}");
    }

    #[test]
    fn points_come_from_json() {
        let files: Files<'_> = &[
            ("1.json", br#"{"points": [[1, 2], null], "id": 7}"#),
            ("1.jpg", b"image"),
            ("2.jpg", b"image"),
            ("2.json", br#"{"points": [[5, 6, 1], [3, 4]]}"#),
        ];
        let dir = shards(&[("s.tar", files)]);
        let source = open(&dir.path().join("s.tar"), Format::Auto, None).unwrap();
        assert_eq!(source.kind(), TargetKind::Points { k: 2 });
        let Target::Points(points) = source.target(SampleId(1)) else { panic!("points") };
        assert_eq!((points[0].x, points[1].y), (5.0, 4.0));
        let three = br#"{"points": [[1, 2], [3, 4], [5, 6]]}"#;
        assert_eq!(
            error(&[files[0], files[1], ("9.jpg", b"i"), ("9.json", three)]),
            "s.tar, sample 9: 3 points, though the first sample has 2"
        );
        assert!(error(&[("9.jpg", b"i"), ("9.json", b"{")]).starts_with("s.tar/9.json cannot be used as"));
    }

    #[test]
    fn incomplete_samples_are_named() {
        let first: (&str, &[u8]) = ("1.jpg", b"i");
        let mask: (&str, &[u8]) = ("1.png", b"m");
        assert_eq!(
            error(&[first, mask, ("2.jpg", b"i")]),
            "s.tar, sample 2: no mask, though the first sample has one"
        );
        assert_eq!(error(&[first, mask, ("2.seg.png", b"i")]), "s.tar, sample 2: no image");
        assert!(error(&[first, mask, ("1.jpeg", b"i")]).starts_with("s.tar, sample 1: more than one image"));
        assert!(error(&[first, ("1.tif", b"i")]).starts_with("s.tar, sample 1: more than one image"));
        assert!(
            error(&[first, ("1.json", br#"{"points": [[1, 2]]}"#), ("2.jpg", b"i")]).contains("2: no points")
        );
        assert!(error(&[("readme.txt", b"x")]).ends_with(" names no samples"));
    }

    #[test]
    fn damaged_shards_are_named() {
        let dir = shards(&[("s.tar", &[("1.jpg", b"image"), ("1.png", b"mask")])]);
        let path = dir.path().join("s.tar");
        let source = Shards::open(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..514]).unwrap();
        let error = source.read(SampleId(0), Part::Image, 99, &mut Vec::new()).unwrap_err().to_string();
        assert!(
            error.ends_with("s.tar, byte 512: the archive has been cut off since it was indexed"),
            "{error}"
        );
        let error = Shards::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("s.tar, byte 0: the archive is cut off: 5 bytes announced, 2 are there"),
            "{error}"
        );
    }

    #[test]
    fn more_shards_than_stay_open_are_read_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..MAX_OPEN + 3 {
            let name = format!("{i:03}.tar");
            let content = i.to_string();
            let entries = [entry("a.jpg", b'0', content.as_bytes()), entry("a.png", b'0', b"m")];
            std::fs::write(dir.path().join(name), archive(&entries)).unwrap();
        }
        let source = Shards::open(dir.path()).unwrap();
        for i in [0, MAX_OPEN - 1, MAX_OPEN, MAX_OPEN + 2] {
            assert_eq!(part(&source, i as u32, Part::Image), i.to_string().into_bytes());
        }
    }
}
