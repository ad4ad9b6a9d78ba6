use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use fullbore_types::SampleId;

use super::jsonl;
use super::names::{NameTable, stem};
use super::{About, Origin, Part, Source, SourceError, Target, TargetKind};
use crate::bounds::Bounds;
use crate::points::{MAX_POINTS, Point, PointTable};

/// Longest list, so that a wrong file cannot fill memory: room for about ten million pairs.
pub(super) const MAX_LIST_BYTES: u64 = 1 << 30;
/// Most columns, so that finding those of the points among them takes no time.
const MAX_COLUMNS: usize = 4 * MAX_POINTS;
const FIRST_LINE_CHARS: usize = 60;
/// The columns of a box.
pub(super) const BOX_COLUMNS: [&str; 4] = ["box_left", "box_top", "box_width", "box_height"];

/// Images with a mask or with points, named by a CSV or a JSONL file. Samples keep the order of the list.
///
/// A CSV list has the columns `image` and `mask`, or `image` and `x0`, `y0`, `x1`, `y1`, ... and, where wanted, `v0`,
/// `v1`, ... with COCO's visibility. A point without both coordinates is not labelled. Further columns are passed
/// over. In a JSONL list (ending in `.jsonl` or `.ndjson`) each line is an object such as
/// `{"image": "a.jpg", "mask": "a.png"}` or `{"image": "a.jpg", "points": [[3, 4.5], [7, 8, 1], null]}`.
///
/// A box around what the sample is about may be given too: as the columns `box_left`, `box_top`, `box_width` and
/// `box_height`, or as `"box": [left, top, width, height]`. Boxes count from the outer edge of the first pixel.
///
/// Relative paths start at the folder of the list or, when the first image is not there, at the folder beside it that
/// is called like the list without its ending, or at `images/`. Points count from the centre of the first pixel, which
/// is (0, 0) unless the caller says otherwise.
#[derive(Debug)]
pub struct List {
    list: PathBuf,
    root: PathBuf,
    /// Image path of each sample; with masks image path and mask path in turn.
    paths: NameTable,
    /// Absent with masks.
    points: Option<PointTable>,
    /// One for each sample, or none at all.
    bounds: Vec<Bounds>,
}

/// What the lines of a list hold, each as in [`List`].
#[derive(Default)]
pub(super) struct Lines {
    pub(super) paths: NameTable,
    pub(super) points: Option<PointTable>,
    pub(super) bounds: Vec<Bounds>,
}

impl List {
    /// Reads the list once; opens no picture.
    ///
    /// # Errors
    /// When the list cannot be read, lacks its columns, names no sample, or has a line that cannot be used.
    pub fn open(list: &Path) -> Result<Self, SourceError> {
        Self::open_from(list, 0.0)
    }

    /// The same where the centre of the first pixel is (`first_pixel`, `first_pixel`) to whoever wrote the points: 0.5 for
    /// those who count from its outer edge, 1 for those who number pixels from 1.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_from(list: &Path, first_pixel: f64) -> Result<Self, SourceError> {
        let (file, length) = super::open_file(list, MAX_LIST_BYTES)?;
        let file = file.take(length);
        let ending = list.extension().map(|ending| ending.to_ascii_lowercase());
        let Lines { mut paths, mut points, bounds } = match ending.as_ref().and_then(|ending| ending.to_str())
        {
            Some("jsonl" | "ndjson") => jsonl::read(BufReader::new(file), list)?,
            _ => read_csv(file, list)?,
        };
        let per_sample = if points.is_some() { 1 } else { 2 };
        if paths.len() == 0 {
            return Err(SourceError::NoSamples { path: list.into() });
        }
        super::renumbered::check_count((paths.len() / per_sample) as u64)?;
        paths.shrink_to_fit();
        if let Some(table) = &mut points {
            table.count_from(first_pixel);
        }
        let root = root(list, paths.get(0), &[]);
        Ok(List { list: list.into(), root, paths, points, bounds })
    }

    fn path(&self, id: SampleId, part: Part) -> &str {
        match self.points {
            Some(_) => self.paths.get(id.0 as usize),
            None => self.paths.get(2 * id.0 as usize + usize::from(part == Part::Target)),
        }
    }
}

