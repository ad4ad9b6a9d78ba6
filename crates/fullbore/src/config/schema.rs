use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    yaml::{self, Content, Node},
    yaml_text::inline,
};

/// Every key with its default: the text that `fullbore init` and the reference show.
pub(super) const DEFAULT_YAML: &str = include_str!("default.yaml");

/// Maps whose keys are the user's own. They replace each other as a whole.
const OPEN_MAPS: &[&str] = &["data.classes", "landmarks.weights"];

/// The known keys, their defaults, and what they mean.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    /// Defaults as a tree.
    pub(super) defaults: Value,
    open_maps: &'static [&'static str],
    notes: BTreeMap<String, String>,
    keys: Vec<String>,
}

impl Schema {
    pub(super) fn embedded() -> Self {
        Self::of(DEFAULT_YAML, OPEN_MAPS)
    }

    /// # Panics
    /// Panics when `text` is not a YAML map: it is part of the program.
    pub(super) fn of(text: &str, open_maps: &'static [&'static str]) -> Self {
        let root = yaml::parse(text).ok().flatten().expect("the embedded defaults are YAML");
        let mut schema =
            Self { defaults: root.to_value(), open_maps, notes: BTreeMap::new(), keys: Vec::new() };
        let lines: Vec<&str> = text.lines().collect();
        schema.learn(&root, "", &lines);
        schema
    }

    fn learn(&mut self, node: &Node, above: &str, lines: &[&str]) {
        let Content::Map(entries) = &node.content else { return };
        for entry in entries {
            let key = join(above, &entry.key);
            if let Some((_, note)) = lines[entry.line - 1].split_once(" # ") {
                self.notes.insert(key.clone(), note.trim().to_string());
            }
            self.keys.push(key.clone());
            if !self.is_open_map(&key) {
                self.learn(&entry.value, &key, lines);
            }
        }
    }

    /// Every known key, sections included, in the order of the defaults.
    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }

    pub(super) fn is_known(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known == key)
    }

    pub(super) fn is_open_map(&self, key: &str) -> bool {
        self.open_maps.contains(&key)
    }

    /// The default of `key`; `None` for unknown keys.
    pub(super) fn default_of(&self, key: &str) -> Option<&Value> {
        key.split('.').try_fold(&self.defaults, |value, segment| value.get(segment))
    }

    /// One line for the user about what `key` takes.
    pub(super) fn advice(&self, key: &str) -> String {
        match self.notes.get(key) {
            Some(note) => format!("{key}: {note}"),
            None => match self.default_of(key) {
                Some(default) => format!("{key}: for example {}", inline(default)),
                None => "`fullbore init` writes a file with every setting and its meaning".into(),
            },
        }
    }
}

/// The dotted key of `key` below `above`, which is empty at the top.
pub(super) fn join(above: &str, key: &str) -> String {
    if above.is_empty() { key.to_string() } else { format!("{above}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_defaults_are_a_tree_of_known_keys() {
        let schema = Schema::embedded();
        assert!(schema.is_known("batch.size") && schema.is_known("data"));
        for open in OPEN_MAPS {
            assert!(schema.default_of(open).is_some_and(Value::is_object), "{open}");
        }
        assert!(!schema.keys().iter().any(|key| key.starts_with("data.classes.")));
    }

    #[test]
    fn advice_is_the_note_beside_the_default() {
        let schema = Schema::of("a:\n  b: 1   # how many, or # 2\n  c: [0.5, 1]\n", &[]);
        assert_eq!(schema.advice("a.b"), "a.b: how many, or # 2");
        assert_eq!(schema.advice("a.c"), "a.c: for example [0.5, 1]");
        assert_eq!(schema.advice("a.d"), "`fullbore init` writes a file with every setting and its meaning");
    }
}
