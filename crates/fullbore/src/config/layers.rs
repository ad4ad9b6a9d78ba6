use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::Serialize;
use serde_json::Value;

use super::{
    ConfigError, Origin, Origins, nearest,
    schema::{Schema, join},
    yaml::{self, Content, Entry, Node, YamlError},
    yaml_text::inline,
};

/// Largest settings file that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Settings in layers, the later over the earlier; every value remembers where it was written.
///
/// Nested keys merge one by one, values and lists replace each other, and so do maps with the user's own keys
/// (`data.classes`). A section without anything below it changes nothing.
#[derive(Clone, Debug)]
pub struct Layers {
    pub(super) schema: Schema,
    pub(super) values: Value,
    pub(super) origins: Origins,
}

impl Default for Layers {
    fn default() -> Self {
        Self::new()
    }
}

impl Layers {
    /// The embedded defaults.
    pub fn new() -> Self {
        Self::over(Schema::embedded())
    }

    /// The settings of an earlier run in the place of the defaults.
    ///
    /// # Errors
    /// [`ConfigError::PlanSchema`] when `plan` is no plan.
    pub fn of_plan(plan: &impl Serialize) -> Result<Self, ConfigError> {
        let values = serde_json::to_value(plan).map_err(|error| ConfigError::PlanSchema {
            key: String::new(),
            reason: error.to_string().into(),
        })?;
        Ok(Self { values, ..Self::new() })
    }

    pub(super) fn over(schema: Schema) -> Self {
        Self { values: schema.defaults.clone(), schema, origins: Origins::default() }
    }

    /// Lays a YAML file over what is there.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the file and, where it concerns one, the line and the key. After an error
    /// the layers must not be used: part of the file may have been applied.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = read_text(path)?;
        let at = |line| Origin::File { path: path.into(), line };
        let root = yaml::parse(&text).map_err(|error| match error {
            YamlError::Syntax { line, column, reason } => ConfigError::Syntax {
                place: format!("{}:{line}:{column}", path.display()),
                reason: reason.into(),
            },
            YamlError::Duplicate { key, line, first_line } => {
                ConfigError::DuplicateKey { key, origin: at(line), first_line }
            }
        })?;
        match root {
            None => Ok(()),
            Some(root) => match &root.content {
                Content::Map(entries) => self.lay(entries, "", &at),
                _ if root.is_null() => Ok(()),
                _ => Err(ConfigError::NotAMap { origin: at(root.line), got: shown(&root.to_value()).into() }),
            },
        }
    }

    /// Lays one `key=value` over what is there, as `--set` takes it.
    ///
    /// The value is YAML: in braces, brackets or quotes as in a file, anything else one plain value to the end
    /// of the argument, so that paths need no quotes.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the key.
    pub fn add_set(&mut self, argument: &str) -> Result<(), ConfigError> {
        let (key, text) = match argument.split_once('=') {
            Some((key, text)) if !key.trim().is_empty() => (key.trim(), text.trim()),
            _ => return Err(ConfigError::SetSyntax { argument: argument.into() }),
        };
        let syntax = |reason: String| ConfigError::Syntax {
            place: format!("the value of --set {key}"),
            reason: reason.into(),
        };
        let value = if text.starts_with(['{', '[', '"', '\'']) {
            let root = yaml::parse(text).map_err(|error| {
                syntax(match error {
                    YamlError::Syntax { column, reason, .. } => format!("{reason} (column {column})"),
                    YamlError::Duplicate { key, .. } => format!("key `{key}` is given twice"),
                })
            })?;
            root.unwrap_or(Node { line: 1, content: Content::Scalar(Value::Null) })
        } else {
            Node { line: 1, content: Content::Scalar(yaml::plain_scalar(text).map_err(syntax)?) }
        };

        let mut segments: Vec<&str> = key.split('.').collect();
        for end in 1..segments.len() {
            let above = segments[..end].join(".");
            if self.schema.is_open_map(&above) {
                return Err(ConfigError::SetInsideMap { key: key.into(), whole: above });
            }
        }
        let last = segments.pop().unwrap_or_default();
        let mut entry = Entry { key: last.into(), line: 1, value };
        while let Some(above) = segments.pop() {
            let below = Node { line: 1, content: Content::Map(vec![entry]) };
            entry = Entry { key: above.into(), line: 1, value: below };
        }
        self.lay(&[entry], "", &|_| Origin::Set)
    }

    /// Lays the value of the command-line option `flag` over what is there.
    ///
    /// # Panics
    /// Panics when there is no setting `key`: which one an option means is part of the program.
    pub fn put_flag(&mut self, flag: &'static str, key: &str, value: Value) {
        self.put(key, value, Origin::Flag(flag));
    }

    /// Where the present value of `key` was written.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.of(key)
    }

    /// The merged values, as a tree of the known keys.
    pub fn values(&self) -> &Value {
        &self.values
    }

    /// Merges `entries` into the section `above` (empty at the top). `at` makes the origin of a line.
    fn lay(
        &mut self,
        entries: &[Entry],
        above: &str,
        at: &dyn Fn(usize) -> Origin,
    ) -> Result<(), ConfigError> {
        for Entry { key, line, value } in entries {
            // A dot inside one segment would name another key than it seems to.
            let known = if key.contains('.') { None } else { self.schema.default_of(&join(above, key)) };
            let key = join(above, key);
            let origin = at(*line);
            let Some(default) = known else {
                let advice = nearest::advice(&key, &self.schema).into();
                return Err(ConfigError::UnknownKey { key, origin, advice });
            };
            let is_open = self.schema.is_open_map(&key);
            match &value.content {
                Content::Map(_) if is_open => self.put(&key, value.to_value(), origin),
                Content::Map(below) if default.is_object() => self.lay(below, &key, at)?,
                Content::Map(below) => {
                    let got =
                        below.iter().take(3).map(|entry| format!("`{}`", entry.key)).collect::<Vec<_>>();
                    let got = if got.is_empty() { "{}".into() } else { got.join(", ").into() };
                    let advice = self.schema.advice(&key).into();
                    return Err(ConfigError::ExpectedValue { key, got, origin, advice });
                }
                _ if value.is_null() && default.is_object() => {}
                _ if default.is_object() => {
                    let advice = format!("for example {key}: {}", example_of(default, is_open)).into();
                    let got = shown(&value.to_value()).into();
                    return Err(ConfigError::ExpectedKeys { key, got, origin, advice });
                }
                _ => self.put(&key, value.to_value(), origin),
            }
        }
        Ok(())
    }

    /// Replaces the value of the known `key`.
    fn put(&mut self, key: &str, value: Value, origin: Origin) {
        let place = key.split('.').try_fold(&mut self.values, |place, segment| place.get_mut(segment));
        *place.expect("values keep the shape of the schema") = value;
        self.origins.set(key.into(), origin);
    }
}

