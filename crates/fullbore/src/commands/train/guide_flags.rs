//! The flags of the field guides: their command lines work here as they are written there. Each flag stands for one
//! setting, with underscores as with dashes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::DirEntry;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use fullbore_nn::compute::DeviceChoice;
use fullbore_nn::losses::{LossName, Task};
use fullbore_torch::Device;
use miette::Diagnostic;
use serde_json::{Number, Value};

use super::super::{CommandError, Settings};
use crate::config::{ConfigError, Layers, Origin, Origins};

/// A flag and what it stands for.
#[derive(Debug)]
struct Flag {
    /// With the dashes before it, as errors show it.
    name: &'static str,
    /// Other names of the same.
    also: &'static [&'static str],
    /// What its values are called; none: a switch.
    values: &'static [&'static str],
    means: Means,
    help: &'static str,
    /// Told when it is given and does not mean here quite what it means there.
    note: Option<&'static str>,
}

#[derive(Debug)]
enum Means {
    /// The key, whose value is text whatever it looks like.
    Text(&'static str),
    /// The key, whose value may be a number.
    Value(&'static str),
    /// `data.train`, and `data.val` where the folder has one for each.
    DataSet,
    /// `data.size`.
    Sides,
    /// `model.name`, and which one of that family.
    Model,
    /// `batch.size` and `batch.micro`, together with the other flag of this meaning.
    Batch,
    /// `schedule.warmup_epochs` in the place of steps.
    WarmUp,
    /// `precision`, where the device is known.
    MixedPrecision,
    /// These keys with these values.
    Sets(&'static [(&'static str, &'static str)]),
    /// The same where the first of them is null: what the settings say already stays.
    SetsWhereNull(&'static [(&'static str, &'static str)]),
}

const BATCH_SIZE: &str = "--batch-size";
const GRAD_ACCUM: &str = "--grad-accum";
const MIXED_PRECISION: &str = "--mixed-precision";

const FLAGS: &[Flag] = &[
    value(
        "--dataset-path",
        &[],
        &["PATH"],
        Means::DataSet,
        "Data set: data.train, or its folders train and valid (val): data.train and data.val",
    ),
    value("--train-data", &[], &["PATH"], Means::Text("data.train"), "Training set: data.train"),
    value("--val-data", &[], &["PATH"], Means::Text("data.val"), "Validation set: data.val"),
    value(
        "--model",
        &[],
        &["NAME"],
        Means::Model,
        "unet, resnet_unet, hrnet, hrnet_w18, hrnet_w32, resnet50, resnet101, ...: model.name with model.width or \
         model.layers; names of landmark networks bring the loss mse where none is set",
    ),
    value("--model-size", &[], &["SIZE"], Means::Value("model.size"), "small, base or large: model.size"),
    value("--image-size", &[], &["H", "W"], Means::Sides, "Sides of the canvas: data.size"),
    value(
        BATCH_SIZE,
        &[],
        &["N"],
        Means::Batch,
        "Samples per step: batch.size; with --grad-accum, samples per forward pass: batch.micro",
    ),
    value(
        GRAD_ACCUM,
        &["--gradient-accumulation-steps"],
        &["K"],
        Means::Batch,
        "Forward passes per step: batch.size becomes K times batch.micro",
    ),
    value("--epochs", &[], &["N"], Means::Value("run.epochs"), "Passes over the training set: run.epochs"),
    value("--lr", &[], &["LR"], Means::Value("optimizer.lr"), "Peak learning rate: optimizer.lr"),
    value("--warmup-epochs", &[], &["N"], Means::WarmUp, "Epochs of linear warm-up: schedule.warmup_epochs"),
    value("--loss", &[], &["NAME"], Means::Value("loss.name"), "For example adaptive_wing: loss.name"),
    switch(MIXED_PRECISION, Means::MixedPrecision, "precision: fp16 on a GPU, auto on the CPU", None),
    switch(
        "--use-ema",
        Means::SetsWhereNull(&[("ema.decay", "0.999"), ("ema.warmup", "true")]),
        "An average of the weights: ema.decay 0.999 with ema.warmup, unless ema.decay is set",
        None,
    ),
    switch(
        "--use-compile",
        Means::Sets(&[("step", "auto")]),
        "step: auto",
        Some("nothing is compiled here: `step: auto` takes the fastest way there is to run a step"),
    ),
    switch(
        "--channels-last",
        Means::Sets(&[]),
        "Always so",
        Some("weights and images are in channels_last order in any case"),
    ),
    switch(
        "--early-stopping",
        Means::SetsWhereNull(&[("early_stop.metric", "loss")]),
        "End the run when the validation loss gets no better, or early_stop.metric where it is set",
        None,
    ),
    value(
        "--patience",
        &[],
        &["N"],
        Means::Value("early_stop.patience"),
        "early_stop.patience, in evaluations",
    ),
    value("--num-workers", &[], &["N"], Means::Value("data.workers"), "Decoding threads: data.workers"),
    value(
        "--prefetch-factor",
        &[],
        &["N"],
        Means::Value("data.prefetch"),
        "Batches prepared ahead: data.prefetch. The threads share each batch, so it is not per worker",
    ),
    switch(
        "--pin-memory",
        Means::Sets(&[]),
        "Always so where a GPU trains",
        Some("host batches are page-locked in any case where a GPU trains"),
    ),
    switch(
        "--persistent-workers",
        Means::Sets(&[]),
        "Always so",
        Some("the decoding threads live as long as the run in any case"),
    ),
    switch(
        "--drop-last",
        Means::Sets(&[("data.drop_last", "true")]),
        "Leave out an epoch's last, smaller batch: data.drop_last",
        None,
    ),
    value("--data-gpu", &[], &["GPU"], Means::Value("placement.data_gpu"), "placement.data_gpu"),
    value("--model-gpu", &[], &["GPU"], Means::Value("placement.model_gpu"), "placement.model_gpu"),
    value(
        "--model-start-delay",
        &[],
        &["SECONDS"],
        Means::Value("placement.start_delay"),
        "Least wait before training, which in any case waits for a full buffer: placement.start_delay",
    ),
    value(
        "--buffer-size",
        &[],
        &["N"],
        Means::Value("buffer.size"),
        "Batches ready on the device: buffer.size",
    ),
    switch(
        "--enable-static-shapes",
        Means::Sets(&[("data.drop_last", "true")]),
        "data.drop_last",
        Some(
            "every image has the canvas's size in any case; with data.drop_last every batch is whole as well",
        ),
    ),
];

const fn value(
    name: &'static str,
    also: &'static [&'static str],
    values: &'static [&'static str],
    means: Means,
    help: &'static str,
) -> Flag {
    Flag { name, also, values, means, help, note: None }
}

const fn switch(name: &'static str, means: Means, help: &'static str, note: Option<&'static str>) -> Flag {
    Flag { name, also: &[], values: &[], means, help, note }
}

impl Flag {
    /// Without the dashes: clap's name for it.
    fn id(&self) -> &'static str {
        &self.name[2..]
    }

    /// Every other way to write it, without the dashes before it.
    fn spellings(&self) -> impl Iterator<Item = String> {
        let underscored = |name: &str| name[2..].replace('-', "_");
        let names = self.also.iter().chain([&self.name]);
        let all = names.flat_map(move |name| [name[2..].to_string(), underscored(name)]);
        let mut all: Vec<_> = all.filter(|name| name != self.id()).collect();
        all.sort();
        all.dedup();
        all.into_iter()
    }
}

/// The flags that were given, and where on the command line; `--set` as well, because later ones win. Must stand before
/// [`Settings`] in the arguments of a command: that takes `--set` away from clap.
#[derive(Debug)]
pub(super) struct GuideFlags {
    /// By their place.
    changes: BTreeMap<usize, Change>,
}

#[derive(Debug)]
enum Change {
    Flag(Given),
    /// The next `--set`.
    Set,
}

#[derive(Debug)]
struct Given {
    flag: &'static Flag,
    values: Vec<String>,
}

impl clap::Args for GuideFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(|flag| {
            let arg = Arg::new(flag.id())
                .long(flag.id())
                .aliases(flag.spellings().map(clap::builder::Str::from))
                .help(flag.help)
                .help_heading("As in the field guides (with - or _)");
            match flag.values {
                [] => arg.action(ArgAction::SetTrue),
                names => {
                    arg.value_names(names.iter().copied()).num_args(names.len()).allow_negative_numbers(true)
                }
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for GuideFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let sets = matches.indices_of("set").into_iter().flatten();
        let mut changes: BTreeMap<_, _> = sets.map(|at| (at, Change::Set)).collect();
        for flag in FLAGS {
            let at = matches.indices_of(flag.id()).and_then(|mut at| at.next());
            if let (Some(ValueSource::CommandLine), Some(at)) = (matches.value_source(flag.id()), at) {
                let values = match flag.values {
                    [] => Vec::new(),
                    _ => matches.get_many(flag.id()).into_iter().flatten().cloned().collect(),
                };
                changes.insert(at, Change::Flag(Given { flag, values }));
            }
        }
        Ok(Self { changes })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl GuideFlags {
    fn given(&self) -> impl Iterator<Item = &Given> {
        self.changes.values().filter_map(|change| match change {
            Change::Flag(given) => Some(given),
            Change::Set => None,
        })
    }

    /// Whether no setting is touched.
    pub(super) fn set_nothing(&self) -> bool {
        self.given().all(|given| matches!(given.flag.means, Means::Sets([])))
    }

    /// What to tell about the flags that were given.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let notes = self.given().filter_map(|given| Some((given.flag.name, given.flag.note?)));
        notes.map(|(name, note)| format!("{name}: {note}"))
    }

    /// Lays the files of `settings` over `layers`, and over these the flags and `--set` in the order of the command line.
    pub(super) fn lay(&self, settings: &Settings, layers: Layers) -> Result<Layers, ConfigError> {
        let mut layers = settings.lay_files(layers)?;
        let mut sets = settings.set.iter();
        for change in self.changes.values() {
            match change {
                Change::Flag(given) => self.lay_flag(given, &mut layers),
                Change::Set => sets.next().map_or(Ok(()), |set| layers.add_set(set))?,
            }
        }
        // Only now it is known where the model trains.
        if layers.origin("precision") == Origin::Flag(MIXED_PRECISION) && trains_on_gpu(layers.values()) {
            layers.put_flag(MIXED_PRECISION, "precision", "fp16".into());
        }
        Ok(layers)
    }

    fn lay_flag(&self, Given { flag, values }: &Given, layers: &mut Layers) {
        let mut put = |key, value| layers.put_flag(flag.name, key, value);
        let first = values.first().map_or("", String::as_str);
        match flag.means {
            Means::Text(key) => put(key, first.into()),
            Means::Value(key) => put(key, typed(first)),
            Means::DataSet => {
                let (train, val) = parts(first);
                put("data.train", train.into());
                if let Some(val) = val {
                    put("data.val", val.into());
                }
            }
            Means::Sides => put("data.size", values.iter().map(|value| typed(value)).collect()),
            Means::WarmUp => {
                put("schedule.warmup_epochs", typed(first));
                put("schedule.warmup_steps", Value::Null);
            }
            Means::MixedPrecision => put("precision", "auto".into()),
            Means::Sets(pairs) => pairs.iter().for_each(|(key, value)| put(key, typed(value))),
            Means::SetsWhereNull(pairs) => {
                let is_null = pairs.first().is_some_and(|(key, _)| at(layers.values(), key).is_null());
                for (key, value) in pairs.iter().filter(|_| is_null) {
                    layers.put_flag(flag.name, key, typed(value));
                }
            }
            Means::Model => lay_model(flag.name, first, layers),
            Means::Batch => self.lay_batch(layers),
        }
    }

    /// What `--batch-size` and `--grad-accum` make of the batch, wherever they stand. What is no number is laid as it is:
    /// it is refused like any other value.
    fn lay_batch(&self, layers: &mut Layers) {
        let value_of = |name| {
            let given = self.given().find(|given| given.flag.name == name)?;
            given.values.first().map(|value| typed(value))
        };
        let size = value_of(BATCH_SIZE);
        let Some(passes) = value_of(GRAD_ACCUM) else {
            return size.into_iter().for_each(|size| layers.put_flag(BATCH_SIZE, "batch.size", size));
        };
        let by = if size.is_some() { BATCH_SIZE } else { GRAD_ACCUM };
        let micro = size.unwrap_or_else(|| {
            let settings = layers.values();
            let micro = at(settings, "batch.micro");
            if micro.is_number() { micro.clone() } else { at(settings, "batch.size").clone() }
        });
        match (micro.as_u64(), passes.as_u64()) {
            (Some(n), Some(passes)) => {
                layers.put_flag(GRAD_ACCUM, "batch.size", n.saturating_mul(passes).into());
                layers.put_flag(by, "batch.micro", micro);
            }
            (Some(_), None) => layers.put_flag(GRAD_ACCUM, "batch.size", passes),
            (None, _) => layers.put_flag(by, "batch.size", micro),
        }
    }
}

/// `text` as settings files understand it: true, false, a number, or text.
fn typed(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        _ => match text.parse::<i64>() {
            Ok(whole) => whole.into(),
            Err(_) => {
                let number = text.parse().ok().and_then(Number::from_f64);
                number.map_or_else(|| text.into(), Value::Number)
            }
        },
    }
}

/// The setting `key`.
fn at<'a>(settings: &'a Value, key: &str) -> &'a Value {
    key.split('.').fold(settings, |value, segment| &value[segment])
}

