use crate::scaffold::{Scene, losses};

#[test]
fn a_seed_gives_the_same_losses_whatever_the_number_of_workers() {
    let scene = Scene::with_blobs(20);
    let run = |name: &str, sets: &[&str]| {
        let dir = format!("run.dir={name}");
        let all = [&[&dir, "run.reproducible=true", "run.epochs=3"], sets].concat();
        scene.train(&all).succeeded();
        losses(&scene.path(name))
    };
    let first = run("first", &["data.workers=0"]);
    assert_eq!(first.len(), 12);
    assert_eq!(run("one", &["data.workers=1"]), first);
    assert_eq!(run("two", &["data.workers=2"]), first);
    assert_eq!(run("narrow", &["data.workers=2", "data.prefetch=1"]), first);

    let other = run("other", &["run.seed=1"]);
    assert!(other.iter().zip(&first).all(|(a, b)| a.1 != b.1), "{other:?} {first:?}");
}

#[test]
fn random_crops_and_an_average_repeat_as_well() {
    let scene = Scene::new();
    for index in 0..10 {
        scene.add_blob(index, 44, 52);
    }
    let run = |name: &str, workers: &str| {
        let (dir, workers) = (format!("run.dir={name}"), format!("data.workers={workers}"));
        let crops = ["data.resize=crop", "data.crops_per_image=2", "ema.decay=0.9", "run.reproducible=true"];
        let outcome = scene.train(&[&[&*dir, &workers], &crops[..]].concat()).succeeded();
        (losses(&scene.path(name)), outcome.json()["metrics"].clone())
    };
    assert_eq!(run("inline", "0"), run("threads", "2"));
}
