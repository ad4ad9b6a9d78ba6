use crate::scaffold::{Scene, tensors};

#[track_caller]
fn agree(a: &serde_json::Value, b: &serde_json::Value) {
    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
    assert!((a - b).abs() <= 1e-6, "{a} {b}");
}

#[test]
fn eval_repeats_the_scores_of_both_checkpoints() {
    let scene = Scene::with_blobs(15);
    let trained = scene.train(&["run.epochs=4"]).succeeded().json();
    let best = scene.fullbore(&["eval", "run", "--json"]).succeeded().json();
    agree(&best["metrics"]["dice"], &trained["best"]["value"]);
    let last = scene.fullbore(&["eval", "run", "--checkpoint", "last", "--json"]).succeeded().json();
    agree(&last["metrics"]["dice"], &trained["metrics"]["dice"]);
    agree(&last["metrics"]["loss"], &trained["metrics"]["loss"]);
    assert_eq!(last["checkpoint"], "run/checkpoints/last.safetensors");

    let table = scene.fullbore(&["eval", "run"]).succeeded().stdout;
    let dice = format!("{:.4}", trained["best"]["value"].as_f64().unwrap());
    assert!(table.lines().any(|line| line.starts_with("mean ") && line.contains(&dice)), "{table}");
    assert!(table.lines().any(|line| line.starts_with("foreground ")), "{table}");
}

#[test]
fn eval_scores_the_average_that_training_scored() {
    let scene = Scene::with_blobs(15);
    let trained = scene.train(&["run.epochs=8", "ema.decay=0.9"]).succeeded().json();
    let evaluated = scene.fullbore(&["eval", "run", "--json"]).succeeded().json();
    agree(&evaluated["metrics"]["dice"], &trained["best"]["value"]);
    let all: Vec<_> = tensors(&scene.run_dir(), "last").collect();
    let find = |name: &str| &all.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}")).1;
    let (name, raw) = all.iter().find(|(n, _)| n.starts_with("model.") && n.ends_with(".weight")).unwrap();
    assert_ne!(raw, find(&name.replacen("model.", "ema.", 1)));
}

#[test]
fn another_validation_set_is_scored_on_request() {
    let scene = Scene::with_blobs(10);
    let trained = scene.train(&["run.epochs=1"]).succeeded().json();
    std::fs::rename(scene.path("data"), scene.path("other")).unwrap();
    // The training set is gone: eval does not need it.
    let scored = scene.fullbore(&["eval", "run", "--set", "data.val=other", "--json"]).succeeded().json();
    assert_eq!(trained["metrics"]["images"], 2);
    assert_eq!(scored["metrics"]["images"], 10);
}
