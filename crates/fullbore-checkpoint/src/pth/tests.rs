use std::io::Cursor;
use std::path::PathBuf;

use miette::Diagnostic;
use proptest::{collection, prelude::*, sample::Index};

use super::*;
use crate::{Dtype, read_weights};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("pth/{name}"))).unwrap()
}

fn parse(bytes: &[u8]) -> Result<PthContent, PthProblem> {
    read_from(Cursor::new(bytes))
}

fn code(problem: &PthProblem) -> String {
    problem.code().unwrap().to_string()
}

/// A zip archive with stored entries and checksums.
fn zip(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in parts {
        let offset = file.len() as u32;
        let n_bytes = (content.len() as u32).to_le_bytes();
        let mut common = vec![0; 10];
        common.extend(crc32fast::hash(content).to_le_bytes());
        common.extend([n_bytes, n_bytes].concat());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), content].concat());
        directory.extend(
            [b"PK\x01\x02\0\0", &common[..], &[0; 10], &offset.to_le_bytes(), name.as_bytes()].concat(),
        );
    }
    let (at, n) = (file.len() as u32, parts.len() as u16);
    file.extend(directory);
    let n_bytes = file.len() as u32 - at;
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([n.to_le_bytes(), n.to_le_bytes()].concat());
    file.extend([n_bytes.to_le_bytes(), at.to_le_bytes()].concat());
    file.extend([0, 0]);
    file
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(number: i64) -> Vec<u8> {
    [&[0x8a, 8], &number.to_le_bytes()[..]].concat()
}

fn tuple(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    [b"(".to_vec(), items.into_iter().flatten().collect(), b"t".to_vec()].concat()
}

/// The pickle of a tensor of floats in the storage `0` of `storage_len` elements.
fn tensor(storage_len: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let id = tuple([
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        int(storage_len),
    ]);
    let sides = |sides: &[i64]| tuple(sides.iter().map(|&side| int(side)));
    let storage = [id, b"Q".to_vec()].concat();
    let arguments =
        tuple([storage, int(offset), sides(shape), sides(strides), b"\x89".to_vec(), b"}".to_vec()]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(), arguments, b"R".to_vec()].concat()
}

/// A file whose top dictionary is that of `items`, with a storage of 16 floats.
fn file_of(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items = items.iter().flat_map(|(name, value)| [text(name), value.clone()]).flatten().collect();
    let pickle = [b"\x80\x02}(".to_vec(), items, b"u.".to_vec()].concat();
    let floats: Vec<u8> = (0..16).flat_map(|number| (number as f32).to_le_bytes()).collect();
    zip(&[("a/data.pkl", &pickle), ("a/data/0", &floats)])
}

fn file_of_pickle(pickle: &[u8]) -> Vec<u8> {
    zip(&[("a/data.pkl", pickle)])
}

