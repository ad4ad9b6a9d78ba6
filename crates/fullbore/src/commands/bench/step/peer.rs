//! The same step in PyTorch: a script that is run once for each turn.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fullbore_nn::compute::device_name;
use fullbore_nn::losses::LossName;
use fullbore_nn::models::{Head, ModelConfig, ModelName, Up};
use fullbore_nn::{NormConfig, NormKind};
use fullbore_torch::Device;
use fullbore_train::Plan;

/// The script of the project, from its root.
const OWN_SCRIPT: &str = "bench/step_torch.py";
/// The least steps before the measurement that it takes.
const LEAST_WARM: u64 = 5;
/// Lines of a failed script's standard error that are shown.
const TOLD: usize = 5;

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(super) enum PeerError {
    /// No Python, or none with torch.
    #[error("{} does not run, or cannot import torch", .python.display())]
    #[diagnostic(code(config::no_python), help("set FULLBORE_PYTHON to a Python that has torch"))]
    NoPython {
        /// What was tried.
        python: PathBuf,
    },
    /// The script is not there.
    #[error("there is no script {}", .script.display())]
    #[diagnostic(
        code(config::no_peer),
        help("run the command in the project's folder, or name a script with --peer")
    )]
    NoScript {
        /// Where it was looked for.
        script: PathBuf,
    },
    /// Settings that the script cannot follow.
    #[error("{key}: the peer's step takes {takes} alone, got {value}")]
    #[diagnostic(code(config::peer_settings), help("set {key}, or name a script of your own with --peer"))]
    Settings {
        /// Dotted key.
        key: &'static str,
        /// What it is set to.
        value: String,
        /// What the script takes.
        takes: &'static str,
    },
    /// The script fails, or prints no time.
    #[error("{} gives no step_ms.median: {told}", .script.display())]
    #[diagnostic(code(config::peer_failed), help("run the script by hand: {command}"))]
    Failed {
        /// The script.
        script: PathBuf,
        /// The end of its standard error.
        told: String,
        /// How it was run.
        command: String,
    },
}

/// A script, ready to run.
pub(super) struct Peer {
    python: PathBuf,
    script: PathBuf,
    arguments: Vec<String>,
}

impl Peer {
    /// Looks for Python and the script, and translates a plan for it. `classes`: channels that the network puts out.
    pub(super) fn find(
        plan: &Plan,
        device: Device,
        classes: i64,
        script: Option<&Path>,
        [steps, warm]: [u64; 2],
    ) -> Result<Self, PeerError> {
        let dtype = plan.precision.name_on(device);
        if script.is_none() {
            check(plan, dtype)?;
        }
        let size = plan.data.size;
        require(size.height == size.width, "data.size", size, "square images")?;
        let script = script.unwrap_or(Path::new(OWN_SCRIPT)).to_path_buf();
        if !script.is_file() {
            return Err(PeerError::NoScript { script });
        }
        let python = std::env::var_os("FULLBORE_PYTHON").filter(|path| !path.is_empty());
        let python = PathBuf::from(python.unwrap_or_else(|| "python3".into()));
        let imported = Command::new(&python).args(["-c", "import torch"]).stdin(Stdio::null()).output();
        if !imported.is_ok_and(|output| output.status.success()) {
            return Err(PeerError::NoPython { python });
        }
        let arguments = [
            ("--model", plan.model.name.key().into()),
            network(&plan.model)?,
            ("--classes", classes.to_string()),
            ("--size", size.height.to_string()),
            ("--batch", plan.batch.size.to_string()),
            ("--dtype", dtype.into()),
            ("--steps", steps.to_string()),
            ("--warm", warm.max(LEAST_WARM).to_string()),
            ("--threads", fullbore_torch::num_threads().to_string()),
            ("--device", device_name(device)),
        ];
        let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_string(), value]);
        Ok(Self { python, script, arguments: arguments.chain(["--json".into()]).collect() })
    }

    /// Runs the script: milliseconds of its median step.
    pub(super) fn step_ms(&self) -> Result<f64, PeerError> {
        let Self { python, script, arguments } = self;
        let mut command = Command::new(python);
        command.arg(script).args(arguments).stdin(Stdio::null());
        let failed = |told: String| {
            let command = format!("{} {} {}", python.display(), script.display(), arguments.join(" "));
            PeerError::Failed { script: script.clone(), told, command }
        };
        let output = command.output().map_err(|error| failed(error.to_string()))?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let step_ms = |line: &str| {
            let json: serde_json::Value = serde_json::from_str(line).ok()?;
            json.pointer("/step_ms/median")?.as_f64().filter(|ms| *ms > 0.0)
        };
        match stdout.lines().rev().find_map(step_ms) {
            Some(ms) if output.status.success() => Ok(ms),
            _ => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                let lines: Vec<&str> = stderr.lines().collect();
                let end = lines[lines.len().saturating_sub(TOLD)..].join("; ");
                Err(failed(format!("{}: {end}", output.status)))
            }
        }
    }
}

