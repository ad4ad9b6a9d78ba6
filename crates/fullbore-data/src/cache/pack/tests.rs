use std::fs;
use std::path::Path;

use fullbore_types::{Classes, Size};
use proptest::prelude::*;

use super::*;
use crate::config::Resize;
use crate::mask::IndexTable;

const SIDE: usize = 8;
const N: u32 = 5;
const NO_LIMIT: u64 = 1 << 40;

fn recipe_of(side: u32) -> Recipe {
    let classes = Classes { names: vec!["a".into(), "b".into()], values: vec![0, 255], void_value: None };
    Recipe::training(Resize::Stretch, Size::new(side, side), 1, Some(&classes))
}

fn folder(path: &Path, limit: u64) -> Arc<Folder> {
    Arc::new(Folder::new(path.into(), limit, 0))
}

fn open(path: &Path) -> Pack {
    Pack::open(folder(path, NO_LIMIT), recipe_of(SIDE as u32)).unwrap()
}

fn key(i: u32) -> Key {
    Key { place: u128::from(i) << 64 | u128::from(i), state: 1 }
}

/// Pixels of sample `i` in a state of its files.
fn sample(i: u32, state: u64) -> (Shape, Vec<u8>) {
    let mut payload: Vec<u8> =
        (0..SIDE * SIDE).map(|p| (p as u64 * 7 + u64::from(i) + state * 31) as u8).collect();
    let mask: Vec<u8> = (0..SIDE * SIDE).map(|p| u8::from(p as u32 > 9 * i)).collect();
    runs::pack(&mask, &IndexTable::IDENTITY, &mut payload);
    let image_bytes = (SIDE * SIDE) as u32;
    let mask_bytes = payload.len() as u32 - image_bytes;
    (Shape { source: Size::new(30 + i, 20), image_bytes, mask_bytes }, payload)
}

fn keep(pack: &Pack, i: u32) {
    let (shape, payload) = sample(i, 1);
    pack.keep(key(i), shape, &payload);
}

/// What the pack gives for sample `i`; panics when the pixels are not those that were kept.
fn look(pack: &Pack, i: u32) -> Found {
    let mut payload = vec![9; 3];
    let found = pack.get(key(i), NO_LIMIT, &mut payload);
    if let Found::Sample(shape) = found {
        assert_eq!((shape, payload), sample(i, 1));
    }
    found
}

fn n_found(pack: &Pack) -> usize {
    (0..N).filter(|&i| matches!(look(pack, i), Found::Sample(_))).count()
}

fn filled(path: &Path) {
    let pack = open(path);
    (0..N).for_each(|i| keep(&pack, i));
    assert_eq!(n_found(&pack), N as usize);
}

/// The two files, index first.
fn files(path: &Path) -> [std::path::PathBuf; 2] {
    let mut files: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.try_into().unwrap()
}

#[test]
fn samples_outlast_the_pack() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let pack = open(dir.path());
    assert_eq!(n_found(&pack), N as usize);
    assert_eq!(look(&pack, N), Found::Nothing);
    assert!(!pack.wants(key(0), 1) && pack.wants(key(N), 1));
    let bytes: u64 = files(dir.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(pack.held(), (u64::from(N), bytes));
    assert_eq!(pack.folder.budget().used(), bytes);
}

#[test]
fn a_pack_cut_at_any_byte_gives_whole_samples_or_none_and_can_be_filled_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let whole = files(dir.path()).map(|file| (fs::read(&file).unwrap(), file));
    for cut in 0..2 {
        for length in 0..whole[cut].0.len() {
            let dir = tempfile::tempdir().unwrap();
            for (i, (bytes, file)) in whole.iter().enumerate() {
                let bytes = if i == cut { &bytes[..length] } else { bytes };
                fs::write(dir.path().join(file.file_name().unwrap()), bytes).unwrap();
            }
            let pack = open(dir.path());
            let left = n_found(&pack);
            let expected = match cut {
                0 => (length / ROW_BYTES).saturating_sub(1),
                _ => (0..N)
                    .scan(0, |end, i| {
                        *end += sample(i, 1).1.len();
                        Some(*end)
                    })
                    .filter(|&end| end <= length)
                    .count(),
            };
            assert_eq!(left, expected, "file {cut} cut to {length}");
            (0..N).for_each(|i| keep(&pack, i));
            assert_eq!(n_found(&pack), N as usize, "file {cut} cut to {length}");
            drop(pack);
            assert_eq!(n_found(&open(dir.path())), N as usize, "file {cut} cut to {length}, opened again");
        }
    }
}