/// What can stand below a key, on one line: all of an open map, the first keys of a section.
fn example_of(default: &Value, is_open: bool) -> String {
    match default {
        Value::Object(section) if !is_open => {
            inline(&section.iter().take(2).map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        other => inline(other),
    }
}

/// `value` on one line, short enough for a message.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        // Texts keep their quotes here, to tell `"8"` from `8`.
        Value::String(text) => format!("{text:?}"),
        other => inline(other),
    };
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST - 3).chain("...".chars()).collect()
}

/// Reads a settings file as text, up to a bound.
fn read_text(path: &Path) -> Result<String, ConfigError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ConfigError::FileNotFound { path: path.into() }
        }
        _ => ConfigError::FileUnreadable { path: path.into(), source },
    };
    // Looks before opening: opening a pipe would wait for ever.
    let found = std::fs::metadata(path).map_err(fail)?;
    if found.is_dir() {
        return Err(fail(io::ErrorKind::IsADirectory.into()));
    }
    if !found.is_file() {
        return Err(fail(io::Error::other("it is not a regular file")));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(fail)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::FileTooLarge { path: path.into() });
    }
    String::from_utf8(bytes)
        .map_err(|error| ConfigError::NotUtf8 { path: path.into(), byte: error.utf8_error().valid_up_to() })
}

#[cfg(test)]
mod tests {
    use miette::Diagnostic;
    use serde_json::json;

    use super::*;

    const DEFAULTS: &str = "\
run:
  epochs: 20     # passes over the training set
  dir: null      # where the run lives
data:
  train: null
  size: 256      # pixels, or [height, width]
  classes:       # name: value
    background: 0
    foreground: 255
batch:
  size: 8
optimizer:
  lr: 1e-3
  betas: [0.9, 0.999]
";

