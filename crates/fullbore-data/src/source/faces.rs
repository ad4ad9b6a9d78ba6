use std::path::{Path, PathBuf};

use fullbore_types::SampleId;
use indexmap::IndexSet;

use super::list::root;
use super::names::NameTable;
use super::{About, Origin, Part, Source, SourceError, Target, TargetKind};
use crate::bounds::Bounds;
use crate::points::{Point, PointTable};

/// Faces in images, each with a box and points, from one file: a WFLW list ([`Faces::open_wflw`]) or an XML file of
/// dlib ([`Faces::open_dlib`]). A sample is a face, not an image, and faces of one image follow each other: `data.crop`
/// says how much of the image it shows.
///
/// Relative paths start where those of a [`List`](super::List) do.
#[derive(Debug)]
pub struct Faces {
    file: PathBuf,
    root: PathBuf,
    /// Image paths.
    images: NameTable,
    faces: Vec<Face>,
    points: PointTable,
}

#[derive(Debug)]
struct Face {
    image: u32,
    /// From 1 in each image, where there are several.
    number: Option<u32>,
    bounds: Bounds,
}

/// Faces as they are read, in any order.
#[derive(Default)]
pub(super) struct FaceList {
    images: IndexSet<String>,
    /// Image and box of each.
    faces: Vec<(u32, Bounds)>,
    /// As many for each face.
    points: Vec<Point>,
}

impl FaceList {
    pub(super) fn push(&mut self, image: &str, bounds: Bounds, points: impl IntoIterator<Item = Point>) {
        let image = match self.images.get_index_of(image) {
            Some(known) => known,
            None => self.images.insert_full(image.to_owned()).0,
        };
        self.faces.push((image as u32, bounds));
        self.points.extend(points);
    }

    /// Sorts the faces by image. `names` are those of the points, and `beside` further folders that paths may start at,
    /// seen from the folder of `file`.
    ///
    /// # Errors
    /// When there are no faces, or too many.
    pub(super) fn index(
        self,
        file: &Path,
        names: Vec<String>,
        beside: &[&str],
    ) -> Result<Faces, SourceError> {
        let FaceList { images, faces, points } = self;
        let Some(first) = images.first().filter(|_| !faces.is_empty()) else {
            return Err(SourceError::NoSamples { path: file.into() });
        };
        super::renumbered::check_count(faces.len() as u64)?;
        let root = root(file, first, beside);
        let mut order: Vec<usize> = (0..faces.len()).collect();
        order.sort_by_key(|&face| faces[face].0);
        let mut table = PointTable { names, points: Vec::with_capacity(points.len()) };
        let mut sorted: Vec<Face> = Vec::with_capacity(faces.len());
        for of_image in order.chunk_by(|&a, &b| faces[a].0 == faces[b].0) {
            for (number, &face) in (1..).zip(of_image) {
                let (image, bounds) = faces[face];
                let number = (of_image.len() > 1).then_some(number);
                sorted.push(Face { image, number, bounds });
                table.points.extend_from_slice(&points[face * table.k()..][..table.k()]);
            }
        }
        let mut paths = NameTable::default();
        images.iter().for_each(|image| paths.push(image));
        paths.shrink_to_fit();
        Ok(Faces { file: file.into(), root, images: paths, faces: sorted, points: table })
    }
}

impl Faces {
    fn face(&self, id: SampleId) -> &Face {
        &self.faces[id.0 as usize]
    }
}

impl Source for Faces {
    fn len(&self) -> usize {
        self.faces.len()
    }

    fn kind(&self) -> TargetKind {
        TargetKind::Points { k: self.points.k() }
    }

    fn point_names(&self) -> &[String] {
        &self.points.names
    }

    /// That of its image, with `#1`, `#2`, ... where the image has several faces.
    fn name(&self, id: SampleId) -> String {
        let Face { image, number, .. } = self.face(id);
        let stem = Path::new(self.images.get(*image as usize)).file_stem();
        let stem = stem.map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        number.map_or(stem.clone(), |number| format!("{stem}#{number}"))
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        match part {
            Part::Image => self.root.join(self.images.get(self.face(id).image as usize)),
            Part::Target => self.file.clone(),
        }
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        Some(Origin::whole(self.file(id, part)))
    }

    fn target(&self, id: SampleId) -> Target<'_> {
        Target::Points(self.points.of(id.0 as usize))
    }

    fn about(&self, id: SampleId) -> About {
        About { bounds: Some(self.face(id).bounds), ..About::default() }
    }

    fn image_number(&self, id: SampleId) -> u32 {
        self.face(id).image
    }
}
