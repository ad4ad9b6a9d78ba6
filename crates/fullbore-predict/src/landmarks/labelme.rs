use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::{Findings, rounded};
use crate::PredictError;
use crate::write::write_file;

/// Writes a picture's points as LabelMe has them: from the outer edge of the first pixel, with the score in words.
/// Points of several boxes are told apart by their group.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_labelme(
    path: &Path,
    image: &str,
    names: &[String],
    findings: &Findings,
) -> Result<(), PredictError> {
    let mut shapes = Vec::new();
    for (group, instance) in findings.instances.iter().enumerate() {
        let group = if findings.instances.len() > 1 { Value::from(group) } else { Value::Null };
        for (point, name) in instance.points.iter().zip(names).filter(|(point, _)| point.is_found()) {
            shapes.push(json!({
                "label": name,
                "points": [point.place.map(|v| rounded(v + 0.5))],
                "group_id": group,
                "description": format!("score {:.4}", point.score),
                "shape_type": "point",
                "flags": {},
            }));
        }
    }
    let document = json!({
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": null,
        "imageHeight": findings.size.height,
        "imageWidth": findings.size.width,
    });
    write_file(path, |file| writeln!(file, "{document:#}"))
}
