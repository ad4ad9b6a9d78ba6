use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{ConfigError, Layers, Origins, layers::shown};

impl Layers {
    /// The plan, and where each of its values was written.
    ///
    /// # Errors
    /// [`ConfigError::WrongType`] for a value that does not fit its key; [`ConfigError::PlanSchema`] when `T` has a
    /// field that the defaults lack, or the other way round.
    pub fn resolve<T: DeserializeOwned>(self) -> Result<(T, Origins), ConfigError> {
        match serde_path_to_error::deserialize(&self.values) {
            Ok(plan) => Ok((plan, self.origins)),
            Err(error) => Err(self.explain(error.path(), &error.inner().to_string())),
        }
    }

    fn explain(&self, path: &Path, message: &str) -> ConfigError {
        let (key, value) = self.find(path);
        // The defaults name every key but those of list items: the user writes these.
        let in_list = path.iter().any(|segment| matches!(segment, Segment::Seq { .. }));
        if !in_list && (message.starts_with("missing field") || message.starts_with("unknown field")) {
            return ConfigError::PlanSchema { key, reason: message.into() };
        }
        let advice = self.schema.advice(self.nearest_noted(&key));
        ConfigError::WrongType {
            problem: in_plain_words(message).into(),
            got: shown(value).into(),
            origin: self.origins.of(&key),
            advice: advice.into(),
            key,
        }
    }

    /// The dotted key of `path` and the value there. Stops where the path leaves the values: serde cannot tell
    /// the place inside some types.
    fn find(&self, path: &Path) -> (String, &Value) {
        let mut key = String::new();
        let mut value = &self.values;
        for segment in path {
            let below = match segment {
                Segment::Map { key } => value.get(key).map(|below| (key.clone(), below)),
                Segment::Seq { index } => value.get(index).map(|below| (index.to_string(), below)),
                Segment::Enum { .. } | Segment::Unknown => None,
            };
            let Some((segment, below)) = below else { break };
            key = super::schema::join(&key, &segment);
            value = below;
        }
        (key, value)
    }

    /// `key`, or the known key above it: list items and the user's own keys have no note.
    fn nearest_noted<'k>(&self, key: &'k str) -> &'k str {
        let mut known = key;
        while !self.schema.is_known(known) {
            match known.rfind('.') {
                Some(dot) => known = &known[..dot],
                None => return key,
            }
        }
        known
    }
}

/// Says what serde expected without the words of Rust. Messages of the plan's own checks stay as they are.
fn in_plain_words(message: &str) -> String {
    for (by_serde, ours) in [("missing field ", "missing key "), ("unknown field ", "unknown key ")] {
        if let Some(rest) = message.strip_prefix(by_serde) {
            return format!("{ours}{rest}");
        }
    }
    let by_serde = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    if !by_serde.iter().any(|start| message.starts_with(start)) {
        return message.into();
    }
    // The value comes first and may contain anything, so the last `expected` is serde's.
    let Some((_, expected)) = message.rsplit_once(", expected ") else { return message.into() };
    let words = match expected {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number".into(),
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" | "u64" | "u128" | "usize" => "a whole number, 0 or more".into(),
        "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number, 1 or more".into()
        }
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" | "string" | "str" | "path string" => "text".into(),
        "a map" => "keys with values".into(),
        "a sequence" => "a list".into(),
        "fewer elements in array" | "fewer elements in sequence" => "a shorter list".into(),
        other => match other.strip_prefix("an array of length ").or(other.strip_prefix("a tuple of size ")) {
            Some(length) => format!("a list of {length} values"),
            None if other.starts_with("struct ") => "keys with values".into(),
            None => other.into(),
        },
    };
    format!("expected {words}")
}

#[cfg(test)]
mod tests {
    use miette::Diagnostic;
    use serde::Deserialize;

    use super::*;
    use crate::config::schema::Schema;