/// The folders for training and validation in a data set's folder, whatever their capitals; the folder itself where there
/// are not both.
fn parts(folder: &str) -> (String, Option<String>) {
    let below: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
    let named = |names: &[&str]| {
        let is_named =
            |entry: &DirEntry| names.iter().any(|name| entry.file_name().eq_ignore_ascii_case(name));
        let found = below.iter().find(|entry| is_named(entry) && entry.path().is_dir())?;
        Some(found.path().display().to_string())
    };
    match (named(&["train"]), named(&["valid", "val"])) {
        (Some(train), Some(val)) => (train, Some(val)),
        _ => (folder.into(), None),
    }
}

/// A network by one of the guides' names. What another network may have had of its own is forgotten.
fn lay_model(flag: &'static str, text: &str, layers: &mut Layers) {
    const NUMBERS: [&str; 6] =
        ["model.base", "model.depth", "model.up", "model.layers", "model.width", "model.head"];
    let of_family = |family: &str| text.strip_prefix(family).map(|rest| rest.trim_start_matches(['_', '-']));
    let (name, number) = match (of_family("hrnet"), of_family("resnet")) {
        (Some(width), _) if !width.is_empty() => ("hrnet", Some(("model.width", width))),
        (_, Some(layers)) if layers.parse::<u32>().is_ok() => {
            ("resnet_deconv", Some(("model.layers", layers)))
        }
        _ => (text, None),
    };
    if at(layers.values(), "model.name") != name {
        NUMBERS.iter().for_each(|key| layers.put_flag(flag, key, Value::Null));
        layers.put_flag(flag, "model.deep_supervision", 0.into());
    }
    layers.put_flag(flag, "model.name", name.into());
    if let Some((key, number)) = number {
        layers.put_flag(flag, key, typed(number));
    }
    // They make heat-maps, and nobody has said how these are to be judged.
    let loss = serde_json::from_value::<LossName>(at(layers.values(), "loss.name").clone());
    let for_masks = loss.is_ok_and(|loss| loss.task() == Task::Masks);
    if ["hrnet", "resnet_deconv"].contains(&name)
        && for_masks
        && layers.origin("loss.name") == Origin::Default
    {
        layers.put_flag(flag, "loss.name", "mse".into());
    }
}

