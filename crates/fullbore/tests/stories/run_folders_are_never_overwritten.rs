use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::scaffold::Scene;

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let scene = Scene::with_blobs(6);
    fs::create_dir(scene.run_dir()).unwrap();
    fs::write(scene.run_dir().join("thesis.txt"), "years of work").unwrap();
    let words = ["the run folder run already exists and is not empty", "choose another run.dir"];
    scene.train(&[]).failed(2, &words);
    let left: Vec<_> = fs::read_dir(scene.run_dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["thesis.txt"]);
    assert_eq!(fs::read_to_string(scene.run_dir().join("thesis.txt")).unwrap(), "years of work");
}

#[test]
fn an_earlier_run_is_left_alone() {
    let scene = Scene::with_blobs(6);
    scene.train(&["run.epochs=1"]).succeeded();
    let events = fs::read(scene.run_dir().join("events.jsonl")).unwrap();
    scene.train(&["run.epochs=1"]).failed(2, &["already exists", "resume"]);
    assert_eq!(fs::read(scene.run_dir().join("events.jsonl")).unwrap(), events);
}

#[test]
fn a_file_in_the_way_is_named() {
    let scene = Scene::with_blobs(6);
    fs::write(scene.path("run"), "a file").unwrap();
    scene.train(&[]).failed(2, &["the run folder run is a file", "choose another run.dir"]);
    scene
        .train(&["run.dir=run/below"])
        .failed(6, &["cannot create the run folder run/below", "because: ", "choose another run.dir"]);
    assert_eq!(fs::read_to_string(scene.path("run")).unwrap(), "a file");
}

#[test]
fn a_parent_that_may_not_be_written_to() {
    let scene = Scene::with_blobs(6);
    let parent = scene.path("locked");
    fs::create_dir(&parent).unwrap();
    fs::set_permissions(&parent, Permissions::from_mode(0o555)).unwrap();
    if fs::write(parent.join("probe"), "").is_ok() {
        eprintln!("skipped: permissions do not bind this user (root)");
        return;
    }
    scene.train(&["run.dir=locked/run"]).failed(
        6,
        &["cannot create the run folder locked/run", "ermission denied", "choose another run.dir"],
    );
}
