use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fullbore_types::SampleId;

use super::list::{BOX_COLUMNS, MAX_LIST_BYTES, number, problem};
use super::{About, Origin, Part, Pictures, Source, SourceError, Target, TargetKind};
use crate::bounds::Bounds;

/// Boxes in pictures without targets, for prediction: each is a sample. Those of one picture follow each other, in the
/// order of the file; pictures keep their own order, and those without a box are no samples.
///
/// The file is CSV with the columns `image`, `box_left`, `box_top`, `box_width` and `box_height`; further columns are
/// passed over. Boxes count from the outer edge of the first pixel. An image is found by its name, or by the last part
/// of its path.
#[derive(Debug)]
pub struct BoxedPictures {
    pictures: Arc<Pictures>,
    file: PathBuf,
    /// Number of the picture, and the box.
    boxes: Vec<(u32, Bounds)>,
}

impl BoxedPictures {
    /// Reads the boxes once; opens no picture.
    ///
    /// # Errors
    /// When the file cannot be read, lacks a column, has no line, or has one that is no box of these pictures.
    pub fn open(pictures: Arc<Pictures>, file: &Path) -> Result<Self, SourceError> {
        let (bytes, length) = super::open_file(file, MAX_LIST_BYTES)?;
        let wrong = |line, detail| SourceError::Line { path: file.into(), line, detail };
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(bytes.take(length));
        let header = reader.headers().map_err(|error| problem(error, file))?.clone();
        let column = |name: &str| {
            let place = header.iter().position(|field| field.eq_ignore_ascii_case(name));
            place.ok_or_else(|| {
                wrong(1, format!("no column {name}; expected image,{}", BOX_COLUMNS.join(",")))
            })
        };
        let image = column("image")?;
        let columns = BOX_COLUMNS.map(column).into_iter().collect::<Result<Vec<_>, _>>()?;

        let names: Vec<String> = (0..pictures.len() as u32).map(|i| pictures.name(SampleId(i))).collect();
        let numbers: HashMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
        let mut boxes = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| problem(error, file))?;
            let line = record.position().map_or(0, |place| place.line());
            let name = record.get(image).unwrap_or_default();
            let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
            let picture = numbers.get(name).or_else(|| numbers.get(last)).ok_or_else(|| {
                wrong(line, format!("`{name}` is no picture in {}", pictures.folder().display()))
            })?;
            let mut sides = [f64::NAN; 4];
            for (side, &column) in sides.iter_mut().zip(&columns) {
                let value = number(&record, column).map_err(|word| {
                    wrong(line, format!("a box with `{word}`; expected a number of pixels"))
                })?;
                *side = value.unwrap_or(f64::NAN);
            }
            boxes.push((*picture, Bounds::read(sides).map_err(|detail| wrong(line, detail))?));
        }
        if boxes.is_empty() {
            return Err(SourceError::NoSamples { path: file.into() });
        }
        super::renumbered::check_count(boxes.len() as u64)?;
        boxes.sort_by_key(|(picture, _)| *picture);
        Ok(Self { pictures, file: file.into(), boxes })
    }

    /// How many pictures have no box.
    pub fn without_box(&self) -> usize {
        self.pictures.len() - self.boxes.chunk_by(|(a, _), (b, _)| a == b).count()
    }

    fn picture(&self, id: SampleId) -> SampleId {
        SampleId(self.boxes[id.0 as usize].0)
    }
}

impl Source for BoxedPictures {
    fn len(&self) -> usize {
        self.boxes.len()
    }

    fn kind(&self) -> TargetKind {
        TargetKind::None
    }

    fn name(&self, id: SampleId) -> String {
        self.pictures.name(self.picture(id))
    }

    fn target(&self, _: SampleId) -> Target<'_> {
        Target::None
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        match part {
            Part::Image => self.pictures.file(self.picture(id), part),
            Part::Target => self.file.clone(),
        }
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }

    fn about(&self, id: SampleId) -> About {
        About { bounds: Some(self.boxes[id.0 as usize].1), ..About::default() }
    }

    /// The picture's number in [`Pictures`].
    fn image_number(&self, id: SampleId) -> u32 {
        self.picture(id).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(boxes: &str) -> Result<BoxedPictures, SourceError> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png", "c.png"] {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        let file = dir.path().join("boxes.csv");
        fs::write(&file, boxes).unwrap();
        BoxedPictures::open(Arc::new(Pictures::open(dir.path())?), &file)
    }

    #[test]
    fn boxes_of_a_picture_follow_each_other() {
        let boxes = open(
            "box_left,note,box_top,box_width,box_height,image
1,x,2,3,4,c.png\n5,x,6,7,8,some/where/a.png\n-9,x,10,11,12,c.png\n",
        );
        let boxes = boxes.unwrap();
        let all: Vec<_> = (0..3)
            .map(|i| {
                (boxes.name(SampleId(i)), boxes.image_number(SampleId(i)), boxes.boxes[i as usize].1.left)
            })
            .collect();
        assert_eq!(all, [("a.png".into(), 0, 5.0), ("c.png".into(), 2, 1.0), ("c.png".into(), 2, -9.0)]);
        assert_eq!((boxes.len(), boxes.without_box()), (3, 1));
        let Bounds { left, top, width, height } = boxes.about(SampleId(1)).bounds.unwrap();
        assert_eq!([left, top, width, height], [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn what_is_no_box_is_named_with_its_line() {
        const HEADER: &str = "image,box_left,box_top,box_width,box_height\n";
        let told = |text: &str| open(text).unwrap_err().to_string();
        assert!(told("image,box_left\n").contains("line 1: no column box_top"));
        assert!(told(&format!("{HEADER}a.png,1,1,1,1\nz.png,1,1,1,1\n")).contains("line 3: `z.png` is no"));
        assert!(told(&format!("{HEADER}a.png,1,1,one,1\n")).contains("`one`"));
        assert!(told(&format!("{HEADER}a.png,1,1,,1\n")).contains("above 0"));
        assert!(matches!(open(HEADER), Err(SourceError::NoSamples { .. })));
    }
}
