//! `fullbore train`: settings to a trained model in a run folder.

mod guide_flags;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use fullbore_events::{BadSampleList, EventLog, Reporter, RunDir, RunStatus};
use fullbore_train::Plan;
use fullbore_train::checkpoint::Saved;
use fullbore_train::memory::Faults;
use fullbore_train::resume::newest_state;
use fullbore_train::run::{Summary, train};
use fullbore_train::setup::{self, Prepared, Start};

use self::guide_flags::{GuideFlags, name_flags};
use super::{CommandError, Settings, Which, metrics};
use crate::config::{ConfigError, Layers, to_yaml};
use crate::progress::Progress;
use crate::render::{printable, say};
use crate::{exit_codes, interrupt};

/// Arguments of `fullbore train`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct TrainArgs {
    // Before the settings: see there.
    #[command(flatten)]
    flags: GuideFlags,
    #[command(flatten)]
    settings: Settings,
    /// Go on with a run that was stopped or killed, in its folder and with its settings; or fine-tune its weights (below)
    #[arg(long, value_name = "RUN|CHECKPOINT")]
    resume: Option<PathBuf>,
    /// Fail on purpose as if memory had run out, to see that the run survives it: oom@step:12,oom@backward:20x2,oom@eval:3
    #[arg(long, value_name = "FAULTS", default_value = "", hide_default_value = true)]
    inject: String,
    /// Fine-tune from this checkpoint of --resume RUN [default: best]
    #[arg(long, value_name = "WHICH", requires = "resume")]
    from: Option<Which>,
    /// Print one machine-readable summary as the last line of standard output
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Fine-tuning: --resume with settings (FILE, --set or the flags of the guides), with --from or with a checkpoint file begins a new
run in a new folder. The settings are those of the old run with yours over them, but for run.dir. The weights are kept (their
average, where the old run kept one); optimizer state, schedule and best score begin anew. What was kept and what differs is
told, and noted in events.jsonl. Settings that make another network are refused. A .pth or .pt file holds weights alone:
--resume FILE.pth begins a new run with them, as --set model.weights=FILE.pth does.";

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum ResumeError {
    #[error("--from {from} chooses among the checkpoints of a run, and {} is a checkpoint", .path.display())]
    #[diagnostic(
        code(config::from_of_a_checkpoint),
        help("leave out --from, or give --resume the run's folder")
    )]
    FromOfACheckpoint { from: &'static str, path: PathBuf },
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum OutputError {
    #[error("{} cannot be written", .path.display())]
    #[diagnostic(code(output::run_file), help("check the disk's space and the folder's permissions"))]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Trains; the summary goes to standard output and to RUN/summary.json.
pub(super) fn run(args: TrainArgs) -> Result<i32, CommandError> {
    let stop = interrupt::stop_flag()?;
    let faults = Faults::new(args.inject.parse()?);
    let (plan, mut prepared, run_dir) = match &args.resume {
        None => begin(args.lay_over(Layers::new())?, Start::Anew)?,
        Some(path) if args.sets_nothing() && args.from.is_none() && !path.is_file() => go_on(path)?,
        Some(path) if args.from.is_none() && is_of_pytorch(path) => {
            let mut layers = args.lay_over(Layers::new())?;
            layers.put_flag("--resume", "model.weights", path.display().to_string().into());
            begin(layers, Start::Anew)?
        }
        Some(path) => {
            let saved = Saved::read(&weights_to_tune(path, args.from)?)?;
            begin(args.lay_over(over_earlier(&saved.plan)?)?, Start::FineTune(&saved))?
        }
    };
    for note in args.flags.notes() {
        eprintln!("{note}");
    }
    prepared.engine.faults = faults;
    let log = EventLog::open(&run_dir.events())?;
    let bad_samples = BadSampleList::new(run_dir.bad_samples());
    let reporter = Reporter::new(vec![Box::new(log), Box::new(bad_samples), Box::new(Progress::on_stderr())]);
    let summary = train(&plan, prepared, &run_dir, &reporter, &stop).inspect_err(|_| {
        if run_dir.last_checkpoint().exists() {
            eprintln!(
                "the newest checkpoint is whole; once the cause is mended: {}",
                resume_command(&run_dir)
            );
        }
    })?;
    let json = to_json(&summary, &plan, &run_dir);
    write(&run_dir.summary(), &format!("{json:#}\n"))?;
    if args.json {
        say!("{json}");
    } else {
        print_result(&summary, &plan, &run_dir);
    }
    if summary.status != RunStatus::Interrupted {
        return Ok(exit_codes::OK);
    }
    eprintln!("interrupted after {} steps; go on with: {}", summary.steps, resume_command(&run_dir));
    Ok(exit_codes::INTERRUPTED)
}

impl TrainArgs {
    fn sets_nothing(&self) -> bool {
        self.settings.is_empty() && self.flags.set_nothing()
    }

    /// The command line's settings over `layers`.
    fn lay_over(&self, layers: Layers) -> Result<Layers, ConfigError> {
        self.flags.lay(&self.settings, layers)
    }
}

/// The settings of an earlier run, but for its folder, in the place of the defaults.
fn over_earlier(plan: &Plan) -> Result<Layers, ConfigError> {
    let mut plan = plan.clone();
    plan.run.dir = None;
    Layers::of_plan(&plan)
}

/// A file of `torch.save`: it holds weights, and nothing that a run could go on with.
fn is_of_pytorch(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    path.is_file() && ["pth", "pt"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// A new run. Everything that can be refused is refused before its folder exists.
fn begin(layers: Layers, start: Start<'_>) -> Result<(Plan, Prepared, RunDir), CommandError> {
    let (mut plan, origins) = layers.resolve::<Plan>()?;
    let prepared = setup::prepare(&mut plan, start).map_err(|error| name_flags(error.into(), &origins))?;
    let run_dir = new_run_dir(&plan)?;
    write(&run_dir.plan(), &to_yaml(&serde_json::to_value(&plan).unwrap_or_default()))?;
    Ok((plan, prepared, run_dir))
}

/// The run in `folder`, from its newest checkpoint; from its beginning when it was killed before it had one.
fn go_on(folder: &Path) -> Result<(Plan, Prepared, RunDir), CommandError> {
    let run_dir = RunDir::open(folder)?;
    if let Some(saved) = newest_state(&run_dir)? {
        let mut plan = saved.plan.clone();
        let prepared = setup::prepare(&mut plan, Start::GoOn(&saved))?;
        return Ok((plan, prepared, run_dir));
    }
    let mut layers = Layers::new();
    layers.add_file(&run_dir.plan())?;
    let mut plan: Plan = layers.resolve()?.0;
    let prepared = setup::prepare(&mut plan, Start::Anew)?;
    eprintln!("{} has no checkpoint yet: it begins anew", printable(&folder.display().to_string()));
    Ok((plan, prepared, run_dir))
}

/// The checkpoint to begin with: `path` itself, or one of the run in `path`.
fn weights_to_tune(path: &Path, from: Option<Which>) -> Result<PathBuf, CommandError> {
    match from {
        Some(from) if path.is_file() => {
            let from = match from {
                Which::Best => "best",
                Which::Last => "last",
            };
            Err(Box::new(ResumeError::FromOfACheckpoint { from, path: path.into() }))
        }
        None if path.is_file() => Ok(path.into()),
        _ => Ok(from.unwrap_or(Which::Best).of(&RunDir::open(path)?)),
    }
}

fn resume_command(run_dir: &RunDir) -> String {
    format!("fullbore train --resume {}", printable(&run_dir.path().display().to_string()))
}

fn new_run_dir(plan: &Plan) -> Result<RunDir, fullbore_events::RunDirError> {
    match &plan.run.dir {
        Some(path) => RunDir::create(path),
        None => RunDir::create_dated(Path::new("runs"), SystemTime::now()),
    }
}

/// Writes a file whole or not at all, as far as a kill is concerned.
fn write(path: &Path, text: &str) -> Result<(), OutputError> {
    let unfinished = path.with_extension("tmp");
    std::fs::write(&unfinished, text)
        .and_then(|()| std::fs::rename(&unfinished, path))
        .map_err(|source| OutputError::Write { path: path.into(), source })
}

fn to_json(summary: &Summary, plan: &Plan, run_dir: &RunDir) -> serde_json::Value {
    serde_json::json!({
        "run_dir": run_dir.path().display().to_string(),
        "status": summary.status,
        "reason": summary.reason,
        "steps": summary.steps,
        "samples_per_s": summary.samples_per_s,
        "data_wait": summary.data_wait,
        "loss": summary.loss,
        "bad_samples": summary.bad_samples,
        "seconds": summary.seconds,
        "metrics": summary.scores.as_ref().map(metrics),
        "best": summary.best.as_ref().map(|best| serde_json::json!({
            "metric": plan.metric(),
            "value": best.value,
            "epoch": best.epoch,
            "step": best.step,
        })),
    })
}

fn print_result(summary: &Summary, plan: &Plan, run_dir: &RunDir) {
    let folder = run_dir.path().display();
    say!("run folder  {folder}");
    if summary.bad_samples > 0 {
        say!("bad samples  {}, replaced: {}", summary.bad_samples, run_dir.bad_samples().display());
    }
    if let Some(reason) = &summary.reason {
        say!("{reason}");
    }
    if let Some(best) = &summary.best {
        let (metric, value, epoch) = (plan.metric(), best.value, best.epoch + 1);
        say!("best {metric}  {value:.4} in epoch {epoch}: {}", run_dir.best_checkpoint(0).display());
    }
}
