//! One sample: from its files to its place on a canvas.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fullbore_types::{Classes, SampleId, Size};

use crate::DataError;
use crate::cache::{Cached, Form, Pixels, Shelf};
use crate::canvas::Placement;
use crate::decode::{DecodeLimits, DecodeScratch, Picture, Wanted};
use crate::mask::{IndexTable, MaskError, MaskValues};
use crate::resample::{self, ResampleScratch};
use crate::source::{Part, Source};
use crate::stats::{Counters, LoaderStats, timed};

/// What a worker keeps from sample to sample, so that steady work allocates only within decoders.
#[derive(Default)]
pub(crate) struct Scratch {
    image_file: Vec<u8>,
    mask_file: Vec<u8>,
    image: Vec<u8>,
    mask: Vec<u8>,
    cached: Vec<u8>,
    decode: DecodeScratch,
    resample: ResampleScratch,
}

impl Scratch {
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
    /// placements and masks that [`load`](Self::load) is asked for.
    pub(crate) fn with_shelf(self, shelf: Option<Arc<Shelf>>) -> Self {
        SampleReader { shelf, ..self }
    }

    /// What has been done so far, and what the shelf holds.
    pub(crate) fn stats(&self, counters: &Counters) -> LoaderStats {
        let mut stats = counters.snapshot();
        if let Some(shelf) = &self.shelf {
            (stats.cache.held_samples, stats.cache.held_bytes) = shelf.held();
        }
        stats
    }

    pub(crate) fn channels(&self) -> usize {
        self.wanted.channels()
    }

    /// Reads, decodes and places one sample. `place` decides where the image lies once its size is known;
    /// `out` gives the canvas and the mask's destination for that placement.
    pub(crate) fn load<'out>(
        &self,
        source: &dyn Source,
        id: SampleId,
        scratch: &mut Scratch,
        counters: &Counters,
        place: impl FnOnce(Size) -> Placement,
        out: impl FnOnce(&Placement) -> (&'out mut [u8], MaskOut<'out>),
    ) -> Result<Placement, DataError> {
        let Scratch { image_file, mask_file, image, mask, cached, decode, resample } = scratch;
        let key = timed(&counters.read, || {
            self.shelf.as_deref().and_then(|shelf| Some((shelf, shelf.key(source, id)?)))
        });
        if let Some((shelf, key)) = key {
            let max_pixels = self.limits.max_pixels;
            let found = timed(&counters.read, || shelf.get(key, max_pixels, cached, &counters.cache));
            if let Some(found) = found {
                let placement = place(found.source());
                let (canvas, mask_out) = out(&placement);
                timed(&counters.pack, || {
                    self.show(shelf, &found, &placement, canvas, mask_out, (mask, resample));
                });
                counters.samples.fetch_add(1, Ordering::Relaxed);
                return Ok(placement);
            }
        }
        timed(&counters.read, || {
            source.read(id, Part::Image, self.limits.max_bytes, image_file)?;
            match self.masks {
                Some(_) => source.read(id, Part::Mask, self.limits.max_bytes, mask_file),
                None => Ok(()),
            }
        })?;
        let n_bytes = image_file.len() + mask_file.len();
        counters.bytes_read.fetch_add(n_bytes as u64, Ordering::Relaxed);

        let image_path = source.file(id, Part::Image);
        let image_picture = Picture::open(image_file, &image_path, self.wanted, &self.limits)?;
        let size = image_picture.size();
        let table = match &self.masks {
            Some(values) => {
                let mask_path = source.file(id, Part::Mask);
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
            None => None,
        };

        let placement = place(size);
        let (canvas, mask_out) = out(&placement);
        if placement.is_identity() {
            timed(&counters.decode, || image_picture.read(canvas, decode))?;
        } else {
            timed(&counters.decode, || {
                image.resize(image_picture.n_bytes(), 0);
                image_picture.read(image, decode)
            })?;
            timed(&counters.pack, || {
                resample::place_image(image, self.channels(), &placement, canvas, resample);
            });
        }
        let on_canvas = timed(&counters.pack, || match (mask_out, table) {
            (MaskOut::Canvas(canvas), Some(table)) => {
                resample::place_mask(mask, table, &placement, canvas, resample);
                Some((&*canvas, &IndexTable::AS_IS))
            }
            (MaskOut::Native(indices), Some(table)) => {
                indices.resize(mask.len(), 0);
                resample::translate(mask, table, indices);
                None
            }
            _ => None,
        });
        if let Some((shelf, key)) = key {
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
        Ok(placement)
    }

    /// Places a sample that was kept.
    fn show(
        &self,
        shelf: &Shelf,
        found: &Cached<'_>,
        placement: &Placement,
        canvas: &mut [u8],
        mask_out: MaskOut<'_>,
        (mask, resample): (&mut Vec<u8>, &mut ResampleScratch),
    ) {
        match shelf.recipe().image {
            Form::Canvas(_) => canvas.copy_from_slice(found.image()),
            Form::Native => {
                resample::place_image(found.image(), self.channels(), placement, canvas, resample)
            }
        }
        match (mask_out, shelf.recipe().mask) {
            (MaskOut::Canvas(canvas), Some(Form::Canvas(_))) => found.unpack_mask(canvas),
            (MaskOut::Canvas(canvas), Some(Form::Native)) => {
                mask.resize(placement.source.area() as usize, 0);
                found.unpack_mask(mask);
                resample::place_mask(mask, &IndexTable::AS_IS, placement, canvas, resample);
            }
            (MaskOut::Native(indices), Some(_)) => {
                indices.resize(placement.source.area() as usize, 0);
                found.unpack_mask(indices);
            }
            (_, None) | (MaskOut::Nowhere, _) => {}
        }
    }
}

/// Loads a sample with `load`; a panic there becomes an error that names the sample, and a fresh scratch.
pub(crate) fn contained<T>(
    source: &dyn Source,
    id: SampleId,
    scratch: &mut Scratch,
    load: impl FnOnce(&mut Scratch) -> Result<T, DataError>,
) -> Result<T, DataError> {
    // Unwind safety: the scratch is replaced, and what was half written is never shown.
    catch_unwind(AssertUnwindSafe(|| load(scratch))).unwrap_or_else(|panic| {
        *scratch = Scratch::default();
        // The panic may have come from the source itself, so ask it for names with the same care.
        let names = catch_unwind(AssertUnwindSafe(|| {
            (source.name(id), source.file(id, Part::Image).display().to_string())
        }));
        let (name, file) = names.unwrap_or_else(|_| (format!("number {}", id.0), "unknown file".into()));
        Err(DataError::Panicked { name, file, message: panic_message(&*panic) })
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