    fn layers() -> Layers {
        Layers::over(Schema::of(DEFAULTS, &["data.classes"]))
    }

    /// Lays `text` over the defaults as the file `my.yaml`; errors name it without its folder.
    fn with_file(layers: &mut Layers, text: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.yaml");
        std::fs::write(&path, text).unwrap();
        layers
            .add_file(&path)
            .map_err(|error| rendered(&error).replace(&format!("{}/", folder.path().display()), ""))
    }

    fn rendered(error: &ConfigError) -> String {
        format!("{} | {error} | {}", error.code().unwrap(), error.help().unwrap())
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let mut layers = layers();
        with_file(&mut layers, "run:\n  epochs: 5\n  dir: a\nbatch:\n  size: 4\n").unwrap();
        with_file(
            &mut layers,
            "# all of it left out\nrun:\noptimizer: {betas: [0.5, 0.5]}\nbatch: {size: 2}\n",
        )
        .unwrap();
        layers.add_set("run.dir=b").unwrap();
        layers.add_set(" optimizer.lr = 3e-4 ").unwrap();
        let expected = json!({
            "run": {"epochs": 5, "dir": "b"},
            "data": {"train": null, "size": 256, "classes": {"background": 0, "foreground": 255}},
            "batch": {"size": 2},
            "optimizer": {"lr": 3e-4, "betas": [0.5, 0.5]},
        });
        assert_eq!(layers.values(), &expected);
        assert!(layers.origins.of("run.epochs").to_string().ends_with("/my.yaml:2"));
        assert!(layers.origins.of("batch.size").to_string().ends_with("/my.yaml:4"));
        assert_eq!(layers.origins.of("run.dir"), Origin::Set);
        assert_eq!(layers.origins.of("data.size"), Origin::Default);
    }