fn floats_of(content: &PthContent, name: &str) -> Vec<f32> {
    content.tensors[name]
        .bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

#[test]
fn what_torch_saved_is_read_row_major() {
    let expected = crate::read(&fixture("pth/tensors.safetensors")).unwrap().tensors;
    let weights = read_weights(&fixture("pth/checkpoint.pth")).unwrap();
    assert_eq!(weights.stripped, ["state_dict", "module.", "_orig_mod."]);
    assert_eq!(weights.passed_over, ["best", "epoch", "optimizer", "seed", "size"]);
    assert_eq!(weights.tensors.len(), expected.len());
    let mut dtypes: Vec<Dtype> = Vec::new();
    for (name, tensor) in &weights.tensors {
        let wanted = &expected[&format!("odd.{name}")];
        assert_eq!((tensor.dtype, &tensor.shape), (wanted.dtype, &wanted.shape), "{name}");
        assert!(tensor.bytes == wanted.bytes, "{name}");
        dtypes.push(tensor.dtype);
    }
    assert!(Dtype::ALL.iter().all(|dtype| dtypes.contains(dtype)));
}

#[test]
fn a_state_dict_with_a_list_beside_its_tensors() {
    let weights = read_weights(&fixture("pth/unet.pth")).unwrap();
    assert_eq!(weights.passed_over, ["mask_values"]);
    assert_eq!(weights.stripped, [""; 0]);
    assert_eq!(weights.tensors, crate::read(&fixture("weights/ours.safetensors")).unwrap().tensors);
}

#[test]
fn safetensors_are_told_by_their_content() {
    let weights = read_weights(&fixture("weights/ours.safetensors")).unwrap();
    assert_eq!(weights.tensors, crate::read(&fixture("weights/ours.safetensors")).unwrap().tensors);
    assert_eq!((weights.stripped.len(), weights.passed_over.len()), (0, 0));
    let folder = tempfile::tempdir().unwrap();
    let renamed = folder.path().join("weights.pth");
    std::fs::copy(fixture("weights/ours.safetensors"), &renamed).unwrap();
    assert_eq!(read_weights(&renamed).unwrap(), weights);
}

#[test]
fn what_is_refused_is_named() {
    for (name, expected_code, words, advice) in [
        (
            "legacy.pth",
            "data::pth_legacy",
            "from before PyTorch 1.6 (a row of pickles)",
            "torch.load('old.pth'",
        ),
        ("torchscript.pt", "data::pth_torchscript", "TorchScript archive", "torch.jit.load('old.pt'"),
        ("module.pth", "data::pth_object", "`torch.nn.modules.linear.Linear`", "w.state_dict()"),
        (
            "nameless.pth",
            "data::pth_no_tensors",
            "its keys are a, b",
            "torch.save(model.state_dict(), 'new.pth')",
        ),
        ("protocol4.pth", "data::pth_unsupported", "pickle protocol 4", "torch.load('old.pth'"),
        ("int16.pth", "data::pth_dtype", "torch.ShortStorage in `wide`", "convert that tensor"),
        ("manifest.json", "data::pth_format", "is no PyTorch file", "torch.save"),
    ] {
        let path = fixture(&format!("pth/{name}"));
        let error = read(&path).unwrap_err();
        assert_eq!(error.code().unwrap().to_string(), expected_code, "{name}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        let help = error.help().unwrap().to_string();
        assert!(help.contains(advice), "{help}");
    }
    let mut tar = vec![0; 300];
    tar[TAR_MAGIC_AT..TAR_MAGIC_AT + 5].copy_from_slice(TAR_MAGIC);
    assert_eq!(code(&parse(&tar).unwrap_err()), "data::pth_legacy");
    assert_eq!(code(&parse(b"").unwrap_err()), "data::pth_format");
    assert_eq!(
        read(Path::new("nowhere.pth")).unwrap_err().code().unwrap().to_string(),
        "data::checkpoint_not_found"
    );
}

#[test]
fn strides_offsets_and_repeats() {
    let content = parse(&file_of(&[
        ("plain", tensor(16, 0, &[2, 2], &[2, 1])),
        ("columns", tensor(16, 1, &[2, 3], &[1, 4])),
        ("repeated", tensor(16, 5, &[3], &[0])),
        ("none", tensor(16, 16, &[0, 9], &[9, 1])),
        ("one", tensor(16, 15, &[1, 1], &[1000, 1000])),
        ("number", tensor(16, 3, &[], &[])),
    ]))
    .unwrap();
    assert_eq!(floats_of(&content, "plain"), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(floats_of(&content, "columns"), [1.0, 5.0, 9.0, 2.0, 6.0, 10.0]);
    assert_eq!(floats_of(&content, "repeated"), [5.0; 3]);
    assert_eq!(floats_of(&content, "none"), [0.0; 0]);
    assert_eq!(floats_of(&content, "one"), [15.0]);
    assert_eq!(floats_of(&content, "number"), [3.0]);
}

#[test]
fn the_last_of_equal_keys_counts_and_an_average_comes_first() {
    let content =
        parse(&file_of(&[("w", tensor(16, 0, &[1], &[1])), ("w", tensor(16, 7, &[1], &[1]))])).unwrap();
    assert_eq!(floats_of(&content, "w"), [7.0]);
    let within = |offset| [b"}".to_vec(), text("w"), tensor(16, offset, &[1], &[1]), b"s".to_vec()].concat();
    let content = parse(&file_of(&[
        ("model", b"}".to_vec()),
        ("state_dict", within(1)),
        ("state_dict_ema", within(2)),
        ("loss", tensor(16, 3, &[], &[])),
    ]))
    .unwrap();
    assert_eq!((floats_of(&content, "w"), content.within), (vec![2.0], vec!["state_dict_ema".to_string()]));
    assert_eq!(content.passed_over, ["loss", "model", "state_dict"]);
}

#[test]
fn tensors_that_lie_are_refused() {
    const HUGE: i64 = i64::MAX;
    for lie in [
        tensor(16, 0, &[17], &[1]),
        tensor(16, 15, &[2], &[1]),
        tensor(16, HUGE, &[1], &[1]),
        tensor(16, 0, &[HUGE, HUGE], &[0, 0]),
        tensor(16, 0, &[0, HUGE, HUGE], &[0, 0, 0]),
        tensor(16, 0, &[2], &[HUGE]),
        tensor(16, 0, &[3, 3], &[HUGE, HUGE]),
        tensor(17, 0, &[1], &[1]),
        tensor(HUGE, 0, &[1], &[1]),
        tensor(16, -1, &[1], &[1]),
        tensor(16, 0, &[-1], &[1]),
        tensor(16, 0, &[1], &[-1]),
        tensor(16, 0, &[1, 1], &[1]),
        tensor(16, 0, &[1; 65], &[1; 65]),
    ] {
        let problem = parse(&file_of(&[("lie", lie)])).unwrap_err();
        assert_eq!(code(&problem), "data::pth_damaged", "{problem}");
    }
    let bomb = parse(&file_of(&[("bomb", tensor(16, 0, &[1 << 40], &[0]))])).unwrap_err();
    assert_eq!(code(&bomb), "data::pth_too_large");
}

#[test]
fn hostile_pickles_end_with_an_error() {
    let nested = [vec![b'N'], vec![0x85; 100_000], vec![b'.']].concat();
    let endless = [vec![b']'; MAX_PICKLE_BYTES as usize - 1], vec![b'.']].concat();
    let too_long = vec![b'N'; MAX_PICKLE_BYTES as usize + 1];
    // A list that holds itself, as the weights.
    let own_child = b"}q\0X\x05\0\0\0modelh\0s.".to_vec();
    for (pickle, expected) in [
        (b"cos\nsystem\n(X\x02\0\0\0lstR.".to_vec(), "data::pth_object"),
        (b"cbuiltins\neval\n.".to_vec(), "data::pth_object"),
        (b"c__main__\nFloatStorage\n.".to_vec(), "data::pth_object"),
        (nested, "data::pth_no_tensors"),
        (own_child, "data::pth_no_tensors"),
        (endless, "data::pth_too_large"),
        (too_long, "data::pth_too_large"),
        (b"\x80\x05.".to_vec(), "data::pth_unsupported"),
        (b"i".to_vec(), "data::pth_unsupported"),
        (b"".to_vec(), "data::pth_damaged"),
        (b".".to_vec(), "data::pth_damaged"),
        (b"(N.".to_vec(), "data::pth_no_tensors"),
        (b"N(.".to_vec(), "data::pth_damaged"),
        (b"h\x01.".to_vec(), "data::pth_damaged"),
        (b"t.".to_vec(), "data::pth_damaged"),
        (b"}(Nu.".to_vec(), "data::pth_damaged"),
        (b"](NNu.".to_vec(), "data::pth_damaged"),
        (b"X\xff\xff\xff\xffabc".to_vec(), "data::pth_damaged"),
        (b"X\x01\0\0\0\xff.".to_vec(), "data::pth_damaged"),
        (b"NNR.".to_vec(), "data::pth_damaged"),
        (b"ctorch\nSize\n)R.".to_vec(), "data::pth_damaged"),
    ] {
        let problem = parse(&file_of_pickle(&pickle)).unwrap_err();
        assert_eq!(
            code(&problem),
            expected,
            "{:?}: {problem}",
            String::from_utf8_lossy(&pickle[..pickle.len().min(40)])
        );
    }
}

#[test]
fn hostile_archives_end_with_an_error() {
    let whole = file_of(&[("w", tensor(16, 0, &[1], &[1]))]);
    assert_eq!(parse(&whole).unwrap().tensors.len(), 1);
    let (name, floats) = ("a/data/0", [0; 64]);
    let twice = zip(&[("a/data.pkl", b"N."), (name, &floats), (name, &floats)]);
    assert_eq!(code(&parse(&twice).unwrap_err()), "data::pth_damaged");
    let big_endian = zip(&[("a/data.pkl", b"N."), ("a/byteorder", b"big")]);
    assert_eq!(code(&parse(&big_endian).unwrap_err()), "data::pth_unsupported");
    assert_eq!(code(&parse(&zip(&[("a/b", b"")])).unwrap_err()), "data::pth_format");
    let at =
        |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).rposition(|window| window == what).unwrap();

    // Two entries that mean the same bytes: together longer than the file.
    let mut overlapping = zip(&[("a/data.pkl", b"N."), (name, &[0; 4096]), ("a/data/1", b"")]);
    let second = at(&overlapping, b"a/data/1") - 46;
    overlapping[second + 20..second + 24].copy_from_slice(&4096_u32.to_le_bytes());
    overlapping[second + 24..second + 28].copy_from_slice(&4096_u32.to_le_bytes());
    assert!(parse(&overlapping).unwrap_err().to_string().contains("longer than the file"));

    let mut compressed = whole.clone();
    let entry = at(&compressed, b"a/data/0") - 46;
    compressed[entry + 10] = 8;
    assert_eq!(code(&parse(&compressed).unwrap_err()), "data::pth_unsupported");

    let mut flipped = whole.clone();
    let value = at(&flipped, &15_f32.to_le_bytes());
    flipped[value] ^= 1;
    assert!(parse(&flipped).unwrap_err().to_string().contains("checksum of `a/data/0`"));
    // Saved without checksums: PyTorch then writes 0.
    flipped[entry + 16..entry + 20].fill(0);
    assert_eq!(parse(&flipped).unwrap().tensors.len(), 1);
}

#[test]
fn every_cut_of_a_file_is_an_error() {
    for name in ["checkpoint.pth", "unet.pth"] {
        let bytes = bytes_of(name);
        for end in (0..bytes.len()).step_by(97) {
            let problem = parse(&bytes[..end]).unwrap_err();
            assert!(code(&problem).starts_with("data::pth_"), "{problem}");
        }
    }
}

proptest! {
    #[test]
    fn flipped_bits_give_tensors_or_an_error(flips in collection::vec((any::<Index>(), 0..8_u8), 1..4)) {
        let mut bytes = bytes_of("checkpoint.pth");
        for (place, bit) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        let _ = parse(&bytes);
    }

    /// Without checksums the pickle machine sees the damage.
    #[test]
    fn damaged_pickles_give_tensors_or_an_error(
        changes in collection::vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let mut pickle = [b"\x80\x02}(".to_vec(), text("w"), tensor(16, 1, &[2, 3], &[1, 4]), b"u.".to_vec()].concat();
        for (place, byte) in changes {
            let place = place.index(pickle.len());
            pickle[place] = byte;
        }
        let floats = [7; 64];
        let _ = parse(&zip(&[("a/data.pkl", &pickle), ("a/data/0", &floats)]));
    }

    /// Against the plain formula, for any layout that fits.
    #[test]
    fn gathering_is_indexing(shape in collection::vec(0..4_i64, 0..4), strides in collection::vec(0..3_i64, 4), offset in 0..3_i64) {
        let strides = &strides[..shape.len()];
        let content = parse(&file_of(&[("w", tensor(16, offset, &shape, strides))]));
        let mut expected = vec![offset];
        for (side, stride) in shape.iter().zip(strides) {
            expected = expected.iter().flat_map(|at| (0..*side).map(move |step| at + step * stride)).collect();
        }
        match content {
            Ok(content) => prop_assert_eq!(
                floats_of(&content, "w"),
                expected.iter().map(|&at| at as f32).collect::<Vec<_>>()
            ),
            Err(_) => prop_assert!(expected.iter().any(|&at| at > 15)),
        }
    }
}
