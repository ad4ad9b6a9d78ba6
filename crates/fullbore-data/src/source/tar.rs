//! Where files lie in a tar archive: names, offsets and lengths, from the headers alone.
//!
//! Knows plain, POSIX (ustar and pax) and GNU archives. Contents are never looked at.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::SourceError;

const BLOCK: u64 = 512;
/// Longest name, and longest set of pax records.
const MAX_RECORD_BYTES: u64 = 1 << 16;

/// A file in an archive.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Where its content begins.
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Goes from header to header.
pub(super) struct Entries<'a> {
    file: &'a File,
    path: &'a Path,
    file_length: u64,
    /// Offset of the next header.
    at: u64,
}

impl<'a> Entries<'a> {
    /// `path` only appears in messages.
    pub(super) fn new(file: &'a File, path: &'a Path) -> Result<Self, SourceError> {
        let meta = file.metadata().map_err(|source| SourceError::Unreadable { path: path.into(), source })?;
        Ok(Entries { file, path, file_length: meta.len(), at: 0 })
    }

    /// The next regular file; folders and links are passed over. `None` at the archive's end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, SourceError> {
        let (mut long_name, mut long_length) = (None, None);
        loop {
            let header_at = self.at;
            let mut header = [0; BLOCK as usize];
            self.read_at(&mut header, header_at, "without an end mark")?;
            if header == [0; BLOCK as usize] {
                return Ok(None);
            }
            let wrong = |detail: &str| error(self.path, header_at, detail);
            if !checksum_fits(&header) {
                return Err(wrong("no tar header; the archive is damaged, compressed, or no tar archive"));
            }
            let stated = number(&header[124..136]).ok_or_else(|| wrong("the entry's length is no number"))?;
            let kind = header[156];
            let length = if matches!(kind, 0 | b'0' | b'7') { long_length.unwrap_or(stated) } else { stated };
            let offset = header_at + BLOCK;
            let left = self.file_length.saturating_sub(offset);
            if length > left {
                return Err(wrong(&format!(
                    "the archive is cut off: {length} bytes announced, {left} are there"
                )));
            }
            self.at = offset + length.next_multiple_of(BLOCK).min(left);
            match kind {
                0 | b'0' | b'7' => {
                    let name = match long_name {
                        Some(name) => name,
                        None => short_name(&header).ok_or_else(|| wrong("the entry's name is not UTF-8"))?,
                    };
                    return Ok(Some(Entry { name, offset, length }));
                }
                b'L' => {
                    let bytes = self.record(offset, length)?;
                    let name = std::str::from_utf8(until_zero(&bytes)).map(str::to_owned);
                    long_name =
                        Some(name.map_err(|_| error(self.path, offset, "the entry's name is not UTF-8"))?);
                }
                b'x' => {
                    let bytes = self.record(offset, length)?;
                    let records =
                        pax(&bytes).ok_or_else(|| error(self.path, offset, "pax records are damaged"))?;
                    for (key, value) in records {
                        match key {
                            "path" => long_name = Some(value.to_owned()),
                            "size" => {
                                let length = value
                                    .parse()
                                    .map_err(|_| error(self.path, offset, "pax size is no number"));
                                long_length = Some(length?);
                            }
                            _ => {}
                        }
                    }
                }
                // What goes before a folder or a link says nothing of later entries.
                b'K' | b'g' => {}
                _ => (long_name, long_length) = (None, None),
            }
        }
    }

    fn record(&self, offset: u64, length: u64) -> Result<Vec<u8>, SourceError> {
        if length > MAX_RECORD_BYTES {
            return Err(error(self.path, offset, &format!("a name of {length} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        self.read_at(&mut bytes, offset, "within a name")?;
        Ok(bytes)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64, place: &str) -> Result<(), SourceError> {
        self.file.read_exact_at(bytes, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => error(self.path, offset, &format!("the archive ends {place}")),
            _ => SourceError::Unreadable { path: self.path.into(), source },
        })
    }
}

fn error(path: &Path, offset: u64, detail: &str) -> SourceError {
    SourceError::Shard { path: path.into(), offset, detail: detail.into() }
}

/// The sum of all bytes, with those of the sum itself taken as spaces.
fn checksum_fits(header: &[u8; BLOCK as usize]) -> bool {
    let sum: u64 = header.iter().map(|&b| u64::from(b)).sum();
    let field: u64 = header[148..156].iter().map(|&b| u64::from(b)).sum();
    number(&header[148..156]) == Some(sum - field + 8 * u64::from(b' '))
}

/// Octal digits, or (GNU, in fields longer than 8 bytes) big-endian binary after a first bit of 1.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let (first, rest) = high.split_first()?;
        let fits = *first == 0x80 && rest.iter().all(|&b| b == 0);
        return fits.then(|| low.iter().fold(0, |n, &b| n << 8 | u64::from(b)));
    }
    let text = std::str::from_utf8(until_zero(field)).ok()?.trim();
    u64::from_str_radix(text, 8).ok()
}

