//! Real pictures, where they are at hand.

use std::path::PathBuf;

use fullbore_data::source::{hold_out, open};
use fullbore_data::{EvalConfig, EvalLoader, Loader, LoaderConfig};
use fullbore_types::{Classes, Position, Size};
use std::sync::Arc;

use crate::data_set::config;
use crate::eval::eval_config;

/// A folder of `$FULLBORE_TEST_DATA`, or of `shared/data` beside the checkout. `None`, said aloud, when absent.
fn data(name: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let root = std::env::var_os("FULLBORE_TEST_DATA").map_or(beside, PathBuf::from);
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {} is not there (set FULLBORE_TEST_DATA)", folder.display());
    None
}

#[test]
fn membranes_split_and_load() {
    let Some(folder) = data("membrane") else { return };
    let classes =
        Classes { names: vec!["membrane".into(), "cell".into()], values: vec![0, 255], void_value: None };
    let (train, val) = hold_out(open(&folder).unwrap(), 5).unwrap();
    let config = LoaderConfig {
        size: Size::new(256, 256),
        channels: 1,
        classes: classes.clone(),
        epochs: 1,
        ..config(4)
    };
    let loader = Loader::start(Arc::new(train), config, Position::default()).unwrap();
    let mut n = 0;
    for batch in loader {
        let batch = batch.unwrap();
        n += batch.len();
        assert!(batch.masks().iter().all(|&class| class < 2));
    }
    assert_eq!(n, 24);
    let config = EvalConfig { channels: 1, classes: Some(classes), ..eval_config() };
    let samples: Vec<_> = EvalLoader::start(Arc::new(val), config).unwrap().map(Result::unwrap).collect();
    assert_eq!(samples.len(), 6);
    assert!(samples.iter().all(|s| s.canvas == Size::new(512, 512) && s.mask.len() == 512 * 512));
    let cells: usize = samples.iter().flat_map(|s| &s.mask).filter(|&&class| class == 1).count();
    let share = cells as f64 / (6 * 512 * 512) as f64;
    assert!((0.7..0.9).contains(&share), "cells cover {share}");
}
