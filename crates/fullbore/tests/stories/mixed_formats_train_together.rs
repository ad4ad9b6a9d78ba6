use std::fs::{self, File};
use std::path::Path;

use image::{GrayImage, ImageBuffer, ImageFormat, Luma, LumaA};

use crate::scaffold::{Scene, blob};

/// A palette PNG whose indices are the classes: 0 and 1, shown as two colours.
fn write_palette(path: &Path, mask: &GrayImage) {
    let mut encoder = png::Encoder::new(File::create(path).unwrap(), mask.width(), mask.height());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(vec![10, 20, 30, 200, 100, 50]);
    let indices: Vec<u8> = mask.iter().map(|&value| u8::from(value == 255)).collect();
    encoder.write_header().unwrap().write_image_data(&indices).unwrap();
}

/// Twelve pairs that each look the same to the network and differ in how they are stored.
#[test]
fn what_a_file_holds_decides_and_not_its_name() {
    let scene = Scene::new();
    for folder in ["data/images", "data/masks"] {
        fs::create_dir_all(scene.path(folder)).unwrap();
    }
    for index in 0..12 {
        let (image, mask) = blob(index, 32, 32);
        let gray = image::imageops::grayscale(&image);
        let file = |ending: &str| scene.path(&format!("data/images/{index:02}.{ending}"));
        match index % 4 {
            0 => image.save_with_format(file("jpg"), ImageFormat::Png).unwrap(),
            1 => ImageBuffer::from_fn(32, 32, |x, y| Luma([u16::from(gray.get_pixel(x, y)[0]) * 257]))
                .save(file("png"))
                .unwrap(),
            2 => ImageBuffer::from_fn(32, 32, |x, y| LumaA([gray.get_pixel(x, y)[0], 0]))
                .save(file("png"))
                .unwrap(),
            _ => image.save_with_format(file("png"), ImageFormat::Jpeg).unwrap(),
        }
        let suffix = if index % 2 == 0 { "" } else { "_mask" };
        write_palette(&scene.path(&format!("data/masks/{index:02}{suffix}.png")), &mask);
    }
    let summary = scene.train(&["run.epochs=20", "data.classes={ground: 0, blob: 1}"]).succeeded().json();
    assert!(summary["best"]["value"].as_f64().unwrap() > 0.8, "{summary}");
}