/// What says which network of its kind it is, as an argument.
fn network(model: &ModelConfig) -> Result<(&'static str, String), PeerError> {
    let number = |argument, key, value: Option<u32>| {
        require(value.is_some(), key, "null", "a number")?;
        Ok((argument, value.unwrap_or_default().to_string()))
    };
    match (model.name, model.width) {
        (ModelName::Unet, _) => number("--base", "model.base", model.base),
        (ModelName::Hrnet, width) => {
            require(width.is_some(), "model.width", "null", "a name")?;
            Ok(("--width", serde_json::json!(width).as_str().unwrap_or_default().into()))
        }
        _ => number("--layers", "model.layers", model.layers),
    }
}

/// Checks that the project's own script can do what a plan says.
fn check(plan: &Plan, dtype: &str) -> Result<(), PeerError> {
    let model = &plan.model;
    let known = [ModelName::Unet, ModelName::ResnetUnet, ModelName::Hrnet].contains(&model.name);
    require(known, "model.name", model.name.key(), "unet, resnet_unet and hrnet")?;
    require(model.head != Some(Head::Pose), "model.head", "pose", "concatenated")?;
    let depth = model.depth.unwrap_or(4);
    require(depth == 4, "model.depth", depth, "4")?;
    require(model.up != Some(Up::Bilinear), "model.up", "bilinear", "transposed")?;
    require(model.deep_supervision == 0, "model.deep_supervision", model.deep_supervision, "0")?;
    let NormConfig { kind, group, .. } = plan.norm;
    require(kind == NormKind::Batch, "norm.kind", "group", "batch")?;
    let whole = group.is_none_or(|group| group as usize == plan.batch.size);
    require(whole, "norm.group", group.unwrap_or(0), "the whole batch (null)")?;
    let (loss, takes) = match model.name {
        ModelName::Hrnet => (LossName::Mse, "mse with hrnet"),
        _ => (LossName::Bce, "bce"),
    };
    require(plan.loss.name == loss, "loss.name", plan.loss.name.key(), takes)?;
    require(plan.data.channels == 3, "data.channels", plan.data.channels, "3")?;
    require(dtype != "fp16", "precision", dtype, "fp32, tf32 and bf16")
}

fn require(
    holds: bool,
    key: &'static str,
    value: impl ToString,
    takes: &'static str,
) -> Result<(), PeerError> {
    if holds { Ok(()) } else { Err(PeerError::Settings { key, value: value.to_string(), takes }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(script: &str) -> Peer {
        // A shell plays Python.
        Peer { python: "sh".into(), script: script.into(), arguments: Vec::new() }
    }

    #[test]
    fn the_last_line_with_a_time_counts() {
        let folder = tempfile::tempdir().unwrap();
        let run = |text: &str| {
            let script = folder.path().join("script");
            std::fs::write(&script, text).unwrap();
            peer(script.to_str().unwrap()).step_ms()
        };
        let good =
            "echo '{\"step_ms\": {\"median\": 1}}'; echo '{\"step_ms\": {\"median\": 2.5}}'; echo done";
        assert_eq!(run(good).unwrap(), 2.5);
        for (bad, told) in [
            ("echo text", "status: 0"),
            ("echo '{\"step_ms\": {\"median\": 1}}'; echo broken >&2; exit 3", "broken"),
            ("echo '{\"step_ms\": {\"median\": -1}}'", "status: 0"),
        ] {
            let error = run(bad).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
