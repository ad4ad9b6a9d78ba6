//! Damaged, nested and endless annotations are refused with a name, and never panic or fill memory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use fullbore_data::source::open;
use fullbore_data::{DataError, Format, Loader, LoaderConfig, SourceError};
use fullbore_types::{Classes, Position};
use miette::Diagnostic;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::data_set::{classes, config};
use crate::formats::{Set, mask_sets, point_sets, tar, tar_header};

/// Every set of every format, with what is wanted of it.
fn sets() -> Vec<(Set, Option<Classes>)> {
    let masks = mask_sets().into_iter().map(|set| (set, Some(classes())));
    masks.chain(point_sets().into_iter().map(|set| (set, None))).collect()
}

/// A file below a folder that is no picture.
fn annotations(folder: &Path) -> Option<PathBuf> {
    let mut paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.find_map(|path| match path.is_dir() {
        true => annotations(&path),
        false => path.extension().is_none_or(|ending| ending != "png").then_some(path),
    })
}

/// The code of the error that opening comes to.
fn error(set: &Set, classes: Option<&Classes>) -> String {
    let error = open(&set.path, set.format, classes).err().expect("an error");
    error.code().unwrap().to_string()
}

#[test]
fn damage_is_refused_or_loaded_but_never_panics() {
    let with_file = |(set, classes): (Set, _)| {
        let file = annotations(&set.at("."))?;
        let whole = fs::read(&file).unwrap();
        Some((set, classes, file, whole))
    };
    let sets: Vec<_> = sets().into_iter().filter_map(with_file).collect();
    let damage = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..3);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(400));
    let outcome = runner.run(&damage, |(set, at, byte, kind)| {
        let (set, classes, file, whole) = set.get(&sets);
        let at = at.index(whole.len());
        let mut damaged = whole.clone();
        match kind {
            0 => damaged.truncate(at),
            1 => damaged[at] = byte,
            _ => drop(damaged.drain(at..(at + usize::from(byte)).min(whole.len()))),
        }
        fs::write(file, damaged).unwrap();
        let Ok(source) = open(&set.path, set.format, classes.as_ref()) else { return Ok(()) };
        let config = LoaderConfig { classes: classes.clone(), workers: 0, epochs: 1, ..config(1) };
        for batch in Loader::start(source, config, Position::default()).unwrap() {
            prop_assert!(!matches!(batch, Err(DataError::Panicked { .. })), "{:?}", batch.err());
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn deep_nesting_is_refused() {
    const DEPTH: usize = 300_000;
    let starts = [
        "",
        r#"{"x": "#,
        r#"{"image": "#,
        r#"{"points": "#,
        r#"{"shapes": "#,
        r#"{"landmarks": "#,
        r#"{"annotations": "#,
        r#"{"annotations": [{"segmentation": "#,
        r#"{"annotations": [{"segmentation": {"counts": "#,
    ];
    // Lines of points do not nest.
    for (set, classes) in sets().into_iter().filter(|(set, _)| set.format != Format::Pts) {
        let Some(file) = annotations(&set.at(".")).filter(|file| !file.ends_with("list.csv")) else {
            continue;
        };
        for start in starts {
            for nest in ["[", r#"{"a":"#] {
                let text = format!("{start}{}", nest.repeat(DEPTH)).into_bytes();
                match set.format {
                    Format::Shards => {
                        let json = ("0.json".to_owned(), text);
                        fs::write(&file, tar([json, ("0.png".to_owned(), vec![])])).unwrap();
                    }
                    _ => fs::write(&file, text).unwrap(),
                }
                let code = match set.format {
                    Format::Dlib => "data::annotations::line",
                    _ => "data::annotations::json",
                };
                assert_eq!(error(&set, classes.as_ref()), code, "{:?} {start}", set.format);
            }
        }
    }
}

#[test]
fn files_without_end_are_refused_unread() {
    const TOO_LONG: u64 = (1 << 33) + 1;
    for (set, classes) in sets() {
        let Some(file) = annotations(&set.at(".")) else { continue };
        lengthen(&file, TOO_LONG);
        match open(&set.path, set.format, classes.as_ref()) {
            // Whatever comes after the end mark of an archive does not count.
            Ok(_) => assert_eq!(set.format, Format::Shards),
            Err(error) => assert!(matches!(error, SourceError::TooLong { length: TOO_LONG, .. }), "{error}"),
        }
    }
}

#[test]
fn shards_without_end_are_refused_unread() {
    let set = Set::new(Format::Shards, "a.tar");
    set.put("a.tar", []);
    lengthen(&set.path, 1 << 40);
    assert_eq!(error(&set, None), "data::source::no_samples");
    // Annotations of 512 MiB.
    let image = tar([("0.png".to_owned(), vec![])]);
    set.put("a.tar", [&image[..512], &tar_header("0.json", 1 << 29)].concat());
    lengthen(&set.path, 1 << 30);
    assert_eq!(error(&set, None), "data::source::too_long");
}

/// Appends zeros, none of which lies on the disk.
fn lengthen(file: &Path, length: u64) {
    File::options().write(true).open(file).unwrap().set_len(length).unwrap();
}
