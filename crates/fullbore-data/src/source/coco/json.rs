//! Reads the file in one pass, whatever the order of its parts, handing out one annotation after the other.

use std::fmt;
use std::io::{BufReader, Read};
use std::path::Path;

use fullbore_types::Size;
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::runs::decompress;
use crate::points::MAX_POINTS;
use crate::regions::Shape;
use crate::source::bounded::Bounded;
use crate::source::{SourceError, json_error, open_file};

/// Longest file; the largest public sets have a few GB.
const MAX_BYTES: u64 = 1 << 33;
/// Most numbers of one polygon or run-length code.
const MAX_NUMBERS: usize = 1 << 22;
/// Most polygons of one annotation.
const MAX_POLYGONS: usize = 1 << 16;
const EXPECTED: &str = "COCO annotations";

/// What the file says beside the annotations.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) images: Vec<Image>,
    pub(super) categories: Vec<Category>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Image {
    pub(super) id: i64,
    pub(super) file_name: String,
    width: u32,
    height: u32,
}

impl Image {
    pub(super) fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Category {
    pub(super) id: i64,
    pub(super) name: String,
    /// Names of the points, where it has any.
    #[serde(default)]
    pub(super) keypoints: Bounded<String, MAX_POINTS>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Annotation {
    #[serde(default)]
    pub(super) id: i64,
    pub(super) image_id: i64,
    pub(super) category_id: i64,
    #[serde(default)]
    pub(super) iscrowd: u8,
    pub(super) bbox: Option<Bounded<f64, 4>>,
    pub(super) keypoints: Option<Bounded<f64, MAX_NUMBERS>>,
    pub(super) segmentation: Option<Segmentation>,
}

/// The pixels of an object.
#[derive(Debug)]
pub(super) enum Segmentation {
    /// Corners of each, x and y in turn.
    Polygons(Bounded<Bounded<f64, MAX_NUMBERS>, MAX_POLYGONS>),
    /// Run lengths and the size of the image.
    Runs(Vec<u32>, Size),
}

impl Segmentation {
    /// # Errors
    /// In words.
    pub(super) fn shapes(&self) -> Result<Vec<Shape>, String> {
        match self {
            Segmentation::Polygons(polygons) => {
                polygons.0.iter().map(|corners| Shape::polygon(&corners.0)).collect()
            }
            Segmentation::Runs(runs, size) => Ok(vec![Shape::column_runs(runs, *size)?]),
        }
    }

    /// Size of the image, where the code states it.
    pub(super) fn size(&self) -> Option<Size> {
        match self {
            Segmentation::Polygons(_) => None,
            Segmentation::Runs(_, size) => Some(*size),
        }
    }
}

/// Reads `json`; `each` is given every annotation.
///
/// # Errors
/// When the file cannot be read, is no JSON or holds something else, and what `each` returns.
pub(super) fn read(
    json: &Path,
    each: impl FnMut(Annotation) -> Result<(), SourceError>,
) -> Result<Contents, SourceError> {
    let (file, length) = open_file(json, MAX_BYTES)?;
    let mut failure = None;
    let mut parser =
        serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 16, file.take(length)));
    let top = Top { each, failure: &mut failure };
    let read = top.deserialize(&mut parser).and_then(|contents| parser.end().map(|()| contents));
    match (failure, read) {
        (Some(failure), _) => Err(failure),
        (None, read) => read.map_err(|error| json_error(error, json, EXPECTED)),
    }
}

/// The outermost object.
struct Top<'a, F> {
    each: F,
    /// What `each` returned, on its way through the parser.
    failure: &'a mut Option<SourceError>,
}

impl<'de, F: FnMut(Annotation) -> Result<(), SourceError>> DeserializeSeed<'de> for Top<'_, F> {
    type Value = Contents;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Contents, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Annotation) -> Result<(), SourceError>> Visitor<'de> for Top<'_, F> {
    type Value = Contents;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with images, annotations and categories")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Contents, A::Error> {
        let mut contents = Contents::default();
        let mut annotated = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "images" => contents.images = map.next_value()?,
                "categories" => contents.categories = map.next_value()?,
                "annotations" => {
                    map.next_value_seed(Each { each: &mut self.each, failure: self.failure })?;
                    annotated = true;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match annotated {
            true => Ok(contents),
            false => Err(A::Error::missing_field("annotations")),
        }
    }
}

/// The list of annotations.
struct Each<'a, F> {
    each: &'a mut F,
    failure: &'a mut Option<SourceError>,
}

impl<'de, F: FnMut(Annotation) -> Result<(), SourceError>> DeserializeSeed<'de> for Each<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Annotation) -> Result<(), SourceError>> Visitor<'de> for Each<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of annotations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(annotation) = seq.next_element()? {
            if let Err(failure) = (self.each)(annotation) {
                *self.failure = Some(failure);
                return Err(A::Error::custom("an annotation cannot be used"));
            }
        }
        Ok(())
    }
}

/// The numbers of a run-length code, plain or compressed.
struct Counts(Vec<u32>);

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PlainOrCompressed;
        impl<'de> Visitor<'de> for PlainOrCompressed {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("run lengths as a list or as COCO's compressed text")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, runs: A) -> Result<Counts, A::Error> {
                let runs = Bounded::<u32, MAX_NUMBERS>::deserialize(SeqAccessDeserializer::new(runs))?;
                Ok(Counts(runs.0))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Counts, E> {
                decompress(text, MAX_NUMBERS).map(Counts).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(PlainOrCompressed)
    }
}

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PolygonsOrRuns;
        impl<'de> Visitor<'de> for PolygonsOrRuns {
            type Value = Segmentation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of polygons or a run-length code {size, counts}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, polygons: A) -> Result<Segmentation, A::Error> {
                Bounded::deserialize(SeqAccessDeserializer::new(polygons)).map(Segmentation::Polygons)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Segmentation, A::Error> {
                let (mut size, mut counts) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "size" => size = Some(map.next_value::<[u32; 2]>()?),
                        "counts" => counts = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let [height, width] = size.ok_or_else(|| A::Error::missing_field("size"))?;
                let Counts(runs) = counts.ok_or_else(|| A::Error::missing_field("counts"))?;
                Ok(Segmentation::Runs(runs, Size::new(width, height)))
            }
        }
        deserializer.deserialize_any(PolygonsOrRuns)
    }
}
