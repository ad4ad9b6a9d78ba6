//! `fullbore eval`: scores of a trained model.

use std::path::PathBuf;

use clap::Args;
use fullbore_data::EvalSample;
use fullbore_events::RunDir;
use fullbore_governor::Change;
use fullbore_nn::metrics::ClassScores;
use fullbore_nn::metrics::landmarks::{LandmarkScores, PointScores};
use fullbore_predict::PredictError;
use fullbore_predict::look::{Sheet, coloured, mark, rgb};
use fullbore_torch::Kind;
use fullbore_train::checkpoint::{Saved, Weights};
use fullbore_train::evaluate::{Prediction, Scored, Scores, evaluate, mean_dice};
use fullbore_train::setup;

use super::{CommandError, Settings, Which, metrics};
use crate::exit_codes;
use crate::render::{printable, say};

/// Arguments of `fullbore eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Folder of the run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Which of its checkpoints
    #[arg(long, default_value = "best")]
    checkpoint: Which,
    /// One setting over those of the run, for example --set data.val=OTHER_FOLDER
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write a contact sheet as PNG: rows of image, true mask and predicted mask, evenly spread over the set
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Print one machine-readable summary as the last line of standard output
    #[arg(long)]
    json: bool,
}

/// Rows of a contact sheet.
const SHEET_ROWS: usize = 8;

/// Scores the weights that the run evaluated: the average where it kept one.
pub(super) fn run(args: EvalArgs) -> Result<i32, CommandError> {
    let run_dir = RunDir::open(&args.run)?;
    let path = args.checkpoint.of(&run_dir);
    let plan = Settings { files: vec![run_dir.plan()], set: args.set }.plan()?;
    let prepared = setup::prepare_eval(&plan)?;
    Saved::read(&path)?.restore_weights(&prepared.engine.params, Weights::Evaluated)?;
    let n_samples = prepared.val.len();
    let samples = setup::eval_loader(&plan, prepared.val, prepared.workers, args.sheet.is_some(), None)?;
    let mut settings = setup::eval_settings(&plan, prepared.budget)?;
    let resized = |change: Change, _: Option<&fullbore_torch::Error>| {
        eprintln!("{} -> {} images at once: {change}", change.from, change.to);
    };
    let mut sheet = args.sheet.as_ref().map(|_| Sheet::default());
    let rows = SHEET_ROWS.min(n_samples);
    let look = |sample: &EvalSample, predicted: Prediction<'_>| match &mut sheet {
        Some(sheet) if (0..rows).any(|row| row * n_samples / rows == sample.id.0 as usize) => {
            add_row(sheet, sample, predicted)
        }
        _ => Ok(()),
    };
    let scores = evaluate(&prepared.engine, samples, &mut settings, resized, look)?;
    if let (Some(sheet), Some(file)) = (&sheet, &args.sheet) {
        sheet.write(file).map_err(SheetError)?;
    }
    if args.json {
        let json = serde_json::json!({
            "checkpoint": path.display().to_string(),
            "metrics": metrics(&scores),
            "seconds": scores.seconds,
            "sheet": args.sheet.as_ref().map(|file| file.display().to_string()),
        });
        say!("{json}");
    } else {
        let names = plan.chosen()?.map_or(Vec::new(), |chosen| chosen.names);
        print_table(&scores, &names);
        if let Some(file) = &args.sheet {
            say!("contact sheet  {}", printable(&file.display().to_string()));
        }
    }
    Ok(exit_codes::OK)
}

fn add_row(sheet: &mut Sheet, sample: &EvalSample, predicted: Prediction<'_>) -> fullbore_torch::Result<()> {
    let size = sample.frame.source_size;
    let picture = rgb(&sample.native, size.area() as usize);
    match predicted {
        Prediction::Classes(predicted) => {
            let truth = coloured(&sample.mask);
            let predicted = coloured(&predicted.to_kind(Kind::Uint8)?.to_vec_u8()?);
            sheet.add_row([
                (size, &picture[..], false),
                (size, &truth[..], true),
                (size, &predicted[..], true),
            ]);
        }
        Prediction::Points(found) => {
            let (mut truth, mut predicted) = (picture.clone(), picture.clone());
            let places: Vec<_> = sample.points.iter().map(|p| [p.x, p.y]).collect();
            let seen: Vec<_> = sample.points.iter().map(|p| p.visibility as u8).collect();
            mark(&mut truth, size, &places, &seen);
            let found: Vec<_> = found.iter().map(|p| p.map(|v| v as f32)).collect();
            mark(&mut predicted, size, &found, &vec![2; found.len()]);
            sheet.add_row([
                (size, &picture[..], false),
                (size, &truth[..], false),
                (size, &predicted[..], false),
            ]);
        }
    }
    Ok(())
}

/// The scores are lost only from the screen: nothing of the run changes.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the contact sheet cannot be written")]
#[diagnostic(code(output::sheet), help("give --sheet a file in a folder that exists and can be written"))]
struct SheetError(#[source] PredictError);

fn print_table(scores: &Scores, names: &[String]) {
    match &scores.of {
        Scored::Masks(classes) => print_classes(classes),
        Scored::Landmarks(landmarks) => print_landmarks(landmarks, names),
    }
    say!("{} images, loss {:.4}, {:.1} s", scores.images, scores.loss, scores.seconds);
}

fn print_classes(classes: &[(String, ClassScores)]) {
    let width = classes.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(5);
    let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.4}"));
    say!("{:width$}  {:>9}  {:>9}  {:>9}  {:>9}", "class", "dice", "iou", "precision", "recall");
    for (name, s) in classes {
        let (dice, iou) = (number(Some(s.dice)), number(Some(s.iou)));
        let (precision, recall) = (number(s.precision), number(s.recall));
        say!("{name:width$}  {dice:>9}  {iou:>9}  {precision:>9}  {recall:>9}");
    }
    say!("{:width$}  {:>9}", "mean", number(Some(mean_dice(classes))));
}

fn print_landmarks(scores: &LandmarkScores, names: &[String]) {
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(8);
    let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.3}"));
    say!("{:width$}  {:>8}  {:>8}  {:>8}  {:>8}", "landmark", "px", "sd", "largest", "mm");
    let row = |name: &str, s: &PointScores| {
        let (px, sd, max, mm) = (number(s.mre_px), number(s.sd_px), number(s.max_px), number(s.mre_mm));
        say!("{name:width$}  {px:>8}  {sd:>8}  {max:>8}  {mm:>8}");
    };
    for (name, scores) in names.iter().zip(&scores.per_landmark) {
        row(name, scores);
    }
    row("all", &scores.all);
    let percent = |value: Option<f64>| value.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
    let sdr: Vec<_> = scores.all.sdr.iter().map(|&share| percent(share)).collect();
    say!("within the radii of landmarks.radii: {}", sdr.join(", "));
    let (nme, auc) = (percent(scores.nme), number(scores.auc));
    say!("nme {nme}, auc {auc}, failures {}", percent(scores.failure_rate));
}
