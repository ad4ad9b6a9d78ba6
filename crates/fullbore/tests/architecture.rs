//! The map must match the house: every path that ARCHITECTURE.md names exists, and every crate is on it.

use std::fs;
use std::path::Path;

#[test]
fn every_path_in_the_architecture_exists() {
    let root = Path::new("../..");
    // Absent where only the compiled tests were carried to.
    let Ok(text) = fs::read_to_string(root.join("ARCHITECTURE.md")) else {
        eprintln!("skipped: no ARCHITECTURE.md beside the crates");
        return;
    };
    let folders = ["crates", "recipes", "fixtures", "bench", "records", "scripts", "docs"];
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|span| folders.contains(&span.split('/').next().unwrap_or_default()))
        .collect();
    assert!(named.len() > 15, "the text was not understood: {named:?}");
    for path in &named {
        assert!(root.join(path).exists(), "ARCHITECTURE.md names {path}, which does not exist");
    }
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        let name = format!("crates/{}", entry.unwrap().file_name().to_string_lossy());
        assert!(named.contains(&name.as_str()), "ARCHITECTURE.md does not name {name}");
    }
}
