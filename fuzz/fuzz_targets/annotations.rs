//! Any bytes as the index of a data set: a CSV or JSONL list, COCO JSON, a LabelMe file, a tar shard, 300-W's points,
//! a WFLW list, dlib's XML, ISBI's landmarks. The first input byte chooses the format; a source that opens must be able
//! to tell all that it knows of its samples.
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
        (Format::Pts, "a.pts"),
        (Format::Wflw, "list.txt"),
        (Format::Dlib, "set.xml"),
        (Format::Isbi, "400_junior/a.txt"),
    ][usize::from(choice % 9)];
    let file = folder.path().join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, bytes).unwrap();
    let pictures = folder.path().join("RawImage/TrainingData");
    let path = match format {
        Format::LabelMe => folder.path(),
        Format::Pts => {
            fs::write(folder.path().join("a.png"), "").unwrap();
            folder.path()
        }
        Format::Isbi => {
            let senior = folder.path().join("400_senior");
            [&pictures, &senior].map(|folder| fs::create_dir_all(folder).unwrap());
            fs::write(pictures.join("a.bmp"), "").unwrap();
            fs::write(senior.join("a.txt"), bytes).unwrap();
            &pictures
        }
        _ => &file,
    };
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
