//! The zip archive around a PyTorch file: stored entries only, found by the central directory (APPNOTE.TXT 4.3).

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use super::error::{PthProblem, damaged};
use crate::MAX_HEADER_BYTES;

const END: &[u8; 4] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const END64: &[u8; 4] = b"PK\x06\x06";
const END64_BYTES: usize = 56;
const LOCATOR64: &[u8; 4] = b"PK\x06\x07";
const LOCATOR64_BYTES: usize = 20;
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const CENTRAL_BYTES: usize = 46;
const LOCAL: &[u8; 4] = b"PK\x03\x04";
const LOCAL_BYTES: u64 = 30;
const MAX_COMMENT_BYTES: usize = u16::MAX as usize;
const ENCRYPTED: u16 = 1;

/// An opened archive.
#[derive(Debug)]
pub(super) struct Archive<R> {
    reader: R,
    n_bytes: u64,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Where its local header begins.
    offset: u64,
    n_bytes: u64,
    /// CRC-32 of its bytes. `torch.serialization.set_crc32_options(False)` leaves 0 here.
    crc32: u32,
    is_plain: bool,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the directory. All entries together are no longer than the file, so that whoever reads each of them
    /// once reads no more than that.
    pub(super) fn open(mut reader: R) -> Result<Self, PthProblem> {
        let n_bytes = reader.seek(SeekFrom::End(0)).map_err(PthProblem::Read)?;
        let directory = find_directory(&mut reader, n_bytes)?;
        if directory.n_bytes > MAX_HEADER_BYTES as u64 {
            return Err(PthProblem::TooLarge(format!("a directory of {} bytes", directory.n_bytes)));
        }
        let bytes = read_at(&mut reader, n_bytes, directory.offset, directory.n_bytes, "the directory")?;
        let entries = parse_directory(&bytes, directory.n_entries)?;
        let total = entries.values().try_fold(0_u64, |sum, entry| sum.checked_add(entry.n_bytes));
        if total.is_none_or(|total| total > n_bytes) {
            return damaged("its parts are longer than the file");
        }
        Ok(Self { reader, n_bytes, entries })
    }

    /// Length of the whole file.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Names of the entries.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Length of an entry; `None` when there is no such entry.
    pub(super) fn len_of(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.n_bytes)
    }

    /// The bytes of an entry, checked.
    pub(super) fn read(&mut self, name: &str) -> Result<Vec<u8>, PthProblem> {
        let Some(entry) = self.entries.get(name) else { return damaged(format!("it has no part `{name}`")) };
        if !entry.is_plain {
            return Err(PthProblem::Unsupported(format!("compression or encryption (in `{name}`)")));
        }
        let header = read_at(&mut self.reader, self.n_bytes, entry.offset, LOCAL_BYTES, name)?;
        if &header[..4] != LOCAL {
            return damaged(format!("there is no `{name}` where the directory says"));
        }
        let start =
            entry.offset + LOCAL_BYTES + u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        let bytes = read_at(&mut self.reader, self.n_bytes, start, entry.n_bytes, name)?;
        if entry.crc32 != 0 && crc32fast::hash(&bytes) != entry.crc32 {
            return damaged(format!("the checksum of `{name}` does not fit"));
        }
        Ok(bytes)
    }
}

struct Directory {
    offset: u64,
    n_bytes: u64,
    n_entries: u64,
}