    #[test]
    fn maps_with_own_keys_replace_each_other() {
        let mut layers = layers();
        with_file(&mut layers, "data:\n  classes:\n    membrane: 0\n    a.b: 7\n    0: 9\n").unwrap();
        assert_eq!(layers.values()["data"]["classes"], json!({"membrane": 0, "a.b": 7, "0": 9}));
        layers.add_set("data.classes={membrane: 0, cell: 255}").unwrap();
        assert_eq!(layers.values()["data"]["classes"].to_string(), r#"{"membrane":0,"cell":255}"#);
        assert_eq!(layers.origins.of("data.classes.cell"), Origin::Set);
    }

    #[test]
    fn set_takes_plain_values_to_the_end_of_the_argument() {
        for (argument, value) in [
            ("data.train=../x", json!("../x")),
            ("data.train=/a b/c: d #1=2", json!("/a b/c: d #1=2")),
            ("data.train=*.png", json!("*.png")),
            ("data.train=", json!(null)),
            ("data.train=null", json!(null)),
            ("data.train='null'", json!("null")),
            ("data.train=\"1e-3\"", json!("1e-3")),
            ("data.train=1e-3", json!(1e-3)),
            ("data.train=[3, {a: 1}]", json!([3, {"a": 1}])),
        ] {
            let mut layers = layers();
            layers.add_set(argument).unwrap();
            assert_eq!(layers.values()["data"]["train"], value, "{argument}");
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_told_with_their_place() {
        for (text, message) in [
            (
                "run:\n  epohcs: 5\n",
                "config::unknown_key | unknown key `run.epohcs` in my.yaml:2 | did you mean `run.epochs`?",
            ),
            (
                "run:\n  epochs: 5\noptimiser:\n  lr: 1\n",
                "config::unknown_key | unknown key `optimiser` in my.yaml:3 | did you mean `optimizer`?",
            ),
            (
                "data.train: x\n",
                "config::unknown_key | unknown key `data.train` in my.yaml:1 | write `train` on its own line below `data`",
            ),
            (
                "batch: 8\n",
                "config::expected_keys | `batch` takes keys below it, got 8 (my.yaml:1) | for example batch: {size: 8}",
            ),
            (
                "data: {classes: [a, b]}\n",
                "config::expected_keys | `data.classes` takes keys below it, got [a, b] (my.yaml:1) | for example data.classes: {background: 0, foreground: 255}",
            ),
            (
                "run:\n  epochs:\n    first: 1\n    second: 2\n",
                "config::expected_value | `run.epochs` takes one value, got the keys `first`, `second` (my.yaml:2) | run.epochs: passes over the training set",
            ),
            (
                "run: {epochs: 1}\nbatch: {size: 2}\nrun: {epochs: 2}\n",
                "config::duplicate_key | key `run` is given twice: my.yaml:3, first on line 1 | keep one of the two",
            ),
            (
                "run:\n  epochs: [1, 2\nbatch:\n",
                "config::yaml_syntax | cannot parse my.yaml:3:6: PARSER | correct the YAML there: indent with spaces, put a space after each colon and special texts in quotes",
            ),
            (
                "run: {epochs: .nan}\n",
                "config::yaml_syntax | cannot parse my.yaml:1:15: `.nan` is not a finite number | correct the YAML there: indent with spaces, put a space after each colon and special texts in quotes",
            ),
            (
                "just words\n",
                "config::not_a_map | my.yaml:1 holds \"just words\" where `key: value` lines are expected | write settings as `key: value`; `fullbore init` writes a file to start from",
            ),
        ] {
            let got = with_file(&mut layers(), text).unwrap_err();
            match message.split_once("PARSER") {
                // The parser's own words may change with its version.
                Some((before, after)) => assert!(got.starts_with(before) && got.ends_with(after), "{got}"),
                None => assert_eq!(got, message),
            }
        }
    }

    #[test]
    fn options_that_cannot_be_used_are_told() {
        for (argument, message) in [
            (
                "batch.size",
                "config::set_syntax | --set expects key=value, got `batch.size` | for example: --set batch.size=4",
            ),
            (
                "=4",
                "config::set_syntax | --set expects key=value, got `=4` | for example: --set batch.size=4",
            ),
            ("lr=4", "config::unknown_key | unknown key `lr` in --set | did you mean `optimizer.lr`?"),
            ("batch..size=4", "config::unknown_key | unknown key `batch.` in --set | did you mean `batch`?"),
            (
                "batch.size.x=4",
                "config::expected_value | `batch.size` takes one value, got the keys `x` (--set) | batch.size: for example 8",
            ),
            (
                "batch=4",
                "config::expected_keys | `batch` takes keys below it, got 4 (--set) | for example batch: {size: 8}",
            ),
            (
                "data.classes.cell=4",
                "config::set_inside_map | --set cannot change `data.classes.cell`: `data.classes` is given as a whole | for example: --set data.classes='{name: value, other: value}'",
            ),
            (
                "data.classes={a: 1, a: 2}",
                "config::yaml_syntax | cannot parse the value of --set data.classes: key `a` is given twice | correct the YAML there: indent with spaces, put a space after each colon and special texts in quotes",
            ),
            (
                "run.epochs=1e999",
                "config::yaml_syntax | cannot parse the value of --set run.epochs: the number `1e999` is too large | correct the YAML there: indent with spaces, put a space after each colon and special texts in quotes",
            ),
        ] {
            assert_eq!(rendered(&layers().add_set(argument).unwrap_err()), message);
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.yaml");
        let code = |path: &Path| layers().add_file(path).unwrap_err().code().unwrap().to_string();
        assert_eq!(code(&path), "config::file_not_found");
        assert_eq!(code(folder.path()), "config::file_unreadable");
        assert_eq!(code(Path::new("/dev/zero")), "config::file_unreadable");
        std::fs::write(&path, b"run: {epochs: 1} # \xff").unwrap();
        assert!(matches!(layers().add_file(&path), Err(ConfigError::NotUtf8 { byte: 19, .. })));
        std::fs::write(&path, "#".repeat(MAX_FILE_BYTES as usize)).unwrap();
        layers().add_file(&path).unwrap();
        std::fs::write(&path, "#".repeat(MAX_FILE_BYTES as usize + 1)).unwrap();
        assert_eq!(code(&path), "config::file_too_large");
        std::fs::write(&path, "").unwrap();
        layers().add_file(&path).unwrap();
        std::fs::write(&path, "\u{FEFF}run: {epochs: 1}\r\n").unwrap();
        layers().add_file(&path).unwrap();
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let text = shown(&json!("x".repeat(100)));
        assert_eq!(text.chars().count(), 60);
        assert!(text.starts_with("\"xx") && text.ends_with("x..."));
    }
}
