use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fullbore_types::SampleId;

use super::listing::Listing;
use super::names::{NameTable, stem};
use super::text::{last_line, line_error, number, numbered_lines, read_text};
use super::{Origin, Part, Source, SourceError, Target, TargetKind};
use crate::points::{MAX_POINTS, Point, PointTable};

/// Longest file: room for [`MAX_POINTS`] at full precision.
const MAX_BYTES: u64 = 1 << 20;

/// A folder of `.pts` files, each beside the picture of its name, as 300-W has them. All have the same number of
/// points. Pictures without such a file are passed over.
///
/// Coordinates in these files count the first pixel as 1.
#[derive(Debug)]
pub struct PtsFolder {
    folder: PathBuf,
    /// Name of the `.pts` file and of the picture, in turn.
    names: NameTable,
    points: PointTable,
}

impl PtsFolder {
    /// Reads all `.pts` files of a folder, sorted by name; opens no picture.
    ///
    /// # Errors
    /// When there is none, one cannot be read or used, lacks its picture or has two, or numbers of points differ.
    pub fn open(folder: &Path) -> Result<Self, SourceError> {
        let listing = Listing::read(folder)?;
        let mut pictures: HashMap<&str, &str> = HashMap::new();
        let mut twins: HashMap<&str, &str> = HashMap::new();
        for picture in &listing.pictures {
            if let Some(other) = pictures.insert(picture.stem(), &picture.name) {
                twins.insert(picture.stem(), other);
            }
        }
        let mut names = NameTable::default();
        let mut points: Option<PointTable> = None;
        for name in listing.files_ending("pts") {
            let path = folder.join(name);
            let Some(picture) = pictures.get(stem(name)) else {
                return Err(SourceError::NotFound {
                    path: folder.join(format!("{}.png (or .jpg)", stem(name))),
                });
            };
            if let Some(twin) = twins.get(stem(name)) {
                return Err(SourceError::Twins {
                    stem: stem(name).into(),
                    what: "images",
                    first: folder.join(twin),
                    second: folder.join(picture),
                });
            }
            let of_sample = read_points(&path)?;
            let table = points.get_or_insert_with(|| PointTable::numbered(of_sample.len()));
            if of_sample.len() != table.k() {
                let (n, k, first) = (of_sample.len(), table.k(), names.get(0));
                let detail = format!("{n} points, though {first} has {k}");
                return Err(SourceError::Entry { path, entry: "n_points".into(), detail });
            }
            table.points.extend(of_sample);
            names.push(name);
            names.push(picture);
        }
        let Some(points) = points else {
            let found = format!("{}, and no .pts files", listing.summary());
            return Err(SourceError::Layout { path: folder.into(), found });
        };
        super::renumbered::check_count(names.len() as u64 / 2)?;
        names.shrink_to_fit();
        Ok(PtsFolder { folder: folder.into(), names, points })
    }
}

/// The points of one file.
fn read_points(path: &Path) -> Result<Vec<Point>, SourceError> {
    let text = read_text(path, MAX_BYTES)?;
    let wrong = |line, detail| line_error(path, line, detail);
    let end = last_line(&text);
    let mut lines = numbered_lines(&text);
    let mut k: Option<usize> = None;
    loop {
        let Some((line, content)) = lines.next() else {
            return Err(wrong(end, "the file ends before its points; expected `{`".into()));
        };
        match content.split_once(':').map(|(key, value)| (key.trim_end(), value.trim())) {
            Some(("version", _)) => (),
            Some(("n_points", n)) => {
                let allowed = |n: &usize| (1..=MAX_POINTS).contains(n);
                k = Some(n.parse().ok().filter(allowed).ok_or_else(|| {
                    let start: String = n.chars().take(40).collect();
                    wrong(line, format!("n_points is `{start}`; expected 1 to {MAX_POINTS}"))
                })?);
            }
            None if content == "{" => break,
            _ => return Err(wrong(line, "expected `version:`, `n_points:` or `{`".into())),
        }
    }
    let Some(k) = k else { return Err(wrong(end, "n_points is missing".into())) };
    let mut points = Vec::with_capacity(k);
    loop {
        let Some((line, content)) = lines.next() else {
            return Err(wrong(end, format!("the file ends after {} of {k} points", points.len())));
        };
        if content == "}" && points.len() == k {
            break;
        }
        if content == "}" || points.len() == k {
            return Err(wrong(line, format!("after {} points, but n_points is {k}", points.len())));
        }
        let point = || {
            let fields: Vec<&str> = content.split_whitespace().take(3).collect();
            let &[x, y] = &fields[..] else { return Err("expected x and y of a point".to_owned()) };
            // The first pixel is 1.
            Point::read(number(x)? - 1.0, number(y)? - 1.0, 2.0)
        };
        points.push(point().map_err(|detail| wrong(line, detail))?);
    }
    match lines.next() {
        Some((line, _)) => Err(wrong(line, "expected nothing after `}`".into())),
        None => Ok(points),
    }
}

