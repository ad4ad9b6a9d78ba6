//! The demo, with few images and few steps: every command of it, twice.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn demo(folder: &Path) -> Output {
    let binary = std::env::var("FULLBORE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_fullbore").into());
    // Tests run in their package's folder.
    let mut command = Command::new("../../scripts/demo");
    command.arg(fs::canonicalize(binary).unwrap()).args(["--set", "run.steps=3", "--set", "model.base=4"]);
    command.env("DEMO_DIR", folder).env("DEMO_IMAGES", "24").output().unwrap()
}

#[test]
fn the_demo_runs_twice_and_the_first_run_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let output = demo(folder.path());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let place = |what: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(what));
            let line = line.unwrap_or_else(|| panic!("no `{what}`: {text}"));
            line.trim_start()[what.len()..].split_whitespace().next().unwrap().to_owned()
        };
        runs.push([place("run folder  "), place("predictions  "), place("contact sheet  ")]);
    }
    assert_ne!(runs[0][0], runs[1][0]);
    for [run, predictions, sheet] in &runs {
        assert!(Path::new(run).join("checkpoints/best.safetensors").is_file());
        assert_eq!(
            fs::read_dir(predictions).unwrap().count(),
            101,
            "a mask for each test image, and overlays/"
        );
        assert!(image::open(sheet).unwrap().width() > 700);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "two runs and one set");
}
