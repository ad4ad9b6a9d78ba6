use std::fs;

use fullbore::config::{Layers, to_yaml};
use fullbore_train::Plan;

/// The plan of layers, after its own checks.
fn plan(mut layers: Layers) -> Plan {
    layers.add_set("data.train=somewhere").unwrap();
    let (plan, _) = layers.resolve::<Plan>().unwrap();
    plan.data.check().unwrap();
    plan.check().unwrap();
    plan.memory.check().unwrap();
    plan.buffer.check().unwrap();
    plan.placement.check().unwrap();
    plan
}

/// What `plan.yaml` gives when it is read back.
fn read_back(plan: &Plan) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.yaml");
    fs::write(&path, to_yaml(&serde_json::to_value(plan).unwrap())).unwrap();
    let mut layers = Layers::new();
    layers.add_file(&path).unwrap();
    layers.resolve::<Plan>().unwrap().0
}

#[test]
fn defaults_and_the_plans_type_have_the_same_keys() {
    let layers = Layers::new();
    let defaults = layers.values().clone();
    let plan = serde_json::to_value(layers.resolve::<Plan>().unwrap().0).unwrap();
    assert_eq!(keys(&plan), keys(&defaults));
}

/// Dotted keys, sorted.
fn keys(value: &serde_json::Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), value)];
    while let Some((above, value)) = open.pop() {
        match value.as_object() {
            Some(map) => open.extend(map.iter().map(|(key, below)| (format!("{above}.{key}"), below))),
            None => found.push(above),
        }
    }
    found.sort();
    found
}

#[test]
fn every_recipe_is_a_plan_that_can_run() {
    let mut seen = 0;
    for entry in fs::read_dir("../../recipes").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let mut layers = Layers::new();
        let name = path.file_stem().unwrap().to_str().unwrap();
        // What is meant to go over another one needs it.
        for recipe in name.split_once("-boxes").map(|(below, _)| below).into_iter().chain([name]) {
            let path = path.with_file_name(format!("{recipe}.yaml"));
            layers.add_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let plan = plan(layers);
        assert_eq!(read_back(&plan), plan, "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn recipes_for_landmarks_choose_among_those_of_their_data_sets() {
    let aariz =
        "A ANS B Me N Or Pog PNS Pn R S Ar Co Gn Go Po LPM LIT LMT UPM UIA UIT UMT LIA Li Ls N` Pog` Sn";
    let aariz: Vec<String> = aariz.split(' ').map(String::from).collect();
    let faces: Vec<String> = (0..68).map(|n| n.to_string()).collect();
    for (recipe, names, trained) in
        [("landmarks-1024", &aariz, 29), ("landmarks-lowmem", &aariz, 12), ("faces", &faces, 68)]
    {
        let mut layers = Layers::new();
        layers.add_file(format!("../../recipes/{recipe}.yaml").as_ref()).unwrap();
        let mut plan = plan(layers);
        plan.landmarks.names = Some(names.clone());
        let chosen = plan.chosen().unwrap().unwrap();
        assert_eq!(chosen.numbers.len(), trained, "{recipe}");
        if let Some(pairs) = chosen.flip_pairs {
            // All of 68 points but those on the middle line have a partner.
            let mut sides: Vec<_> = pairs.iter().flat_map(|&(left, right)| [left, right]).collect();
            sides.sort_unstable();
            let middle = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66];
            assert_eq!(sides, (0..68).filter(|n| !middle.contains(n)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_stored_plan_reads_back_as_it_was() {
    let defaults = plan(Layers::new());
    assert_eq!(read_back(&defaults), defaults);
    let mut layers = Layers::new();
    for set in [
        "run.dir='a: b # c'",
        "run.steps=7",
        "device=cuda:1",
        "data.classes={'1': 0, \"yes\": 7, 'x: y': 255, 'null': 3}",
        "data.void=9",
        "data.size=[64, 128]",
        "data.workers=3",
        "model.weights='a: b.pth'",
        "batch.micro=2",
        "optimizer.lr=0.1",
        "optimizer.eps=1e-300",
        "optimizer.clip=null",
        "loss.name=ce",
        "loss.class_weights=[1, 2.5, 0, 1e-3]",
        "optimizer.name=rmsprop",
        "optimizer.momentum=0.9",
        "optimizer.alpha=0.95",
        "optimizer.groups=[{match: '*.bias', lr_factor: 2.5}, {match: inc, frozen: true}]",
        "schedule.name=poly",
        "schedule.power=0.9",
        "early_stop.metric=loss",
        "ema.decay=0.999",
        "activation=recompute",
        "eval.batch=1",
        "phases=[{until: 0.5, size: [32, 64], augment: minimal}, {epoch: 9, size: 64}]",
        "checkpoint.metric='dice_per_class.x: y'",
    ] {
        layers.add_set(set).unwrap();
    }
    let changed = plan(layers);
    assert_eq!(read_back(&changed), changed);
}
