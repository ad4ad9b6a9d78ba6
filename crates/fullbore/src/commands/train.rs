//! `fullbore train`: settings to a trained model in a run folder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use fullbore_events::{BadSampleList, EventLog, Reporter, RunDir, RunStatus};
use fullbore_train::checkpoint::Saved;
use fullbore_train::memory::Faults;
use fullbore_train::run::{Summary, train};
use fullbore_train::{Plan, setup};

use super::{CommandError, Settings, metrics};
use crate::config::to_yaml;
use crate::progress::Progress;
use crate::render::{printable, say};
use crate::{exit_codes, interrupt};

/// Arguments of `fullbore train`.
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    settings: Settings,
    /// Go on with a run that was interrupted, in its folder and with its settings
    #[arg(long, value_name = "RUN", conflicts_with_all = ["files", "set"])]
    resume: Option<PathBuf>,
    /// Fail on purpose as if memory had run out, to see that the run survives it: oom@step:12,oom@backward:20x2,oom@eval:3
    #[arg(long, value_name = "FAULTS", default_value = "", hide_default_value = true)]
    inject: String,
    /// Print one machine-readable summary as the last line of standard output
    #[arg(long)]
    json: bool,
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
        None => {
            let mut plan = args.settings.plan()?;
            // Everything that can be refused is refused before the run folder exists.
            let prepared = setup::prepare(&mut plan, None)?;
            let run_dir = new_run_dir(&plan)?;
            write(&run_dir.plan(), &to_yaml(&serde_json::to_value(&plan).unwrap_or_default()))?;
            (plan, prepared, run_dir)
        }
        Some(folder) => {
            let run_dir = RunDir::open(folder)?;
            let saved = Saved::read(&run_dir.last_checkpoint())?;
            let mut plan = saved.plan.clone();
            let prepared = setup::prepare(&mut plan, Some(&saved))?;
            (plan, prepared, run_dir)
        }
    };
    prepared.engine.faults = faults;
    let log = EventLog::open(&run_dir.events())?;
    let bad_samples = BadSampleList::new(run_dir.bad_samples());
    let reporter = Reporter::new(vec![Box::new(log), Box::new(bad_samples), Box::new(Progress::on_stderr())]);
    let summary = train(&plan, prepared, &run_dir, &reporter, &stop).inspect_err(|_| {
        if run_dir.last_checkpoint().exists() {
            eprintln!("what was learnt is saved; once the cause is mended: {}", resume_command(&run_dir));
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

fn resume_command(run_dir: &RunDir) -> String {
    format!("fullbore train --resume {}", printable(&run_dir.path().display().to_string()))
}

fn new_run_dir(plan: &Plan) -> Result<RunDir, fullbore_events::RunDirError> {
    match &plan.run.dir {
        Some(path) => RunDir::create(path),
        None => RunDir::create_dated(Path::new("runs"), SystemTime::now()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), OutputError> {
    std::fs::write(path, text).map_err(|source| OutputError::Write { path: path.into(), source })
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
