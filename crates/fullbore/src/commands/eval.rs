//! `fullbore eval`: scores of a trained model.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use fullbore_events::RunDir;
use fullbore_train::checkpoint::{Saved, Weights};
use fullbore_train::evaluate::{Scores, evaluate};
use fullbore_train::setup;

use super::{CommandError, Settings, metrics};
use crate::exit_codes;
use crate::render::say;

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
    /// Print one machine-readable summary as the last line of standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    Best,
    Last,
}

/// Scores the weights that the run evaluated: the average where it kept one.
pub(super) fn run(args: EvalArgs) -> Result<i32, CommandError> {
    let run_dir = RunDir::open(&args.run)?;
    let path = match args.checkpoint {
        Which::Best => run_dir.best_checkpoint(),
        Which::Last => run_dir.last_checkpoint(),
    };
    let plan = Settings { files: vec![run_dir.plan()], set: args.set }.plan()?;
    let prepared = setup::prepare_eval(&plan)?;
    Saved::read(&path)?.restore_weights(&prepared.engine.params, Weights::Evaluated)?;
    let samples = setup::eval_loader(&plan, prepared.val, prepared.workers)?;
    let mut settings = setup::eval_settings(&plan);
    let scores = evaluate(&prepared.engine, samples, &mut settings, |n, message| {
        eprintln!("out of memory with {n} images at once, going on with {}: {message}", n / 2);
    })?;
    if args.json {
        let json = serde_json::json!({
            "checkpoint": path.display().to_string(),
            "metrics": metrics(&scores),
            "seconds": scores.seconds,
        });
        say!("{json}");
    } else {
        print_table(&scores);
    }
    Ok(exit_codes::OK)
}

fn print_table(scores: &Scores) {
    let width = scores.per_class.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(5);
    let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.4}"));
    say!("{:width$}  {:>9}  {:>9}  {:>9}  {:>9}", "class", "dice", "iou", "precision", "recall");
    for (name, s) in &scores.per_class {
        let (dice, iou) = (number(Some(s.dice)), number(Some(s.iou)));
        let (precision, recall) = (number(s.precision), number(s.recall));
        say!("{name:width$}  {dice:>9}  {iou:>9}  {precision:>9}  {recall:>9}");
    }
    say!("{:width$}  {:>9}", "mean", number(Some(scores.mean_dice())));
    say!("{} images, loss {:.4}, {:.1} s", scores.images, scores.loss, scores.seconds);
}
