//! One file per subcommand, and what they share: how settings become a plan.

mod bench;
mod doctor;
mod eval;
mod init;
mod predict;
mod show;
mod synth;
mod train;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fullbore_events::RunDir;
use fullbore_torch::HostMemory;
use fullbore_train::Plan;
use fullbore_train::evaluate::{Scored, Scores, mean_dice};
use miette::Diagnostic;

use crate::config::{ConfigError, Layers};

/// Any error of a command: rendered by render.rs, turned into an exit code by exit_codes.rs.
pub type CommandError = Box<dyn Diagnostic + Send + Sync>;

/// Trains dense vision models so that the accelerator never waits for data and never runs out of memory.
#[derive(Debug, Parser)]
#[command(version, about, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 fault in fullbore, 2 settings, 3 files, 4 memory or disk, 5 device, 6 output, 130 interrupted.
`fullbore init` writes a settings file that explains every key.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model by a settings file
    Train(train::TrainArgs),
    /// Score a trained model on its validation set, or on another one
    Eval(eval::EvalArgs),
    /// Predict the masks of a folder of pictures
    Predict(predict::PredictArgs),
    /// Write a settings file with every key, its default and its meaning
    Init(init::InitArgs),
    /// Make a data set with exact masks
    #[command(subcommand)]
    Synth(synth::SynthCommand),
    /// Show devices, libtorch, threads and memory
    Doctor,
    /// Draw what a run would do, to look at before it does
    #[command(subcommand)]
    Show(show::ShowCommand),
    /// Measure parts of a run on their own
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

impl Cli {
    /// Runs the command; the exit code on success.
    pub fn run(self) -> Result<i32, CommandError> {
        limit_cpu_tensors();
        match self.command {
            Command::Train(args) => train::run(args),
            Command::Eval(args) => eval::run(args),
            Command::Predict(args) => predict::run(args),
            Command::Init(args) => init::run(args),
            Command::Synth(command) => synth::run(command),
            Command::Doctor => doctor::run(),
            Command::Show(command) => show::run(command),
            Command::Bench(command) => bench::run(command),
        }
    }
}

/// Settings, as most commands take them.
#[derive(Debug, Args)]
struct Settings {
    /// Settings files (YAML), later ones over earlier ones
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// One setting over all files, for example --set batch.size=4
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    /// The plan, its single values typed but not yet checked against each other.
    fn plan(&self) -> Result<Plan, ConfigError> {
        let mut layers = self.lay_files(Layers::new())?;
        for argument in &self.set {
            layers.add_set(argument)?;
        }
        Ok(layers.resolve()?.0)
    }

    fn lay_files(&self, mut layers: Layers) -> Result<Layers, ConfigError> {
        for file in &self.files {
            layers.add_file(file)?;
        }
        Ok(layers)
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.set.is_empty()
    }
}

/// One of a run's checkpoints.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// The one with the best validation score
    Best,
    /// The newest one
    Last,
}

impl Which {
    fn of(self, run_dir: &RunDir) -> PathBuf {
        match self {
            Which::Best => run_dir.best_checkpoint(0),
            Which::Last => run_dir.last_checkpoint(),
        }
    }
}

/// Scores as a JSON object: the `metrics` of a machine-readable summary.
fn metrics(scores: &Scores) -> serde_json::Value {
    let mut metrics = match &scores.of {
        Scored::Masks(classes) => {
            let per_class = |value: fn(&fullbore_nn::metrics::ClassScores) -> Option<f64>| {
                let values = classes.iter().map(|(name, s)| (name.clone(), serde_json::json!(value(s))));
                serde_json::Value::Object(values.collect())
            };
            serde_json::json!({
                "dice": mean_dice(classes),
                "dice_per_class": per_class(|s| Some(s.dice)),
                "iou_per_class": per_class(|s| Some(s.iou)),
                "precision_per_class": per_class(|s| s.precision),
                "recall_per_class": per_class(|s| s.recall),
            })
        }
        Scored::Landmarks(landmarks) => serde_json::json!({
            "nme": landmarks.nme,
            "auc": landmarks.auc,
            "failure_rate": landmarks.failure_rate,
            "all": landmarks.all,
            "per_landmark": landmarks.per_landmark,
        }),
    };
    metrics["loss"] = scores.loss.into();
    metrics["images"] = scores.images.into();
    metrics
}

/// Makes CPU tensors beyond what the host can give an error instead of the end of the process: the kernel promises
/// memory freely, and kills who uses it.
fn limit_cpu_tensors() {
    if let Some(memory) = HostMemory::read() {
        // A twentieth stays for everything that is no tensor.
        fullbore_torch::set_cpu_budget(Some(memory.usable() / 20 * 19));
    }
}
