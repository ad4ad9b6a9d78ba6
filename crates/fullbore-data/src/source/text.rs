//! Annotations as plain text, line by line.

use std::path::Path;

use super::SourceError;

/// Reads a whole text file, without a byte order mark.
pub(super) fn read_text(path: &Path, max_bytes: u64) -> Result<String, SourceError> {
    let mut bytes = Vec::new();
    super::read_file(path, max_bytes, &mut bytes)?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        line_error(path, line_of(before), "it is not UTF-8 text".into())
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// Lines that are not blank, without the space around them and with their one-based numbers.
pub(super) fn numbered_lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty())
}

/// One-based number of the line that follows these bytes.
pub(super) fn line_of(before: &[u8]) -> u64 {
    before.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1
}

/// Number of the last line, where something is missing.
pub(super) fn last_line(text: &str) -> u64 {
    text.lines().count().max(1) as u64
}

pub(super) fn line_error(path: &Path, line: u64, detail: String) -> SourceError {
    SourceError::Line { path: path.into(), line, detail }
}

/// # Errors
/// In words.
pub(super) fn number(field: &str) -> Result<f64, String> {
    field.trim().parse().map_err(|_| {
        let start: String = field.chars().take(40).collect();
        format!("`{start}` is no number; expected pixels")
    })
}
