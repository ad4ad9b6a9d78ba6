use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs::{File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value, json};

use crate::{CRC_KEY, CheckpointError, FORMAT, FORMAT_KEY, MAX_HEADER_BYTES, NamedTensor, checksum};

/// Writes `tensors` and `metadata` to `path`, whole or not at all.
///
/// The bytes go to a temporary file in the same folder, which is synced to disk and renamed over `path`; then
/// the folder is synced. Whatever fails, the file that was at `path` before is untouched and the temporary file
/// is removed (only a killed process can leave one behind, named `.NAME.*.tmp`: [`remove_unfinished`]). The entries `fullbore.format`
/// and `fullbore.crc32` of `metadata` are replaced by the file's own.
///
/// Costs one pass over the bytes for the checksum and one for writing; no copy of the tensors is made.
///
/// # Errors
/// [`CheckpointError::DiskFull`], [`CheckpointError::Write`], or [`CheckpointError::InvalidTensor`] when a
/// tensor's bytes do not fit its shape or two tensors share a name.
pub fn write(
    path: &Path,
    tensors: &[NamedTensor<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let tensors = in_file_order(tensors)?;
    let header = header(&tensors, metadata)?;
    let needed_bytes = 8 + header.len() as u64 + tensors.iter().map(|t| t.bytes.len() as u64).sum::<u64>();
    replace_file(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| file.write_all(&tensor.bytes))
    })
    .map_err(|source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            CheckpointError::DiskFull { path: path.into(), needed_bytes, source }
        }
        _ => CheckpointError::Write { path: path.into(), source },
    })
}

/// Removes what killed processes left of unfinished checkpoints in `folder`. Nobody may be writing there. What cannot be
/// removed stays: it is in nobody's way.
pub fn remove_unfinished(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b".") && name.ends_with(b".tmp") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Sorts by falling element size, then name (the order of the safetensors format: it keeps every tensor
/// aligned), and checks each tensor.
fn in_file_order<'t, 'b>(
    tensors: &'t [NamedTensor<'b>],
) -> Result<Vec<&'t NamedTensor<'b>>, CheckpointError> {
    let invalid = |tensor: &NamedTensor<'_>, reason: String| {
        Err(CheckpointError::InvalidTensor { name: tensor.name.clone(), reason })
    };
    let mut names = std::collections::BTreeSet::new();
    for tensor in tensors {
        if tensor.name == "__metadata__" {
            return invalid(tensor, "the name is reserved".into());
        }
        if !names.insert(&tensor.name) {
            return invalid(tensor, "the name is used twice".into());
        }
        if tensor.expected_bytes() != Some(tensor.bytes.len()) {
            let (shape, dtype) = (&tensor.shape, tensor.dtype);
            let reason =
                format!("{} bytes do not make a {dtype:?} tensor of shape {shape:?}", tensor.bytes.len());
            return invalid(tensor, reason);
        }
    }
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by_key(|tensor| (Reverse(tensor.dtype.to_safetensors()), &tensor.name));
    Ok(ordered)
}

