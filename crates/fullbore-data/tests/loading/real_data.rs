//! Real pictures, where they are at hand.

use std::path::PathBuf;

use fullbore_data::source::{hold_out, open};
use fullbore_data::{EvalConfig, EvalLoader, Format, Loader, LoaderConfig, Resize, TargetKind};
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
    let (train, val) = hold_out(open(&folder, Format::Auto, Some(&classes)).unwrap(), 5).unwrap();
    let config = LoaderConfig {
        size: Size::new(256, 256),
        channels: 1,
        classes: Some(classes.clone()),
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

#[test]
fn faces_keep_their_points_on_every_canvas() {
    let Some(folder) = data("faces") else { return };
    let list = folder.join("train.csv");
    let text = std::fs::read_to_string(&list).unwrap();
    let rows: Vec<Vec<f64>> = text
        .lines()
        .skip(1)
        .map(|row| row.split(',').skip(1).map(|field| field.parse().unwrap()).collect())
        .collect();
    let source = open(&list, Format::Auto, None).unwrap();
    assert_eq!((source.len(), source.kind()), (320, TargetKind::Points { k: 68 }));
    for resize in [Resize::Stretch, Resize::Letterbox, Resize::Crop] {
        let config =
            LoaderConfig { classes: None, resize, size: Size::new(128, 96), epochs: 1, ..config(32) };
        let mut n = 0;
        for batch in Loader::start(source.clone(), config, Position::default()).unwrap() {
            let batch = batch.unwrap();
            for (i, id) in batch.ids().iter().enumerate() {
                let back = batch.frames()[i].canvas_from_source.inverse().unwrap();
                let points = batch.points()[i * 136..][..136].as_chunks::<2>().0;
                let visibility = &batch.visibility()[i * 68..][..68];
                for (p, (&[x, y], visibility)) in points.iter().zip(visibility).enumerate() {
                    let (sx, sy) = back.apply((x.into(), y.into()));
                    let expected = &rows[id.0 as usize][2 * p..][..2];
                    assert!((sx - expected[0]).abs() < 1e-3 && (sy - expected[1]).abs() < 1e-3, "{id:?} {p}");
                    let inside = (-0.5..127.5).contains(&x) && (-0.5..95.5).contains(&y);
                    assert_eq!(*visibility, if inside { 2 } else { 1 });
                }
                n += 1;
            }
        }
        assert_eq!(n, 320);
    }
}
