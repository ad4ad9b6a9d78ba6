//! The same samples in every format give the same batches, whoever loads them and from wherever.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fullbore_data::source::{self, Shards};
use fullbore_data::{Format, Loader, LoaderConfig, Resize, Shard, Source};
use fullbore_types::{Classes, Position, Size};
use image::ExtendedColorType::{L8, Rgb8};
use serde_json::{Value, json};

use crate::data_set::{Seen, classes, config, image_of, mask_of, png, seen};

/// Samples of each set, 20x16 pixels.
pub(crate) const N: u32 = 5;
/// The symbols of Aariz, which fix the number of points for all.
const SYMBOLS: [&str; 29] = [
    "A", "ANS", "B", "Me", "N", "Or", "Pog", "PNS", "Pn", "R", "S", "Ar", "Co", "Gn", "Go", "Po", "LPM",
    "LIT", "LMT", "UPM", "UIA", "UIT", "UMT", "LIA", "Li", "Ls", "N`", "Pog`", "Sn",
];
const WORKERS: [usize; 4] = [0, 1, 2, 7];

fn image(i: u32) -> Vec<u8> {
    png(20, 16, Rgb8, &image_of(i, 20, 16))
}

fn mask(i: u32) -> Vec<u8> {
    png(20, 16, L8, &mask_of(i, 20, 16))
}

fn points(i: u32) -> Vec<[u32; 2]> {
    (0..SYMBOLS.len() as u32).map(|p| [(3 * p + i) % 20, (2 * p + i) % 16]).collect()
}

/// A data set in a folder of its own.
pub(crate) struct Set {
    folder: tempfile::TempDir,
    pub(crate) format: Format,
    /// What `data.train` would name.
    pub(crate) path: PathBuf,
}

impl Set {
    pub(crate) fn new(format: Format, path: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Set { path: folder.path().join(path), folder, format }
    }

