use std::io::{self, Write};
use std::path::Path;

use fullbore_types::{SampleId, Size};
use serde_json::{Value, json};

use super::{Findings, Instance, rounded};
use crate::PredictError;
use crate::write::PartFile;

/// COCO's key points. Annotations are written as they come; what the file says of images follows them, so that only
/// sizes are kept.
pub(crate) struct CocoFile {
    file: PartFile,
    images: Vec<(SampleId, Size)>,
    annotations: u64,
}

/// The only category.
const CATEGORY: u32 = 1;

impl CocoFile {
    pub(super) fn create(output: &Path) -> Result<Self, PredictError> {
        let mut file = PartFile::create(&output.join("landmarks.json"))?;
        file.write(|file| file.write_all(b"{\"annotations\": ["))?;
        Ok(CocoFile { file, images: Vec::new(), annotations: 0 })
    }

    pub(super) fn add(&mut self, findings: &Findings) -> Result<(), PredictError> {
        self.images.push((findings.picture, findings.size));
        for instance in &findings.instances {
            let first = self.annotations == 0;
            self.annotations += 1;
            let annotation = annotation(self.annotations, findings, instance);
            self.file.write(|file| entry(file, first, &annotation))?;
        }
        Ok(())
    }

    pub(super) fn finish(
        mut self,
        names: &[String],
        image: impl Fn(SampleId) -> String,
    ) -> Result<(), PredictError> {
        let category = json!({"id": CATEGORY, "name": "landmarks", "keypoints": names, "skeleton": []});
        self.file.write(|file| {
            file.write_all(b"\n],\n\"images\": [")?;
            for (i, &(id, size)) in self.images.iter().enumerate() {
                let Size { width, height } = size;
                let image = json!({"id": id.0, "file_name": image(id), "width": width, "height": height});
                entry(file, i == 0, &image)?;
            }
            writeln!(file, "\n],\n\"categories\": [{category}]}}")
        })?;
        self.file.finish()
    }
}

/// An instance. Without a box of its own it takes the whole picture, which is what the network saw.
fn annotation(id: u64, findings: &Findings, instance: &Instance) -> Value {
    let found = || instance.points.iter().filter(|point| point.is_found());
    let keypoints: Vec<f64> = instance
        .points
        .iter()
        .flat_map(|point| match point.is_found() {
            true => [rounded(point.place[0]), rounded(point.place[1]), 2.0],
            false => [0.0; 3],
        })
        .collect();
    let bbox = match instance.bounds {
        Some(bounds) => [bounds.left, bounds.top, bounds.width, bounds.height].map(f64::from),
        None => [0.0, 0.0, f64::from(findings.size.width), f64::from(findings.size.height)],
    };
    let scores: Vec<f64> = found().map(|point| f64::from(point.score)).collect();
    json!({
        "id": id,
        "image_id": findings.picture.0,
        "category_id": CATEGORY,
        "iscrowd": 0,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "keypoints": keypoints,
        "num_keypoints": found().count(),
        "score": scores.iter().sum::<f64>() / scores.len().max(1) as f64,
    })
}

fn entry(file: &mut impl Write, first: bool, value: &Value) -> io::Result<()> {
    write!(file, "{}\n{value}", if first { "" } else { "," })
}
