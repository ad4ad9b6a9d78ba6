use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use safetensors::{SafeTensorError, tensor::Metadata};

use crate::{CRC_KEY, CheckpointError, Dtype, FORMAT, FORMAT_KEY, NamedTensor, OWN_PREFIX, checksum};

/// Longest header that is read or written. Names and metadata of the largest models take a few hundred KiB;
/// the bound keeps a damaged length from asking for the machine's memory.
pub const MAX_HEADER_BYTES: usize = 16 << 20;

const USE_ANOTHER: &str =
    "use another checkpoint: a file that ends in .safetensors, such as RUN/checkpoints/best.safetensors";
const CONVERT: &str = "this looks like a PyTorch or zip archive: load it in Python and save its tensors with \
                       safetensors.torch.save_file";

/// What a checkpoint file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The tensors by name.
    pub tensors: BTreeMap<String, NamedTensor<'static>>,
    /// What was stored beside them, without the file's own `fullbore.format` and `fullbore.crc32`.
    pub metadata: BTreeMap<String, String>,
    /// The format when fullbore wrote the file; `None` when others did, and nothing checked its bytes.
    pub format: Option<u32>,
}

/// Reads a checkpoint into memory and checks it: header, lengths, and the checksum if fullbore wrote it.
///
/// Memory: the tensors once, plus the header. Nothing is allocated on the word of a length that the file's size
/// does not confirm.
///
/// # Errors
/// Each way a file can be wrong is its own [`CheckpointError`]; see there.
pub fn read(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let (mut file, header, parsed) = open_whole(path)?;
    let mut metadata: BTreeMap<_, _> = parsed.metadata().clone().unwrap_or_default().into_iter().collect();
    let format = format_of(&metadata, path)?;
    let mut check = match format {
        Some(_) => Some(Check::new(&header, path)?),
        None => None,
    };
    metadata.remove(FORMAT_KEY);
    metadata.remove(CRC_KEY);

    let mut tensors = BTreeMap::new();
    for name in parsed.offset_keys() {
        let tensor = read_tensor(&mut file, path, &parsed, name)?;
        if let Some(check) = &mut check {
            check.hasher.update(&tensor.bytes);
        }
        tensors.insert(tensor.name.clone(), tensor);
    }
    if let Some(check) = check {
        check.finish(path)?;
    }
    Ok(Checkpoint { tensors, metadata, format })
}

/// Reads what is stored beside the tensors, without the file's own entries. The tensors are not read, so nothing checks
/// their bytes; only the file's length is.
///
/// # Errors
/// As [`read`], but for damage.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    let (_, _, parsed) = open_whole(path)?;
    let mut metadata: BTreeMap<_, _> = parsed.metadata().clone().unwrap_or_default().into_iter().collect();
    metadata.remove(FORMAT_KEY);
    metadata.remove(CRC_KEY);
    Ok(metadata)
}

/// Opens a file that is as long as its header promises, and reads as far as the tensors.
fn open_whole(path: &Path) -> Result<(File, Vec<u8>, Metadata), CheckpointError> {
    let (mut file, file_bytes) = open(path)?;
    let header = read_header(&mut file, path, file_bytes)?;
    let parsed = parse_header(&header, path)?;
    let expected_bytes = (8 + header.len() as u64).saturating_add(parsed.data_len() as u64);
    if file_bytes < expected_bytes {
        return Err(CheckpointError::Truncated { path: path.into(), expected_bytes, got_bytes: file_bytes });
    }
    if file_bytes > expected_bytes {
        let reason = format!("{} bytes follow after its end", file_bytes - expected_bytes);
        return Err(CheckpointError::Damaged { path: path.into(), reason });
    }
    Ok((file, header, parsed))
}

/// Opens a regular file and tells its length. Looks before opening: opening a pipe would wait for ever.
pub(crate) fn open(path: &Path) -> Result<(File, u64), CheckpointError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            CheckpointError::NotFound { path: path.into() }
        }
        _ => CheckpointError::Unreadable { path: path.into(), source },
    };
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(CheckpointError::NotAFile { path: path.into() });
    }
    let file = File::open(path).map_err(fail)?;
    let bytes = file.metadata().map_err(fail)?.len();
    Ok((file, bytes))
}

