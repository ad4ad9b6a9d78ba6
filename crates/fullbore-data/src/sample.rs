//! One sample: from its files to its place on a canvas.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fullbore_types::{Classes, Frame, SampleId, Size};

use crate::DataError;
use crate::cache::{Form, Found, Key, Pixels, Shelf};
use crate::canvas::{Placement, Window};
use crate::decode::{DecodeLimits, DecodeScratch, Picture, Wanted};
use crate::mask::{IndexTable, MaskError, MaskValues};
use crate::points::Point;
use crate::regions::DrawScratch;
use crate::resample::{self, ResampleScratch};
use crate::source::{Part, Source, SourceError, Target, TargetKind};
use crate::stage::StageWorker;
use crate::stats::{Counters, timed};

/// What a worker keeps from sample to sample, so that steady work allocates only within decoders.
#[derive(Default)]
pub(crate) struct Scratch {
    image_file: Vec<u8>,
    mask_file: Vec<u8>,
    image: Vec<u8>,
    mask: Vec<u8>,
    /// What the cache knows the sample by that was read last; `None` when it cannot be cached.
    key: Option<Key>,
    /// The sample that was read last, where the cache had it.
    found: Option<Found>,
    cached: Vec<u8>,
    decode: DecodeScratch,
    draw: DrawScratch,
    resample: ResampleScratch,
    /// Points of the sample, and what is known of each.
    places: Vec<[f32; 2]>,
    visibility: Vec<u8>,
    /// The stage's worker, from the first sample on.
    stage: Option<Box<dyn StageWorker>>,
    canvas: CanvasScratch,
}

/// Where a sample lies before its stage.
#[derive(Default)]
pub(crate) struct CanvasScratch {
    pub(crate) image: Vec<u8>,
    pub(crate) mask: Vec<u8>,
}

impl Scratch {
    /// Puts the points of a sample, in pixels of its source, on its canvas.
    pub(crate) fn place_points(&mut self, points: &[Point], frame: &Frame, canvas: Size) {
        self.places.clear();
        self.visibility.clear();
        for point in points {
            let Point { x, y, visibility } = point.on_canvas(frame, canvas);
            self.places.push([x, y]);
            self.visibility.push(visibility as u8);
        }
    }

    /// The points placed last.
    pub(crate) fn points(&self) -> (&[[f32; 2]], &[u8]) {
        (&self.places, &self.visibility)
    }

    /// The same, to be moved.
    pub(crate) fn points_mut(&mut self) -> (&mut [[f32; 2]], &mut [u8]) {
        (&mut self.places, &mut self.visibility)
    }

    /// The stage's worker and the canvas before it, to be given back by [`take_back`](Self::take_back): the rest of
    /// the scratch is needed beside them.
    pub(crate) fn lend_stage(
        &mut self,
        worker: impl FnOnce() -> Box<dyn StageWorker>,
    ) -> (Box<dyn StageWorker>, CanvasScratch) {
        (self.stage.take().unwrap_or_else(worker), std::mem::take(&mut self.canvas))
    }

    pub(crate) fn take_back(&mut self, worker: Box<dyn StageWorker>, canvas: CanvasScratch) {
        self.stage = Some(worker);
        self.canvas = canvas;
    }

    /// The image last decoded, at its own size. Only there when it had to be placed on a canvas of another kind.
    pub(crate) fn take_image(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.image)
    }
}

/// How every sample of a loader is read.
pub(crate) struct SampleReader {
    wanted: Wanted,
    /// `None` when masks are left alone.
    masks: Option<MaskValues>,
    limits: DecodeLimits,
    /// Where samples are kept once they are decoded.
    shelf: Option<Arc<Shelf>>,
}

