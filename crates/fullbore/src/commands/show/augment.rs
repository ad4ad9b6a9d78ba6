use std::path::PathBuf;

use clap::Args;
use fullbore_augment::Policy;
use fullbore_augment::cpu::{Augmenter, Layout, PixelsMut};
use fullbore_data::{HostBatch, Loader, LoaderConfig};
use fullbore_predict::PredictError;
use fullbore_predict::look::{Sheet, Tile, mark, overlay, rgb};
use fullbore_train::{Plan, TrainError, augmentation, setup};
use fullbore_types::{Position, SampleKey};

use super::super::{CommandError, Settings};
use crate::exit_codes;
use crate::render::{printable, say};

/// Arguments of `fullbore show augment`.
#[derive(Debug, Args)]
pub(in crate::commands) struct AugmentArgs {
    #[command(flatten)]
    settings: Settings,
    /// The data set, in place of data.train
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,
    /// The picture to write (PNG)
    #[arg(long, value_name = "FILE", default_value = "augment.png")]
    output: PathBuf,
    /// Samples, a row each
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    samples: u32,
    /// Draws of each sample, beside the sample as it is
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=32))]
    draws: u32,
    /// Epoch of the first draw; the others are of the epochs after it
    #[arg(long, value_name = "N", default_value_t = 0)]
    epoch: u64,
}

/// Draws the samples of the first batches under the policy.
pub(super) fn run(args: AugmentArgs) -> Result<i32, CommandError> {
    let mut plan = args.settings.plan()?;
    if args.input.is_some() {
        plan.data.train.clone_from(&args.input);
    }
    plan.data.check()?;
    plan.check()?;
    let source = setup::open_training(&mut plan)?;
    let n_samples = (args.samples as usize).min(source.len());
    let config =
        LoaderConfig { batch_size: n_samples, drop_last: false, epochs: 1, ..setup::loader_config(&plan, 0) };
    let batch = Loader::start(source, config, Position::default()).map_err(TrainError::from)?.next();
    let batch = batch.ok_or(fullbore_data::DataError::NoSamples)?.map_err(TrainError::from)?;
    let policy = augmentation::policy(&plan)?;
    let sheet = draw(&plan, &policy, &batch, &args);
    sheet.write(&args.output).map_err(SheetError)?;
    match policy.describe() {
        lines if lines.is_empty() => {
            say!("augmentation is off: augment.preset is none and no operation is set")
        }
        lines => lines.iter().for_each(|line| say!("{line}")),
    }
    let (draws, file) = (args.draws, printable(&args.output.display().to_string()));
    say!("{n_samples} samples, as they are and in {draws} draws: {file}");
    Ok(exit_codes::OK)
}

/// A row for each sample: as it is on its canvas, then under the draws of one epoch after the other.
fn draw(plan: &Plan, policy: &Policy, batch: &HostBatch, args: &AugmentArgs) -> Sheet {
    let (size, channels) = (policy.out(), usize::from(plan.data.channels));
    let pixels = size.area() as usize;
    let mut augmenter = Augmenter::new(policy, &plan.data.mean, &plan.data.std);
    let k = batch.visibility().len() / batch.len();
    let mut sheet = Sheet::default();
    for (i, &sample) in batch.ids().iter().enumerate() {
        let canvas = &batch.images()[i * pixels * channels..][..pixels * channels];
        let mask = batch.masks().get(i * pixels..(i + 1) * pixels);
        let points: Vec<[f32; 2]> =
            batch.points()[2 * k * i..][..2 * k].chunks_exact(2).map(|p| [p[0], p[1]]).collect();
        let visibility = &batch.visibility()[k * i..][..k];
        let tile = |image: &[u8], mask: Option<&[u8]>, points: &[[f32; 2]], visibility: &[u8]| {
            let picture = rgb(image, pixels);
            let mut picture = mask.map_or_else(|| picture.clone(), |mask| overlay(&picture, mask));
            mark(&mut picture, size, points, visibility);
            picture
        };
        let mut tiles = vec![tile(canvas, mask, &points, visibility)];
        for epoch in (args.epoch..).take(args.draws as usize) {
            let params = policy.draw(SampleKey { seed: plan.run.seed, epoch, sample });
            let (mut image, mut out_mask) = (vec![0; pixels * channels], vec![0; pixels]);
            augmenter.image(&params, canvas, Layout::Interleaved, PixelsMut::U8(&mut image));
            if let Some(mask) = mask {
                augmenter.mask(&params, mask, &mut out_mask);
            }
            let (mut points, mut visibility) = (points.clone(), visibility.to_vec());
            augmenter.points(&params, &mut points, &mut visibility);
            tiles.push(tile(&image, mask.map(|_| &out_mask[..]), &points, &visibility));
        }
        sheet.add_row(tiles.iter().map(|tile| Tile::picture(size, tile)));
    }
    sheet
}

/// Nothing but the picture is lost.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the contact sheet cannot be written")]
#[diagnostic(code(output::sheet), help("give --output a file in a folder that exists and can be written"))]
struct SheetError(#[source] PredictError);
