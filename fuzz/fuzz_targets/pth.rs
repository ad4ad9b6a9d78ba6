//! Any bytes as a file of `torch.save`. The first input byte chooses whether they are the whole archive, or its pickle
//! beside a small storage: the fuzzer would hardly find its way through the checksums.
#![no_main]

use std::io::Cursor;

use fullbore_checkpoint::pth::read_from;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let file = if choice & 1 == 0 {
        bytes.to_vec()
    } else {
        archive(&[("a/data.pkl", bytes), ("a/data/0", &[7; 256])])
    };
    let n_bytes = file.len();
    let Ok(content) = read_from(Cursor::new(file)) else { return };
    let total: usize = content.tensors.values().map(|tensor| tensor.bytes.len()).sum();
    assert!(total <= 4 * n_bytes + (1 << 20), "{total} bytes from {n_bytes}");
    for tensor in content.tensors.values() {
        assert_eq!(tensor.bytes.len(), tensor.shape.iter().product::<usize>() * tensor.dtype.size());
    }
});

/// A zip archive with stored entries, without checksums.
fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in parts {
        let offset = file.len() as u32;
        let n_bytes = (content.len() as u32).to_le_bytes();
        let mut common = vec![0; 14];
        common.extend([n_bytes, n_bytes].concat());
        common.extend((name.len() as u32).to_le_bytes());
        file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), content].concat());
        directory.extend(
            [b"PK\x01\x02\0\0", &common[..], &[0; 10], &offset.to_le_bytes(), name.as_bytes()].concat(),
        );
    }
    let at = file.len() as u32;
    let n = (parts.len() as u16).to_le_bytes();
    let n_bytes = directory.len() as u32;
    file.extend(directory);
    file.extend(
        [b"PK\x05\x06\0\0\0\0", &n[..], &n, &n_bytes.to_le_bytes(), &at.to_le_bytes(), &[0, 0]].concat(),
    );
    file
}
