//! Samples kept on disk: a file of pixels, and an index of fixed rows that names them.
//!
//! Both only grow, pixels before their row, so whatever a crash leaves is a shorter pack: rows that are torn, or
//! whose pixels are not all there, are passed over. Nothing is flushed, for nothing is trusted: a row vouches for
//! itself and for its pixels each time they are read, and what does not agree is made anew.
//!
//! One process writes, by a lock on the index that ends with the process. Others read what is there, also what
//! is added while they run. Pixels are read, not mapped: a mapped file that another process cuts would end this
//! one with a signal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::CacheWarning;
use super::folder::{Folder, PackFiles};
use super::key::Key;
use super::recipe::Recipe;
use super::row::{ROW_BYTES, Row, header};
use super::runs;
use super::shape::Shape;
use super::shards::Shards;

const ROW: u64 = ROW_BYTES as u64;
/// Index bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

pub(super) struct Pack {
    folder: Arc<Folder>,
    recipe: Recipe,
    index: File,
    pixels: File,
    rows: Shards<Row>,
    /// Present in the one process that writes.
    writer: Option<Mutex<Writer>>,
    /// Bytes of the index that have been looked at.
    seen: Mutex<u64>,
}

/// Where the next sample goes.
struct Writer {
    index_end: u64,
    pixels_end: u64,
    /// Bytes of pixels that no row names any more.
    dead: u64,
    /// The disk is full or broken: nothing more is written.
    stopped: bool,
}

/// What came of looking for a sample.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Sample(Shape),
    Nothing,
    /// It was there, but not as it was written.
    Damaged,
}

impl Pack {
    /// Opens the pack of a recipe, cutting off what cannot be used.
    pub(super) fn open(folder: Arc<Folder>, recipe: Recipe) -> io::Result<Self> {
        let PackFiles { index, pixels, exclusive } = folder.open(recipe.id)?;
        let (rows, seen) = (Shards::new(), Mutex::new(0));
        let mut pack = Pack { folder, recipe, index, pixels, rows, writer: None, seen };
        if exclusive {
            let writer = pack.recover()?;
            pack.writer = Some(Mutex::new(writer));
        }
        Ok(pack)
    }

    /// Puts the pixels of a sample into `payload`.
    pub(super) fn get(&self, key: Key, max_pixels: u64, payload: &mut Vec<u8>) -> Found {
        let current = |row: &Row| row.key == key;
        let mut row = self.rows.get(key.place);
        if self.writer.is_none() && !row.as_ref().is_some_and(current) {
            self.catch_up();
            row = self.rows.get(key.place);
        }
        let Some(row) = row else { return Found::Nothing };
        if !current(&row) {
            self.forget(&row);
            return Found::Nothing;
        }
        if !row.shape.fits(&self.recipe, max_pixels) {
            return Found::Nothing;
        }
        payload.resize(row.shape.bytes(), 0);
        let read = self.pixels.read_exact_at(payload, row.offset);
        let mask = &payload[row.shape.image_bytes as usize..];
        let n_pixels = self.recipe.mask_pixels(row.shape.source);
        if read.is_ok() && row.vouches_for(payload) && n_pixels.is_some_and(|n| runs::holds(mask, n)) {
            return Found::Sample(row.shape);
        }
        self.forget(&row);
        Found::Damaged
    }

    /// True when a sample of at least that many bytes would be kept.
    pub(super) fn wants(&self, key: Key, bytes: u64) -> bool {
        self.writer().is_some_and(|writer| {
            !writer.stopped
                && (self.folder.may_have_room(bytes.saturating_add(ROW)) || writer.is_mostly_dead())
                && self.rows.get(key.place).is_none_or(|row| row.key != key)
        })
    }

    /// Writes a sample, where there is room.
    pub(super) fn keep(&self, key: Key, shape: Shape, payload: &[u8]) {
        let Some(mut writer) = self.writer() else { return };
        // Another worker may have been faster.
        if writer.stopped || self.rows.get(key.place).is_some_and(|row| row.key == key) {
            return;
        }
        match self.append(&mut writer, key, shape, payload) {
            Ok(()) => {}
            Err(warning) => {
                writer.stopped = true;
                self.folder.warn(warning);
            }
        }
    }

    /// Samples, and bytes on disk.
    pub(super) fn held(&self) -> (u64, u64) {
        let length = |file: &File| file.metadata().map_or(0, |meta| meta.len());
        (self.rows.len(), length(&self.index) + length(&self.pixels))
    }

    fn append(
        &self,
        writer: &mut Writer,
        key: Key,
        shape: Shape,
        payload: &[u8],
    ) -> Result<(), CacheWarning> {
        let bytes = payload.len() as u64 + ROW;
        if !self.take_room(writer, bytes).map_err(|source| self.folder.unusable(source))? {
            return Ok(());
        }
        let written = self.folder.check_disk(&self.pixels, bytes).and_then(|()| {
            let row = Row::new(key, shape, writer.pixels_end, payload);
            let pixels = self.pixels.write_all_at(payload, row.offset);
            let both = pixels.and_then(|()| self.index.write_all_at(&row.to_bytes(), writer.index_end));
            both.map(|()| row).map_err(|source| self.folder.unusable(source))
        });
        match written {
            Ok(row) => {
                writer.index_end += ROW;
                writer.pixels_end += payload.len() as u64;
                if let Some(old) = self.rows.insert(key.place, row) {
                    writer.dead += old.shape.bytes() as u64;
                }
                Ok(())
            }
            Err(warning) => {
                self.folder.budget().give_back(bytes);
                Err(warning)
            }
        }
    }

