use crate::scaffold::Scene;

/// `fullbore bench data` on the blobs in `data/`, as short as can be.
fn bench(scene: &Scene, more: &[&str]) -> crate::scaffold::Outcome {
    let short = ["bench", "data", "--seconds", "0.05", "--passes", "2"];
    let sets = ["--set", "data.train=data", "--set", "data.size=32", "--set", "batch.size=4"];
    scene.fullbore(&[&short[..], &sets, more].concat())
}

#[test]
fn loader_and_raw_loop_are_measured_side_by_side() {
    let scene = Scene::with_blobs(10);
    for workers in ["0", "2"] {
        let json = bench(&scene, &["--set", &format!("data.workers={workers}"), "--json"]).succeeded().json();
        let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("{key}: {json}"));
        assert_eq!(number("workers").to_string(), workers);
        let rate = number("samples") / number("seconds");
        assert!((number("samples_per_s") / rate - 1.0).abs() < 1e-6, "{json}");
        let share = number("samples_per_s") / number("raw_samples_per_s");
        assert!((number("share_of_raw") / share - 1.0).abs() < 1e-6, "{json}");
        let stages = json["stage_seconds"].as_object().unwrap();
        let spent: f64 = ["read", "decode", "pack"].iter().map(|s| stages[*s].as_f64().unwrap()).sum();
        assert!(spent > 0.0, "{json}");
    }
    let text = bench(&scene, &[]).succeeded().stdout;
    assert!(text.contains("raw loop of the same decoders") && text.contains("decode"), "{text}");
}

#[test]
fn a_bad_file_and_a_bad_duration_are_refused() {
    let scene = Scene::with_blobs(10);
    std::fs::write(scene.image(1), b"text").unwrap();
    bench(&scene, &["--set", "data.holdout=10"]).failed(3, &["01.png", "not an image"]);
    assert_eq!(bench(&scene, &["--seconds", "-1"]).code, Some(2));
}
