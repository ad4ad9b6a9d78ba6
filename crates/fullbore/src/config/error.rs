use std::{io, path::PathBuf};

use super::{MAX_FILE_BYTES, Origin};

/// Why settings cannot be used. (Texts are boxed to keep the type small: it travels through every `Result`.)
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ConfigError {
    /// No file at this path.
    #[error("there is no settings file {path}", path = path.display())]
    #[diagnostic(
        code(config::file_not_found),
        help("check the path; `fullbore init` writes a file with every setting to start from")
    )]
    FileNotFound {
        /// The path that was asked for.
        path: PathBuf,
    },

    /// The file is there but cannot be read, or it is a folder.
    #[error("cannot read the settings file {path}", path = path.display())]
    #[diagnostic(code(config::file_unreadable), help("name a YAML file that you may read"))]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Far larger than settings can be: most likely another kind of file.
    #[error("the settings file {path} is larger than {MAX_FILE_BYTES} bytes", path = path.display())]
    #[diagnostic(
        code(config::file_too_large),
        help("name a YAML file with settings; this seems to be something else")
    )]
    FileTooLarge {
        /// The file.
        path: PathBuf,
    },

    /// Not text, or text in another encoding.
    #[error("the settings file {path} is not UTF-8 text (byte {byte})", path = path.display())]
    #[diagnostic(code(config::not_utf8), help("save it as UTF-8, or name a YAML file"))]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Where the first wrong byte is, counted from 0.
        byte: usize,
    },

    /// The text is not YAML.
    #[error("cannot parse {place}: {reason}")]
    #[diagnostic(
        code(config::yaml_syntax),
        help(
            "correct the YAML there: indent with spaces, put a space after each colon and special texts in quotes"
        )
    )]
    Syntax {
        /// File with line and column, or the option.
        place: String,
        /// What the parser says.
        reason: Box<str>,
    },

    /// One key is given twice in the same map.
    #[error("key `{key}` is given twice: {origin}, first on line {first_line}")]
    #[diagnostic(code(config::duplicate_key), help("keep one of the two"))]
    DuplicateKey {
        /// The key, without the keys above it.
        key: String,
        /// The second place.
        origin: Origin,
        /// The first place, counted from 1.
        first_line: usize,
    },

    /// The file's outermost level is a value or a list.
    #[error("{origin} holds {got} where `key: value` lines are expected")]
    #[diagnostic(
        code(config::not_a_map),
        help("write settings as `key: value`; `fullbore init` writes a file to start from")
    )]
    NotAMap {
        /// The place.
        origin: Origin,
        /// What is there.
        got: Box<str>,
    },

    /// No setting has this name.
    #[error("unknown key `{key}` in {origin}")]
    #[diagnostic(code(config::unknown_key), help("{advice}"))]
    UnknownKey {
        /// The dotted key.
        key: String,
        /// Where it is written.
        origin: Origin,
        /// Nearest known keys, or where to find them.
        advice: Box<str>,
    },

    /// A key with keys below it got a plain value.
    #[error("`{key}` takes keys below it, got {got} ({origin})")]
    #[diagnostic(code(config::expected_keys), help("{advice}"))]
    ExpectedKeys {
        /// The dotted key.
        key: String,
        /// The value given.
        got: Box<str>,
        /// Where it is written.
        origin: Origin,
        /// What can be written there.
        advice: Box<str>,
    },

    /// A key for a plain value got keys below it.
    #[error("`{key}` takes one value, got the keys {got} ({origin})")]
    #[diagnostic(code(config::expected_value), help("{advice}"))]
    ExpectedValue {
        /// The dotted key.
        key: String,
        /// The first keys below it.
        got: Box<str>,
        /// Where it is written.
        origin: Origin,
        /// What the key means.
        advice: Box<str>,
    },

    /// A `--set` without `=`, or without a key before it.
    #[error("--set expects key=value, got `{argument}`")]
    #[diagnostic(code(config::set_syntax), help("for example: --set batch.size=4"))]
    SetSyntax {
        /// The argument.
        argument: String,
    },

    /// A `--set` that reaches into a map which is only given as a whole.
    #[error("--set cannot change `{key}`: `{whole}` is given as a whole")]
    #[diagnostic(
        code(config::set_inside_map),
        help("for example: --set {whole}='{{name: value, other: value}}'")
    )]
    SetInsideMap {
        /// The dotted key.
        key: String,
        /// The key of the map.
        whole: String,
    },

    /// The value has the wrong type or is none of the allowed ones.
    #[error("`{key}`: {problem}, got {got} ({origin})")]
    #[diagnostic(code(config::wrong_type), help("{advice}"))]
    WrongType {
        /// The dotted key.
        key: String,
        /// What is expected.
        problem: Box<str>,
        /// The value given.
        got: Box<str>,
        /// Where it is written.
        origin: Origin,
        /// What the key means.
        advice: Box<str>,
    },

    /// The embedded defaults and the plan's type do not agree.
    #[error("the plan and its defaults disagree at `{key}`: {reason}")]
    #[diagnostic(code(bug::plan_schema), help("this is a fault in fullbore: please report it"))]
    PlanSchema {
        /// The dotted key.
        key: String,
        /// What serde says.
        reason: Box<str>,
    },
}