#[test]
fn a_file_cut_or_emptied_under_a_running_reader_is_no_more_than_a_miss() {
    for cut in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let pack = open(dir.path());
        let file = fs::OpenOptions::new().write(true).open(&files(dir.path())[cut]).unwrap();
        file.set_len(100).unwrap();
        n_found(&pack);
        file.set_len(0).unwrap();
        let found = n_found(&pack);
        assert_eq!(found, if cut == 0 { N as usize } else { 0 });
        (0..N).for_each(|i| keep(&pack, i));
        assert_eq!(n_found(&pack), N as usize);
    }
}

#[test]
fn a_damaged_sample_is_reported_once_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let pack = open(dir.path());
    pack.pixels.write_all_at(&[0xee], 3).unwrap();
    assert_eq!([look(&pack, 0), look(&pack, 0)], [Found::Damaged, Found::Nothing]);
    assert!(pack.wants(key(0), 1));
    keep(&pack, 0);
    assert_eq!(n_found(&pack), N as usize);
    drop(pack);
    assert_eq!(n_found(&open(dir.path())), N as usize);
}

#[test]
fn a_changed_file_is_another_sample() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let pack = open(dir.path());
    let changed = Key { state: 2, ..key(1) };
    let mut payload = Vec::new();
    assert_eq!(pack.get(changed, NO_LIMIT, &mut payload), Found::Nothing);
    assert!(pack.wants(changed, 1));
    let (shape, new) = sample(1, 2);
    pack.keep(changed, shape, &new);
    drop(pack);
    let pack = open(dir.path());
    assert_eq!((pack.get(changed, NO_LIMIT, &mut payload), &payload), (Found::Sample(shape), &new));
    assert_eq!(look(&pack, 1), Found::Nothing);
}

#[test]
fn more_pixels_than_allowed_are_not_given() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    assert_eq!(open(dir.path()).get(key(0), 599, &mut Vec::new()), Found::Nothing);
}

#[test]
fn the_second_to_come_reads_what_the_first_writes() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    keep(&first, 0);
    let second = open(dir.path());
    assert!(!second.wants(key(1), 1));
    keep(&second, 1);
    assert_eq!([look(&second, 1), look(&first, 1)], [Found::Nothing, Found::Nothing]);
    assert!(matches!(look(&second, 0), Found::Sample(_)));
    keep(&first, 2);
    assert!(matches!(look(&second, 2), Found::Sample(_)));
    first.begin_anew(&mut first.writer().unwrap()).unwrap();
    keep(&first, 3);
    assert!(matches!(look(&second, 3), Found::Sample(_)));
    assert_eq!(look(&second, 0), Found::Nothing);
    let warnings = second.folder.take_warnings();
    assert!(matches!(warnings[..], [CacheWarning::Shared { .. }]), "{warnings:?}");
    drop(first);
    let third = open(dir.path());
    assert!(third.wants(key(0), 1));
    assert!(matches!(look(&third, 3), Found::Sample(_)));
}

#[test]
fn the_budget_bounds_the_files_and_the_first_samples_stay() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 400;
    let pack = Pack::open(folder(dir.path(), limit), recipe_of(SIDE as u32)).unwrap();
    (0..N).for_each(|i| keep(&pack, i));
    assert!(matches!(look(&pack, 0), Found::Sample(_)));
    assert_eq!((n_found(&pack), pack.wants(key(N), 64)), (2, false));
    assert!(pack.held().1 <= limit);
    drop(pack);
    // A smaller budget cuts what is there.
    let pack = Pack::open(folder(dir.path(), 300), recipe_of(SIDE as u32)).unwrap();
    assert_eq!(n_found(&pack), 1);
    assert!(pack.held().1 <= 300);
}