fn trains_on_gpu(settings: &Value) -> bool {
    let device = serde_json::from_value::<DeviceChoice>(at(settings, "device").clone());
    at(settings, "placement.model_gpu").is_number()
        || device.is_ok_and(|device| matches!(device.resolve(), Ok(Device::Cuda(_))))
}

/// Adds to an error about settings which flags these came from.
pub(super) fn name_flags(error: CommandError, origins: &Origins) -> CommandError {
    let text = error.to_string();
    let words = text.split(|c: char| !(c.is_alphanumeric() || "._".contains(c)));
    // Keys without a section are words of the language as well; no flag gives them a value that could be wrong.
    let keys = words.map(|word| word.trim_matches('.')).filter(|word| word.contains('.'));
    let mut flags: Vec<_> = keys
        .filter_map(|key| match origins.of(key) {
            Origin::Flag(flag) if !text.contains(flag) => Some(flag),
            _ => None,
        })
        .collect();
    flags.sort_unstable();
    flags.dedup();
    if flags.is_empty() { error } else { Box::new(ByFlags { error, flags: flags.join(", ") }) }
}

/// An error about settings that flags brought. All but the text is the error's own.
#[derive(Debug)]
struct ByFlags {
    error: CommandError,
    flags: String,
}

impl fmt::Display for ByFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.error, self.flags)
    }
}