fn find_directory<R: Read + Seek>(reader: &mut R, n_bytes: u64) -> Result<Directory, PthProblem> {
    let tail_bytes = n_bytes.min((LOCATOR64_BYTES + END_BYTES + MAX_COMMENT_BYTES) as u64);
    let tail = read_at(reader, n_bytes, n_bytes - tail_bytes, tail_bytes, "the end of the file")?;
    let at = (0..(tail.len() + 1).saturating_sub(END_BYTES)).rev().find(|&at| {
        tail[at..].starts_with(END) && at + END_BYTES + usize::from(u16_at(&tail, at + 20)) == tail.len()
    });
    let Some(at) = at else {
        return damaged("it has no directory at its end, as after a copy that was cut off");
    };
    let plain = Directory {
        offset: u32_at(&tail, at + 16).into(),
        n_bytes: u32_at(&tail, at + 12).into(),
        n_entries: u16_at(&tail, at + 10).into(),
    };
    const LONG: u64 = u32::MAX as u64;
    let is_long = plain.offset == LONG || plain.n_bytes == LONG || plain.n_entries == u64::from(u16::MAX);
    if !is_long {
        return Ok(plain);
    }
    let Some(locator) = at.checked_sub(LOCATOR64_BYTES).filter(|&at| tail[at..].starts_with(LOCATOR64))
    else {
        return damaged("its long directory is not told");
    };
    let end64 =
        read_at(reader, n_bytes, u64_at(&tail, locator + 8), END64_BYTES as u64, "the long directory")?;
    if !end64.starts_with(END64) {
        return damaged("its long directory is not where it is told");
    }
    Ok(Directory { offset: u64_at(&end64, 48), n_bytes: u64_at(&end64, 40), n_entries: u64_at(&end64, 32) })
}

fn parse_directory(mut bytes: &[u8], n_entries: u64) -> Result<BTreeMap<String, Entry>, PthProblem> {
    let mut entries = BTreeMap::new();
    for _ in 0..n_entries {
        let cut_off = || PthProblem::Damaged("its directory is cut off".into());
        let (header, rest) = bytes.split_at_checked(CENTRAL_BYTES).ok_or_else(cut_off)?;
        if !header.starts_with(CENTRAL) {
            return damaged("its directory is no directory");
        }
        let (name, rest) = rest.split_at_checked(u16_at(header, 28).into()).ok_or_else(cut_off)?;
        let (extra, rest) = rest.split_at_checked(u16_at(header, 30).into()).ok_or_else(cut_off)?;
        let (_comment, rest) = rest.split_at_checked(u16_at(header, 32).into()).ok_or_else(cut_off)?;
        bytes = rest;
        let Ok(name) = std::str::from_utf8(name) else {
            return damaged("a name in its directory is no text");
        };

        let mut long = long_fields(extra);
        let mut field = |at: usize| match u32_at(header, at) {
            u32::MAX => long.next().ok_or_else(cut_off),
            short => Ok(short.into()),
        };
        let (n_bytes, n_stored, offset) = (field(24)?, field(20)?, field(42)?);
        let is_plain = u16_at(header, 8) & ENCRYPTED == 0 && u16_at(header, 10) == 0 && n_stored == n_bytes;
        let entry = Entry { offset, n_bytes, crc32: u32_at(header, 16), is_plain };
        if entries.insert(name.to_string(), entry).is_some() {
            return damaged(format!("it has two parts `{}`", name.escape_debug()));
        }
    }
    Ok(entries)
}

/// The 64-bit numbers that stand in an entry's extra field for those that are too long for 32 bits.
fn long_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    const LONG: u16 = 1;
    let mut found: &[u8] = &[];
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let Some((content, rest)) = rest.split_at_checked(u16_at(head, 2).into()) else { break };
        if u16_at(head, 0) == LONG {
            found = content;
            break;
        }
        extra = rest;
    }
    found.chunks_exact(8).map(|bytes| u64_at(bytes, 0))
}

/// `n` bytes from `offset`. Asks for memory only when the file is long enough.
fn read_at<R: Read + Seek>(
    reader: &mut R,
    n_bytes: u64,
    offset: u64,
    n: u64,
    what: &str,
) -> Result<Vec<u8>, PthProblem> {
    if offset.checked_add(n).is_none_or(|end| end > n_bytes) {
        return damaged(format!("`{}` lies beyond its end", what.escape_debug()));
    }
    let mut bytes = Vec::new();
    let n_here = usize::try_from(n).unwrap_or(usize::MAX);
    if bytes.try_reserve_exact(n_here).is_err() {
        return Err(PthProblem::Memory { name: what.into(), needed_bytes: n });
    }
    reader.seek(SeekFrom::Start(offset)).map_err(PthProblem::Read)?;
    reader.by_ref().take(n).read_to_end(&mut bytes).map_err(PthProblem::Read)?;
    if bytes.len() < n_here {
        return Err(PthProblem::Read(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