/// The JSON header, padded to a multiple of 8 bytes, with the checksum in place.
fn header(
    tensors: &[&NamedTensor<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, CheckpointError> {
    let mut metadata = metadata.clone();
    metadata.insert(FORMAT_KEY.into(), FORMAT.to_string());
    metadata.insert(CRC_KEY.into(), checksum::PLACEHOLDER.into());

    let mut entries = Map::new();
    entries.insert("__metadata__".into(), json!(metadata));
    let mut start = 0;
    for tensor in tensors {
        let end = start + tensor.bytes.len();
        let info = TensorInfo {
            dtype: tensor.dtype.to_safetensors(),
            shape: tensor.shape.clone(),
            data_offsets: (start, end),
        };
        entries.insert(tensor.name.clone(), json!(info));
        start = end;
    }
    let mut header = Value::Object(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() > MAX_HEADER_BYTES {
        let name = tensors.first().map(|tensor| tensor.name.clone()).unwrap_or_default();
        let reason = format!("names and metadata take {} bytes, more than {MAX_HEADER_BYTES}", header.len());
        return Err(CheckpointError::InvalidTensor { name, reason });
    }

    let digits = checksum::digits_in(&header).expect("the placeholder was just written");
    let mut hasher = checksum::over_header(&header, &digits);
    tensors.iter().for_each(|tensor| hasher.update(&tensor.bytes));
    header[digits].copy_from_slice(checksum::to_digits(hasher.finalize()).as_bytes());
    Ok(header)
}

/// Fills a temporary file beside `path`, makes it durable and renames it to `path`.
fn replace_file(path: &Path, fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    if path.is_dir() {
        // Said here because the rename would fail only after everything has been written.
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    // Dropping the temporary file on any early return removes it.
    let temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(&folder)?;
    let mut file = BufWriter::with_capacity(1 << 20, temporary.as_file());
    fill(&mut file)?;
    file.flush()?;
    drop(file);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|failed| failed.error)?;
    sync_folder(&folder)
}

/// Makes the rename durable. File systems that cannot sync a folder say so; there is nothing to wait for then.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, process::Command};

    use super::*;
    use crate::{Dtype, read};

    fn tensor(name: &str, values: &[f32]) -> NamedTensor<'static> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        NamedTensor {
            name: name.into(),
            dtype: Dtype::F32,
            shape: vec![values.len()],
            bytes: Cow::Owned(bytes),
        }
    }

    fn files_in(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_same_content_gives_the_same_bytes_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let metadata =
            BTreeMap::from([("step".to_string(), "12".to_string()), ("a".into(), "\"b\"\n".into())]);
        let (w, b) = (tensor("w", &[1.0, 2.0]), tensor("b", &[3.0]));
        write(&one, &[w.clone(), b.clone()], &metadata).unwrap();
        write(&two, &[b, w], &metadata).unwrap();
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
    }

    #[test]
    fn the_file_is_a_plain_safetensors_file_with_aligned_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let flag = NamedTensor {
            name: "a".into(),
            dtype: Dtype::Bool,
            shape: vec![3],
            bytes: Cow::Borrowed(&[1, 0, 1]),
        };
        write(&path, &[flag, tensor("w", &[1.0, 2.0])], &BTreeMap::new()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.tensor("w").unwrap().data(), [0, 0, 128, 63, 0, 0, 0, 64]);
        assert_eq!(theirs.tensor("a").unwrap().dtype(), safetensors::Dtype::BOOL);
        let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(header_bytes % 8, 0, "the data must start at a multiple of 8");
        assert_eq!(bytes[8 + header_bytes as usize..][..4], [0, 0, 128, 63], "wide elements come first");
    }

    #[test]
    fn a_rewrite_replaces_the_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        write(&path, &[tensor("w", &[1.0])], &BTreeMap::new()).unwrap();
        write(&path, &[tensor("w", &[2.0])], &BTreeMap::new()).unwrap();
        assert_eq!(*read(&path).unwrap().tensors["w"].bytes, 2.0f32.to_le_bytes());
        assert_eq!(files_in(folder.path()), ["last.safetensors"]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o400, 0o400);
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        assert_eq!(
            mode,
            std::fs::metadata(&plain).unwrap().permissions().mode(),
            "umask decides, as for any file"
        );
    }

    #[test]
    fn a_write_that_fails_half_way_keeps_the_old_file_and_removes_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        write(&path, &[tensor("w", &[1.0])], &BTreeMap::new()).unwrap();
        let before = std::fs::read(&path).unwrap();
        let failed = replace_file(&path, |file| {
            file.write_all(b"half of it")?;
            file.flush()?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(files_in(folder.path()), ["last.safetensors"]);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let mut unfinished = None;
        let stopped = replace_file(&path, |_| {
            unfinished = files_in(folder.path()).pop();
            Err(io::ErrorKind::Interrupted.into())
        });
        assert!(stopped.is_err());
        // A kill leaves it there.
        std::fs::write(folder.path().join(unfinished.unwrap()), "half of it").unwrap();
        for other in ["last.safetensors", ".hidden", "notes.tmp"] {
            std::fs::write(folder.path().join(other), "").unwrap();
        }
        remove_unfinished(folder.path());
        assert_eq!(files_in(folder.path()), [".hidden", "last.safetensors", "notes.tmp"]);
        remove_unfinished(&folder.path().join("none"));
    }

    #[test]
    fn a_missing_folder_and_a_folder_in_the_way_are_output_errors() {
        use miette::Diagnostic;
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("none/last.safetensors"), folder.path().to_path_buf(), "/".into()] {
            let error = write(&path, &[tensor("w", &[1.0])], &BTreeMap::new()).unwrap_err();
            assert!(matches!(error, CheckpointError::Write { .. }), "{path:?} gave {error:?}");
            assert_eq!(error.code().unwrap().to_string(), "output::checkpoint");
            assert!(error.to_string().contains(path.to_str().unwrap()));
        }
        assert!(files_in(folder.path()).is_empty());
    }

    #[test]
    fn an_unwritable_folder_is_an_output_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).unwrap();
        if std::fs::write(folder.path().join("probe"), "").is_ok() {
            eprintln!("SKIPPED: this user may write everywhere (root)");
            return;
        }
        let error = write(&folder.path().join("x"), &[tensor("w", &[1.0])], &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, CheckpointError::Write { .. }), "{error:?}");
    }

    /// A file system of 64 KiB that goes away with the value.
    struct TinyDisk(tempfile::TempDir);

    impl TinyDisk {
        fn mount() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
                .arg(folder.path())
                .output();
            mounted.is_ok_and(|output| output.status.success()).then(|| Self(folder))
        }
    }

    impl Drop for TinyDisk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0.path()).output();
        }
    }

    #[test]
    fn a_full_disk_says_how_much_is_needed_and_keeps_the_old_file() {
        let Some(disk) = TinyDisk::mount() else {
            eprintln!("SKIPPED: mounting a tiny disk needs root");
            return;
        };
        let path = disk.0.path().join("last.safetensors");
        write(&path, &[tensor("w", &[1.0])], &BTreeMap::new()).unwrap();
        let error = write(&path, &[tensor("w", &vec![0.0; 100_000])], &BTreeMap::new()).unwrap_err();
        match error {
            CheckpointError::DiskFull { needed_bytes, .. } => assert!(needed_bytes > 400_000),
            other => panic!("{other:?}"),
        }
        assert_eq!(*read(&path).unwrap().tensors["w"].bytes, 1.0f32.to_le_bytes());
        assert_eq!(files_in(disk.0.path()), ["last.safetensors"]);
    }

    #[test]
    fn tensors_that_cannot_be_stored_are_named_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut short = tensor("w", &[1.0, 2.0]);
        short.shape = vec![3];
        let mut huge = tensor("w", &[1.0]);
        huge.shape = vec![usize::MAX, 2];
        let cases = [
            (vec![short], "tensor `w` cannot be stored: 8 bytes do not make a F32 tensor of shape [3]"),
            (
                vec![huge],
                "tensor `w` cannot be stored: 4 bytes do not make a F32 tensor of shape [18446744073709551615, 2]",
            ),
            (
                vec![tensor("w", &[1.0]), tensor("w", &[1.0])],
                "tensor `w` cannot be stored: the name is used twice",
            ),
            (
                vec![tensor("__metadata__", &[1.0])],
                "tensor `__metadata__` cannot be stored: the name is reserved",
            ),
        ];
        for (tensors, message) in cases {
            assert_eq!(write(&path, &tensors, &BTreeMap::new()).unwrap_err().to_string(), message);
        }
        assert!(files_in(folder.path()).is_empty());
    }
}
