//! `fullbore eval`: scores of a trained model.

use std::path::{Path, PathBuf};

use clap::Args;
use fullbore_data::{EvalSample, Visibility};
use fullbore_events::RunDir;
use fullbore_governor::Change;
use fullbore_nn::losses::Task;
use fullbore_nn::metrics::ClassScores;
use fullbore_nn::metrics::landmarks::{LandmarkScores, PointScores};
use fullbore_predict::PredictError;
use fullbore_predict::look::{ErrorCurve, Sheet, Tile, rgb};
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
    /// Write a contact sheet as PNG, evenly spread over the set: rows of image, true mask and predicted mask, or of image
    /// and landmarks, true ones green and found ones red
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Landmarks: the sheet shows the images with the largest normalised mean errors instead, the worst first
    #[arg(long, requires = "sheet")]
    worst: bool,
    /// Landmarks: write the cumulative error curve, as a picture (.png) or as numbers (.csv); may be given twice
    #[arg(long, value_name = "FILE")]
    curve: Vec<PathBuf>,
    /// Print one machine-readable summary as the last line of standard output
    #[arg(long)]
    json: bool,
}

/// Rows of a contact sheet.
const SHEET_ROWS: usize = 8;
/// Landmarks on a sheet: true ones and found ones.
const TRUE: [u8; 3] = [0, 220, 60];
const FOUND: [u8; 3] = [255, 48, 48];

/// Scores the weights that the run evaluated: the average where it kept one.
pub(super) fn run(args: EvalArgs) -> Result<i32, CommandError> {
    let run_dir = RunDir::open(&args.run)?;
    let path = args.checkpoint.of(&run_dir);
    let plan = Settings { files: vec![run_dir.plan()], set: args.set.clone() }.plan()?;
    check(&args, plan.task())?;
    let prepared = setup::prepare_eval(&plan)?;
    Saved::read(&path)?.restore_weights(&prepared.engine.params, Weights::Evaluated)?;
    let n_samples = prepared.val.len();
    let samples = setup::eval_loader(&plan, prepared.val, prepared.workers, args.sheet.is_some(), None)?;
    let mut settings = setup::eval_settings(&plan, prepared.budget)?;
    let resized = |change: Change, _: Option<&fullbore_torch::Error>| {
        eprintln!("{} -> {} images at once: {change}", change.from, change.to);
    };
    let shown = SHEET_ROWS.min(n_samples);
    let mut rows = match args.worst {
        true => Rows::Worst(Vec::new()),
        false => Rows::Spread((0..shown).map(|row| row * n_samples / shown).collect(), Vec::new()),
    };
    let look = |sample: &EvalSample, predicted: Prediction<'_>| match args.sheet {
        Some(_) => rows.look(sample, predicted),
        None => Ok(()),
    };
    let scores = evaluate(&prepared.engine, samples, &mut settings, resized, look)?;
    let worst = match &rows {
        Rows::Worst(worst) => worst.iter().map(|(nme, name, _)| (name.clone(), *nme)).collect(),
        Rows::Spread(..) => Vec::new(),
    };
    if let Some(file) = &args.sheet {
        rows.sheet().write(file).map_err(SheetError)?;
    }
    if let Scored::Landmarks(landmarks) = &scores.of {
        write_curves(landmarks, plan.landmarks.failure, &args.curve)?;
    }
    if args.json {
        let json = serde_json::json!({
            "checkpoint": path.display().to_string(),
            "metrics": metrics(&scores),
            "seconds": scores.seconds,
            "sheet": args.sheet.as_ref().map(|file| file.display().to_string()),
            "worst": worst.iter().map(|(name, nme)| serde_json::json!({"image": name, "nme": nme})).collect::<Vec<_>>(),
            "curve": args.curve.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
        });
        say!("{json}");
    } else {
        let names = plan.chosen()?.map_or(Vec::new(), |chosen| chosen.names);
        print_table(&scores, &names);
        if let Some(file) = &args.sheet {
            say!("contact sheet  {}", printable(&file.display().to_string()));
        }
        for (row, (name, nme)) in worst.iter().enumerate() {
            say!("row {}: {}, nme {:.2} %", row + 1, printable(name), 100.0 * nme);
        }
        for file in &args.curve {
            say!("curve  {}", printable(&file.display().to_string()));
        }
    }
    Ok(exit_codes::OK)
}