/// Where relative paths start. `beside` are further folders to look into, seen from that of the list.
pub(super) fn root(list: &Path, first: &str, beside: &[&str]) -> PathBuf {
    let folder = list.parent().unwrap_or(Path::new(""));
    let named = list.file_stem().map(|stem| folder.join(stem));
    let holds_first = |root: &PathBuf| root.join(first).is_file();
    let beside = std::iter::once(&"images").chain(beside).map(|name| folder.join(name));
    let mut roots = std::iter::once(folder.to_path_buf()).chain(named).chain(beside);
    roots.find(holds_first).unwrap_or(folder.into())
}

impl Source for List {
    fn len(&self) -> usize {
        self.paths.len() / if self.points.is_some() { 1 } else { 2 }
    }

    fn kind(&self) -> TargetKind {
        match &self.points {
            Some(points) => TargetKind::Points { k: points.k() },
            None => TargetKind::Masks,
        }
    }

    fn point_names(&self) -> &[String] {
        self.points.as_ref().map_or(&[], |points| &points.names)
    }

    fn name(&self, id: SampleId) -> String {
        let path = Path::new(self.path(id, Part::Image));
        path.file_name().map_or_else(String::new, |name| stem(&name.to_string_lossy()).to_owned())
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        match (part, &self.points) {
            (Part::Target, Some(_)) => self.list.clone(),
            _ => self.root.join(self.path(id, part)),
        }
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        match &self.points {
            Some(points) => Target::Points(points.of(id.0 as usize)),
            None => Target::MaskFile,
        }
    }

    fn about(&self, id: SampleId) -> About {
        About { bounds: self.bounds.get(id.0 as usize).copied(), ..About::default() }
    }
}

/// Columns of a CSV list.
struct Columns {
    image: usize,
    /// Left, top, width and height of the box.
    bounds: Option<[usize; 4]>,
    target: TargetColumns,
}

enum TargetColumns {
    Mask(usize),
    /// x, y and, where there is one, visibility.
    Points(Vec<(usize, usize, Option<usize>)>),
}

impl Columns {
    /// `None` when the header lacks what is needed.
    fn find(header: &csv::StringRecord) -> Option<Self> {
        if header.len() > MAX_COLUMNS {
            return None;
        }
        let column = |name: &str| header.iter().position(|field| field.eq_ignore_ascii_case(name));
        let image = column("image")?;
        let bounds = match BOX_COLUMNS.map(column) {
            [None, None, None, None] => None,
            [left, top, width, height] => Some([left?, top?, width?, height?]),
        };
        if let Some(mask) = column("mask") {
            return Some(Columns { image, bounds, target: TargetColumns::Mask(mask) });
        }
        let is_x = |field: &str| {
            field.strip_prefix(['x', 'X']).is_some_and(|i| i.parse::<u32>().is_ok_and(|n| n.to_string() == i))
        };
        let k = header.iter().filter(|field| is_x(field)).count();
        let of = |i| Some((column(&format!("x{i}"))?, column(&format!("y{i}"))?, column(&format!("v{i}"))));
        let points: Vec<_> = (0..k).map(of).collect::<Option<_>>()?;
        (1..=MAX_POINTS).contains(&points.len()).then_some(Columns {
            image,
            bounds,
            target: TargetColumns::Points(points),
        })
    }
}

