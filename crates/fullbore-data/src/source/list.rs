use std::fs::File;
use std::path::{Path, PathBuf};

use fullbore_types::SampleId;

use super::names::{NameTable, stem};
use super::{Origin, Part, Source, SourceError};

/// Longest list, so that a wrong file cannot fill memory: room for about ten million pairs.
const MAX_LIST_BYTES: u64 = 1 << 30;
const FIRST_LINE_CHARS: usize = 60;

/// Pairs named by a CSV file with the columns `image` and `mask`; further columns are passed over. Relative paths
/// start at the folder of the list. Samples keep the order of the list.
#[derive(Debug)]
pub struct PairList {
    folder: PathBuf,
    /// Image path and mask path of each sample, in turn.
    paths: NameTable,
}

impl PairList {
    /// Reads the list once; opens no picture.
    ///
    /// # Errors
    /// When the list cannot be read, lacks the two columns, names no sample, or has a line that lacks a path.
    pub fn open(list: &Path) -> Result<Self, SourceError> {
        let meta = super::metadata(list)?;
        if !meta.is_file() {
            return Err(SourceError::NotAFile { path: list.into() });
        }
        if meta.len() > MAX_LIST_BYTES {
            let (length, limit) = (meta.len(), MAX_LIST_BYTES);
            return Err(SourceError::TooLong { path: list.into(), length, limit });
        }
        let file =
            File::open(list).map_err(|source| SourceError::Unreadable { path: list.into(), source })?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(file);
        let header = reader.headers().map_err(|e| problem(e, list))?.clone();
        let column = |name| header.iter().position(|field| field.eq_ignore_ascii_case(name));
        let (Some(image), Some(mask)) = (column("image"), column("mask")) else {
            let line: Vec<&str> = header.iter().collect();
            let found = line.join(",").chars().take(FIRST_LINE_CHARS).collect();
            return Err(SourceError::ListHeader { path: list.into(), found });
        };
        let mut paths = NameTable::default();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|e| problem(e, list))? {
            for (column, name) in [(image, "image"), (mask, "mask")] {
                match record.get(column) {
                    Some(path) if !path.is_empty() => paths.push(path),
                    _ => {
                        let line = record.position().map_or(0, |p| p.line());
                        let detail = format!("the {name} is missing");
                        return Err(SourceError::ListLine { path: list.into(), line, detail });
                    }
                }
            }
        }
        if paths.len() == 0 {
            return Err(SourceError::ListEmpty { path: list.into() });
        }
        super::subset::check_count(paths.len() as u64 / 2)?;
        paths.shrink_to_fit();
        Ok(PairList { folder: list.parent().unwrap_or(Path::new("")).into(), paths })
    }
}

impl Source for PairList {
    fn len(&self) -> usize {
        self.paths.len() / 2
    }

    fn name(&self, id: SampleId) -> String {
        let path = Path::new(self.paths.get(2 * id.0 as usize));
        path.file_name().map_or_else(String::new, |name| stem(&name.to_string_lossy()).to_owned())
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        self.folder.join(self.paths.get(2 * id.0 as usize + usize::from(part == Part::Mask)))
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }
}

fn problem(error: csv::Error, list: &Path) -> SourceError {
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

    fn list(text: &[u8]) -> Result<PairList, SourceError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.csv");
        std::fs::write(&path, text).unwrap();
        let mut list = PairList::open(&path)?;
        list.folder = "F".into();
        Ok(list)
    }

    #[test]
    fn paths_start_at_the_list_and_order_is_kept() {
        let list =
            list(b"\xef\xbb\xbfid, mask ,Image\n7,m/b.png, b.jpg\n8,\"/abs, olute/a.png\",x/a.tar.png\r\n");
        let list = list.unwrap();
        assert_eq!(list.len(), 2);
        let file = |i, part| list.file(SampleId(i), part).display().to_string();
        assert_eq!([file(0, Part::Image), file(0, Part::Mask)], ["F/b.jpg", "F/m/b.png"]);
        assert_eq!([file(1, Part::Image), file(1, Part::Mask)], ["F/x/a.tar.png", "/abs, olute/a.png"]);
        assert_eq!([list.name(SampleId(0)), list.name(SampleId(1))], ["b", "a.tar"]);
    }

    #[test]
    fn bad_lists_say_which_line() {
        let message = |text: &[u8]| list(text).unwrap_err().to_string();
        assert!(message(b"").contains("no columns `image` and `mask`"));
        assert!(message(b"a.png,b.png\n").contains("its first line is `a.png,b.png`"));
        assert!(message(b"image,mask\n").contains("names no samples"));
        assert!(message(b"image,mask\na,b\nc\n").contains("line 3: the mask is missing"));
        assert!(message(b"image,mask\na,b\n,d\n").contains("line 3: the image is missing"));
        assert!(message(b"image,mask\na,b\n\xff,d\n").contains("line 3: it is not UTF-8 text"));
    }

    #[test]
    fn a_picture_given_as_list_is_no_list() {
        let error = list(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap_err();
        assert!(matches!(error, SourceError::ListHeader { .. } | SourceError::ListLine { line: 1, .. }));
    }
}
