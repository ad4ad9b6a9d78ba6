//! Errors as plain lines: what and where, why, what to do next. Legible without colour.

/// Prints a line to standard output. A reader that has gone away (`| head`) is no reason to panic.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}
pub(crate) use say;

use std::io::{IsTerminal, Write};

use miette::Diagnostic;

/// Prints `error` to standard error, coloured when that is a terminal and `NO_COLOR` is not set.
pub fn print_error(error: &dyn Diagnostic) {
    let text = render(error, wants_colour());
    // When even this fails there is nobody left to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// `error` as lines, each ended:
/// ```text
/// error: cannot write the event log runs/a/events.jsonl
///   because: permission denied
///   next: make the run folder writable, or choose another run.dir
/// ```
/// One `because` for each error below it, outermost first; `next` is the help of the outermost error that has one.
pub fn render(error: &dyn Diagnostic, colour: bool) -> String {
    const RED: &str = "1;31";
    const BOLD: &str = "1";
    let label = |word: &str, style: &str| match colour {
        true => format!("\x1b[{style}m{word}\x1b[0m"),
        false => word.to_string(),
    };
    let mut said = error.to_string();
    let mut text = format!("{} {}\n", label("error:", RED), indented(&said));
    let mut cause = error.source();
    while let Some(below) = cause {
        let message = below.to_string();
        // Some errors repeat what they wrap; saying it twice helps nobody.
        if !said.contains(&message) {
            text.push_str(&format!("  {} {}\n", label("because:", BOLD), indented(&message)));
            said = message;
        }
        cause = below.source();
    }
    if let Some(help) = help_of(error) {
        text.push_str(&format!("  {} {}\n", label("next:", BOLD), indented(&help)));
    }
    text
}

fn help_of(error: &dyn Diagnostic) -> Option<String> {
    match error.help() {
        Some(help) => Some(help.to_string()),
        None => error.diagnostic_source().and_then(help_of),
    }
}

/// Further lines stand below the first one's text.
fn indented(message: &str) -> String {
    let lines: Vec<String> = message.trim().lines().map(printable).collect();
    lines.join("\n    ")
}

/// `text` with control characters spelled out: file names and class names must not move the cursor.
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

fn wants_colour() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stderr().is_terminal() && !set("NO_COLOR") && !dumb
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error, Diagnostic)]
    #[error("cannot write {path}")]
    #[diagnostic(code(output::x), help("choose another run.dir"))]
    struct Write {
        path: String,
        source: io::Error,
    }

    #[derive(Debug, thiserror::Error, Diagnostic)]
    #[error("the run stopped at step 3: cannot write a.json")]
    struct Stopped {
        #[source]
        #[diagnostic_source]
        below: Write,
    }

    fn write(path: &str) -> Write {
        Write { path: path.into(), source: io::Error::other("the disk is gone\nfor good") }
    }

    #[test]
    fn what_why_and_next_stand_on_their_own_lines() {
        let expected = "\
error: cannot write a.json
  because: the disk is gone
    for good
  next: choose another run.dir
";
        assert_eq!(render(&write("a.json"), false), expected);
    }

    #[test]
    fn wrapped_errors_are_told_once_and_lend_their_help() {
        let expected = "\
error: the run stopped at step 3: cannot write a.json
  because: the disk is gone
    for good
  next: choose another run.dir
";
        assert_eq!(render(&Stopped { below: write("a.json") }, false), expected);
    }

    #[test]
    fn colour_only_marks_the_labels() {
        let coloured = render(&write("a.json"), true);
        assert!(coloured.starts_with("\x1b[1;31merror:\x1b[0m cannot write a.json\n"));
        let plain = coloured.replace("\x1b[1;31m", "").replace("\x1b[1m", "").replace("\x1b[0m", "");
        assert_eq!(plain, render(&write("a.json"), false));
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        assert!(
            render(&write("a\x1b[2J\r.json"), false).starts_with("error: cannot write a\\u{1b}[2J\\r.json\n")
        );
    }

    #[test]
    fn an_error_without_help_ends_after_its_causes() {
        let error = miette::MietteDiagnostic::new("x");
        assert_eq!(render(&error, false), "error: x\n");
    }
}