fn read_csv(file: impl Read, list: &Path) -> Result<Lines, SourceError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(file);
    let header = reader.headers().map_err(|e| problem(e, list))?.clone();
    let Some(columns) = Columns::find(&header) else {
        let line: Vec<&str> = header.iter().collect();
        let found = line.join(",").chars().take(FIRST_LINE_CHARS).collect();
        return Err(SourceError::ListHeader { path: list.into(), found });
    };
    let points = match &columns.target {
        TargetColumns::Points(points) => Some(PointTable::numbered(points.len())),
        TargetColumns::Mask(_) => None,
    };
    let mut lines = Lines { points, ..Lines::default() };
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|e| problem(e, list))? {
        let line_error = |detail| {
            let line = record.position().map_or(0, |p| p.line());
            SourceError::ListLine { path: list.into(), line, detail }
        };
        let mut path = |column, name| match record.get(column) {
            Some(path) if !path.is_empty() => {
                lines.paths.push(path);
                Ok(())
            }
            _ => Err(line_error(format!("the {name} is missing"))),
        };
        let field = |column: usize| {
            number(&record, column).map_err(|wrong| {
                let name = header.get(column).unwrap_or_default();
                line_error(format!("{name} is `{wrong}`; expected a number of pixels or nothing"))
            })
        };
        path(columns.image, "image")?;
        if let Some(columns) = columns.bounds {
            let mut bounds = [f64::NAN; 4];
            for (to, column) in bounds.iter_mut().zip(columns) {
                *to = field(column)?.unwrap_or(f64::NAN);
            }
            lines.bounds.push(Bounds::read(bounds).map_err(line_error)?);
        }
        match (&columns.target, &mut lines.points) {
            (TargetColumns::Points(columns), Some(table)) => {
                for &(x, y, v) in columns {
                    let visibility = v.map(field).transpose()?.flatten();
                    let point = match (field(x)?, field(y)?) {
                        (Some(x), Some(y)) => {
                            Point::read(x, y, visibility.unwrap_or(2.0)).map_err(line_error)?
                        }
                        _ => Point::NOT_LABELLED,
                    };
                    table.points.push(point);
                }
            }
            (&TargetColumns::Mask(mask), _) => path(mask, "mask")?,
            (TargetColumns::Points(_), None) => unreachable!("columns of points come with a table"),
        }
    }
    Ok(lines)
}

/// The number in a field; `None` for an empty or missing one, and for `nan`.
pub(super) fn number(record: &csv::StringRecord, column: usize) -> Result<Option<f64>, &str> {
    match record.get(column).unwrap_or_default() {
        "" => Ok(None),
        field => field.parse().map(|v: f64| Some(v).filter(|v| !v.is_nan())).map_err(|_| field),
    }
}

