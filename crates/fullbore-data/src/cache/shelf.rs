//! One loader's view of a cache.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fullbore_types::{SampleId, Size};

use super::CacheStats;
use super::budget::Budget;
use super::folder::Folder;
use super::key::Key;
use super::pack::{self, Pack};
use super::ram::Ram;
use super::recipe::Recipe;
use super::runs;
use super::shape::Shape;
use crate::mask::IndexTable;
use crate::source::Source;

/// Samples of one recipe.
pub(crate) struct Shelf {
    recipe: Recipe,
    store: Store,
}

enum Store {
    Ram(Ram),
    Disk(Pack),
}

/// Counted by the loader that asks.
#[derive(Debug, Default)]
pub(crate) struct CacheCounters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) rejected: AtomicU64,
}

impl CacheCounters {
    /// What has been counted; what is held is the shelf's to tell.
    pub(crate) fn snapshot(&self) -> CacheStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: count(&self.hits),
            misses: count(&self.misses),
            rejected: count(&self.rejected),
            ..CacheStats::default()
        }
    }
}

/// A sample to be kept.
pub(crate) struct Pixels<'a> {
    /// Size of the source image, upright.
    pub(crate) source: Size,
    /// The image in the recipe's form.
    pub(crate) image: &'a [u8],
    /// Mask values in the recipe's form, and the table that makes them class indices.
    pub(crate) mask: Option<(&'a [u8], &'a IndexTable)>,
}

/// A sample that was found.
pub(crate) struct Found {
    shape: Shape,
    /// Its bytes, where they are not in the reader's buffer.
    shared: Option<Arc<[u8]>>,
}

impl Shelf {
    pub(super) fn in_memory(recipe: Recipe, budget: Arc<Budget>) -> Self {
        Shelf { recipe, store: Store::Ram(Ram::new(budget)) }
    }

    pub(super) fn on_disk(recipe: Recipe, folder: Arc<Folder>) -> io::Result<Self> {
        let pack = Pack::open(folder, recipe.clone())?;
        Ok(Shelf { recipe, store: Store::Disk(pack) })
    }

    pub(crate) fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Names a sample's content as it is now. `None` when it cannot be cached.
    pub(crate) fn key(&self, source: &dyn Source, id: SampleId) -> Option<Key> {
        let with_mask = self.recipe.mask.is_some();
        match self.store {
            Store::Ram(_) => Key::of_names(source, id, with_mask),
            Store::Disk(_) => Key::of_files(source, id, with_mask),
        }
    }

    /// The sample of that key, if it is there and whole. Its bytes may be put into `buffer`.
    pub(crate) fn get(
        &self,
        key: Key,
        max_pixels: u64,
        buffer: &mut Vec<u8>,
        counters: &CacheCounters,
    ) -> Option<Found> {
        let found = match &self.store {
            Store::Ram(ram) => ram.get(key.place).map(|(shape, bytes)| Found { shape, shared: Some(bytes) }),
            Store::Disk(pack) => match pack.get(key, max_pixels, buffer) {
                pack::Found::Sample(shape) => Some(Found { shape, shared: None }),
                pack::Found::Nothing => None,
                pack::Found::Damaged => {
                    counters.rejected.fetch_add(1, Ordering::Relaxed);
                    None
                }
            },
        };
        let counter = if found.is_some() { &counters.hits } else { &counters.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps a sample that was read while `key` was its key, where there is room. `buffer` is overwritten.
    pub(crate) fn keep(
        &self,
        source: &dyn Source,
        id: SampleId,
        key: Key,
        pixels: &Pixels<'_>,
        buffer: &mut Vec<u8>,
    ) {
        let image_bytes = pixels.image.len() as u64;
        let wanted = match &self.store {
            Store::Ram(ram) => ram.wants(key.place, image_bytes),
            // A file that changed while it was read may be half old and half new.
            Store::Disk(pack) => pack.wants(key, image_bytes) && self.key(source, id) == Some(key),
        };
        if !wanted {
            return;
        }
        buffer.clear();
        buffer.extend_from_slice(pixels.image);
        if let Some((values, table)) = pixels.mask {
            runs::pack(values, table, buffer);
        }
        let mask_bytes = u32::try_from(buffer.len() - pixels.image.len());
        // Beyond 4 GiB nothing is kept.
        let (Ok(image_bytes), Ok(mask_bytes)) = (u32::try_from(image_bytes), mask_bytes) else { return };
        let shape = Shape { source: pixels.source, image_bytes, mask_bytes };
        match &self.store {
            Store::Ram(ram) => ram.keep(key.place, shape, buffer),
            Store::Disk(pack) => pack.keep(key, shape, buffer),
        }
    }

    pub(crate) fn held(&self) -> (u64, u64) {
        match &self.store {
            Store::Ram(ram) => ram.held(),
            Store::Disk(pack) => pack.held(),
        }
    }
}

impl Found {
    /// Size of the source image, upright.
    pub(crate) fn source(&self) -> Size {
        self.shape.source
    }

    /// The image in the recipe's form. `buffer` is the one that [`Shelf::get`] had.
    pub(crate) fn image<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        &self.bytes(buffer)[..self.shape.image_bytes as usize]
    }

    /// Puts class indices into `out`, which has as many pixels as the recipe's form.
    pub(crate) fn unpack_mask(&self, buffer: &[u8], out: &mut [u8]) {
        runs::unpack(&self.bytes(buffer)[self.shape.image_bytes as usize..], out);
    }

    fn bytes<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        self.shared.as_deref().unwrap_or(buffer)
    }
}