#[test]
fn a_full_pack_of_files_that_have_all_changed_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let bytes = open(dir.path()).held().1;
    let pack = Pack::open(folder(dir.path(), bytes), recipe_of(SIDE as u32)).unwrap();
    let changed = |i| Key { state: 2, ..key(i) };
    for i in 0..N {
        assert_eq!(pack.get(changed(i), NO_LIMIT, &mut Vec::new()), Found::Nothing);
    }
    for i in 0..N {
        assert!(pack.wants(changed(i), 64));
        let (shape, payload) = sample(i, 2);
        pack.keep(changed(i), shape, &payload);
    }
    let found = (0..N).filter(|&i| pack.get(changed(i), NO_LIMIT, &mut Vec::new()) != Found::Nothing);
    assert_eq!(found.count(), N as usize);
    assert!(pack.held().1 <= bytes);
}

#[test]
fn room_that_no_row_names_any_more_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let index = fs::OpenOptions::new().write(true).open(&files(dir.path())[0]).unwrap();
    index.write_all_at(&[0; 4 * ROW_BYTES], ROW).unwrap();
    let bytes = files(dir.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    let pack = Pack::open(folder(dir.path(), bytes), recipe_of(SIDE as u32)).unwrap();
    assert_eq!(n_found(&pack), 1);
    (0..N).for_each(|i| keep(&pack, i));
    assert_eq!((n_found(&pack), pack.held().1 <= bytes), (N as usize, true));
}

#[test]
fn other_recipes_make_room_unless_somebody_writes_to_them() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    fs::write(dir.path().join("notes.index"), b"not ours").unwrap();
    let fill_other = |limit| {
        let pack = Pack::open(folder(dir.path(), limit), recipe_of(4)).unwrap();
        let shape = Shape { source: Size::new(3, 3), image_bytes: 16, mask_bytes: 16 };
        pack.keep(key(0), shape, &[1; 32]);
        pack.get(key(0), NO_LIMIT, &mut Vec::new())
    };
    let in_use = open(dir.path());
    let limit = in_use.held().1;
    assert_eq!(fill_other(limit), Found::Nothing);
    drop(in_use);
    assert!(matches!(fill_other(limit), Found::Sample(_)));
    assert_eq!(open(dir.path()).held().0, 0);
    assert!(dir.path().join("notes.index").exists());
}

#[test]
fn a_disk_that_is_nearly_full_is_left_alone_and_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Arc::new(Folder::new(dir.path().into(), NO_LIMIT, u64::MAX));
    let pack = Pack::open(folder.clone(), recipe_of(SIDE as u32)).unwrap();
    (0..N).for_each(|i| keep(&pack, i));
    assert!(!pack.wants(key(0), 1));
    assert_eq!((n_found(&pack), pack.held().1), (0, ROW));
    assert!(matches!(folder.take_warnings()[..], [CacheWarning::DiskFull { .. }]));
    assert!(folder.take_warnings().is_empty());
}

#[test]
fn a_place_that_is_no_folder_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    assert!(Pack::open(folder(&file, NO_LIMIT), recipe_of(SIDE as u32)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_bytes_the_files_hold_nothing_wrong_comes_out(
        damage in prop::collection::vec((0..2usize, any::<prop::sample::Index>(), 1u8..), 1..12),
        garbage in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
    ) {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let files = files(dir.path());
        for (file, at, flip) in damage {
            let mut bytes = fs::read(&files[file]).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            fs::write(&files[file], bytes).unwrap();
        }
        if let Some(garbage) = garbage {
            let mut bytes = fs::read(&files[0]).unwrap();
            bytes.extend(garbage);
            fs::write(&files[0], bytes).unwrap();
        }
        let pack = open(dir.path());
        n_found(&pack);
        (0..N).for_each(|i| keep(&pack, i));
        prop_assert_eq!(n_found(&pack), N as usize);
        drop(pack);
        prop_assert_eq!(n_found(&open(dir.path())), N as usize);
    }
}