fn read_header(file: &mut File, path: &Path, file_bytes: u64) -> Result<Vec<u8>, CheckpointError> {
    let truncated = |expected_bytes| CheckpointError::Truncated {
        path: path.into(),
        expected_bytes,
        got_bytes: file_bytes,
    };
    let not_safetensors =
        |reason: String, advice| Err(CheckpointError::NotSafetensors { path: path.into(), reason, advice });
    if file_bytes < 8 {
        return Err(truncated(8));
    }
    let mut length = [0; 8];
    read_exact(file, &mut length, path)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES as u64 {
        let advice = if length.starts_with(b"PK\x03\x04") { CONVERT } else { USE_ANOTHER };
        return not_safetensors("its first bytes are no header length".into(), advice);
    }
    let mut header = vec![0; header_bytes.min(file_bytes - 8) as usize];
    read_exact(file, &mut header, path)?;
    if header.first().is_some_and(|&byte| byte != b'{') {
        return not_safetensors("its header does not start with `{`".into(), USE_ANOTHER);
    }
    if (header.len() as u64) < header_bytes {
        return Err(truncated(8 + header_bytes));
    }
    Ok(header)
}

fn parse_header(header: &[u8], path: &Path) -> Result<Metadata, CheckpointError> {
    serde_json::from_slice(header).map_err(|error| {
        // Errors about offsets come wrapped by the JSON reader; both mean that the header cannot be trusted.
        let reason = SafeTensorError::InvalidHeaderDeserialization(error).to_string();
        CheckpointError::NotSafetensors { path: path.into(), reason, advice: USE_ANOTHER }
    })
}

/// The format of a file with `fullbore.` entries, or `None` for the files of others.
fn format_of(metadata: &BTreeMap<String, String>, path: &Path) -> Result<Option<u32>, CheckpointError> {
    if !metadata.keys().any(|key| key.starts_with(OWN_PREFIX)) {
        return Ok(None);
    }
    let damaged = |reason: String| CheckpointError::Damaged { path: path.into(), reason };
    let found =
        metadata.get(FORMAT_KEY).ok_or_else(|| damaged(format!("no `{FORMAT_KEY}` in its metadata")))?;
    match found.parse::<u32>() {
        Ok(format) if format > FORMAT => {
            Err(CheckpointError::NewerFormat { path: path.into(), found: found.clone(), newest: FORMAT })
        }
        Ok(format) => Ok(Some(format)),
        Err(_) => Err(damaged(format!("`{FORMAT_KEY}` is `{}`, not a number", found.escape_debug()))),
    }
}

fn read_tensor(
    file: &mut File,
    path: &Path,
    parsed: &Metadata,
    name: String,
) -> Result<NamedTensor<'static>, CheckpointError> {
    let info = parsed.info(&name).expect("the name comes from this header");
    let Some(dtype) = Dtype::from_safetensors(info.dtype) else {
        let dtype = info.dtype.to_string();
        return Err(CheckpointError::UnsupportedDtype { path: path.into(), name, dtype });
    };
    let needed_bytes = info.data_offsets.1 - info.data_offsets.0;
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(needed_bytes).is_err() {
        return Err(CheckpointError::Memory { path: path.into(), name, needed_bytes });
    }
    bytes.resize(needed_bytes, 0);
    read_exact(file, &mut bytes, path)?;
    Ok(NamedTensor { name, dtype, shape: info.shape.clone(), bytes: Cow::Owned(bytes) })
}

fn read_exact(file: &mut File, bytes: &mut [u8], path: &Path) -> Result<(), CheckpointError> {
    file.read_exact(bytes).map_err(|source| CheckpointError::Unreadable { path: path.into(), source })
}

/// Recomputes the checksum while the tensors are read.
struct Check {
    stored_digits: Vec<u8>,
    hasher: crc32fast::Hasher,
}

impl Check {
    fn new(header: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let digits = checksum::digits_in(header).ok_or_else(|| CheckpointError::Damaged {
            path: path.into(),
            reason: format!("no `{CRC_KEY}` in its metadata"),
        })?;
        let hasher = checksum::over_header(header, &digits);
        Ok(Self { stored_digits: header[digits].to_vec(), hasher })
    }