impl Source for PtsFolder {
    fn len(&self) -> usize {
        self.names.len() / 2
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Points { k: self.points.k() }
    }

    fn point_names(&self) -> &[String] {
        &self.points.names
    }

    fn name(&self, id: SampleId) -> String {
        stem(self.names.get(2 * id.0 as usize)).to_owned()
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        self.folder.join(self.names.get(2 * id.0 as usize + usize::from(part == Part::Image)))
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        Target::Points(self.points.of(id.0 as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Format, open};
    use proptest::prelude::*;
    use std::fs;

    const GOOD: &str = "version: 1\nn_points:  2\n{\n446.5 91\r\n1.0 1e1\n}\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, content)| fs::write(dir.path().join(name), content).unwrap());
        dir
    }

    #[test]
    fn the_first_pixel_is_one() {
        let files = [("b_2.pts", GOOD), ("b_2.JPG", ""), ("a.pts", GOOD), ("a.png", ""), ("c.png", "")];
        let dir = folder(&files);
        let source = open(dir.path(), Format::Auto, None).unwrap();
        assert_eq!((source.len(), source.kind()), (2, TargetKind::Points { k: 2 }));
        assert_eq!([0, 1].map(|i| source.name(SampleId(i))), ["a", "b_2"]);
        assert_eq!(source.file(SampleId(1), Part::Image), dir.path().join("b_2.JPG"));
        assert_eq!(source.file(SampleId(1), Part::Target), dir.path().join("b_2.pts"));
        let Target::Points(points) = source.target(SampleId(0)) else { panic!("points") };
        assert_eq!(points, [Point::visible(445.5, 90.0), Point::visible(0.0, 9.0)]);
    }

    #[test]
    fn pictures_must_be_there_and_counts_agree() {
        let error = |files: &[(&str, &str)]| PtsFolder::open(folder(files).path()).unwrap_err().to_string();
        assert!(error(&[("a.png", "")]).contains("1 picture, and no .pts files"));
        assert!(error(&[("a.pts", GOOD)]).ends_with("a.png (or .jpg) does not exist"));
        assert!(error(&[("a.pts", GOOD), ("a.png", ""), ("a.jpg", "")]).starts_with("`a` has two images"));
        let one = "n_points: 1\n{\n1 1\n}";
        let other = error(&[("a.pts", GOOD), ("a.png", ""), ("b.pts", one), ("b.png", "")]);
        assert!(other.ends_with("b.pts, n_points: 1 points, though a.pts has 2"), "{other}");
    }

    fn read(text: &[u8]) -> Result<Vec<Point>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pts");
        fs::write(&path, text).unwrap();
        read_points(&path).map_err(|error| error.to_string().rsplit_once("a.pts, ").unwrap().1.to_owned())
    }

    #[test]
    fn bad_lines_are_named() {
        let error = |text: &str| read(text.as_bytes()).unwrap_err();
        assert_eq!(error(""), "line 1: the file ends before its points; expected `{`");
        assert_eq!(error("version: 1\nn_points 68\n"), "line 2: expected `version:`, `n_points:` or `{`");
        assert_eq!(
            error("n_points: 99999999999999999999\n"),
            "line 1: n_points is `99999999999999999999`; expected 1 to 4096"
        );
        assert_eq!(error("n_points: 0\n{\n}"), "line 1: n_points is `0`; expected 1 to 4096");
        assert_eq!(error("version: 1\n{\n}"), "line 3: n_points is missing");
        assert_eq!(error(&GOOD[..34]), "line 4: the file ends after 1 of 2 points");
        assert_eq!(error("n_points: 2\n{\n1 1\n}"), "line 4: after 1 points, but n_points is 2");
        assert_eq!(error("n_points: 1\n{\n1 1\n2 2\n}"), "line 4: after 1 points, but n_points is 1");
        assert_eq!(error(&GOOD.replace("91", "91 7")), "line 4: expected x and y of a point");
        assert_eq!(error(&GOOD.replace("91", "x")), "line 4: `x` is no number; expected pixels");
        assert!(error(&GOOD.replace("91", "NaN")).starts_with("line 4: a coordinate of NaN"));
        assert!(error(&GOOD.replace("91", "1e300")).starts_with("line 4: a coordinate of 1"));
        assert_eq!(error(&format!("{GOOD}more")), "line 7: expected nothing after `}`");
        assert_eq!(read(b"version: 1\n\xff").unwrap_err(), "line 2: it is not UTF-8 text");
        assert_eq!(read(format!("\u{feff}{GOOD}").as_bytes()).unwrap().len(), 2);
    }

    proptest! {
        /// Whatever a damaged file holds, it is read or refused.
        #[test]
        fn damage_never_panics(at in 0..GOOD.len(), byte: u8, cut: bool) {
            let mut text = GOOD.as_bytes().to_vec();
            if cut { text.truncate(at) } else { text[at] = byte }
            let _ = read(&text);
        }
    }
}
