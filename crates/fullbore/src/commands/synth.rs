//! `fullbore synth`: data sets that are made, not found.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::{Args, Subcommand};
use fullbore_data::CanvasSize;
use fullbore_synth::watermark::{Blend, Ink, Report, Split, Style, WatermarkConfig, generate};
use serde::de::DeserializeOwned;

use super::CommandError;
use crate::render::{printable, say};
use crate::{exit_codes, interrupt};

/// What can be made.
#[derive(Debug, Subcommand)]
pub(super) enum SynthCommand {
    /// Text watermarks over photos or invented scenes, with exact masks, split into train/, val/ and test/
    Watermark(WatermarkArgs),
}

/// Arguments of `fullbore synth watermark`.
#[derive(Debug, Args)]
pub(super) struct WatermarkArgs {
    /// Folder of the set; made whole or not at all. A set made with the same settings is left as it is
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Lay the marks over these photos instead of invented scenes; no photo is in two splits
    #[arg(long, value_name = "DIR")]
    photos: Option<PathBuf>,
    /// Training images
    #[arg(long, value_name = "N", default_value_t = WatermarkConfig::default().train)]
    train: u32,
    /// Validation images
    #[arg(long, value_name = "N", default_value_t = WatermarkConfig::default().val)]
    val: u32,
    /// Test images
    #[arg(long, value_name = "N", default_value_t = WatermarkConfig::default().test)]
    test: u32,
    /// Side of the images in pixels, or [height,width]
    #[arg(long, default_value = "256", value_parser = word::<CanvasSize>)]
    size: CanvasSize,
    /// Every image is a function of it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Share of images without a mark
    #[arg(long, value_name = "SHARE", default_value_t = WatermarkConfig::default().clean)]
    clean: f64,
    /// Least and most opacity of a mark
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], default_values_t = WatermarkConfig::default().opacity)]
    opacity: Vec<f64>,
    /// Least and most height of capital letters, as shares of the image's height
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], default_values_t = WatermarkConfig::default().height)]
    height: Vec<f64>,
    /// Where marks lie: single, corner, diagonal, tiled [default: all]
    #[arg(long, value_name = "STYLE,...", value_delimiter = ',', value_parser = word::<Style>)]
    style: Vec<Style>,
    /// How marks mix with the image: normal, multiply, overlay [default: all]
    #[arg(long, value_name = "BLEND,...", value_delimiter = ',', value_parser = word::<Blend>)]
    blend: Vec<Blend>,
    /// Colours of marks, where they show: white, gray, black, colour [default: all]
    #[arg(long, value_name = "INK,...", value_delimiter = ',', value_parser = word::<Ink>)]
    ink: Vec<Ink>,
    /// Share of marks whose letters have a line along their edges
    #[arg(long, value_name = "SHARE", default_value_t = WatermarkConfig::default().outlined)]
    outlined: f64,
    /// Print one machine-readable summary as the last line of standard output
    #[arg(long)]
    json: bool,
}

/// A value as settings files write it.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Makes a set.
pub(super) fn run(command: SynthCommand) -> Result<i32, CommandError> {
    let SynthCommand::Watermark(args) = command;
    let stop = interrupt::stop_flag()?;
    let all = WatermarkConfig::default();
    let config = WatermarkConfig {
        seed: args.seed,
        train: args.train,
        val: args.val,
        test: args.test,
        size: args.size,
        photos: args.photos,
        clean: args.clean,
        opacity: [args.opacity[0], args.opacity[1]],
        height: [args.height[0], args.height[1]],
        styles: if args.style.is_empty() { all.styles } else { args.style },
        blends: if args.blend.is_empty() { all.blends } else { args.blend },
        outlined: args.outlined,
        inks: if args.ink.is_empty() { all.inks } else { args.ink },
    };
    let watched = std::io::stderr().is_terminal();
    let report = generate(&config, &args.output, &mut |done, total| {
        if watched && (done == total || done.is_multiple_of(10)) {
            eprint!("\r\x1b[K{}", if done < total { format!("{done} of {total}") } else { String::new() });
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if args.json {
        say!("{}", serde_json::to_value(&report).unwrap_or_default());
    } else {
        print_report(&report);
    }
    Ok(exit_codes::OK)
}

fn print_report(report: &Report) {
    let folder = printable(&report.output.display().to_string());
    let counts =
        Split::ALL.map(|split| format!("{} {}", report.manifest.settings.count(split), split.name()));
    let there = if report.already_there { ", already there" } else { "" };
    say!("{folder}: {} images{there}", counts.join(", "));
    for photo in &report.manifest.skipped_photos {
        eprintln!("photo passed over: {}", printable(photo));
    }
}
