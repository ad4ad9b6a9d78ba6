//! Any bytes as the index of a data set: a CSV or JSONL list, COCO JSON, a LabelMe file, a tar shard. The first input
//! byte chooses the format; a source that opens must be able to tell all that it knows of its samples.
#![no_main]

use std::fs;

use fullbore_data::source::{Format, Part, open};
use fullbore_types::{Classes, SampleId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (format, name) = [
        (Format::List, "list.csv"),
        (Format::List, "list.jsonl"),
        (Format::Coco, "coco.json"),
        (Format::LabelMe, "labelme.json"),
        (Format::Shards, "shard.tar"),
    ][usize::from(choice % 5)];
    let file = folder.path().join(name);
    fs::write(&file, bytes).unwrap();
    let path = if format == Format::LabelMe { folder.path() } else { &file };
    let classes = Classes { names: vec!["a".into(), "b".into()], values: vec![0, 255], void_value: None };
    let masks = (choice & 128 == 0).then_some(&classes);
    let Ok(source) = open(path, format, masks) else { return };
    let mut part = Vec::new();
    for id in (0..source.len().min(64) as u32).map(SampleId) {
        let _ = (source.name(id), source.file(id, Part::Image), source.about(id), source.target(id));
        let _ = source.read(id, Part::Image, 1 << 16, &mut part);
        assert!(part.len() <= 1 << 16);
    }
});
