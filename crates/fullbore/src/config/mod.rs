//! From the user's settings to one typed plan: defaults <- YAML files <- `--set key=value` and options that stand for one.
//!
//! [`Layers`] merges them and remembers where each value comes from; [`Layers::resolve`] turns the result into
//! the plan's type. The embedded `default.yaml` is the list of known keys, the reference of their meaning and
//! the template of `fullbore init`.
//!
//! Relative paths in settings (`data.train`, `run.dir`) mean what they mean on a command line: they are relative
//! to the working folder, whichever file they are written in.

mod error;
mod init;
mod layers;
mod nearest;
mod origins;
mod resolve;
mod schema;
mod yaml;
mod yaml_text;

pub use error::ConfigError;
pub use init::commented_template;
pub use layers::{Layers, MAX_FILE_BYTES};
pub use origins::{Origin, Origins};
pub use yaml_text::to_yaml;
