use std::io::{self, Write};
use std::path::Path;

use super::{Findings, rounded};
use crate::PredictError;
use crate::write::PartFile;

/// A list of pictures with their points, as [`fullbore_data::source::List`] reads it, and a score for each point.
pub(crate) struct CsvFile {
    file: PartFile,
    with_boxes: bool,
    /// Coordinate of the first pixel's centre, as in the list that the model learnt from.
    first_pixel: f64,
}

impl CsvFile {
    pub(super) fn create(
        output: &Path,
        names: &[String],
        with_boxes: bool,
        first_pixel: f64,
    ) -> Result<Self, PredictError> {
        let file = PartFile::create(&output.join("landmarks.csv"))?;
        let mut file = CsvFile { file, with_boxes, first_pixel };
        let points = names.iter().enumerate();
        let points = points.flat_map(|(i, name)| [format!("x{i}"), format!("y{i}"), format!("score_{name}")]);
        let boxes = ["box_left", "box_top", "box_width", "box_height"].map(String::from);
        let boxes = boxes.into_iter().filter(|_| with_boxes);
        file.line(std::iter::once("image".into()).chain(points).chain(boxes).collect())?;
        Ok(file)
    }

    pub(super) fn add(&mut self, image: &str, findings: &Findings) -> Result<(), PredictError> {
        for instance in &findings.instances {
            let mut line = vec![image.to_owned()];
            line.extend(instance.points.iter().flat_map(|point| match point.is_found() {
                true => {
                    let [x, y] = point.place.map(|v| rounded(v + self.first_pixel).to_string());
                    [x, y, format!("{:.4}", point.score)]
                }
                false => Default::default(),
            }));
            if let Some(bounds) = instance.bounds.filter(|_| self.with_boxes) {
                let sides = [bounds.left, bounds.top, bounds.width, bounds.height];
                line.extend(sides.map(|side| side.to_string()));
            }
            self.line(line)?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), PredictError> {
        self.file.finish()
    }

    fn line(&mut self, fields: Vec<String>) -> Result<(), PredictError> {
        self.file.write(|file| {
            let mut line = csv::Writer::from_writer(Vec::new());
            line.write_record(&fields).map_err(io::Error::other)?;
            file.write_all(&line.into_inner().map_err(|error| io::Error::other(error.to_string()))?)
        })
    }
}