/// What only landmarks have, and what a curve can be.
fn check(args: &EvalArgs, task: Task) -> Result<(), LookError> {
    let option = if args.worst { Some("--worst") } else { (!args.curve.is_empty()).then_some("--curve") };
    match option {
        Some(option) if task == Task::Masks => return Err(LookError::ForLandmarks { option }),
        _ => {}
    }
    match args.curve.iter().find(|file| CurveKind::of(file).is_none()) {
        Some(file) => Err(LookError::CurveName { path: file.clone() }),
        None => Ok(()),
    }
}

/// Rows of a contact sheet to be.
enum Rows {
    /// Numbers of the samples to be shown, and their rows.
    Spread(Vec<usize>, Vec<Vec<Tile>>),
    /// The largest errors so far, the worst first, each with the image's name and its row.
    Worst(Vec<(f64, String, Vec<Tile>)>),
}

impl Rows {
    fn look(&mut self, sample: &EvalSample, predicted: Prediction<'_>) -> fullbore_torch::Result<()> {
        match self {
            Rows::Spread(shown, rows) if shown.contains(&(sample.id.0 as usize)) => {
                rows.push(row(sample, predicted)?);
            }
            Rows::Worst(worst) => {
                let Prediction::Points { nme: Some(nme), .. } = predicted else { return Ok(()) };
                let place = worst.partition_point(|(other, _, _)| *other >= nme);
                if place < SHEET_ROWS {
                    worst.insert(place, (nme, sample.name.clone(), row(sample, predicted)?));
                    worst.truncate(SHEET_ROWS);
                }
            }
            Rows::Spread(..) => {}
        }
        Ok(())
    }

    fn sheet(self) -> Sheet {
        let mut sheet = Sheet::default();
        match self {
            Rows::Spread(_, rows) => rows.into_iter().for_each(|row| sheet.add_row(row)),
            Rows::Worst(worst) => worst.into_iter().for_each(|(_, _, row)| sheet.add_row(row)),
        }
        sheet
    }
}

fn row(sample: &EvalSample, predicted: Prediction<'_>) -> fullbore_torch::Result<Vec<Tile>> {
    let size = sample.frame.source_size;
    let picture = Tile::picture(size, &rgb(&sample.native, size.area() as usize));
    match predicted {
        Prediction::Classes(predicted) => {
            let predicted = predicted.to_kind(Kind::Uint8)?.to_vec_u8()?;
            Ok(vec![picture, Tile::classes(size, &sample.mask), Tile::classes(size, &predicted)])
        }
        Prediction::Points { found, chosen, .. } => {
            let labelled = chosen.iter().map(|&n| sample.points[n]);
            let labelled = labelled.filter(|point| point.visibility != Visibility::NotLabelled);
            let truth: Vec<_> = labelled.map(|point| [point.x.into(), point.y.into()]).collect();
            let mut marked = picture.clone();
            marked.mark(&truth, TRUE);
            marked.mark(found, FOUND);
            Ok(vec![picture, marked])
        }
    }
}

/// What a curve is written as.
enum CurveKind {
    Picture,
    Numbers,
}

impl CurveKind {
    fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_ascii_lowercase().to_str()? {
            "png" => Some(CurveKind::Picture),
            "csv" => Some(CurveKind::Numbers),
            _ => None,
        }
    }
}

fn write_curves(scores: &LandmarkScores, failure: f64, files: &[PathBuf]) -> Result<(), CurveError> {
    let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.4}"));
    let (nme, auc, failed) = (number(scores.nme), number(scores.auc), number(scores.failure_rate));
    let title = format!("{} images: nme {nme}, auc {auc}, failures {failed}", scores.normalised);
    let curve = ErrorCurve { errors: &scores.curve, failure, title: &title };
    for file in files {
        match CurveKind::of(file) {
            Some(CurveKind::Numbers) => curve.write_csv(file),
            _ => curve.write_png(file),
        }
        .map_err(CurveError)?;
    }
    Ok(())
}

/// An option that cannot be served.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum LookError {
    #[error("{option} is for landmarks, but this run trains masks")]
    #[diagnostic(code(config::eval::task), help("leave {option} out"))]
    ForLandmarks { option: &'static str },
    #[error("a curve is written as .png or .csv, not as {}", path.display())]
    #[diagnostic(code(config::eval::curve), help("give --curve a file that ends in .png or .csv"))]
    CurveName { path: PathBuf },
}

/// As for the sheet.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the curve cannot be written")]
#[diagnostic(code(output::curve), help("give --curve a file in a folder that exists and can be written"))]
struct CurveError(#[source] PredictError);

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