impl std::error::Error for ByFlags {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl Diagnostic for ByFlags {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.code()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.help()
    }

    fn diagnostic_source(&self) -> Option<&dyn Diagnostic> {
        self.error.diagnostic_source()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use fullbore_train::Plan;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: GuideFlags,
        #[command(flatten)]
        settings: Settings,
    }

    fn read(line: &str) -> Line {
        Line::try_parse_from(std::iter::once("x").chain(line.split_whitespace())).unwrap()
    }

    fn settings(line: &str) -> Value {
        let Line { flags, settings } = read(line);
        let layers = flags.lay(&settings, Layers::new()).unwrap();
        layers.values().clone()
    }

    fn refused(line: &str) -> String {
        let Line { flags, settings } = read(line);
        flags.lay(&settings, Layers::new()).unwrap().resolve::<Plan>().unwrap_err().to_string()
    }

    /// Checks settings, one `key value` a line, null where the key is the default.
    #[track_caller]
    fn assert_settings(line: &str, expected: &[(&str, Value)]) {
        let settings = settings(line);
        for (key, value) in expected {
            assert_eq!(at(&settings, key), value, "{key} of {line}");
        }
    }

    #[test]
    fn the_landmark_guides_line() {
        assert_settings(
            "--dataset_path Aariz --model hrnet --image_size 1024 512 --batch_size 1 --gradient_accumulation_steps 8 \
             --epochs 200 --lr 3e-4 --warmup_epochs 10 --mixed_precision --use_ema --num_workers 4 --use_compile \
             --channels_last --early_stopping --patience 20 --set device=cpu",
            &[
                ("data.train", "Aariz".into()),
                ("model.name", "hrnet".into()),
                ("loss.name", "mse".into()),
                ("data.size", vec![1024, 512].into()),
                ("batch.size", 8.into()),
                ("batch.micro", 1.into()),
                ("run.epochs", 200.into()),
                ("optimizer.lr", 3e-4.into()),
                ("schedule.warmup_epochs", 10.into()),
                ("precision", "auto".into()),
                ("ema.decay", 0.999.into()),
                ("data.workers", 4.into()),
                ("step", "auto".into()),
                ("early_stop.metric", "loss".into()),
                ("early_stop.patience", 20.into()),
            ],
        );
    }