    fn finish(self, path: &Path) -> Result<(), CheckpointError> {
        let computed = checksum::to_digits(self.hasher.finalize());
        if self.stored_digits == computed.as_bytes() {
            return Ok(());
        }
        let stored = String::from_utf8_lossy(&self.stored_digits).into_owned();
        let reason = format!("its checksum is {computed}, and {stored} was written with it");
        Err(CheckpointError::Damaged { path: path.into(), reason })
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, path::PathBuf};

    use miette::Diagnostic;
    use proptest::{collection, prelude::*, sample::Index};

    use super::*;
    use crate::write;

    fn sample() -> (Vec<NamedTensor<'static>>, BTreeMap<String, String>) {
        let tensors = Dtype::ALL
            .into_iter()
            .enumerate()
            .map(|(i, dtype)| NamedTensor {
                name: format!("layer.{i}"),
                dtype,
                shape: vec![i, 2],
                bytes: Cow::Owned((0..i * 2 * dtype.size()).map(|byte| byte as u8).collect()),
            })
            .collect();
        let metadata = BTreeMap::from([
            ("epoch".to_string(), "3".to_string()),
            ("odd".into(), "\"fullbore.crc32\":\"deadbeef\" and \u{1F600}".into()),
        ]);
        (tensors, metadata)
    }

