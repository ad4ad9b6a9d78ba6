use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fullbore_types::{Classes, IGNORE_INDEX, SampleId, Size};

use super::json::{self, Annotation, Contents};
use super::{Images, annotation_error, by_id, find_json};
use crate::regions::{RegionTable, Shape};
use crate::source::{About, Origin, Part, Source, SourceError, Target};

/// The images of a COCO file with masks drawn from its segmentations: polygons and run-length codes. A sample is an
/// image; its order is that of the file.
///
/// A category is taken where `data.classes` has its name; objects of other categories are left out. Pixels that no
/// object covers are of the first class. Objects are painted from the largest to the smallest, so that a small one on
/// a large one is seen; of equal ones the later in the file wins. Crowds (`iscrowd`) are ignored regions, below all
/// objects.
#[derive(Debug)]
pub struct CocoMasks {
    images: Images,
    regions: RegionTable,
}

/// An object of the file, before categories are known.
struct Object {
    id: i64,
    image_id: i64,
    category_id: i64,
    crowd: bool,
    size: Option<Size>,
    shapes: Vec<Shape>,
    area: f64,
}

impl Object {
    fn new(annotation: Annotation, json: &Path) -> Result<Self, SourceError> {
        let Annotation { id, image_id, category_id, iscrowd, segmentation, .. } = annotation;
        let segmentation = segmentation
            .ok_or_else(|| annotation_error(json, id, "no segmentation; masks are drawn from it".into()))?;
        let shapes = segmentation.shapes().map_err(|detail| annotation_error(json, id, detail))?;
        let area = shapes.iter().map(|shape| shape.area).sum();
        let size = segmentation.size();
        Ok(Object { id, image_id, category_id, crowd: iscrowd != 0, size, shapes, area })
    }
}

impl CocoMasks {
    /// Reads the whole file; opens no picture. Of a folder, its one JSON file. Images are looked for beside the file
    /// and in the usual places: `images/`, or `../train2017/` for `annotations/instances_train2017.json`.
    ///
    /// # Errors
    /// When the file cannot be read or used, a class is no category or the first one is, or the images are not found.
    pub fn open(path: &Path, classes: &Classes) -> Result<Self, SourceError> {
        let json = find_json(path)?;
        let mut objects = Vec::new();
        let Contents { images, categories } = json::read(&json, |annotation| {
            objects.push(Object::new(annotation, &json)?);
            Ok(())
        })?;
        crate::source::renumbered::check_count(images.len() as u64)?;

        let named: Vec<(i64, &str)> = categories.iter().map(|c| (c.id, c.name.as_str())).collect();
        let class_of = class_indices(&named, classes, &json)?;
        let image_of = by_id(&images, &json)?;
        // The image, the class and the object of all that is drawn.
        let mut drawn = Vec::new();
        for object in objects {
            let wrong = |detail| annotation_error(&json, object.id, detail);
            let Some(&image) = image_of.get(&object.image_id) else {
                return Err(wrong(format!("image {} is not in the file", object.image_id)));
            };
            let size = images[image].size();
            if let Some(stated) = object.size.filter(|stated| *stated != size) {
                return Err(wrong(format!("a run-length code of {stated} for an image of {size}")));
            }
            let Some(&class) = class_of.get(&object.category_id) else { continue };
            if class == 0 {
                let class = classes.names[0].clone();
                return Err(SourceError::BackgroundMarked { path: json, class });
            }
            drawn.push((image, if object.crowd { IGNORE_INDEX } else { class }, object));
        }
        drawn.sort_by(|(image, _, a), (other, _, b)| {
            image.cmp(other).then(b.crowd.cmp(&a.crowd)).then(b.area.total_cmp(&a.area))
        });
        let mut regions = RegionTable::default();
        let mut rest = &drawn[..];
        for (i, image) in images.iter().enumerate() {
            let (of_image, others) = rest.split_at(rest.partition_point(|(image, ..)| *image <= i));
            rest = others;
            let shapes =
                of_image.iter().flat_map(|(_, class, object)| object.shapes.iter().map(|s| (*class, s)));
            regions.push_sample(shapes).map_err(|detail| SourceError::Entry {
                path: json.clone(),
                entry: format!("image {}", image.id),
                detail,
            })?;
        }
        regions.shrink_to_fit();
        Ok(CocoMasks { images: Images::new(json, &images)?, regions })
    }
}

/// Class index by category id, for the categories that are classes.
fn class_indices(
    categories: &[(i64, &str)],
    classes: &Classes,
    json: &Path,
) -> Result<HashMap<i64, u8>, SourceError> {
    const NAMED: usize = 10;
    let has = |name: &String| categories.iter().any(|(_, category)| category == name);
    if let Some(unknown) = classes.names.iter().skip(1).find(|name| !has(name)) {
        let mut known: Vec<&str> = categories.iter().take(NAMED).map(|(_, name)| *name).collect();
        if categories.len() > NAMED {
            known.push("...");
        }
        let known = if known.is_empty() { "no category".into() } else { known.join(", ") };
        return Err(SourceError::UnknownClass { path: json.into(), class: unknown.clone(), known });
    }
    let index = |name: &str| classes.names.iter().position(|class| class == name);
    Ok(categories.iter().filter_map(|(id, name)| Some((*id, index(name)? as u8))).collect())
}

impl Source for CocoMasks {
    fn len(&self) -> usize {
        self.images.sizes.len()
    }

    fn name(&self, id: SampleId) -> String {
        self.images.stem(id.0 as usize)
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        match part {
            Part::Image => self.images.file(id.0 as usize),
            Part::Target => self.images.json.clone(),
        }
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        // All masks are drawn from one file.
        let within = if part == Part::Target { u64::from(id.0) } else { 0 };
        Some(Origin { file: self.file(id, part), within })
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        Target::Regions(self.regions.of(id.0 as usize, 0))
    }

    fn about(&self, id: SampleId) -> About {
        About { size: Some(self.images.sizes[id.0 as usize]), ..About::default() }
    }
}