/// Where the mask of a sample goes.
pub(crate) enum MaskOut<'a> {
    /// Onto the canvas, as the image.
    Canvas(&'a mut [u8]),
    /// Class indices at the size of the source.
    Native(&'a mut Vec<u8>),
    /// Masks are left alone.
    Nowhere,
}

impl SampleReader {
    /// # Panics
    /// When `channels` is neither 1 nor 3.
    pub(crate) fn new(channels: u8, classes: Option<&Classes>, limits: DecodeLimits) -> Self {
        assert!(channels == 1 || channels == 3, "images have 1 or 3 channels");
        let wanted = if channels == 1 { Wanted::Gray } else { Wanted::Rgb };
        SampleReader { wanted, masks: classes.map(MaskValues::new), limits, shelf: None }
    }

    /// Looks for samples on a shelf before reading them, and keeps them there. Its recipe must be that of the
    /// placements and masks that [`decode`](Self::decode) is asked for.
    pub(crate) fn with_shelf(self, shelf: Option<Arc<Shelf>>) -> Self {
        SampleReader { shelf, ..self }
    }

    /// Samples and bytes on the shelf.
    pub(crate) fn held(&self) -> (u64, u64) {
        self.shelf.as_ref().map_or((0, 0), |shelf| shelf.held())
    }

    /// # Errors
    /// When masks are to be read and `source` has none.
    pub(crate) fn check(&self, source: &dyn Source) -> Result<(), DataError> {
        match (&self.masks, source.kind()) {
            (Some(_), kind @ (TargetKind::None | TargetKind::Points { .. })) => {
                Err(DataError::NoMasks { found: kind.words() })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn channels(&self) -> usize {
        self.wanted.channels()
    }

    /// Reads the files of one sample into the scratch, unless the cache has it. `at` hears of each part before it is
    /// read.
    pub(crate) fn read(
        &self,
        source: &dyn Source,
        id: SampleId,
        scratch: &mut Scratch,
        counters: &Counters,
        mut at: impl FnMut(Part),
    ) -> Result<(), DataError> {
        let Scratch { image_file, mask_file, key, found, cached, .. } = scratch;
        mask_file.clear();
        (*key, *found) = (None, None);
        timed(&counters.read, || {
            at(Part::Image);
            if let Some(shelf) = &self.shelf {
                *key = shelf.key(source, id);
                *found = key.and_then(|key| shelf.get(key, self.limits.max_pixels, cached, &counters.cache));
            }
            if found.is_some() {
                return Ok(());
            }
            source.read(id, Part::Image, self.limits.max_bytes, image_file)?;
            match (&self.masks, source.target(id)) {
                (Some(_), Target::MaskFile) => {
                    at(Part::Target);
                    source.read(id, Part::Target, self.limits.max_bytes, mask_file)
                }
                _ => Ok(()),
            }
        })?;
        if found.is_some() {
            return Ok(());
        }
        let n_bytes = image_file.len() + mask_file.len();
        counters.bytes_read.fetch_add(n_bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Decodes and places the sample that was read last. `place` decides where the image, or the part of it that
    /// shows the sample, lies once its size is known; `out` gives the canvas and the mask's destination for that
    /// placement. Points are not touched: [`points_of`] has them.
    pub(crate) fn decode<'out>(
        &self,
        source: &dyn Source,
        id: SampleId,
        scratch: &mut Scratch,
        counters: &Counters,
        place: impl FnOnce(Size, Option<Window>) -> Placement,
        out: impl FnOnce(&Placement) -> (&'out mut [u8], MaskOut<'out>),
    ) -> Result<(Placement, Frame), DataError> {
        let Scratch {
            image_file, mask_file, image, mask, key, found, cached, decode, draw, resample, ..
        } = scratch;
        let about = source.about(id);
        if let (Some(found), Some(shelf)) = (found.take(), &self.shelf) {
            let placement = place(found.source(), about.window);
            let (canvas, mask_out) = out(&placement);
            timed(&counters.pack, || {
                self.show(shelf, &found, cached, &placement, canvas, mask_out, (mask, resample));
            });
            counters.samples.fetch_add(1, Ordering::Relaxed);
            return Ok((placement, Frame { mm_per_px: about.mm_per_px, ..placement.frame() }));
        }
        let image_path = source.file(id, Part::Image);
        let image_picture = Picture::open(image_file, &image_path, self.wanted, &self.limits)?;
        let size = image_picture.size();
        if let Some(stated) = about.size.filter(|stated| *stated != size) {
            let (annotations, image) = (source.file(id, Part::Target), image_path.clone());
            return Err(SourceError::StatedSize { annotations, image, stated, size }.into());
        }
        if let Some(window) = about.window.filter(|window| !window.meets(size)) {
            let (annotations, image) = (source.file(id, Part::Target), image_path.clone());
            return Err(SourceError::WindowOutside { annotations, image, window, size }.into());
        }
        let table = match (&self.masks, source.target(id)) {
            (Some(values), Target::MaskFile) => {
                let mask_path = source.file(id, Part::Target);
                let mask_picture = Picture::open(mask_file, &mask_path, Wanted::Mask, &self.limits)?;
                if mask_picture.size() != size {
                    return Err(DataError::Mask(MaskError::SizeMismatch {
                        image: image_path.clone(),
                        image_size: size,
                        mask: mask_path.clone(),
                        mask_size: mask_picture.size(),
                    }));
                }
                let lossy = mask_picture.is_lossy();
                timed(&counters.decode, || {
                    mask.resize(mask_picture.n_bytes(), 0);
                    mask_picture.read(mask, decode)
                })?;
                Some(timed(&counters.pack, || values.table_for(mask, size.width, lossy, &mask_path))?)
            }
            (Some(_), Target::Regions(regions)) => {
                timed(&counters.decode, || {
                    mask.resize(size.area() as usize, 0);
                    regions.draw(size, mask, draw);
                });
                Some(&IndexTable::IDENTITY)
            }
            _ => None,
        };

        let placement = place(size, about.window);
        let packing = match placement.window.size == placement.target.size {
            true => &counters.pack,
            false => &counters.resize,
        };
        let (canvas, mask_out) = out(&placement);
        if placement.is_identity() {
            timed(&counters.decode, || image_picture.read(canvas, decode))?;
        } else {
            timed(&counters.decode, || {
                image.resize(image_picture.n_bytes(), 0);
                image_picture.read(image, decode)
            })?;
            timed(packing, || {
                resample::place_image(image, self.channels(), &placement, canvas, resample);
            });
        }
        let on_canvas = timed(packing, || match (mask_out, table) {
            (MaskOut::Canvas(canvas), Some(table)) => {
                resample::place_mask(mask, table, &placement, canvas, resample);
                Some((&*canvas, &IndexTable::IDENTITY))
            }
            (MaskOut::Native(indices), Some(table)) => {
                indices.resize(mask.len(), 0);
                resample::translate(mask, table, indices);
                None
            }
            _ => None,
        });
        if let (Some(shelf), Some(key)) = (&self.shelf, key.take()) {
            timed(&counters.pack, || {
                let image = match shelf.recipe().image {
                    Form::Native if !placement.is_identity() => image,
                    _ => canvas,
                };
                let mask = match shelf.recipe().mask {
                    Some(Form::Canvas(_)) => on_canvas,
                    Some(Form::Native) => table.map(|table| (&mask[..], table)),
                    None => None,
                };
                shelf.keep(source, id, key, &Pixels { source: size, image, mask }, cached);
            });
        }
        counters.samples.fetch_add(1, Ordering::Relaxed);
        Ok((placement, Frame { mm_per_px: about.mm_per_px, ..placement.frame() }))
    }

    /// Places a sample that was kept.
    #[allow(clippy::too_many_arguments)]
    fn show(
        &self,
        shelf: &Shelf,
        found: &Found,
        cached: &[u8],
        placement: &Placement,
        canvas: &mut [u8],
        mask_out: MaskOut<'_>,
        (mask, resample): (&mut Vec<u8>, &mut ResampleScratch),
    ) {
        match shelf.recipe().image {
            Form::Canvas(_) => canvas.copy_from_slice(found.image(cached)),
            Form::Native => {
                resample::place_image(found.image(cached), self.channels(), placement, canvas, resample)
            }
        }
        match (mask_out, shelf.recipe().mask) {
            (MaskOut::Canvas(canvas), Some(Form::Canvas(_))) => found.unpack_mask(cached, canvas),
            (MaskOut::Canvas(canvas), Some(Form::Native)) => {
                mask.resize(placement.source.area() as usize, 0);
                found.unpack_mask(cached, mask);
                resample::place_mask(mask, &IndexTable::IDENTITY, placement, canvas, resample);
            }
            (MaskOut::Native(indices), Some(_)) => {
                indices.resize(placement.source.area() as usize, 0);
                found.unpack_mask(cached, indices);
            }
            (_, None) | (MaskOut::Nowhere, _) => {}
        }
    }
}

/// The points of a sample, in pixels of the source. Empty where the source has none.
pub(crate) fn points_of(source: &dyn Source, id: SampleId) -> &[Point] {
    match source.target(id) {
        Target::Points(points) => points,
        _ => &[],
    }
}

/// Works on a sample with `load`; a panic there becomes an error that names the sample, and a fresh scratch.
pub(crate) fn contained<T>(
    source: &dyn Source,
    id: SampleId,
    scratch: &mut Scratch,
    load: impl FnOnce(&mut Scratch) -> Result<T, DataError>,
) -> Result<T, DataError> {
    // Unwind safety: the scratch is replaced, and what was half written is never shown.
    catch_unwind(AssertUnwindSafe(|| load(scratch))).unwrap_or_else(|panic| {
        *scratch = Scratch::default();
        let (name, file) = names(source, id, Part::Image);
        let file = file.display().to_string();
        Err(DataError::Panicked { name, file, message: panic_message(&*panic) })
    })
}

/// Name of a sample and file of one of its parts, even where the source panics on being asked.
pub(crate) fn names(source: &dyn Source, id: SampleId, part: Part) -> (String, PathBuf) {
    catch_unwind(AssertUnwindSafe(|| (source.name(id), source.file(id, part))))
        .unwrap_or_else(|_| (format!("number {}", id.0), "unknown file".into()))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