pub(super) fn problem(error: csv::Error, list: &Path) -> SourceError {
    let line = error.position().map_or(0, |p| p.line());
    match error.into_kind() {
        csv::ErrorKind::Io(source) => SourceError::Unreadable { path: list.into(), source },
        csv::ErrorKind::Utf8 { .. } => {
            let detail =
                "it is not UTF-8 text; a data set is a folder with images/ and masks/, or a CSV list".into();
            SourceError::ListLine { path: list.into(), line, detail }
        }
        other => SourceError::ListLine { path: list.into(), line, detail: format!("{other:?}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::Visibility;

    fn list(text: &[u8]) -> Result<List, SourceError> {
        named("l.csv", text)
    }

    fn named(name: &str, text: &[u8]) -> Result<List, SourceError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut list = List::open(&path)?;
        list.root = "F".into();
        Ok(list)
    }

    fn points(list: &List, i: u32) -> Vec<(f32, f32, Visibility)> {
        match list.target(SampleId(i)) {
            Target::Points(points) => points.iter().map(|p| (p.x, p.y, p.visibility)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths_start_at_the_list_and_order_is_kept() {
        let list =
            list(b"\xef\xbb\xbfid, mask ,Image\n7,m/b.png, b.jpg\n8,\"/abs, olute/a.png\",x/a.tar.png\r\n");
        let list = list.unwrap();
        assert_eq!((list.len(), list.kind()), (2, TargetKind::Masks));
        let file = |i, part| list.file(SampleId(i), part).display().to_string();
        assert_eq!([file(0, Part::Image), file(0, Part::Target)], ["F/b.jpg", "F/m/b.png"]);
        assert_eq!([file(1, Part::Image), file(1, Part::Target)], ["F/x/a.tar.png", "/abs, olute/a.png"]);
        assert_eq!([list.name(SampleId(0)), list.name(SampleId(1))], ["b", "a.tar"]);
    }

    #[test]
    fn points_may_be_missing_or_hidden() {
        let text = b"image,y0,x0,x1,y1,v1,note\na.png,1.5,-2,3,4,1,x\nb.png,,7,nan,1,2,\nc.png,1,2\n";
        let list = list(text).unwrap();
        assert_eq!((list.len(), list.kind()), (3, TargetKind::Points { k: 2 }));
        assert_eq!(list.point_names(), ["0", "1"]);
        let none = (0.0, 0.0, Visibility::NotLabelled);
        assert_eq!(points(&list, 0), [(-2.0, 1.5, Visibility::Visible), (3.0, 4.0, Visibility::Hidden)]);
        assert_eq!(points(&list, 1), [none, none]);
        assert_eq!(points(&list, 2), [(2.0, 1.0, Visibility::Visible), none]);
        assert_eq!(list.file(SampleId(2), Part::Image), Path::new("F/c.png"));
    }

    #[test]
    fn coordinates_may_begin_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.csv");
        std::fs::write(&path, "image,x0,y0,x1,y1\na.png,1,2.5,,\n").unwrap();
        let none = (0.0, 0.0, Visibility::NotLabelled);
        let list = List::open_from(&path, 1.0).unwrap();
        assert_eq!(points(&list, 0), [(0.0, 1.5, Visibility::Visible), none]);
    }

    #[test]
    fn json_lines_hold_the_same() {
        let text = br#"{"image": "a.png", "points": [[3, 4.5], [7, 8, 1], null]}

            {"points": [null, [1, 2, 0], [5, 6, 2]], "image": "d/b.png", "more": {}}"#;
        let list = named("l.jsonl", text).unwrap();
        let none = (0.0, 0.0, Visibility::NotLabelled);
        assert_eq!(points(&list, 0), [(3.0, 4.5, Visibility::Visible), (7.0, 8.0, Visibility::Hidden), none]);
        assert_eq!(points(&list, 1), [none, none, (5.0, 6.0, Visibility::Visible)]);
        assert_eq!(list.name(SampleId(1)), "b");
        assert_eq!(list.about(SampleId(0)).bounds, None);
        let list =
            named("l.jsonl", br#"{"image": "a.png", "points": [[3, 4]], "box": [1, -2.5, 3, 4]}"#).unwrap();
        let bounds = Bounds { left: 1.0, top: -2.5, width: 3.0, height: 4.0 };
        assert_eq!(list.about(SampleId(0)).bounds, Some(bounds));
        let list = named("l.ndjson", br#"{"image": "a.png", "mask": "m.png"}"#).unwrap();
        assert_eq!((list.len(), list.kind()), (1, TargetKind::Masks));
        assert_eq!(list.file(SampleId(0), Part::Target), Path::new("F/m.png"));
    }

    #[test]
    fn images_may_lie_in_a_folder_called_like_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.csv");
        std::fs::write(&path, "image,x0,y0\na.png,1,2\n").unwrap();
        let image = |root: &str| {
            std::fs::create_dir_all(dir.path().join(root)).unwrap();
            std::fs::write(dir.path().join(root).join("a.png"), b"x").unwrap();
            List::open(&path).unwrap().file(SampleId(0), Part::Image)
        };
        assert_eq!(List::open(&path).unwrap().file(SampleId(0), Part::Image), dir.path().join("a.png"));
        assert_eq!(image("images"), dir.path().join("images/a.png"));
        assert_eq!(image("train"), dir.path().join("train/a.png"));
        assert_eq!(image("."), dir.path().join("a.png"));
    }

    #[test]
    fn bad_lists_say_which_line() {
        let message = |text: &[u8]| list(text).unwrap_err().to_string();
        assert!(message(b"").contains("no columns `image` and `mask`"));
        assert!(message(b"a.png,b.png\n").contains("its first line is `a.png,b.png`"));
        assert!(message(b"image,x0,y0,x2,y2\n").contains("its first line is `image,x0,y0,x2,y2`"));
        assert!(message(b"image,mask\n").contains("names no samples"));
        assert!(message(b"image,mask\na,b\nc\n").contains("line 3: the mask is missing"));
        assert!(message(b"image,mask\na,b\n,d\n").contains("line 3: the image is missing"));
        assert!(message(b"image,mask\na,b\n\xff,d\n").contains("line 3: it is not UTF-8 text"));
        let numbers = |row: &str| message(format!("image,x0,y0,v0\n{row}\n").as_bytes());
        assert!(numbers("a,1,q,2").contains("line 2: y0 is `q`; expected a number of pixels"));
        assert!(numbers("a,1e300,2,2").contains("line 2: a coordinate of 1"));
        assert!(numbers("a,-inf,2,2").contains("line 2: a coordinate of -inf"));
        assert!(numbers("a,1,2,7").contains("line 2: a visibility of 7; expected 0, 1 or 2"));
        let boxes = |row: &str| {
            message(format!("image,mask,box_left,box_top,box_width,box_height\n{row}\n").as_bytes())
        };
        assert!(boxes("a,b,1,2,3,").contains("line 2: a box of [1.0, 2.0, 3.0, NaN] (left, top"));
        assert!(boxes("a,b,1,2,0,4").contains("line 2: a box of [1.0, 2.0, 0.0, 4.0]"));
        assert!(boxes("a,b,1,2,q,4").contains("line 2: box_width is `q`; expected a number"));
        assert!(message(b"image,mask,box_left\na,b,1\n").contains("its first line is `image,mask,box_left`"));
        let columns: String = (0..=MAX_POINTS).map(|i| format!(",x{i},y{i}")).collect();
        assert!(message(format!("image{columns}\n").as_bytes()).contains("its first line is"));
        let many = ",".repeat(MAX_COLUMNS);
        assert!(message(format!("image,mask{many}\na,b\n").as_bytes()).contains("its first line is"));
    }

    #[test]
    fn bad_json_lines_say_which_one() {
        let message = |text: &str| named("l.jsonl", text.as_bytes()).unwrap_err().to_string();
        let good = r#"{"image": "a.png", "points": [[3, 4]]}"#;
        let after = |line: &str| message(&format!("{good}\n{line}"));
        assert!(message("").contains("names no samples"));
        assert!(after("{").contains("EOF"), "{}", after("{"));
        assert!(after(r#"{"points": []}"#).contains("missing field `image`"));
        assert!(after(r#"{"image": "b", "mask": "c"}"#).contains("sample 2: no points, though the first"));
        assert!(
            after(r#"{"image": "b", "points": [[1, 2], [3, 4]]}"#).contains("sample 2: 2 points, though")
        );
        assert!(after(r#"{"image": "b", "points": [[1]]}"#).contains("sample 2: a point of 1 numbers"));
        assert!(after(r#"{"image": "b", "points": [[1, 1e99]]}"#).contains("sample 2: a coordinate of 1"));
        assert!(message(r#"{"image": "b"}"#).contains("sample 1: neither mask nor points"));
        let boxed = |bounds: &str| {
            let first = r#"{"image": "a", "points": [[3, 4]], "box": [1, 2, 3, 4]}"#;
            message(&format!("{first}\n{{\"image\": \"b\", \"points\": [[3, 4]]{bounds}}}"))
        };
        assert!(boxed("").contains("sample 2: no box, though the first has one"));
        assert!(boxed(r#", "box": [1, 2, 3]"#).contains("sample 2: a box of 3 numbers; expected"));
        assert!(boxed(r#", "box": [1, 2, 3, -4]"#).contains("sample 2: a box of [1.0, 2.0, 3.0, -4.0]"));
    }

    #[test]
    fn a_picture_given_as_list_is_no_list() {
        let error = list(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap_err();
        assert!(matches!(error, SourceError::ListHeader { .. } | SourceError::ListLine { line: 1, .. }));
    }
}
