//! YAML text to a tree that knows its lines.
//!
//! The parser's events are turned into values here rather than by a serde layer for three reasons: every node
//! keeps its line, a key given twice is an error, and numbers follow the YAML 1.2 core schema (`1e-3` is a number,
//! which YAML 1.1 readers take for text). Anchors, aliases and tags are refused: settings need none of them, and
//! aliases can grow without bound.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Number, Value};

/// Deepest nesting; settings need four levels.
const MAX_DEPTH: usize = 32;

/// Longest key in bytes; class names are the longest that settings need.
const MAX_KEY_BYTES: usize = 256;

/// A value and the line that it starts on, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Null, a boolean, a number or text.
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value` of a map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        self.content == Content::Scalar(Value::Null)
    }

    /// The value without its lines.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Node::to_value).collect(),
            Content::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_value())).collect()
            }
        }
    }
}

/// Why text is no settings tree. Lines and columns count from 1.
#[derive(Debug, PartialEq)]
pub(super) enum YamlError {
    Syntax { line: usize, column: usize, reason: String },
    Duplicate { key: String, line: usize, first_line: usize },
}

/// Parses one document; `None` when there is nothing but comments.
pub(super) fn parse(text: &str) -> Result<Option<Node>, YamlError> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(root),
            _ if root.is_some() => return Err(syntax(span.start, "a second document starts here")),
            event => root = Some(reader.node(event, span, 0)?),
        }
    }
}

/// Reads an unquoted scalar by the YAML 1.2 core schema. The error says why it cannot be a value.
pub(super) fn plain_scalar(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Err(format!("`{text}` is not a finite number"));
    }
    let too_large = || Err(format!("the number `{text}` is too large"));
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|digit| digit.is_digit(radix))
        {
            return u64::from_str_radix(digits, radix)
                .map_or_else(|_| too_large(), |number| Ok(number.into()));
        }
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let positive = text.strip_prefix('+').unwrap_or(text);
        return match (positive.parse::<i64>(), positive.parse::<u64>()) {
            (Ok(number), _) => Ok(number.into()),
            (_, Ok(number)) => Ok(number.into()),
            _ => too_large(),
        };
    }
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if numeric && let Ok(number) = text.parse::<f64>() {
        return Number::from_f64(number).map_or_else(too_large, |number| Ok(number.into()));
    }
    Ok(Value::String(text.into()))
}

struct Reader<'text> {
    parser: Parser<'text, StrInput<'text>>,
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<(Event<'text>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(syntax(*error.marker(), error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// Builds the node that starts with `event`.
    fn node(&mut self, event: Event<'text>, span: Span, depth: usize) -> Result<Node, YamlError> {
        let at = span.start;
        if depth > MAX_DEPTH {
            return Err(syntax(at, &format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let content = match event {
            Event::Scalar(_, _, anchor, ref tag)
            | Event::SequenceStart(anchor, ref tag)
            | Event::MappingStart(anchor, ref tag)
                if anchor != 0 || tag.is_some() =>
            {
                return Err(syntax(at, "anchors (&) and tags (!) are not supported"));
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) => {
                Content::Scalar(plain_scalar(&text).map_err(|reason| syntax(at, &reason))?)
            }
            Event::Scalar(text, ..) => Content::Scalar(Value::String(text.into_owned())),
            Event::SequenceStart(..) => Content::List(self.list(depth)?),
            Event::MappingStart(..) => Content::Map(self.map(depth)?),
            Event::Alias(_) => return Err(syntax(at, "aliases (*) are not supported")),
            _ => return Err(syntax(at, "expected a value")),
        };
        Ok(Node { line: at.line(), content })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, YamlError> {
        let mut entries = Vec::new();
        let mut first_lines = HashMap::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(entries),
                (Event::Scalar(key, _, 0, None), span) => (key.into_owned(), span.start.line()),
                (_, span) => return Err(syntax(span.start, "a key must be plain text")),
            };
            if key.len() > MAX_KEY_BYTES {
                return Err(YamlError::Syntax {
                    line,
                    column: 1,
                    reason: format!("a key longer than {MAX_KEY_BYTES} bytes"),
                });
            }
            if let Some(first_line) = first_lines.insert(key.clone(), line) {
                return Err(YamlError::Duplicate { key, line, first_line });
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            entries.push(Entry { key, line, value });
        }
    }
}

fn syntax(at: Marker, reason: &str) -> YamlError {
    YamlError::Syntax { line: at.line(), column: at.col() + 1, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        parse(text).unwrap().unwrap().to_value()
    }

    fn error(text: &str) -> YamlError {
        parse(text).unwrap_err()
    }

    #[test]
    fn numbers_follow_the_core_schema() {
        let text = "[1e-3, 1E3, 1., .5, -1.5e+2, +7, -7, 0x1F, 0o17, 010, 18446744073709551615, 1e-8]";
        let expected =
            json!([1e-3, 1e3, 1.0, 0.5, -150.0, 7, -7, 31, 15, 10, 18_446_744_073_709_551_615_u64, 1e-8]);
        assert_eq!(value(text), expected);
    }

    #[test]
    fn what_only_looks_like_a_number_or_a_switch_is_text() {
        for text in
            ["1_000", "1e", "e5", "1.2.3", "-", "+", ".", "2026-11-21", "0x", "0xG", "yes", "no", "on", "--1"]
        {
            assert_eq!(plain_scalar(text), Ok(json!(text)));
        }
        assert_eq!(
            value("['1e-3', \"true\", '', null, ~, True]"),
            json!(["1e-3", "true", "", null, null, true])
        );
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        for text in
            [".nan", ".inf", "-.inf", "1e999", "-1e999", "18446744073709551616", "0xFFFFFFFFFFFFFFFFF"]
        {
            assert!(plain_scalar(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nodes_know_their_lines() {
        let root = parse("# head\nrun:\n  epochs: 3\n\n  seed: 1 # why\n").unwrap().unwrap();
        let Content::Map(entries) = root.content else { panic!() };
        let Content::Map(run) = &entries[0].value.content else { panic!() };
        assert_eq!((entries[0].line, run[0].line, run[1].line), (2, 3, 5));
    }

    #[test]
    fn empty_documents_are_nothing() {
        for text in ["", "# only a comment\n", "\n\n", "---\n"] {
            assert!(parse(text).unwrap().is_none_or(|root| root.is_null()), "{text:?}");
        }
    }

    #[test]
    fn a_key_given_twice_is_an_error() {
        let twice = YamlError::Duplicate { key: "a".into(), line: 3, first_line: 1 };
        assert_eq!(error("a: 1\nb: 2\na: 3\n"), twice);
        assert!(matches!(error("{a: 1, a: 2}"), YamlError::Duplicate { line: 1, first_line: 1, .. }));
    }

    #[test]
    fn what_settings_do_not_need_is_refused_with_its_place() {
        let refused = |text: &str| match error(text) {
            YamlError::Syntax { line, column, reason } => (line, column, reason),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("a: &x 1\n"), (1, 4, "anchors (&) and tags (!) are not supported".into()));
        assert_eq!(refused("a: !!str 1\n").2, "anchors (&) and tags (!) are not supported");
        assert_eq!(refused("a: 1\n---\nb: 2\n").2, "a second document starts here");
        assert_eq!(refused("? [a, b]\n: 1\n").2, "a key must be plain text");
        assert_eq!(refused(&format!("? {}\n: 1\n", "k".repeat(2000))).2, "a key longer than 256 bytes");
        assert_eq!(refused(&"[".repeat(40)).2, "nested deeper than 32 levels");
        assert_eq!(refused("a: [1, 2\nb: 3\n").0, 2);
        assert_eq!(refused("a:\n\tb: 2\n").0, 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_text_panics_or_hangs(text in "([a-c:\\-\\[\\]{}#&*!|>'\"%@`?,~ \n\t.0-1\\\\]|---|\\.\\.\\.|: |- |\n  ){0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_unicode_panics(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn floats_are_read_exactly(number in any::<f64>().prop_filter("finite", |x| x.is_finite())) {
            prop_assert_eq!(plain_scalar(&format!("{number:e}")).unwrap().as_f64(), Some(number));
        }
    }
}
