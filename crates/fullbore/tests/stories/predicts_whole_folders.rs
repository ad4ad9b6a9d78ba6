use std::collections::BTreeSet;
use std::fs;

use image::{GrayImage, ImageFormat};

use crate::scaffold::{Scene, blob};

/// A run that has learnt to find blobs, and `photos/` to be filled.
fn trained(sets: &[&str]) -> Scene {
    let scene = Scene::with_blobs(15);
    scene.train(&[&["run.epochs=6"], sets].concat()).succeeded();
    fs::create_dir(scene.path("photos")).unwrap();
    scene
}

fn mask(scene: &Scene, name: &str) -> GrayImage {
    let image = image::open(scene.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(image.color(), image::ColorType::L8, "{name}");
    image.into_luma8()
}

fn dice(a: &GrayImage, b: &GrayImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let count = |mask: &GrayImage| mask.pixels().filter(|p| p[0] == 255).count();
    let both = a.pixels().zip(b.pixels()).filter(|(a, b)| a[0] == 255 && b[0] == 255).count();
    2.0 * both as f64 / (count(a) + count(b)) as f64
}

fn files(scene: &Scene, folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(scene.path(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn masks_fit_their_pictures_whatever_their_size_and_format() {
    let scene = trained(&["run.epochs=20"]);
    let mut truths = Vec::new();
    for (index, (width, height)) in [(32, 32), (90, 50), (41, 77)].into_iter().enumerate() {
        let (image, truth) = blob(50 + index as u32, width, height);
        let format = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Png][index];
        image.save_with_format(scene.path(&format!("photos/{index}.jpg")), format).unwrap();
        truths.push(truth);
    }
    let args = ["predict", "run", "--input", "photos", "--output", "out/masks", "--overlay", "--json"];
    let summary = scene.fullbore(&args).succeeded().json();
    assert_eq!((&summary["masks"], &summary["failed"]), (&3.into(), &serde_json::json!([])));
    assert_eq!(files(&scene, "out/masks"), ["0.png", "1.png", "2.png", "overlays"].map(String::from).into());
    for (index, truth) in truths.iter().enumerate() {
        let found = mask(&scene, &format!("out/masks/{index}.png"));
        assert!(found.pixels().all(|p| p[0] == 0 || p[0] == 255));
        assert!(dice(&found, truth) > 0.8, "picture {index}: {}", dice(&found, truth));
        let overlay =
            image::open(scene.path(&format!("out/masks/overlays/{index}.png"))).unwrap().into_rgb8();
        let picture = image::load_from_memory(&fs::read(scene.path(&format!("photos/{index}.jpg"))).unwrap());
        let differs = |(drawn, plain): (&image::Rgb<u8>, &image::Rgb<u8>)| drawn != plain;
        let drawn: Vec<bool> =
            overlay.pixels().zip(picture.unwrap().into_rgb8().pixels()).map(differs).collect();
        let masked: Vec<bool> = found.pixels().map(|p| p[0] == 255).collect();
        let agree = drawn.iter().zip(&masked).filter(|(a, b)| a == b).count();
        assert!(agree * 100 >= masked.len() * 99, "{agree} of {}", masked.len());
    }
}

/// The same pixels, once upright and once stored lying with an EXIF note: the masks are equal.
#[test]
fn masks_stand_upright_as_viewers_show_the_picture() {
    let scene = trained(&[]);
    let (upright, _) = blob(60, 60, 36);
    upright.save(scene.path("photos/upright.png")).unwrap();
    // Orientation 6: the viewer turns the stored picture clockwise.
    let lying = image::imageops::rotate270(&upright);
    let mut encoder = png::Encoder::new(
        fs::File::create(scene.path("photos/lying.png")).unwrap(),
        lying.width(),
        lying.height(),
    );
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    writer.write_chunk(png::chunk::eXIf, exif).unwrap();
    writer.write_image_data(&lying).unwrap();
    drop(writer);
    scene.fullbore(&["predict", "run", "--input", "photos", "--output", "out"]).succeeded();
    let (a, b) = (mask(&scene, "out/upright.png"), mask(&scene, "out/lying.png"));
    assert_eq!(a.dimensions(), (60, 36));
    assert!(a == b && a.pixels().any(|p| p[0] == 255));
}

#[test]
fn prediction_agrees_with_evaluation() {
    for resize in ["data.resize=letterbox", "data.resize=crop"] {
        let scene = trained(&[resize, "data.crops_per_image=1", "data.holdout=3"]);
        let scores = scene.fullbore(&["eval", "run", "--set", "data.val=data", "--json"]).succeeded().json();
        scene.fullbore(&["predict", "run", "--input", "data/images", "--output", "out"]).succeeded();
        let (mut both, mut sum) = (0, 0);
        for index in 0..15 {
            let truth = image::open(scene.mask(index)).unwrap().into_luma8();
            let found = mask(&scene, &format!("out/{index:02}.png"));
            for (t, f) in truth.pixels().zip(found.pixels()) {
                both += u64::from(t[0] == 255 && f[0] == 255);
                sum += u64::from(t[0] == 255) + u64::from(f[0] == 255);
            }
        }
        let expected = scores["metrics"]["dice_per_class"]["foreground"].as_f64().unwrap();
        assert!((2.0 * both as f64 / sum as f64 - expected).abs() < 1e-9, "{resize}");
    }
}

#[test]
fn bad_pictures_are_listed_and_the_rest_is_done() {
    let scene = trained(&[]);
    for index in 0..4 {
        let (image, _) = blob(index, 40, 40);
        image.save(scene.path(&format!("photos/{index}.png"))).unwrap();
    }
    fs::write(scene.path("photos/1.png"), b"<html>not found</html>").unwrap();
    let whole = fs::read(scene.path("photos/2.png")).unwrap();
    fs::write(scene.path("photos/2.png"), &whole[..whole.len() / 2]).unwrap();
    let outcome = scene.fullbore(&["predict", "run", "--input", "photos", "--output", "out", "--json"]);
    assert_eq!(outcome.code, Some(3), "{outcome}");
    let summary = outcome.json();
    assert_eq!(summary["masks"], 2);
    let failed: Vec<_> =
        summary["failed"].as_array().unwrap().iter().map(|f| f["file"].as_str().unwrap()).collect();
    assert_eq!(failed, ["photos/1.png", "photos/2.png"]);
    assert_eq!(files(&scene, "out"), ["0.png", "3.png"].map(String::from).into());
    assert_eq!(outcome.stderr.lines().filter(|line| line.starts_with("no result")).count(), 2, "{outcome}");
    assert!(outcome.stderr.contains("not an image: it starts with `<html>"), "{outcome}");
}

#[test]
fn wrong_paths_are_refused_before_anything_is_written() {
    let scene = trained(&[]);
    let (image, _) = blob(1, 32, 32);
    image.save(scene.path("photos/a.png")).unwrap();
    let before = fs::read(scene.path("photos/a.png")).unwrap();
    let predict =
        |run, input, output| scene.fullbore(&["predict", run, "--input", input, "--output", output]);
    predict("run", "photos", "photos").failed(2, &["photos", "--output another folder"]);
    assert_eq!(fs::read(scene.path("photos/a.png")).unwrap(), before);
    predict("run", "nowhere", "out").failed(3, &["nowhere does not exist"]);
    predict("nowhere", "photos", "out").failed(2, &["nowhere is not a run folder"]);
    predict("photos", "photos", "out").failed(2, &["photos is not a run folder"]);
    predict("photos/a.png", "photos", "out").failed(3, &["photos/a.png"]);
    fs::create_dir(scene.path("empty")).unwrap();
    predict("run", "empty", "out").failed(3, &["empty holds no pictures"]);
    assert!(!scene.path("out").exists());
    fs::write(scene.path("out"), b"in the way").unwrap();
    predict("run", "photos", "out").failed(6, &["out", "--output"]);
    // One picture, and a checkpoint by its file name.
    predict("run/checkpoints/last.safetensors", "photos/a.png", "single").succeeded();
    assert_eq!(files(&scene, "single"), ["a.png"].map(String::from).into());
}

#[test]
fn the_number_of_pictures_at_once_changes_nothing() {
    let scene = trained(&["batch.size=15", "data.drop_last=false", "run.epochs=1"]);
    for index in 0..12 {
        let (image, _) = blob(index, 64, 64);
        image.save(scene.path(&format!("photos/{index:02}.png"))).unwrap();
    }
    scene.fullbore(&["predict", "run", "--input", "photos", "--output", "all"]).succeeded();
    scene.fullbore(&["predict", "run", "--input", "photos", "--output", "one", "--batch", "1"]).succeeded();
    for file in files(&scene, "all") {
        let (a, b) = (mask(&scene, &format!("all/{file}")), mask(&scene, &format!("one/{file}")));
        let differing = a.pixels().zip(b.pixels()).filter(|(a, b)| a != b).count();
        assert!(differing <= 2, "{file}: {differing} pixels");
    }
    assert_eq!(files(&scene, "one").len(), 12);
}

#[test]
fn a_contact_sheet_shows_image_truth_and_prediction() {
    let scene = trained(&[]);
    let scored = scene.fullbore(&["eval", "run", "--sheet", "sheet.png", "--json"]).succeeded().json();
    assert_eq!(scored["sheet"], "sheet.png");
    let sheet = image::open(scene.path("sheet.png")).unwrap().into_rgb8();
    // Three columns; a row for each of the three images held out.
    assert_eq!(sheet.width(), sheet.height());
    let side = sheet.width() / 3;
    let red = |column: u32| {
        let pixels = sheet.enumerate_pixels().filter(|(x, _, p)| x / side == column && p.0 == [255, 0, 0]);
        pixels.count() as f64
    };
    assert_eq!(red(0), 0.0);
    assert!(red(1) > 1000.0 && (red(2) / red(1) - 1.0).abs() < 0.5, "{} {}", red(1), red(2));
    let refused = scene.fullbore(&["eval", "run", "--sheet", "no/such/folder/sheet.png"]);
    refused.failed(6, &["contact sheet"]);
}

#[test]
fn averaged_over_mirrors_the_mask_of_a_mirrored_picture_is_the_mirrored_mask() {
    use image::imageops::{flip_horizontal, flip_vertical};
    // Pixels of 40 x 40 where the mirrored pictures' masks are not the mirrored masks.
    let apart = |mirror: &str| {
        let scene = trained(&[mirror]);
        // Noise, in which the network sees blobs here and there.
        let noise = |x: u32, y: u32| {
            image::Rgb([0, 1, 2].map(|c| ((x * 40 + y + c * 1600).wrapping_mul(2_654_435_761) >> 24) as u8))
        };
        let picture = image::RgbImage::from_fn(40, 40, noise);
        let copies =
            [("plain", picture.clone()), ("h", flip_horizontal(&picture)), ("v", flip_vertical(&picture))];
        for (name, picture) in copies {
            picture.save_with_format(scene.path(&format!("photos/{name}.png")), ImageFormat::Png).unwrap();
        }
        scene.fullbore(&["predict", "run", "--input", "photos", "--output", "out"]).succeeded();
        let found = |name: &str| mask(&scene, &format!("out/{name}.png"));
        let differ =
            |a: &GrayImage, b: &GrayImage| a.pixels().zip(b.pixels()).filter(|(a, b)| a != b).count();
        let plain = found("plain");
        differ(&flip_horizontal(&plain), &found("h")) + differ(&flip_vertical(&plain), &found("v"))
    };
    // Sums in another order may tip a pixel.
    let (none, both) = (apart("eval.mirror=none"), apart("eval.mirror=both"));
    assert!(none > 20 && both <= 2, "{none} without, {both} with mirrors");
}