    #[test]
    fn the_pipeline_guides_line() {
        assert_settings(
            "--train-data a/1 --val-data 7 --batch-size 4 --num-workers auto --grad-accum 2 --epochs 3 --model-size small \
             --data-gpu 0 --model-gpu 1 --model-start-delay 2.0 --buffer-size 50 --enable-static-shapes",
            &[
                ("data.train", "a/1".into()),
                ("data.val", "7".into()),
                ("batch.size", 8.into()),
                ("batch.micro", 4.into()),
                ("data.workers", "auto".into()),
                ("model.size", "small".into()),
                ("placement.data_gpu", 0.into()),
                ("placement.model_gpu", 1.into()),
                ("placement.start_delay", 2.0.into()),
                ("buffer.size", 50.into()),
                ("data.drop_last", true.into()),
            ],
        );
    }

    #[test]
    fn a_data_set_of_two_folders_is_both_sets() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let line = format!("--dataset_path {}", folder.path().display());
        std::fs::create_dir(path("Train")).unwrap();
        assert_settings(
            &line,
            &[("data.train", folder.path().display().to_string().into()), ("data.val", Value::Null)],
        );
        std::fs::create_dir(path("valid")).unwrap();
        assert_settings(&line, &[("data.train", path("Train").into()), ("data.val", path("valid").into())]);
    }

    #[test]
    fn later_ones_win() {
        let key = "optimizer.lr";
        assert_settings("--set optimizer.lr=1 --lr 2", &[(key, 2.into())]);
        assert_settings(
            "--lr 2 --set optimizer.lr=1 --epochs 3",
            &[(key, 1.into()), ("run.epochs", 3.into())],
        );
        assert_settings("--use-ema --set ema.decay=0.5", &[("ema.decay", 0.5.into())]);
        assert_settings(
            "--set ema.decay=0.5 --use-ema",
            &[("ema.decay", 0.5.into()), ("ema.warmup", false.into())],
        );
    }

    #[test]
    fn the_batch_is_the_product_wherever_its_parts_stand() {
        let batch = |line, size: u64, micro: Value| {
            assert_settings(line, &[("batch.size", size.into()), ("batch.micro", micro)]);
        };
        batch("--batch-size 3", 3, "auto".into());
        batch("--grad-accum 4 --batch-size 2", 8, 2.into());
        batch("--set batch.size=2 --grad-accum 4", 8, 2.into());
        batch("--set batch.size=16 --set batch.micro=1 --grad-accum 4", 4, 1.into());
        batch(
            "--batch-size 9223372036854775807 --grad-accum 4",
            u64::MAX,
            9_223_372_036_854_775_807_u64.into(),
        );
        for (line, told) in [
            (
                "--batch-size many",
                "`batch.size`: expected a whole number, 0 or more, got \"many\" (--batch-size)",
            ),
            ("--batch-size -1 --grad-accum 2", "got -1 (--batch-size)"),
            ("--batch-size 4 --grad_accum 1.5", "got 1.5 (--grad-accum)"),
        ] {
            assert!(refused(line).contains(told), "{}", refused(line));
        }
    }

    #[test]
    fn networks_by_the_guides_names() {
        let model = |line, name: &str, width: Value, layers: Value, loss: &str| {
            let expected = [
                ("model.name", name.into()),
                ("model.width", width),
                ("model.layers", layers),
                ("loss.name", loss.into()),
            ];
            assert_settings(line, &expected);
        };
        let none = || Value::Null;
        model("--model hrnet_w32", "hrnet", "w32".into(), none(), "mse");
        model(
            "--model hrnet-small_v1 --loss adaptive_wing",
            "hrnet",
            "small_v1".into(),
            none(),
            "adaptive_wing",
        );
        model("--model resnet101", "resnet_deconv", none(), 101.into(), "mse");
        model("--model resnet_unet", "resnet_unet", none(), none(), "bce_dice");
        model("--set model.base=4 --model hrnet", "hrnet", none(), none(), "mse");
        assert_settings("--set model.base=4 --model unet", &[("model.base", 4.into())]);
        // Who names a loss keeps it.
        model("--set loss.name=bce --model hrnet", "hrnet", none(), none(), "bce");
        assert!(refused("--model hrnet_w19").contains("`model.width`"));
        let told = refused("--model vit");
        assert!(told.contains("`model.name`: expected") && told.ends_with("got \"vit\" (--model)"), "{told}");
    }

    #[test]
    fn every_flag_sets_keys_that_exist() {
        for flag in FLAGS {
            let values = flag.values.iter().map(|_| "1");
            for name in [flag.id().to_string()].into_iter().chain(flag.spellings()) {
                let line: Vec<_> =
                    [format!("--{name}")].into_iter().chain(values.clone().map(String::from)).collect();
                let Line { flags, settings } = read(&line.join(" "));
                assert_eq!(flags.given().count(), 1, "{name}");
                let layers = flags.lay(&settings, Layers::new()).unwrap();
                let (_, origins) = layers.resolve::<Value>().unwrap();
                assert_eq!(flags.set_nothing(), origins.changed().next().is_none(), "{name}");
                for (key, origin) in origins.changed() {
                    assert_eq!(*origin, Origin::Flag(flag.name), "{key}");
                }
            }
        }
    }

    #[test]
    fn errors_name_the_flags_that_brought_the_settings() {
        let Line { flags, settings } = read("--epochs 0 --lr 3");
        let (_, origins) = flags.lay(&settings, Layers::new()).unwrap().resolve::<Value>().unwrap();
        let named = |text: &str| {
            let error = miette::MietteDiagnostic::new(text).with_code("config::x").with_help("y");
            let error = name_flags(Box::new(error), &origins);
            assert_eq!(error.code().unwrap().to_string() + &error.help().unwrap().to_string(), "config::xy");
            error.to_string()
        };
        assert_eq!(named("run.epochs: 0 cannot work"), "run.epochs: 0 cannot work (--epochs)");
        assert_eq!(
            named("`optimizer.lr` and run.epochs."),
            "`optimizer.lr` and run.epochs. (--epochs, --lr)"
        );
        assert_eq!(named("run.epochs is 0 (--epochs)"), "run.epochs is 0 (--epochs)");
        assert_eq!(named("run.steps: 0"), "run.steps: 0");
    }
}