    /// A folder with one good checkpoint in it.
    fn saved() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (tensors, metadata) = sample();
        write(&path, &tensors, &metadata).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (folder, path, bytes)
    }

    /// A file as another program would write it.
    fn foreign(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn error_of(bytes: &[u8]) -> CheckpointError {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        std::fs::write(&path, bytes).unwrap();
        read(&path).unwrap_err()
    }

    #[test]
    fn what_was_written_is_read() {
        let (_folder, path, _) = saved();
        let (tensors, metadata) = sample();
        let checkpoint = read(&path).unwrap();
        assert_eq!(checkpoint.metadata, metadata);
        assert_eq!(checkpoint.format, Some(FORMAT));
        assert_eq!(checkpoint.tensors.into_values().collect::<Vec<_>>(), tensors);
    }

    #[test]
    fn metadata_is_read_alone_and_of_whole_files_only() {
        let (_folder, path, bytes) = saved();
        assert_eq!(read_metadata(&path).unwrap(), read(&path).unwrap().metadata);
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(read_metadata(&path), Err(CheckpointError::Truncated { .. })));
    }

    #[test]
    fn a_checkpoint_without_tensors_is_one_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.safetensors");
        write(&path, &[], &BTreeMap::new()).unwrap();
        assert_eq!(read(&path).unwrap().tensors, BTreeMap::new());
    }

    #[test]
    fn files_made_by_others_are_read_without_a_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theirs.safetensors");
        let header =
            r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
        std::fs::write(&path, foreign(header, &1.5f32.to_le_bytes())).unwrap();
        let checkpoint = read(&path).unwrap();
        assert_eq!(checkpoint.format, None);
        assert_eq!(checkpoint.metadata["format"], "pt");
        assert_eq!(checkpoint.tensors["w"].shape, [0usize; 0]);
        std::fs::write(&path, foreign("{}", &[])).unwrap();
        assert_eq!(read(&path).unwrap().tensors.len(), 0);
    }

    #[test]
    fn a_checkpoint_cut_in_half_is_named_so() {
        let (_folder, path, bytes) = saved();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.code().unwrap().to_string(), "data::checkpoint_truncated");
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let message = format!(
            "checkpoint {} is cut off: expected {} bytes, got {}",
            path.display(),
            bytes.len(),
            bytes.len() - 1
        );
        assert_eq!(read(&path).unwrap_err().to_string(), message);
    }

    #[test]
    fn every_way_to_be_wrong_has_its_own_error() {
        let (_folder, path, good) = saved();
        let code = |error: CheckpointError| error.code().unwrap().to_string();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let mut longer = good.clone();
        longer.push(0);
        let newer = foreign(r#"{"__metadata__":{"fullbore.format":"2"}}"#, &[]);
        let unsealed = foreign(r#"{"__metadata__":{"fullbore.format":"1"}}"#, &[]);
        let odd_type = foreign(r#"{"w":{"dtype":"I16","shape":[1],"data_offsets":[0,2]}}"#, &[0, 0]);
        assert_eq!(code(error_of(&flipped)), "data::checkpoint_damaged");
        assert_eq!(code(error_of(&longer)), "data::checkpoint_damaged");
        assert_eq!(code(error_of(&unsealed)), "data::checkpoint_damaged");
        assert_eq!(code(error_of(&newer)), "data::checkpoint_newer");
        assert_eq!(code(error_of(&odd_type)), "data::checkpoint_dtype");
        assert_eq!(code(error_of(b"")), "data::checkpoint_truncated");
        assert_eq!(code(error_of(b"these are words, not weights")), "data::checkpoint_format");
        let archive = error_of(b"PK\x03\x04\0\0\x08\x08archive/data.pkl");
        assert!(archive.help().unwrap().to_string().contains("save_file"));
        assert_eq!(code(archive), "data::checkpoint_format");
        assert_eq!(code(read(&path.with_file_name("none")).unwrap_err()), "data::checkpoint_not_found");
        assert_eq!(code(read(&path.join("below")).unwrap_err()), "data::checkpoint_not_found");
        assert_eq!(code(read(path.parent().unwrap()).unwrap_err()), "data::checkpoint_not_a_file");
        assert_eq!(code(read(Path::new("/dev/zero")).unwrap_err()), "data::checkpoint_not_a_file");
    }

    #[test]
    fn a_file_without_read_permission_is_unreadable() {
        let (_folder, path, _) = saved();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        if File::open(&path).is_ok() {
            eprintln!("SKIPPED: this user may read everything (root)");
            return;
        }
        assert!(matches!(read(&path).unwrap_err(), CheckpointError::Unreadable { .. }));
    }

    #[test]
    fn headers_that_lie_about_offsets_are_errors() {
        let entry = |offsets: &str, shape: &str| {
            format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
        };
        let max = usize::MAX;
        for header in [
            format!(r#"{{"w":{}}}"#, entry("[4,8]", "[1]")),
            format!(r#"{{"w":{}}}"#, entry("[4,0]", "[1]")),
            format!(r#"{{"w":{}}}"#, entry("[0,8]", "[1]")),
            format!(r#"{{"a":{},"b":{}}}"#, entry("[0,4]", "[1]"), entry("[0,4]", "[1]")),
            format!(r#"{{"a":{},"b":{}}}"#, entry("[0,8]", "[2]"), entry("[4,8]", "[1]")),
            format!(r#"{{"w":{}}}"#, entry(&format!("[0,{max}]"), &format!("[{max},{max}]"))),
            format!(r#"{{"w":{}}}"#, entry(&format!("[0,{}]", max - 3), &format!("[{}]", max / 4))),
        ] {
            let error = error_of(&foreign(&header, &[0; 8]));
            assert!(
                matches!(error, CheckpointError::NotSafetensors { .. } | CheckpointError::Truncated { .. }),
                "{header} gave {error:?}"
            );
        }
    }

    #[test]
    fn a_header_length_is_not_believed() {
        for length in [MAX_HEADER_BYTES as u64 + 1, u64::MAX, u64::MAX - 7] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend_from_slice(b"{}");
            assert!(matches!(error_of(&bytes), CheckpointError::NotSafetensors { .. }));
        }
        let mut bytes = (MAX_HEADER_BYTES as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        assert!(matches!(error_of(&bytes), CheckpointError::Truncated { .. }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_flipped_bit_is_noticed(at in any::<Index>(), bit in 0u8..8) {
            let (_folder, path, mut bytes) = saved();
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            std::fs::write(&path, &bytes).unwrap();
            prop_assert!(read(&path).is_err(), "a flip in byte {at} went unnoticed");
        }

        #[test]
        fn any_cut_is_noticed(at in any::<Index>()) {
            let (_folder, path, bytes) = saved();
            std::fs::write(&path, &bytes[..at.index(bytes.len())]).unwrap();
            prop_assert!(read(&path).is_err());
        }

        #[test]
        fn garbage_never_panics(
            header in "[ -~]{0,80}",
            data in collection::vec(any::<u8>(), 0..64),
            honest in any::<bool>(),
        ) {
            let bytes = if honest { foreign(&format!("{{{header}}}"), &data) } else { data };
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x");
            std::fs::write(&path, bytes).unwrap();
            let _ = read(&path);
        }
    }
}
