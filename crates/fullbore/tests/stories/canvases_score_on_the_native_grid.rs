use image::{Luma, Rgb};

use crate::scaffold::Scene;

/// Images of many sizes, none of them the canvas's.
fn scene() -> Scene {
    let scene = Scene::new();
    for index in 0..15 {
        scene.add_blob(index, 40 + index % 3 * 9, 64 - index % 4 * 7);
    }
    scene
}

#[track_caller]
fn learns_and_agrees(sets: &[&str]) {
    let scene = scene();
    let trained = scene.train(sets).succeeded().json();
    // A mask that lay a few pixels off would score far lower: the discs are small.
    assert!(trained["best"]["value"].as_f64().unwrap() > 0.85, "{trained}");
    let evaluated = scene.fullbore(&["eval", "run", "--json"]).succeeded().json();
    let (a, b) = (&evaluated["metrics"]["dice"], &trained["best"]["value"]);
    assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() <= 1e-6, "{a} {b}");
}

#[test]
fn stretch() {
    learns_and_agrees(&["run.epochs=20", "data.resize=stretch"]);
}

#[test]
fn letterbox() {
    learns_and_agrees(&["run.epochs=20", "data.resize=letterbox"]);
}

#[test]
fn crop() {
    learns_and_agrees(&["run.epochs=10", "data.resize=crop", "data.crops_per_image=3"]);
}

#[test]
fn a_void_value_is_ignored_and_three_classes_are_scored() {
    let scene = scene();
    for index in 0..15 {
        let mut image = image::open(scene.image(index)).unwrap().to_rgb8();
        let mut mask = image::open(scene.mask(index)).unwrap().to_luma8();
        let water = mask.height() * 3 / 4;
        for (x, y, pixel) in mask.enumerate_pixels_mut() {
            *pixel = Luma([match (x, y, pixel[0]) {
                (0..4, ..) => 9,
                (_, y, _) if y >= water => 1,
                (.., 255) => 2,
                _ => 0,
            }]);
            if y >= water {
                image.put_pixel(x, y, Rgb([10, 20, 240]));
            }
        }
        image.save(scene.image(index)).unwrap();
        mask.save(scene.mask(index)).unwrap();
    }
    let classes = "data.classes={ground: 0, water: 1, disc: 2}";
    let summary = scene
        .train(&[classes, "data.void=9", "loss.name=ce_dice", "run.epochs=15", "model.base=8"])
        .succeeded()
        .json();
    let classes = summary["metrics"]["dice_per_class"].as_object().unwrap();
    assert_eq!(classes.keys().collect::<Vec<_>>(), ["ground", "water", "disc"]);
    for (name, dice) in classes {
        assert!(dice.as_f64().unwrap() > 0.7, "{name}: {summary}");
    }
}
