//! A short run learns, step by step, as it did when its losses were last looked at: whatever changes what is trained shows
//! here first.
//!
//! How much two runs may differ was measured, as the largest relative difference of a step's loss. Kernels for other
//! processors: libtorch's and oneDNN's for AVX2 1e-6, MKL's for any processor 4e-4, all of those without AVX 2e-3 (there
//! the initial weights differ in the last place too). BatchNorm and ReLU as libtorch's own operations 4e-3. A learning
//! rate 5 % higher 2e-2, and 5 % lower as much; a tenth of the rotations left out 2e-2; another bound of the brightness,
//! by 1 %, 1e-2.

use std::fs;

use serde_json::{Value, json};

use crate::scaffold::{Scene, losses};

const FILE: &str = "../../fixtures/golden/manifest.json";

/// On the CPU whatever the stories' device is: another one rounds otherwise.
const SETTINGS: [&str; 9] = [
    "device=cpu",
    "precision=fp32",
    "run.reproducible=true",
    "run.epochs=10",
    "data.workers=2",
    "augment.preset=standard",
    "augment.device=cpu",
    "optimizer.name=adamw",
    "schedule.name=cosine",
];

/// The losses of a run over sixteen of twenty pictures, which are not of the canvas's size: forty steps.
fn train(sets: &[&str]) -> Vec<f64> {
    let scene = Scene::new();
    for index in 0..20 {
        scene.add_blob(index, 48, 40);
    }
    scene.train(&[&SETTINGS, sets].concat()).succeeded();
    losses(&scene.run_dir()).iter().map(|(_, loss)| loss.parse().unwrap()).collect()
}

fn golden() -> Value {
    serde_json::from_str(&fs::read_to_string(FILE).unwrap()).unwrap()
}

/// The steps whose loss is further from the golden one than its tolerance, with both.
fn too_far(found: &[f64]) -> Vec<(usize, f64, f64)> {
    let golden = golden();
    let tolerance = golden["tolerance"].as_f64().unwrap();
    let losses: Vec<_> = golden["losses"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!((found.len(), losses.len()), (40, 40));
    let pairs = found.iter().zip(losses).enumerate();
    let steps = pairs.map(|(step, (&found, golden))| (step + 1, found, golden));
    steps.filter(|(_, found, golden)| found.is_nan() || (found - golden).abs() > tolerance * golden).collect()
}

#[test]
fn a_run_learns_as_it_always_did() {
    let found = train(&[]);
    if std::env::var_os("FULLBORE_WRITE_FIXTURES").is_some() {
        let mut golden = golden();
        golden["settings"] = json!(SETTINGS);
        golden["losses"] = json!(found);
        fs::write(FILE, format!("{golden:#}\n")).unwrap();
        return;
    }
    let far = too_far(&found);
    assert!(far.is_empty(), "(step, loss, golden loss): {far:?}");
    assert_eq!(golden()["settings"], json!(SETTINGS));
}

#[test]
fn small_changes_of_what_is_trained_show() {
    for change in ["optimizer.lr=0.0105", "optimizer.lr=0.0095", "augment.rotate.p=0.9"] {
        let far = too_far(&train(&[change]));
        assert!(far.len() > 20, "{change}: {far:?}");
    }
}
