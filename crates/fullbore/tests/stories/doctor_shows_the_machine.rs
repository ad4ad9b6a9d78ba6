use crate::scaffold::Scene;

#[test]
fn every_finding_has_its_line() {
    let outcome = Scene::new().fullbore(&["doctor"]).succeeded();
    for name in [
        "fullbore",
        "libtorch",
        "device: auto",
        "precision: auto",
        "cores",
        "libtorch threads",
        "host memory",
    ] {
        let line = outcome.stdout.lines().find(|line| line.starts_with(name));
        let value = line.unwrap_or_else(|| panic!("no {name}: {outcome}"))[name.len()..].trim();
        assert!(!value.is_empty() && value != "unknown", "{name}: {outcome}");
    }
    assert!(outcome.stdout.contains("libtorch          2.11.0"), "{outcome}");
    assert_eq!(outcome.stderr, "");
}