    pub(crate) fn put(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `prefix`0.png and so on.
    fn put_images(&self, prefix: &str) {
        (0..N).for_each(|i| self.put(format!("{prefix}{i}.png"), image(i)));
    }

    fn put_masks(&self, prefix: &str) {
        (0..N).for_each(|i| self.put(format!("{prefix}{i}.png"), mask(i)));
    }
}

/// What comes before a file of `length` bytes in a tar archive.
pub(crate) fn tar_header(name: &str, length: usize) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{length:011o}").as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

/// A tar archive of plain files.
pub(crate) fn tar(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        archive.extend(tar_header(&name, content.len()));
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn lines(line: impl Fn(u32) -> String) -> String {
    (0..N).map(|i| line(i) + "\n").collect()
}

fn coco(annotation: impl Fn(u32) -> Value) -> String {
    let images = (0..N).map(|i| json!({"id": i, "file_name": format!("{i}.png"), "width": 20, "height": 16}));
    let annotations = (0..N).map(|i| {
        let mut value = json!({"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 20, 16]});
        value.as_object_mut().unwrap().extend(annotation(i).as_object().unwrap().clone());
        value
    });
    json!({"images": images.collect::<Vec<_>>(), "categories": [{"id": 1, "name": "thing"}],
        "annotations": annotations.collect::<Vec<_>>()})
    .to_string()
}

fn labelme(i: u32, shapes: Vec<Value>) -> String {
    json!({"imagePath": format!("{i}.png"), "imageWidth": 20, "imageHeight": 16, "shapes": shapes})
        .to_string()
}

/// The same images and masks in every format that holds masks.
pub(crate) fn mask_sets() -> Vec<Set> {
    let mut sets = Vec::new();
    let mut add = |format, path: &str, fill: &dyn Fn(&Set)| {
        let set = Set::new(format, path);
        fill(&set);
        sets.push(set);
    };
    add(Format::Pairs, ".", &|set| {
        set.put_images("images/");
        set.put_masks("masks/");
    });
    add(Format::List, "list.csv", &|set| {
        set.put_images("a");
        set.put_masks("m");
        set.put("list.csv", format!("image,mask\n{}", lines(|i| format!("a{i}.png,m{i}.png"))));
    });
    add(Format::List, "list.jsonl", &|set| {
        set.put_images("a");
        set.put_masks("m");
        let line = |i| json!({"image": format!("a{i}.png"), "mask": format!("m{i}.png")}).to_string();
        set.put("list.jsonl", lines(line));
    });
    add(Format::Coco, ".", &|set| {
        set.put_images("");
        set.put("set.json", coco(|i| json!({"segmentation": [[0, 0, i + 1, 0, i + 1, 16, 0, 16]]})));
    });
    add(Format::Coco, "runs.json", &|set| {
        set.put_images("");
        let size = [16, 20];
        let counts = |i: u32| [0, 16 * (i + 1), 16 * (19 - i)];
        set.put("runs.json", coco(|i| json!({"segmentation": {"size": size, "counts": counts(i)}})));
    });
    add(Format::LabelMe, ".", &|set| {
        set.put_images("");
        for i in 0..N {
            let shape = json!({"label": "thing", "shape_type": "rectangle", "points": [[0, 0], [i + 1, 16]]});
            set.put(format!("{i}.json"), labelme(i, vec![shape]));
        }
    });
    add(Format::Shards, ".", &|set| {
        let sample = |i| [(format!("{i}.png"), image(i)), (format!("{i}.seg.png"), mask(i))];
        set.put("0.tar", tar((0..2).flat_map(sample)));
        set.put("1.tar", tar((2..N).flat_map(sample)));
    });
    sets
}

/// The same images and points in every format that holds points.
pub(crate) fn point_sets() -> Vec<Set> {
    let mut sets = Vec::new();
    let mut add = |format, path: &str, fill: &dyn Fn(&Set)| {
        let set = Set::new(format, path);
        fill(&set);
        sets.push(set);
    };
    add(Format::List, "list.csv", &|set| {
        set.put_images("list/");
        let header: String = (0..SYMBOLS.len()).map(|p| format!(",x{p},y{p}")).collect();
        let row = |i| {
            let numbers: String = points(i).iter().map(|[x, y]| format!(",{x},{y}.0")).collect();
            format!("{i}.png{numbers}")
        };
        set.put("list.csv", format!("image{header}\n{}", lines(row)));
    });
    add(Format::List, "list.jsonl", &|set| {
        set.put_images("images/");
        let line = |i| json!({"image": format!("{i}.png"), "points": points(i)}).to_string();
        set.put("list.jsonl", lines(line));
    });
    add(Format::Coco, "set.json", &|set| {
        set.put_images("");
        let keypoints = |i| points(i).iter().flat_map(|[x, y]| [*x, *y, 2]).collect::<Vec<_>>();
        set.put("set.json", coco(|i| json!({"keypoints": keypoints(i)})));
    });
    add(Format::LabelMe, ".", &|set| {
        set.put_images("");
        for i in 0..N {
            // Its coordinates count from the edge of the first pixel.
            let shape = |(p, [x, y]): (usize, &[u32; 2])| {
                let at = [f64::from(*x) + 0.5, f64::from(*y) + 0.5];
                json!({"label": p.to_string(), "shape_type": "point", "points": [at]})
            };
            set.put(format!("{i}.json"), labelme(i, points(i).iter().enumerate().map(shape).collect()));
        }
    });
    add(Format::Aariz, "Train", &|set| {
        set.put_images("Train/Cephalograms/");
        for i in 0..N {
            let landmark =
                |([x, y], symbol): ([u32; 2], _)| json!({"symbol": symbol, "value": {"x": x, "y": y}});
            let landmarks: Vec<_> = points(i).into_iter().zip(SYMBOLS).map(landmark).collect();
            for reader in ["Junior", "Senior"] {
                let folder = format!("Train/Annotations/Cephalometric Landmarks/{reader} Orthodontists");
                set.put(format!("{folder}/{i}.json"), json!({"landmarks": landmarks}).to_string());
            }
        }
    });
    add(Format::Pts, ".", &|set| {
        set.put_images("");
        for i in 0..N {
            // Its coordinates count the first pixel as 1.
            let lines: String = points(i).iter().map(|[x, y]| format!("{}.0 {}\n", x + 1, y + 1)).collect();
            set.put(format!("{i}.pts"), format!("version: 1\nn_points: {}\n{{\n{lines}}}\n", SYMBOLS.len()));
        }
    });
    add(Format::Dlib, "set.xml", &|set| {
        set.put_images("images/");
        let image = |i| {
            let part = |(p, [x, y]): (usize, &[u32; 2])| format!("<part name='{p:02}' x='{x}' y='{y}'/>");
            let parts: String = points(i).iter().enumerate().map(part).collect();
            format!(
                "<image file='{i}.png'><box top='0' left='0' width='20' height='16'>{parts}</box></image>"
            )
        };
        set.put("set.xml", format!("<dataset><images>{}</images></dataset>", lines(image)));
    });
    add(Format::Shards, "set.tar", &|set| {
        let sample = |i| {
            let annotations = json!({"points": points(i)}).to_string().into_bytes();
            [(format!("{i}.png"), image(i)), (format!("{i}.json"), annotations)]
        };
        set.put("set.tar", tar((0..N).flat_map(sample)));
    });
    sets
}

fn batches(source: &Arc<dyn Source>, config: &LoaderConfig, workers: usize, from: Position) -> Vec<Seen> {
    let config = LoaderConfig { workers, ..config.clone() };
    Loader::start(source.clone(), config, from).unwrap().map(|batch| seen(&batch.unwrap())).collect()
}

/// All that is seen of each sample of each epoch. Orders differ between sources.
fn by_sample(batches: &[Seen]) -> BTreeMap<(u64, u32), &Seen> {
    batches.iter().map(|batch| ((batch.0, batch.2[0]), batch)).collect()
}

/// Loads each set in every way that must make no difference.
fn check(sets: &[Set], classes: Option<&Classes>) {
    let config = LoaderConfig { classes: classes.cloned(), ..config(1) };
    let loaded: Vec<_> = sets
        .iter()
        .map(|Set { path, format, .. }| {
            let given = source::open(path, *format, classes).unwrap();
            assert_eq!(given.len() as u32, N, "{format:?}");
            let whole = batches(&given, &config, 0, Position::default());
            let found = source::open(path, Format::Auto, classes).unwrap();
            for workers in WORKERS {
                for batch in 0..=whole.len() as u64 {
                    let from = Position { epoch: batch / u64::from(N), batch: batch % u64::from(N) };
                    let rest = batches(&found, &config, workers, from);
                    assert!(rest == whole[batch as usize..], "{format:?}, {workers} workers, {from:?}");
                }
            }
            whole
        })
        .collect();
    for (Set { path, format, .. }, whole) in sets.iter().zip(&loaded) {
        let (first, whole) = (by_sample(&loaded[0]), by_sample(whole));
        assert_eq!(first.len(), whole.len());
        for (sample, expected) in first {
            let found = whole[&sample];
            let what = format!("{format:?} {}, epoch and sample {sample:?}", path.display());
            assert!((&found.3, &found.4) == (&expected.3, &expected.4), "other pixels: {what}");
            assert_eq!(found.5, expected.5, "{what}");
        }
    }
}

#[test]
fn masks_are_the_same_from_every_format() {
    check(&mask_sets(), Some(&classes()));
}

#[test]
fn points_are_the_same_from_every_format() {
    check(&point_sets(), None);
}

#[test]
fn shards_are_read_window_by_window_and_split_exactly() {
    const SAMPLES: u32 = 4_500;
    const BLOCK: u32 = 256;
    let set = Set::new(Format::Shards, ".");
    let pixel = png(1, 1, L8, &[7]);
    for shard in 0..3 {
        let samples = (shard * 1_500..).take(1_500).map(|i| (format!("{i:05}.png"), pixel.clone()));
        set.put(format!("{shard}.tar"), tar(samples));
    }
    let source: Arc<dyn Source> = Arc::new(Shards::open(&set.path).unwrap());
    let base = LoaderConfig {
        classes: None,
        size: Size::new(1, 1),
        resize: Resize::Stretch,
        epochs: 1,
        ..config(500)
    };
    let ids = |config: &LoaderConfig, workers, from: u64| -> Vec<u32> {
        let from = Position { epoch: 0, batch: from };
        batches(&source, config, workers, from).into_iter().flat_map(|batch| batch.2).collect()
    };
    let order = ids(&base, 0, 0);
    // 16 of the 18 blocks make the first window; the last block of the set is smaller.
    let mut blocks: Vec<u32> = order[..15 * 256 + 148].iter().map(|id| id / BLOCK).collect();
    blocks.sort_unstable();
    blocks.dedup();
    assert!(blocks.len() <= 16, "{blocks:?}");
    assert!(order[..200].iter().any(|id| id / BLOCK != order[0] / BLOCK), "blocks are mixed");
    for (workers, from) in [(1, 0), (2, 4), (7, 8), (2, 9)] {
        assert!(ids(&base, workers, from) == order[500 * from as usize..], "{workers} workers from {from}");
    }
    let ranks: Vec<_> = (0..3)
        .map(|rank| {
            let shard = Shard { rank, world: 3 };
            ids(&LoaderConfig { shard, batch_size: 150, ..base.clone() }, 2, 0)
        })
        .collect();
    let mut together = ranks.concat();
    together.sort_unstable();
    assert!(together == (0..SAMPLES).collect::<Vec<_>>(), "each sample goes to one rank");
}
