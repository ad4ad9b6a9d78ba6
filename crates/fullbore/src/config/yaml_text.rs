use serde_json::Value;

use super::yaml::plain_scalar;

/// Writes `value` as YAML with one line per setting; reading it back gives the same value.
///
/// Lists are written on one line, as `[a, b]`.
pub fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_entries(map, 0, &mut text),
        other => {
            write_inline(other, &mut text);
            text.push('\n');
        }
    }
    text
}

/// `value` in one line.
pub(super) fn inline(value: &Value) -> String {
    let mut text = String::new();
    write_inline(value, &mut text);
    text
}

fn write_entries(map: &serde_json::Map<String, Value>, indent: usize, text: &mut String) {
    for (key, value) in map {
        text.extend(std::iter::repeat_n(' ', indent));
        write_text(key, text);
        text.push(':');
        match value {
            Value::Object(below) if !below.is_empty() => {
                text.push('\n');
                write_entries(below, indent + 2, text);
            }
            other => {
                text.push(' ');
                write_inline(other, text);
                text.push('\n');
            }
        }
    }
}

fn write_inline(value: &Value, text: &mut String) {
    let separate = |text: &mut String, index| {
        if index > 0 {
            text.push_str(", ");
        }
    };
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(switch) => text.push_str(if *switch { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&number.to_string()),
        Value::String(string) => write_text(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(text, index);
                write_inline(item, text);
            }
            text.push(']');
        }
        Value::Object(map) => {
            text.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                separate(text, index);
                write_text(key, text);
                text.push_str(": ");
                write_inline(value, text);
            }
            text.push('}');
        }
    }
}

/// Quotes what YAML could take for something else.
fn write_text(string: &str, text: &mut String) {
    let starts_plain = string.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_')
        || string.starts_with("../");
    let is_plain = string.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c));
    if starts_plain && is_plain && plain_scalar(string) == Ok(Value::String(string.into())) {
        text.push_str(string);
        return;
    }
    text.push('"');
    for c in string.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}') =>
            {
                text.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};
    use serde_json::json;

    use super::*;
    use crate::config::yaml;

    #[test]
    fn a_plan_reads_well() {
        let plan = json!({
            "run": {"dir": null, "epochs": 20},
            "data": {"train": "../shared/a b", "classes": {"membrane": 0}, "mean": [0.5, 1e-8], "void": "null"},
            "device": "cuda:0",
            "empty": {},
        });
        let expected = "\
run:
  dir: null
  epochs: 20
data:
  train: \"../shared/a b\"
  classes:
    membrane: 0
  mean: [0.5, 1e-8]
  void: \"null\"
device: \"cuda:0\"
empty: {}
";
        assert_eq!(to_yaml(&plan), expected);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[-._/a-e0-9:# ~]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                collection::hash_map("[-.a-e0-9: ]{0,4}|\\PC{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn what_is_written_is_read(value in any_value()) {
            let text = to_yaml(&value);
            let back = yaml::parse(&text).unwrap().map_or(Value::Null, |node| node.to_value());
            prop_assert_eq!(back, value, "{}", text);
        }
    }
}
