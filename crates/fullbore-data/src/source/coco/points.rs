use std::path::{Path, PathBuf};

use fullbore_types::SampleId;

use super::json::{self, Annotation, Contents};
use super::{Images, annotation_error, by_id, find_json};
use crate::bounds::Bounds;
use crate::canvas::Window;
use crate::points::{MAX_POINTS, Point, PointTable, Visibility};
use crate::source::{About, Origin, Part, Source, SourceError, Target, TargetKind};

/// Share of its box's side that an instance shows beyond it on each side, while nothing else is said.
const MARGIN: f64 = 0.125;

/// The instances of a COCO file that have labelled key points. A sample is an instance, not an image: it shows the
/// square around its box, grown by a quarter. Samples are sorted by image, in the order of the file. Crowds are left
/// out.
///
/// Key points are taken as they are: whole numbers are the centres of pixels.
#[derive(Debug)]
pub struct CocoPoints {
    images: Images,
    instances: Vec<Instance>,
    points: PointTable,
}

#[derive(Debug)]
struct Instance {
    /// Annotation id.
    id: i64,
    image: u32,
    bounds: Bounds,
}

/// An instance of the file, before images and categories are known.
struct Found {
    id: i64,
    image_id: i64,
    category_id: i64,
    bounds: Bounds,
    points: Vec<Point>,
}

impl CocoPoints {
    /// Reads the whole file; opens no picture. Of a folder, its one JSON file. Images are looked for as in
    /// [`CocoMasks`](super::CocoMasks::open).
    ///
    /// # Errors
    /// When the file cannot be read or used, its instances have different numbers of points, none is labelled, or the
    /// images are not found.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let json = find_json(path)?;
        let mut found: Vec<Found> = Vec::new();
        let Contents { images, categories } = json::read(&json, |annotation| {
            let id = annotation.id;
            found.extend(labelled(annotation).map_err(|detail| annotation_error(&json, id, detail))?);
            Ok(())
        })?;
        let Some(first) = found.first() else {
            return Err(SourceError::NoSamples { path: json });
        };
        crate::source::renumbered::check_count(found.len().max(images.len()) as u64)?;

        let k = first.points.len();
        let category = categories.iter().find(|category| category.id == first.category_id);
        let mut points = match category {
            Some(category) if category.keypoints.0.len() == k => {
                PointTable { names: category.keypoints.0.clone(), points: Vec::new() }
            }
            _ => PointTable::numbered(k),
        };
        let image_of = by_id(&images, &json)?;
        let mut instances = Vec::new();
        for (at, instance) in found.iter().enumerate() {
            let wrong = |detail| annotation_error(&json, instance.id, detail);
            let Some(&image) = image_of.get(&instance.image_id) else {
                return Err(wrong(format!("image {} is not in the file", instance.image_id)));
            };
            if instance.points.len() != k {
                let n = instance.points.len();
                return Err(wrong(format!("{n} points, though annotation {} has {k}", first.id)));
            }
            let size = images[image].size();
            let bounds = instance.bounds;
            if !Window::around(bounds, MARGIN).meets(size) {
                return Err(wrong(format!("{bounds:?} lies outside of its image of {size}")));
            }
            instances.push((at, Instance { id: instance.id, image: image as u32, bounds }));
        }
        instances.sort_by_key(|(_, instance)| instance.image);
        points.points.reserve_exact(found.len() * k);
        instances.iter().for_each(|(at, _)| points.points.extend(&found[*at].points));
        let instances = instances.into_iter().map(|(_, instance)| instance).collect();

        Ok(CocoPoints { images: Images::new(json, &images)?, instances, points })
    }

    fn instance(&self, id: SampleId) -> &Instance {
        &self.instances[id.0 as usize]
    }
}

/// An annotation as an instance; `None` without labelled points, and for crowds.
fn labelled(annotation: Annotation) -> Result<Option<Found>, String> {
    let Annotation { id, image_id, category_id, iscrowd, bbox, keypoints, .. } = annotation;
    let Some(keypoints) = keypoints.filter(|_| iscrowd == 0) else { return Ok(None) };
    let (triples, rest) = keypoints.0.as_chunks::<3>();
    if !rest.is_empty() || triples.len() > MAX_POINTS {
        let n = keypoints.0.len();
        return Err(format!(
            "{n} numbers as key points; expected x, y and visibility of at most {MAX_POINTS}"
        ));
    }
    let points: Vec<Point> =
        triples.iter().map(|&[x, y, v]| Point::read(x, y, v)).collect::<Result<_, _>>()?;
    if points.iter().all(|point| point.visibility == Visibility::NotLabelled) {
        return Ok(None);
    }
    let bbox = bbox.ok_or("no bbox; an instance is shown by it")?;
    let bbox = bbox.0.try_into().map_err(|_| "a bbox is left, top, width and height".to_owned())?;
    Ok(Some(Found { id, image_id, category_id, bounds: Bounds::read(bbox)?, points }))
}

impl Source for CocoPoints {
    fn len(&self) -> usize {
        self.instances.len()
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Points { k: self.points.k() }
    }

    fn point_names(&self) -> &[String] {
        &self.points.names
    }

    fn name(&self, id: SampleId) -> String {
        let Instance { id, image, .. } = self.instance(id);
        format!("{}#{id}", self.images.stem(*image as usize))
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        match part {
            Part::Image => self.images.file(self.instance(id).image as usize),
            Part::Target => self.images.json.clone(),
        }
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        // Each instance is another window of its image.
        Some(Origin { file: self.file(id, part), within: u64::from(id.0) })
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        Target::Points(self.points.of(id.0 as usize))
    }

    fn about(&self, id: SampleId) -> About {
        let instance = self.instance(id);
        let size = self.images.sizes[instance.image as usize];
        let window = Some(Window::around(instance.bounds, MARGIN));
        About { size: Some(size), window, bounds: Some(instance.bounds), mm_per_px: None }
    }

    fn image_number(&self, id: SampleId) -> u32 {
        self.instance(id).image
    }
}