fn short_name(header: &[u8; BLOCK as usize]) -> Option<String> {
    let name = std::str::from_utf8(until_zero(&header[..100])).ok()?;
    let is_posix = &header[257..263] == b"ustar\0";
    let prefix = if is_posix { std::str::from_utf8(until_zero(&header[345..500])).ok()? } else { "" };
    Some(if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") })
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.iter().position(|&b| b == 0).map_or(bytes, |end| &bytes[..end])
}

/// Records `LENGTH KEY=VALUE\n`, the length counting the whole record. Values that are not UTF-8 are passed over.
fn pax(mut bytes: &[u8]) -> Option<Vec<(&str, &str)>> {
    let mut records = Vec::new();
    while !until_zero(bytes).is_empty() {
        let space = bytes.iter().position(|&b| b == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        if let Ok(record) = std::str::from_utf8(record) {
            records.push(record.split_once('=')?);
        }
        bytes = &bytes[length..];
    }
    Some(records)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    /// One entry: its header, its content and the padding.
    pub(in crate::source) fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut header = [0; BLOCK as usize];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = kind;
        header[257..263].copy_from_slice(b"ustar\0");
        seal(&mut header);
        let mut bytes = header.to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        bytes
    }

    fn seal(header: &mut [u8]) {
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|&b| u64::from(b)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }

    pub(in crate::source) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
        [entries.concat(), vec![0; 1024]].concat()
    }

    fn list(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut entries = Entries::new(&file, Path::new("a.tar")).unwrap();
        let mut found = Vec::new();
        while let Some(entry) = entries.next().map_err(|e| e.to_string())? {
            let content = &bytes[entry.offset as usize..][..entry.length as usize];
            found.push((entry.name, content.to_vec()));
        }
        Ok(found)
    }

    fn row(name: &str, content: &[u8]) -> (String, Vec<u8>) {
        (name.into(), content.into())
    }

    #[test]
    fn files_are_found_by_name_and_place() {
        let long = "d/".repeat(100) + "a.jpg";
        let mut prefixed = entry("b.jpg", b'0', b"pre");
        prefixed[345..349].copy_from_slice(b"x/yz");
        seal(&mut prefixed[..512]);
        let mut binary = entry("c.jpg", b'0', b"base");
        binary[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]);
        seal(&mut binary[..512]);
        let bytes = archive(&[
            entry("folder/", b'5', b""),
            entry("a.jpg", 0, b"first"),
            entry("empty", b'0', b""),
            entry("././@LongLink", b'L', format!("{long}\0").as_bytes()),
            entry("cut", b'0', &[7; 600]),
            entry("pax", b'x', b"12 path=z.p\n10 size=3\n"),
            entry("short", b'0', b"abc"),
            entry("link", b'2', b""),
            prefixed,
            binary,
        ]);
        assert_eq!(
            list(&bytes).unwrap(),
            [
                row("a.jpg", b"first"),
                row("empty", b""),
                row(&long, &[7; 600]),
                row("z.p", b"abc"),
                row("x/yz/b.jpg", b"pre"),
                row("c.jpg", b"base"),
            ]
        );
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000017\0"), Some(15));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\0\0\x01\x02"), Some(258));
        assert_eq!(number(b"\x80\x01\0\0\0\0\0\0\0\0\x01\x02"), None);
        assert_eq!(number(b"\xd3\xd3\xd3\xd3\xd3\xd3\xd3\xd3"), None, "too short to be binary");
        assert_eq!(number(b"0000019\0"), None);
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let good = archive(&[entry("a", b'0', &[1; 700]), entry("b", b'0', &[2; 100])]);
        assert_eq!(list(&good).unwrap().len(), 2);
        let cut = |n: usize| list(&good[..n]).unwrap_err();
        assert_eq!(cut(0), "a.tar, byte 0: the archive ends without an end mark");
        assert_eq!(cut(100), "a.tar, byte 0: the archive ends without an end mark");
        assert_eq!(cut(900), "a.tar, byte 0: the archive is cut off: 700 bytes announced, 388 are there");
        assert_eq!(cut(1536), "a.tar, byte 1536: the archive ends without an end mark");
        assert_eq!(cut(2560), "a.tar, byte 2560: the archive ends without an end mark");
        let mut flipped = good.clone();
        flipped[1540] ^= 1;
        assert!(list(&flipped).unwrap_err().starts_with("a.tar, byte 1536: no tar header"));
        assert!(list(&[b'x'; 2000]).unwrap_err().starts_with("a.tar, byte 0: no tar header"));
        let mut huge = entry("a", b'0', b"");
        huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
        seal(&mut huge[..512]);
        assert!(list(&archive(&[huge])).unwrap_err().contains("is cut off: 18446744073709551615 bytes"));
        let bad_pax =
            |text: &[u8]| list(&archive(&[entry("p", b'x', text), entry("a", b'0', b"")])).unwrap_err();
        for text in [&b"999 path=a\n"[..], b"path", b"3 a\n", b"0 path=a\n", b"11 size=1x\n"] {
            assert!(bad_pax(text).contains("byte 512: pax"), "{}", bad_pax(text));
        }
    }
}