    const DEFAULTS: &str = "\
batch:
  size: 8            # samples per optimizer step
data:
  train: null
  classes: {a: 0}    # name: value in the mask files
optimizer:
  lr: 1e-3
  betas: [0.9, 0.999]
  name: adamw        # adamw | sgd
  fused: true
  groups: []         # parts that learn otherwise
";

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Plan {
        batch: Batch,
        data: Data,
        optimizer: Optimizer,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Batch {
        size: u32,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Data {
        train: Option<std::path::PathBuf>,
        classes: std::collections::BTreeMap<String, u8>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Optimizer {
        #[serde(deserialize_with = "positive")]
        lr: f64,
        betas: [f64; 2],
        name: Name,
        fused: bool,
        groups: Vec<Group>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Group {
        part: String,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Name {
        Adamw,
        Sgd,
    }

    fn positive<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match f64::deserialize(deserializer)? {
            lr if lr > 0.0 => Ok(lr),
            _ => Err(serde::de::Error::custom("must be larger than 0")),
        }
    }

    fn resolve(set: &[&str]) -> Result<(Plan, Origins), ConfigError> {
        let mut layers = Layers::over(Schema::of(DEFAULTS, &["data.classes"]));
        set.iter().for_each(|argument| layers.add_set(argument).unwrap());
        layers.resolve()
    }

    #[test]
    fn fitting_values_become_the_plan() {
        let (plan, origins) = resolve(&["optimizer.lr=1e-3", "optimizer.name=sgd", "data.train=x"]).unwrap();
        assert_eq!(
            plan.optimizer,
            Optimizer { lr: 1e-3, betas: [0.9, 0.999], name: Name::Sgd, fused: true, groups: vec![] }
        );
        assert_eq!(plan.batch, Batch { size: 8 });
        assert_eq!(plan.data.train, Some("x".into()));
        assert_eq!(origins.changed().count(), 3);
        let (plan, _) = resolve(&["optimizer.lr=1"]).unwrap();
        assert_eq!(plan.optimizer.lr, 1.0);
    }

    #[test]
    fn values_that_do_not_fit_are_told_with_key_value_origin_and_meaning() {
        for (set, message) in [
            (
                "batch.size=big",
                r#"`batch.size`: expected a whole number, 0 or more, got "big" (--set) | batch.size: samples per optimizer step"#,
            ),
            (
                "batch.size=-1",
                "`batch.size`: expected a whole number, 0 or more, got -1 (--set) | batch.size: samples per optimizer step",
            ),
            (
                "batch.size=2.5",
                "`batch.size`: expected a whole number, 0 or more, got 2.5 (--set) | batch.size: samples per optimizer step",
            ),
            (
                "batch.size=null",
                "`batch.size`: expected a whole number, 0 or more, got null (--set) | batch.size: samples per optimizer step",
            ),
            (
                "batch.size='a, expected b'",
                r#"`batch.size`: expected a whole number, 0 or more, got "a, expected b" (--set) | batch.size: samples per optimizer step"#,
            ),
            (
                "optimizer.lr='1e-3'",
                r#"`optimizer.lr`: expected a number, got "1e-3" (--set) | optimizer.lr: for example 0.001"#,
            ),
            (
                "optimizer.lr=0",
                "`optimizer.lr`: must be larger than 0, got 0 (--set) | optimizer.lr: for example 0.001",
            ),
            (
                "optimizer.betas=[0.9]",
                "`optimizer.betas`: expected a list of 2 values, got [0.9] (--set) | optimizer.betas: for example [0.9, 0.999]",
            ),
            (
                "optimizer.betas=[1, 2, 3]",
                "`optimizer.betas`: expected a shorter list, got [1, 2, 3] (--set) | optimizer.betas: for example [0.9, 0.999]",
            ),
            (
                "optimizer.betas=[1, b]",
                r#"`optimizer.betas.1`: expected a number, got "b" (--set) | optimizer.betas: for example [0.9, 0.999]"#,
            ),
            (
                "optimizer.name=adam",
                r#"`optimizer.name`: expected `adamw` or `sgd`, got "adam" (--set) | optimizer.name: adamw | sgd"#,
            ),
            (
                "optimizer.fused=yes",
                r#"`optimizer.fused`: expected true or false, got "yes" (--set) | optimizer.fused: for example true"#,
            ),
            (
                "data.classes={a: 0, b: 256}",
                "`data.classes.b`: expected a whole number from 0 to 255, got 256 (--set) | data.classes: name: value in the mask files",
            ),
            (
                "optimizer.groups=[{part: a, lr: 1}]",
                "`optimizer.groups.0.lr`: unknown key `lr`, expected `part`, got 1 (--set) | optimizer.groups: parts that learn otherwise",
            ),
            (
                "optimizer.groups=[{part: a}, {}]",
                "`optimizer.groups.1`: missing key `part`, got {} (--set) | optimizer.groups: parts that learn otherwise",
            ),
            ("data.train=3", "`data.train`: expected text, got 3 (--set) | data.train: for example null"),
        ] {
            let error = resolve(&[set]).unwrap_err();
            assert_eq!(error.code().unwrap().to_string(), "config::wrong_type");
            assert_eq!(format!("{error} | {}", error.help().unwrap()), message);
        }
    }

    #[test]
    fn a_plan_without_its_default_is_a_bug() {
        #[derive(Debug, Deserialize)]
        struct Other {
            #[allow(dead_code)]
            run: u32,
        }
        let layers = Layers::over(Schema::of(DEFAULTS, &[]));
        let error = layers.resolve::<Other>().unwrap_err();
        assert_eq!(error.code().unwrap().to_string(), "bug::plan_schema");
    }
}
