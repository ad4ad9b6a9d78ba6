//! What was predicted becomes files: masks, or landmarks gathered by picture.

use std::path::Path;
use std::sync::mpsc::SyncSender;

use fullbore_data::source::Pictures;
use fullbore_data::{EvalSample, Source};
use fullbore_types::{SampleId, Size};

use crate::answer::Prediction;
use crate::desk::Job;
use crate::landmarks::{Findings, ImagePaths, Instance, PointFormat, PointsFile, write_labelme};
use crate::look::overlay;
use crate::predict::Ended;
use crate::write::write_png;
use crate::{MaskValues, PredictConfig, PredictError, Trained};

/// Folder of the overlays, in the output folder.
pub(crate) const OVERLAYS: &str = "overlays";

/// Takes predictions in order, and makes jobs for the writers of them.
pub(crate) struct Results<'a> {
    pictures: &'a Pictures,
    source: &'a dyn Source,
    output: &'a Path,
    kind: Kind<'a>,
    /// Pictures done.
    pub(crate) done: usize,
}

enum Kind<'a> {
    Masks(MaskValues),
    Landmarks(Landmarks<'a>),
}

struct Landmarks<'a> {
    names: &'a [String],
    format: PointFormat,
    file: Option<PointsFile>,
    paths: ImagePaths<'a>,
    overlays: bool,
    /// The picture that more may be found in.
    open: Option<Findings>,
}

impl<'a> Results<'a> {
    /// The output folder exists.
    ///
    /// # Errors
    /// When a file cannot be made there.
    pub(crate) fn new(
        trained: &'a Trained,
        pictures: &'a Pictures,
        source: &'a dyn Source,
        config: &'a PredictConfig,
    ) -> Result<Self, PredictError> {
        let output = &config.output;
        let kind = match trained.landmark_names() {
            None => Kind::Masks(MaskValues::new(&trained.classes())),
            Some(names) => {
                let format = config.format.unwrap_or_default();
                let (with_boxes, first_pixel) = (config.boxes.is_some(), trained.first_pixel());
                Kind::Landmarks(Landmarks {
                    names,
                    format,
                    file: PointsFile::create(format, output, names, with_boxes, first_pixel)?,
                    paths: ImagePaths::new(pictures, output),
                    overlays: config.overlays,
                    open: None,
                })
            }
        };
        Ok(Results { pictures, source, output, kind, done: 0 })
    }

    /// Takes what was predicted for a sample.
    pub(crate) fn take(
        &mut self,
        sample: EvalSample,
        prediction: Prediction,
        jobs: &SyncSender<Job<'a>>,
    ) -> Result<(), Ended> {
        let picture = SampleId(self.source.image_number(sample.id));
        match (&mut self.kind, prediction) {
            (Kind::Masks(values), Prediction::Classes(classes)) => {
                let job = MaskJob {
                    output: self.output,
                    file: format!("{}.png", self.pictures.result_name(picture)),
                    size: sample.frame.source_size,
                    values: values.clone(),
                    picture: sample.native,
                };
                self.done += 1;
                send(jobs, Box::new(move || job.write(classes)))
            }
            (Kind::Landmarks(landmarks), Prediction::Points(points)) => {
                let instance = Instance { bounds: self.source.about(sample.id).bounds, points };
                if landmarks.open.as_ref().is_some_and(|open| open.picture != picture) {
                    self.done += 1;
                    landmarks.close(self.output, self.pictures, jobs)?;
                }
                let (size, pixels) = (sample.frame.source_size, sample.native);
                let open = landmarks.open.get_or_insert_with(|| Findings {
                    picture,
                    size,
                    pixels,
                    instances: Vec::new(),
                });
                open.instances.push(instance);
                Ok(())
            }
            _ => unreachable!("a model answers masks or points, not now this and then that"),
        }
    }

    /// Hands on what is still open: there are no more samples.
    pub(crate) fn close(&mut self, jobs: &SyncSender<Job<'a>>) -> Result<(), Ended> {
        match &mut self.kind {
            Kind::Landmarks(landmarks) if landmarks.open.is_some() => {
                self.done += 1;
                landmarks.close(self.output, self.pictures, jobs)
            }
            _ => Ok(()),
        }
    }

    /// Gives the file of all pictures its name.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn finish(self) -> Result<(), PredictError> {
        match self.kind {
            Kind::Landmarks(Landmarks { file: Some(file), names, paths, .. }) => {
                file.finish(names, |picture| paths.of(picture))
            }
            _ => Ok(()),
        }
    }
}

impl<'a> Landmarks<'a> {
    /// Hands on the open picture.
    fn close(
        &mut self,
        output: &'a Path,
        pictures: &Pictures,
        jobs: &SyncSender<Job<'a>>,
    ) -> Result<(), Ended> {
        let Some(findings) = self.open.take() else { return Ok(()) };
        let image = self.paths.of(findings.picture);
        if let Some(file) = &mut self.file {
            file.add(&image, &findings)?;
        }
        let (names, overlays, labelme) = (self.names, self.overlays, self.format == PointFormat::Labelme);
        if !overlays && !labelme {
            return Ok(());
        }
        let name = pictures.result_name(findings.picture);
        send(
            jobs,
            Box::new(move || {
                if overlays {
                    let path = output.join(OVERLAYS).join(format!("{name}.png"));
                    write_png(&path, findings.size, &findings.drawn(names))?;
                }
                match labelme {
                    true => write_labelme(&output.join(format!("{name}.json")), &image, names, &findings),
                    false => Ok(()),
                }
            }),
        )
    }
}

fn send<'a>(jobs: &SyncSender<Job<'a>>, job: Job<'a>) -> Result<(), Ended> {
    jobs.send(job).map_err(|_| Ended::NobodyWrites)
}

struct MaskJob<'a> {
    output: &'a Path,
    file: String,
    size: Size,
    values: MaskValues,
    /// The picture itself, or nothing.
    picture: Vec<u8>,
}

impl MaskJob<'_> {
    /// Writes class indices u8 `[height, width]` by their values.
    fn write(self, mut classes: Vec<u8>) -> Result<(), PredictError> {
        if !self.picture.is_empty() {
            let picture = overlay(&self.picture, &classes);
            write_png(&self.output.join(OVERLAYS).join(&self.file), self.size, &picture)?;
        }
        self.values.apply(&mut classes);
        write_png(&self.output.join(&self.file), self.size, &classes)
    }
}