    fn take_room(&self, writer: &mut Writer, bytes: u64) -> io::Result<bool> {
        if self.folder.take(bytes) {
            return Ok(true);
        }
        if !writer.is_mostly_dead() {
            return Ok(false);
        }
        self.begin_anew(writer)?;
        Ok(self.folder.take(bytes))
    }

    /// Reads the index as the one who will write to it, and cuts both files where the usable part ends.
    fn recover(&self) -> io::Result<Writer> {
        let (index_bytes, pixel_bytes) = (self.index.metadata()?.len(), self.pixels.metadata()?.len());
        let mut writer = Writer { index_end: ROW, pixels_end: 0, dead: 0, stopped: false };
        let mut alive = 0;
        if !self.has_header() {
            self.index.set_len(0)?;
            self.index.write_all_at(&header(self.recipe.id), 0)?;
        } else {
            let limit = self.folder.budget().limit();
            let end = self.read_rows(ROW, index_bytes, |at, row| {
                let Some(end) = row.end().filter(|&end| end <= pixel_bytes) else { return true };
                if end.saturating_add(at + ROW) > limit {
                    return false;
                }
                writer.pixels_end = writer.pixels_end.max(end);
                alive += row.shape.bytes() as u64;
                alive -= self.rows.insert(row.key.place, row).map_or(0, |old| old.shape.bytes() as u64);
                true
            })?;
            writer.dead = writer.pixels_end.saturating_sub(alive);
            writer.index_end = end;
            self.index.set_len(end)?;
        }
        self.pixels.set_len(writer.pixels_end)?;
        let budget = self.folder.budget();
        budget.give_back(index_bytes + pixel_bytes);
        budget.add(writer.index_end + writer.pixels_end);
        if !budget.has_room(0) {
            self.folder.remove_others(0);
        }
        Ok(writer)
    }

    /// Empties the pack. Those who are reading from it find damaged pixels, and decode.
    fn begin_anew(&self, writer: &mut Writer) -> io::Result<()> {
        let bytes = writer.pixels_end + writer.index_end - ROW;
        *writer = Writer { index_end: ROW, pixels_end: 0, dead: 0, stopped: false };
        self.rows.clear();
        self.index.set_len(ROW)?;
        self.pixels.set_len(0)?;
        self.folder.budget().give_back(bytes);
        Ok(())
    }

    /// Takes in what another process has written meanwhile.
    fn catch_up(&self) {
        // Somebody else is at it.
        let Ok(mut seen) = self.seen.try_lock() else { return };
        let Ok(length) = self.index.metadata().map(|meta| meta.len()) else { return };
        if length < *seen {
            // Begun anew.
            self.rows.clear();
            *seen = 0;
        }
        if *seen == 0 {
            if !self.has_header() {
                return;
            }
            *seen = ROW;
        }
        let taken = self.read_rows(*seen, length, |_, row| {
            self.rows.insert(row.key.place, row);
            true
        });
        *seen = taken.unwrap_or(*seen);
    }

    /// Gives each whole row between two places of the index to `each`, until that says no. Returns where the
    /// rows that were looked at end.
    fn read_rows(&self, from: u64, to: u64, mut each: impl FnMut(u64, Row) -> bool) -> io::Result<u64> {
        let mut at = from;
        let mut chunk = Vec::new();
        while to.saturating_sub(at) >= ROW {
            let left = (to - at) / ROW * ROW;
            chunk.resize(left.min(CHUNK_BYTES as u64) as usize, 0);
            self.index.read_exact_at(&mut chunk, at)?;
            for bytes in chunk.as_chunks().0 {
                if let Some(row) = Row::from_bytes(bytes)
                    && !each(at, row)
                {
                    return Ok(at);
                }
                at += ROW;
            }
        }
        Ok(at)
    }

    fn has_header(&self) -> bool {
        let mut bytes = [0; ROW_BYTES];
        self.index.read_exact_at(&mut bytes, 0).is_ok() && bytes == header(self.recipe.id)
    }

    /// Never asks for that row again.
    fn forget(&self, row: &Row) {
        if self.rows.remove_if(row.key.place, |held| held == row)
            && let Some(mut writer) = self.writer()
        {
            writer.dead += row.shape.bytes() as u64;
        }
    }

    fn writer(&self) -> Option<MutexGuard<'_, Writer>> {
        // Counters are moved after what they count, so a panic leaves them true.
        self.writer.as_ref().map(|writer| writer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Writer {
    fn is_mostly_dead(&self) -> bool {
        self.dead > self.pixels_end / 2
    }
}

#[cfg(test)]
mod tests;
