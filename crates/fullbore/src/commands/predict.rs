//! `fullbore predict`: a folder of pictures to a folder of masks, or to files of landmarks.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use fullbore_data::Source;
use fullbore_data::source::Pictures;
use fullbore_events::RunDir;
use fullbore_governor::threads::data_threads_of_predictions;
use fullbore_nn::compute::DeviceChoice;
use fullbore_predict::{Notice, PointFormat, PredictConfig, Predicted, Trained, predict};
use fullbore_torch::Device;
use fullbore_train::setup::cores;

use super::{CommandError, Which};
use crate::exit_codes;
use crate::render::{printable, say};

/// Arguments of `fullbore predict`.
#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// Folder of the run, or one checkpoint file
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Folder of pictures, or one picture
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// Folder that the results go to: masks as NAME.png, 8-bit gray with the training masks' values, in the picture's
    /// own size; landmarks as --format says
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Landmarks: how they are written [default: csv]
    #[arg(long)]
    format: Option<Format>,
    /// Landmarks of a model trained with data.crop: CSV file with image,box_left,box_top,box_width,box_height
    #[arg(long, value_name = "FILE")]
    boxes: Option<PathBuf>,
    /// Write the pictures with what was found drawn on them as well, to overlays/ in the output folder
    #[arg(long)]
    overlay: bool,
    /// Which of the run's checkpoints
    #[arg(long, default_value = "best")]
    checkpoint: Which,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceChoice,
    /// Pictures per forward pass at most; fewer where memory is short [default: 16, up to 32 where there is room]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Threads that decode and threads that write, each [default: a quarter of the cores, more beside a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=256))]
    workers: Option<u32>,
    /// Print one machine-readable summary as the last line of standard output
    #[arg(long)]
    json: bool,
}

/// How landmarks are written. Each can be trained on again.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// landmarks.csv: image,x0,y0,score_NAME,x1,... in pixels; (0, 0) is the centre of the first
    Csv,
    /// landmarks.json: COCO's key points
    Coco,
    /// NAME.json for each picture: LabelMe's points
    Labelme,
}

impl From<Format> for PointFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => PointFormat::Csv,
            Format::Coco => PointFormat::Coco,
            Format::Labelme => PointFormat::Labelme,
        }
    }
}

fn device(word: &str) -> Result<DeviceChoice, String> {
    serde_json::from_value(word.into()).map_err(|error| error.to_string())
}

/// Predicts. Pictures that cannot be read are listed; the exit code then says so although the rest is done.
pub(super) fn run(args: PredictArgs) -> Result<i32, CommandError> {
    let pictures = Arc::new(Pictures::open(&args.input)?);
    let checkpoint = match args.run.is_file() {
        true => args.run.clone(),
        false => args.checkpoint.of(&RunDir::open(&args.run)?),
    };
    let trained = Trained::load(&checkpoint, args.device)?;
    let auto = || data_threads_of_predictions(cores(), trained.device() != Device::Cpu);
    let config = PredictConfig {
        output: args.output.clone(),
        overlays: args.overlay,
        format: args.format.map(PointFormat::from),
        boxes: args.boxes.clone(),
        batch: args.batch.map(|n| n as usize),
        workers: args.workers.map_or_else(auto, |n| n as usize),
    };
    let predicted = predict(&trained, pictures.clone(), &config, teller(pictures.len()))?;
    if args.json {
        say!("{}", to_json(&predicted, &args, &trained));
    } else {
        print_result(&predicted, &args, &trained);
    }
    Ok(if predicted.failed.is_empty() { exit_codes::OK } else { exit_codes::DATA })
}

/// Tells on standard error what goes on: failures always, progress where somebody watches.
fn teller(total: usize) -> impl FnMut(Notice<'_>) {
    let watched = std::io::stderr().is_terminal();
    let mut done = 0;
    move |notice| {
        if watched {
            eprint!("\r\x1b[K");
        }
        match notice {
            Notice::Done => done += 1,
            Notice::Failed(failure) => {
                let (file, reason) = (failure.file.display().to_string(), printable(&failure.reason));
                // Most reasons name the file themselves.
                match reason.contains(&printable(&file)) {
                    true => eprintln!("no result: {reason}"),
                    false => eprintln!("no result for {}: {reason}", printable(&file)),
                }
            }
            Notice::Resized(change) => {
                eprintln!("{} -> {} pictures at once: {change}", change.from, change.to);
            }
        }
        // Of boxes there may be more than pictures.
        if watched && done < total {
            eprint!("{done} of {total}");
        }
    }
}

fn to_json(predicted: &Predicted, args: &PredictArgs, trained: &Trained) -> serde_json::Value {
    let failed = predicted.failed.iter().map(
        |failure| serde_json::json!({ "file": failure.file.display().to_string(), "reason": failure.reason }),
    );
    let what = if trained.landmark_names().is_some() { "landmarks" } else { "masks" };
    serde_json::json!({
        "output": args.output.display().to_string(),
        what: predicted.pictures,
        "failed": failed.collect::<Vec<_>>(),
        "without_box": predicted.without_box,
        "seconds": predicted.seconds,
        "images_per_s": predicted.pictures as f64 / predicted.seconds,
    })
}

fn print_result(predicted: &Predicted, args: &PredictArgs, trained: &Trained) {
    let Predicted { pictures, failed, without_box, seconds } = predicted;
    let folder = printable(&args.output.display().to_string());
    let output = |name: &str| printable(&args.output.join(name).display().to_string());
    match (trained.landmark_names(), args.format.unwrap_or(Format::Csv)) {
        (None, _) => {
            let classes = trained.classes();
            let values = classes.values.iter().zip(&classes.names).map(|(v, n)| format!("{v} {n}"));
            let values = printable(&values.collect::<Vec<_>>().join(", "));
            say!("masks  {folder}: {pictures} PNG files ({values})");
        }
        (Some(names), format) => {
            let place = match format {
                Format::Csv => output("landmarks.csv"),
                Format::Coco => output("landmarks.json"),
                Format::Labelme => folder,
            };
            say!("landmarks  {place}: {} in {pictures} pictures", names.len());
        }
    }
    if args.overlay {
        say!("overlays  {}", output("overlays"));
    }
    say!("{:.1} s, {:.1} pictures/s", seconds, *pictures as f64 / seconds);
    if *without_box > 0 {
        say!("pictures without a box, passed over: {without_box}");
    }
    if !failed.is_empty() {
        let are = if failed.len() == 1 { "picture or box has" } else { "pictures or boxes have" };
        say!("{} {are} no result; the reasons stand above", failed.len());
    }
}
