use crate::scaffold::{Scene, events_of};

#[test]
fn evaluations_on_the_way_see_a_part_and_the_last_one_all() {
    // Every fifth of these validates.
    let scene = Scene::with_blobs(50);
    let part = scene.train(&["eval.samples=3"]).succeeded();
    let evaluated = events_of(&scene.run_dir(), "evaluated");
    let images: Vec<u64> = evaluated.iter().map(|event| event["images"].as_u64().unwrap()).collect();
    assert_eq!(images, [3, 3, 10]);
    assert!(part.stderr.contains("epoch 1 evaluated on 3 of 10 images"), "{part}");
    assert_eq!(part.json()["metrics"]["images"], 10);
    let eval = scene.fullbore(&["eval", "run", "--checkpoint", "last", "--json"]).succeeded().json();
    assert_eq!(eval["metrics"]["dice"], part.json()["metrics"]["dice"]);
    // The best is the best of comparable ones.
    let dice = |index: usize| evaluated[index]["dice"].as_f64().unwrap();
    assert_eq!(part.json()["best"]["value"].as_f64().unwrap(), dice(0).max(dice(1)));
}

#[test]
fn more_than_there_are_is_all() {
    let scene = Scene::with_blobs(10);
    scene.train(&["eval.samples=99", "run.epochs=1"]).succeeded();
    let evaluated = events_of(&scene.run_dir(), "evaluated");
    assert_eq!(evaluated.len(), 1);
    scene.train(&["eval.samples=0", "run.dir=other"]).failed(2, &["eval.samples", "at least 1"]);
}
