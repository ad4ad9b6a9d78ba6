use std::fs;
use std::sync::Arc;

use fullbore_data::source::{Format, Reading, open_read_as};
use fullbore_data::{Part, Source, Target, Visibility};

use super::*;

/// Lists number pixels from 1 here.
const FIRST_PIXEL: f64 = 1.0;

/// Two landmarks in three pictures: one with a point that was not found, one with two boxes.
fn findings() -> Vec<Findings> {
    let instance = |bounds, [ax, ay, bx, by]: [f64; 4], score| Instance {
        bounds,
        points: vec![Found { place: [ax, ay], score: 0.9 }, Found { place: [bx, by], score }],
    };
    let bounds = Some(Bounds { left: 1.5, top: 2.0, width: 8.0, height: 6.25 });
    let size = Size::new(30, 20);
    let of = |i, instances| Findings { picture: SampleId(i), size, pixels: Vec::new(), instances };
    vec![
        of(0, vec![instance(bounds, [3.0625, -0.25, 29.4567, 19.0], 0.5)]),
        of(1, vec![instance(bounds, [4.0, 5.0, 7.0, 8.0], f32::NAN)]),
        of(2, vec![instance(bounds, [1.0, 2.0, 3.0, 4.0], 0.1), instance(bounds, [5.0, 6.0, 7.0, 8.0], 0.2)]),
    ]
}

/// Writes `findings` of pictures in `photos/` to `out/` and reads them as a data set.
fn read_back(
    format: PointFormat,
    findings: &[Findings],
    names: &[String],
) -> (tempfile::TempDir, Arc<dyn Source>) {
    let dir = tempfile::tempdir().unwrap();
    let (photos, out) = (dir.path().join("photos"), dir.path().join("out"));
    fs::create_dir_all(&photos).unwrap();
    fs::create_dir_all(&out).unwrap();
    for name in ["a.png", "b, c.png", "d.png"] {
        fs::write(photos.join(name), b"x").unwrap();
    }
    let pictures = Pictures::open(&photos).unwrap();
    let paths = ImagePaths::new(&pictures, &out);
    let mut file = PointsFile::create(format, &out, names, true, FIRST_PIXEL).unwrap();
    for findings in findings {
        let (image, name) = (paths.of(findings.picture), pictures.result_name(findings.picture));
        match &mut file {
            Some(file) => file.add(&image, findings).unwrap(),
            None => write_labelme(&out.join(name + ".json"), &image, names, findings).unwrap(),
        }
    }
    if let Some(file) = file {
        file.finish(names, |id| paths.of(id)).unwrap();
    }
    let path = match format {
        PointFormat::Csv => out.join("landmarks.csv"),
        PointFormat::Coco => out.join("landmarks.json"),
        PointFormat::Labelme => out,
    };
    let first_pixel = if format == PointFormat::Csv { FIRST_PIXEL } else { 0.0 };
    let reading = Reading { first_pixel, ..Reading::default() };
    (dir, open_read_as(&path, Format::Auto, reading, None).unwrap())
}

#[test]
fn what_is_written_is_a_data_set_with_the_same_points() {
    let names = ["Co".to_owned(), "pog \"2\", left".to_owned()];
    for format in [PointFormat::Csv, PointFormat::Coco, PointFormat::Labelme] {
        // LabelMe's points are told apart by name, so one box for each picture is all that can be read.
        let findings = match format {
            PointFormat::Labelme => findings().drain(..2).collect(),
            _ => findings(),
        };
        let (dir, source) = read_back(format, &findings, &names);
        let written: Vec<_> = findings
            .iter()
            .flat_map(|f| f.instances.iter().map(move |instance| (f.picture, instance)))
            .collect();
        assert_eq!(source.len(), written.len(), "{format:?}");
        if format != PointFormat::Csv {
            assert_eq!(source.point_names(), names);
        }
        for (i, (picture, instance)) in written.into_iter().enumerate() {
            let id = SampleId(i as u32);
            let file = source.file(id, Part::Image).canonicalize().unwrap();
            let expected = ["a.png", "b, c.png", "d.png"][picture.0 as usize];
            assert_eq!(file, dir.path().canonicalize().unwrap().join("photos").join(expected));
            let Target::Points(points) = source.target(id) else { panic!("no points") };
            for (read, written) in points.iter().zip(&instance.points) {
                assert_eq!(read.visibility != Visibility::NotLabelled, written.is_found(), "{format:?}");
                let apart = [f64::from(read.x) - written.place[0], f64::from(read.y) - written.place[1]];
                assert!(!written.is_found() || apart.iter().all(|d| d.abs() <= 1e-3), "{format:?} {apart:?}");
            }
            if format != PointFormat::Labelme {
                assert_eq!(source.about(id).bounds, instance.bounds, "{format:?}");
            }
        }
    }
}

#[test]
fn a_run_that_finds_no_picture_still_writes_whole_files() {
    let dir = tempfile::tempdir().unwrap();
    for format in [PointFormat::Csv, PointFormat::Coco] {
        let file = PointsFile::create(format, dir.path(), &["a".into()], false, 0.0).unwrap().unwrap();
        file.finish(&["a".into()], |_| unreachable!()).unwrap();
    }
    assert_eq!(fs::read_to_string(dir.path().join("landmarks.csv")).unwrap(), "image,x0,y0,score_a\n");
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("landmarks.json")).unwrap()).unwrap();
    assert_eq!((&json["images"], &json["annotations"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert_eq!(json["categories"][0]["keypoints"], serde_json::json!(["a"]));
}

#[test]
fn pictures_are_named_by_the_way_to_them() {
    let way = |from: &str, to: &str| seen_from(Path::new(from), Path::new(to)).display().to_string();
    assert_eq!(way("/data/out/x", "/data/photos"), "../../photos");
    assert_eq!(way("/data/photos/out", "/data/photos"), "..");
    assert_eq!(way("/data", "/data/photos"), "photos");
    assert_eq!(way("/data/out", "/media/photos"), "/media/photos");
}
